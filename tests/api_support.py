"""An application that mounts the router, and people who send it requests."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI, Request

from a2rchi_pg import SYSTEM, Database, UserRepository
from a2rchi_pg.api import create_router
from tests.database_support import admin
from tests.plugins.people import EMPTY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from a2rchi_pg import KeyRing, PostgresVectorStore


NOWHERE = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"


def logged_in(request: Request) -> str | None:
    """This host's session: who is logged in is in a header that only its tests send."""
    return request.headers.get("x-session-of")


def application(database: Database, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(create_router(database, current_user=logged_in, **options))
    return app


class Api:
    """The application, and a client for each person."""

    def __init__(self, app: FastAPI, stack: AsyncExitStack) -> None:
        self.app = app
        self._stack = stack

    async def as_user(self, user_id: str | None) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app),
            base_url="http://host/api/v2",
            headers={} if user_id is None else {"x-session-of": user_id},
        )
        return await self._stack.enter_async_context(client)


@pytest.fixture(params=["threaded", "native"])
async def api(
    request: pytest.FixtureRequest,
    common: Database,
    common_dsn: str,
    store: PostgresVectorStore,
    ring: KeyRing,
) -> AsyncIterator[Api]:
    """The application on the shared database, opened either way; users and settings begin anew."""
    admin(common_dsn, EMPTY)
    admin(common_dsn, "TRUNCATE documents CASCADE")
    async with AsyncExitStack() as stack:
        database = common
        if request.param == "native":
            database = await stack.enter_async_context(Database(common_dsn))
        yield Api(application(database, store=store, keyring=ring), stack)


@pytest.fixture
async def ada(api: Api) -> httpx.AsyncClient:
    return await api.as_user("ada")


@pytest.fixture
async def eve(api: Api) -> httpx.AsyncClient:
    """Somebody else."""
    return await api.as_user("eve")


@pytest.fixture
async def boss(api: Api, common: Database) -> httpx.AsyncClient:
    """An admin."""
    users = UserRepository(common)
    users.get_or_create("boss", auth_provider="sso")
    users.set_role("boss", "admin", changed_by=SYSTEM)
    return await api.as_user("boss")


def is_problem(response: httpx.Response, status: int, code: str | None = None) -> bool:
    """Whether it is a problem of that status and code."""
    said = response.json()
    assert response.headers["content-type"] == "application/problem+json", said
    assert (response.status_code, said["status"]) == (status, status), said
    return code is None or said["code"] == code

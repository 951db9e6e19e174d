"""Many clients at once, of a small pool: a success or an honest 503 for each, and nothing leaks."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from itertools import islice
from typing import TYPE_CHECKING

import psycopg
import pytest

from a2rchi_pg import Database, PostgresVectorStore
from tests.api_support import Api, application, is_problem
from tests.database_support import admin, wait_until
from tests.roles_support import as_owner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import httpx

pytestmark = pytest.mark.servers("embedded")

CLIENTS, TURNS, POOL = 64, 3, 10
NAME = "a2rchi_pg under load"
QUESTION = {"query": "Is job 7 queued?"}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as cleanup:
        yield cleanup


@pytest.fixture(params=["threaded", "native"])
def crowd(
    request: pytest.FixtureRequest,
    stack: AsyncExitStack,
    common_dsn: str,
    store: PostgresVectorStore,
) -> Callable[[float], Awaitable[Sequence[httpx.AsyncClient]]]:
    """Makes a client for each of many people, of a host that waits so long for a connection."""
    store.add_texts([f"Job {n} is queued." for n in range(200)])

    async def make(patience: float) -> Sequence[httpx.AsyncClient]:
        database = Database(common_dsn, max_size=POOL, timeout=patience, application_name=NAME)
        if request.param == "native":
            await stack.enter_async_context(database)
        else:
            stack.enter_context(database)
        searched = PostgresVectorStore(
            store.embeddings, database=database, collection=store.collection_name
        )
        api = Api(application(database, store=searched), stack)
        return [await api.as_user(f"user-{n}") for n in range(CLIENTS)]

    return make


async def converse(client: httpx.AsyncClient) -> list[httpx.Response]:
    """What a page of a chat asks for, a few times over."""
    answers = [await client.post("/conversations", json={"title": "Queues"})]
    talk = f"/conversations/{answers[0].json()['conversation_id']}"
    for turn in range(TURNS):
        answers += [
            await client.post(f"{talk}/messages", json={"content": f"Is job {turn} queued?"}),
            await client.post("/search", json=QUESTION),
            await client.get(f"{talk}/messages"),
            await client.get("/documents"),
        ]
    return answers


def is_given_back(dsn: str) -> bool:
    """Whether every connection of the host waits to be used, and there are no more than may be."""
    found = admin(dsn, "SELECT state FROM pg_stat_activity WHERE application_name = %s", NAME)
    return len(found) <= POOL and all(state == "idle" for (state,) in found)


async def test_everybody_is_answered(crowd, common_dsn: str):
    clients = await crowd(120)
    answers = await asyncio.gather(*map(converse, clients))
    assert Counter(each.status_code for own in answers for each in own) == {
        201: CLIENTS * (1 + TURNS),
        200: CLIENTS * 3 * TURNS,
    }
    for own in answers:
        last = own[-2].json()
        assert [each["content"] for each in last] == [f"Is job {n} queued?" for n in range(TURNS)]
    wait_until(lambda: is_given_back(common_dsn))


@pytest.mark.parametrize("crowd", ["native"], indirect=True)
async def test_who_waits_in_vain_for_a_connection_is_told_so(crowd, common_dsn: str):
    clients = await crowd(5)
    with psycopg.connect(as_owner(common_dsn)) as other:
        other.execute("LOCK TABLE conversation_metadata")
        tasks = [asyncio.create_task(client.get("/conversations")) for client in clients]
        refused = [await first for first in islice(asyncio.as_completed(tasks), CLIENTS - POOL)]
    assert all(is_problem(response, 503, "unavailable") for response in refused)
    assert all(response.headers["retry-after"] for response in refused)
    assert Counter(each.status_code for each in await asyncio.gather(*tasks))[200] == POOL
    wait_until(lambda: is_given_back(common_dsn))


async def test_who_goes_away_keeps_no_connection(crowd, common_dsn: str):
    clients = await crowd(120)
    tasks = [asyncio.create_task(client.post("/search", json=QUESTION)) for client in clients]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0.001 * (number % 3))
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for response in await asyncio.gather(*(client.get("/documents") for client in clients)):
        assert response.status_code == 200
    wait_until(lambda: is_given_back(common_dsn))

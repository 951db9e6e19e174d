"""The HTTP face as a whole: who gets in, what errors look like, what the description says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import HTTPException
from openapi_spec_validator import validate

from a2rchi_pg import Database
from a2rchi_pg.api import create_router
from tests.api_support import NOWHERE, Api, ada, api, application, boss, is_problem  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from httpx import AsyncClient

OPEN = {"/api/v2/health", "/api/v2/ready"}
FOR_ADMINS = {
    ("put", "/api/v2/config/dynamic"),
    ("post", "/api/v2/config/dynamic/rollback"),
    ("get", "/api/v2/config/dynamic/history"),
    ("delete", "/api/v2/documents/{resource_hash}"),
    ("post", "/api/v2/documents/{resource_hash}/restore"),
    ("put", "/api/v2/selection/system"),
    ("get", "/api/v2/analytics/usage"),
    ("get", "/api/v2/analytics/comparisons"),
    ("get", "/api/v2/analytics/documents"),
}


def endpoints(api: Api) -> list[tuple[str, str]]:
    paths = api.app.openapi()["paths"]
    return [(method, path) for path, methods in paths.items() for method in methods]


async def call(client: AsyncClient, method: str, path: str) -> httpx.Response:
    filled = path.replace("{provider}", "openai").replace("{resource_hash}", "none")
    for id_ in ("conversation_id", "message_id", "comparison_id"):
        filled = filled.replace(f"{{{id_}}}", "999999999")
    return await client.request(method, f"http://host{filled}")


@pytest.mark.servers("embedded")
async def test_everything_asks_who_you_are_and_some_of_it_what_you_may(
    api: Api, ada: AsyncClient, boss: AsyncClient
):
    """A1: the endpoints are there. A2: no header and no body says who asks."""
    nobody = await api.as_user(None)
    nobody.headers["x-client-id"] = "boss"
    everything = endpoints(api)
    assert set(everything) > FOR_ADMINS
    for method, path in everything:
        if path in OPEN:
            assert (await call(nobody, method, path)).status_code == 200
            continue
        assert is_problem(await call(nobody, method, path), 401, "unauthenticated"), path
        refused = (await call(ada, method, path)).status_code == 403
        assert refused == ((method, path) in FOR_ADMINS), path
        assert (await call(boss, method, path)).status_code != 403, path


@pytest.mark.servers("embedded")
async def test_what_is_not_there_is_not_there_for_others_either(api: Api, ada: AsyncClient):
    """A7, A11: no 500 for ids nobody has, and no endpoint that takes SQL."""
    for method, path in endpoints(api):
        assert (await call(ada, method, path)).status_code < 500, path
        assert "sql" not in path
        assert "database" not in path


@pytest.mark.servers("embedded")
async def test_a_host_says_who_is_an_admin(common: Database):
    def nobody_is() -> None:
        raise HTTPException(403, "not an admin")

    app = application(common, require_admin=nobody_is)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://host")
    async with client:
        response = await client.get("/api/v2/analytics/usage", headers={"x-session-of": "ada"})
    assert is_problem(response, 403)


@pytest.mark.servers("embedded")
async def test_what_was_sent_is_not_repeated(ada: AsyncClient):
    """A8: neither a client's secret nor the server's words come back."""
    for body in ({"api_key": "sk-secret", "surplus": "sk-secret"}, {"api_key": ["sk-secret"]}):
        response = await ada.post("/user/api-keys/openai", json=body)
        assert is_problem(response, 422, "invalid_request")
        assert "sk-secret" not in response.text
    response = await ada.post(
        "/conversations", content="{", headers={"content-type": "application/json"}
    )
    assert is_problem(response, 400, "invalid_json")


@pytest.mark.servers("embedded")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {"query": "jobs", "k": True}),
        ("/search", {"query": "jobs", "k": "5"}),
        ("/selection/user", {"choices": [{"document": True, "enabled": True}]}),
        ("/selection/user", {"choices": [{"document": 1, "enabled": "yes"}]}),
    ],
)
async def test_a_value_of_another_type_is_not_taken_for_one(ada: AsyncClient, path: str, body: Any):
    """True would be document 1."""
    method = "PUT" if "selection" in path else "POST"
    assert is_problem(await ada.request(method, path, json=body), 422, "invalid_request")


@pytest.mark.servers("embedded")
async def test_a_body_has_an_end(ada: AsyncClient):
    """A body that doesn't say how long it is is no longer either."""

    async def without_end() -> AsyncIterator[bytes]:
        yield b'{"title": "'
        while True:
            yield b"x" * 2**20

    headers = {"content-type": "application/json"}
    for content in (b"x" * (2**24 + 1), without_end()):
        refused = await ada.post("/conversations", content=content, headers=headers)
        assert is_problem(refused, 413, "too_large")


@pytest.mark.servers("embedded")
async def test_a_name_that_is_no_unicode_is_refused_like_any_other(boss: AsyncClient):
    broken = b'{"settings": {"\\ud800": 1}}'
    headers = {"if-match": "*", "content-type": "application/json"}
    refused = await boss.put("/config/dynamic", content=broken, headers=headers)
    assert is_problem(refused, 422, "invalid_config")
    assert refused.json()["fields"] == {"\ud800": "there is no such setting"}


@pytest.mark.servers("embedded")
@pytest.mark.parametrize("moment", ["2026", "0.5", "2026-05-01", "2026-05-01T12:00:00"])
async def test_a_moment_has_a_date_a_time_and_a_zone(boss: AsyncClient, moment: str):
    """A number would be so many seconds after 1970 began."""
    refused = await boss.get("/analytics/usage", params={"since": moment})
    assert is_problem(refused, 422, "invalid_request")
    for expires_at in (moment, float(moment[:4])):
        body = {"api_key": "sk-0123456789abcdef", "expires_at": expires_at}
        refused = await boss.post("/user/api-keys/openai", json=body)
        assert is_problem(refused, 422, "invalid_request")
    response = await boss.get("/analytics/usage", params={"since": "2026-05-01T12:00:00Z"})
    assert response.status_code == 200


async def test_without_a_database_it_says_so(monkeypatch: pytest.MonkeyPatch):
    database = Database(NOWHERE, timeout=0.2)
    app = application(database)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://host")
    async with client:
        client.headers["x-session-of"] = "ada"
        alive = await client.get("/api/v2/health")
        ready = await client.get("/api/v2/ready")
        mine = await client.get("/api/v2/conversations")
    assert alive.json() == {"status": "alive"}
    for response in (ready, mine):
        assert is_problem(response, 503, "unavailable")
        assert response.headers["retry-after"]
        assert "127.0.0.1" not in response.text


def described() -> dict[str, Any]:
    return application(Database(NOWHERE), store=object(), keyring=object()).openapi()


def test_the_description_is_valid_and_always_the_same():
    validate(described())
    assert json.dumps(described()) == json.dumps(described())
    ids = [op["operationId"] for path in described()["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))


def test_every_endpoint_for_people_says_how_it_refuses():
    for path, methods in described()["paths"].items():
        for method, operation in methods.items():
            refusals = {status for status in operation["responses"] if status >= "400"}
            if path not in OPEN:
                assert refusals >= {"400", "401", "413", "422", "503"}, path
            assert ("403" in refusals) == ((method, path) in FOR_ADMINS), path
            for status in refusals:
                assert set(operation["responses"][status]["content"]) == {
                    "application/problem+json"
                }


def test_without_store_and_keys_there_are_no_such_endpoints():
    paths = application(Database(NOWHERE)).openapi()["paths"]
    assert not [path for path in paths if "search" in path or "api-keys" in path]


def test_the_prefix_is_the_hosts():
    router = create_router(Database(NOWHERE), current_user=lambda: "ada", prefix="/rag")
    assert router.prefix == "/rag"


def test_the_package_needs_no_fastapi_and_its_api_says_that_it_does():
    hidden = "import sys; sys.modules['fastapi'] = None; "
    for code, expected in (("import a2rchi_pg", ""), ("import a2rchi_pg.api", "a2rchi_pg[api]")):
        done = subprocess.run(
            [sys.executable, "-c", hidden + code], capture_output=True, text=True, check=False
        )
        assert (done.returncode != 0) == bool(expected)
        assert expected in done.stderr

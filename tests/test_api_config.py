"""Configuration, profile and keys over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import ConfigRepository, UserRepository
from tests.api_support import ada, api, boss, eve, is_problem  # noqa: F401

if TYPE_CHECKING:
    from httpx import AsyncClient

    from a2rchi_pg import Database, KeyRing

pytestmark = pytest.mark.servers("embedded")
DEPLOYED = {
    "deployment_name": "test",
    "embedding_model": "words",
    "available_models": ["small", "large"],
    "sources_config": {"web": {"url": "https://internal.example"}},
}
SECRET = "sk-0123456789abcdef0123456789"  # noqa: S105 - a key that opens nothing


async def test_what_was_deployed(ada: AsyncClient, common: Database):
    assert is_problem(await ada.get("/config/static"), 404, "not_found")
    ConfigRepository(common).load_static_config(DEPLOYED)
    static = await ada.get("/config/static")
    assert static.json()["available_models"] == ["small", "large"]
    assert "internal.example" not in static.text


async def test_two_admins_at_once_are_told(boss: AsyncClient, ada: AsyncClient):
    before = await ada.get("/config/dynamic")
    assert (before.headers["etag"], before.json()["set"]) == ('"0"', [])
    at = {"if-match": before.headers["etag"]}
    stored = await boss.put(
        "/config/dynamic", json={"settings": {"temperature": 0.1}, "note": "calmer"}, headers=at
    )
    assert stored.status_code == 200
    late = await boss.put("/config/dynamic", json={"settings": {"temperature": 2}}, headers=at)
    assert is_problem(late, 412, "config_changed")
    after = await ada.get("/config/dynamic")
    assert after.headers["etag"] == stored.headers["etag"]
    assert after.json()["settings"]["temperature"] == 0.1
    assert after.json()["set"] == ["temperature"]


async def test_every_setting_that_is_wrong_is_named(boss: AsyncClient, ada: AsyncClient):
    """A6: what is not valid is the client's mistake, by field."""
    bad = {"settings": {"temperature": 9, "no_such": 1}}
    refused = await boss.put("/config/dynamic", json=bad, headers={"if-match": "*"})
    assert is_problem(refused, 422, "invalid_config")
    assert set(refused.json()["fields"]) == {"temperature", "no_such"}
    assert (await ada.get("/config/dynamic")).json()["revision"] == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 428),
        ({"if-match": "seven"}, 400),
        ({"if-match": f'"{10**30}"'}, 400),
        ({"if-match": "0" * 20 + "9" * 5000}, 400),
    ],
)
async def test_a_change_names_the_revision_it_is_made_for(
    boss: AsyncClient, headers: dict[str, str], status: int
):
    change = {"settings": {"temperature": 1}}
    assert is_problem(await boss.put("/config/dynamic", json=change, headers=headers), status)


async def test_history_and_rollback(boss: AsyncClient, ada: AsyncClient):
    """A8: times come as text; the history is for admins."""
    for temperature in (0.1, 0.2, 0.3):
        change = {"settings": {"temperature": temperature}}
        await boss.put("/config/dynamic", json=change, headers={"if-match": "*"})
    page = (await boss.get("/config/dynamic/history", params={"limit": 2})).json()
    assert [each["settings"]["temperature"] for each in page["revisions"]] == [0.3, 0.2]
    rest = await boss.get("/config/dynamic/history", params={"limit": 2, "before": page["next"]})
    (first,) = rest.json()["revisions"]
    assert first["changed_by"] == "boss"
    now = (await ada.get("/config/dynamic")).headers["etag"]
    wanted = {"to_revision": first["revision"]}
    back = await boss.post("/config/dynamic/rollback", json=wanted, headers={"if-match": now})
    assert back.json()["settings"] == {"temperature": 0.1}
    again = await boss.post("/config/dynamic/rollback", json=wanted, headers={"if-match": now})
    assert is_problem(again, 412)
    unknown = await boss.post(
        "/config/dynamic/rollback", json={"to_revision": 10**9}, headers={"if-match": "*"}
    )
    assert is_problem(unknown, 404)


async def test_a_cleared_setting_follows_the_deployment(boss: AsyncClient):
    any_revision = {"if-match": "*"}
    await boss.put("/config/dynamic", json={"settings": {"top_k": 7}}, headers=any_revision)
    cleared = await boss.put("/config/dynamic", json={"clear": ["top_k"]}, headers=any_revision)
    assert cleared.json()["settings"] == {}


async def test_profile(ada: AsyncClient, eve: AsyncClient):
    """A3: the profile is there. A4: the name can be changed. A2: and nobody else's."""
    assert (await ada.get("/user/profile")).json()["id"] == "ada"
    change = {"display_name": "Ada", "preferences": {"theme": "dark", "temperature": 1.5}}
    changed = (await ada.put("/user/profile", json=change)).json()
    assert (changed["display_name"], changed["preferences"]) == ("Ada", change["preferences"])
    assert (await ada.get("/config/effective")).json()["theme"] == "dark"
    cleared = (await ada.put("/user/profile", json={"clear": ["theme"]})).json()
    assert (cleared["display_name"], cleared["preferences"]) == ("Ada", {"temperature": 1.5})
    assert (await eve.get("/user/profile")).json()["display_name"] is None
    for forged in ({"id": "ada"}, {"role": "admin"}, {"email": "ada@example.org"}):
        assert is_problem(await eve.put("/user/profile", json=forged), 422)


async def test_a_name_is_stored_without_what_postgresql_can_not_store(ada: AsyncClient):
    changed = await ada.put("/user/profile", json={"display_name": "A\0da"})
    assert changed.json()["display_name"] == "Ada"


async def test_a_profile_changes_whole_or_not_at_all(ada: AsyncClient):
    change = {"display_name": "Ada", "preferences": {"temperature": 99}}
    assert is_problem(await ada.put("/user/profile", json=change), 422, "invalid_config")
    assert (await ada.get("/user/profile")).json()["display_name"] is None


async def test_a_key_goes_in_and_never_comes_out(
    ada: AsyncClient, eve: AsyncClient, common: Database, ring: KeyRing
):
    """A3, A5: keys can be set, seen in part, and deleted, each by its owner."""
    assert (await ada.post("/user/api-keys/openai", json={"api_key": SECRET})).status_code == 204
    assert UserRepository(common, ring).get_api_key("ada", "openai") == SECRET
    for path in ("/user/api-keys", "/user/api-keys/openai", "/user/profile"):
        assert SECRET not in (await ada.get(path)).text
    assert (await ada.get("/user/api-keys/openai")).json()["last_four"] == SECRET[-4:]
    assert (await eve.get("/user/api-keys")).json() == []
    assert is_problem(await eve.delete("/user/api-keys/openai"), 404)
    assert (await ada.delete("/user/api-keys/openai")).status_code == 204
    assert is_problem(await ada.get("/user/api-keys/openai"), 404)


@pytest.mark.parametrize("api_key", ["", "sk-…cdef", "a\nb", "x" * 9000])
async def test_what_is_no_key_is_not_stored(ada: AsyncClient, api_key: str):
    assert is_problem(await ada.post("/user/api-keys/openai", json={"api_key": api_key}), 422)
    assert (await ada.get("/user/api-keys")).json() == []


async def test_a_provider_has_a_name(ada: AsyncClient):
    assert is_problem(await ada.post("/user/api-keys/Open%20AI", json={"api_key": SECRET}), 422)

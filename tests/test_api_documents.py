"""Documents, selection and search over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from a2rchi_pg import CatalogRepository
from tests.api_support import ada, api, boss, eve, is_problem  # noqa: F401
from tests.plugins.catalogs import spec

if TYPE_CHECKING:
    from httpx import AsyncClient

    from a2rchi_pg import Database, PostgresVectorStore

pytestmark = pytest.mark.servers("embedded")


@pytest.fixture
def documents(common: Database, store: PostgresVectorStore) -> list[str]:
    """Three documents with a chunk each."""
    catalog = CatalogRepository(common)
    names = ["alpha", "beta", "gamma"]
    for name in names:
        recorded = catalog.upsert(spec(name, display_name=name, metadata={"kind": "letter"}))
        store.add_texts([f"the {name} queue"], ids=[name], document_id=recorded.id)
    return names


def hashes(page: dict) -> list[str]:
    return [document["resource_hash"] for document in page["documents"]]


async def searched(client: AsyncClient, **more: object) -> set[str]:
    response = await client.post("/search", json={"query": "queue", "k": 10, **more})
    assert response.status_code == 200, response.text
    return {hit["id"] for hit in response.json()["hits"]}


async def new_conversation(client: AsyncClient) -> int:
    return (await client.post("/conversations", json={})).json()["conversation_id"]


async def test_pages_of_documents(ada: AsyncClient, documents: list[str]):
    first = (await ada.get("/documents", params={"limit": 2})).json()
    assert (hashes(first), first["total"]) == (["alpha", "beta"], 3)
    second = (await ada.get("/documents", params={"limit": 2, "after": first["next"]})).json()
    assert (hashes(second), second["next"]) == (["gamma"], None)
    assert hashes((await ada.get("/documents", params={"search": "bet"})).json()) == ["beta"]


@pytest.mark.parametrize(
    "bad", [{"limit": 0}, {"limit": "x"}, {"sort": "colour"}, {"after": "??"}, {"status": "lost"}]
)
async def test_a_question_that_makes_no_sense(ada: AsyncClient, bad: dict):
    assert is_problem(await ada.get("/documents", params=bad), 422)


async def test_a_document_and_its_text(ada: AsyncClient, documents: list[str]):
    assert (await ada.get("/documents/alpha")).json()["decided_by"] == "system"
    assert (await ada.get("/documents/alpha/content")).json()["text"] == "the alpha queue"
    for path in ("/documents/none", "/documents/none/content"):
        assert is_problem(await ada.get(path), 404, "not_found")


async def test_a_hash_may_hold_what_a_path_takes_for_its_own(boss: AsyncClient, common: Database):
    for name in ("wiki/17", "/srv/a b.md", "https://a.example/?x=1#y", "50%25"):
        CatalogRepository(common).upsert(spec(name))
        path = f"/documents/{quote(name, safe='')}"
        assert (await boss.get(path)).json()["resource_hash"] == name
        assert (await boss.get(f"{path}/content")).json()["resource_hash"] == name
        assert (await boss.delete(path)).status_code == 204
        assert (await boss.post(f"{path}/restore")).status_code == 204


async def test_deleting_takes_a_name_not_a_pattern(boss: AsyncClient, documents: list[str]):
    """A10: wildcards match nothing."""
    for pattern in ("%25", "alph_", "alph%25", "*"):
        assert is_problem(await boss.delete(f"/documents/{pattern}"), 404)
    assert (await boss.delete("/documents/alpha")).status_code == 204
    assert is_problem(await boss.get("/documents/alpha"), 404)
    assert hashes((await boss.get("/documents")).json()) == ["beta", "gamma"]
    assert (await boss.post("/documents/alpha/restore")).status_code == 204
    assert (await boss.get("/documents/alpha")).status_code == 200


@pytest.mark.parametrize("mode", ["hybrid", "semantic", "bm25"])
async def test_three_tiers_decide_what_a_search_sees(
    mode: str, ada: AsyncClient, eve: AsyncClient, boss: AsyncClient, documents: list[str]
):
    """A7, A9: what is hidden is hidden inside the search, from whom it is hidden."""
    off = {"choices": [{"document": "alpha", "enabled": False}]}
    chat = await new_conversation(ada)
    assert (await boss.put("/selection/system", json=off)).json() == {"count": 1}
    assert await searched(eve, mode=mode) == {"beta", "gamma"}
    mine = [{"document": "alpha", "enabled": True}, {"document": "beta", "enabled": False}]
    assert (await ada.put("/selection/user", json={"choices": mine})).json() == {"count": 2}
    assert await searched(ada, mode=mode) == {"alpha", "gamma"}
    here = {"choices": [{"document": "beta", "enabled": True}]}
    assert (await ada.put(f"/selection/conversations/{chat}", json=here)).status_code == 200
    assert await searched(ada, mode=mode, conversation_id=chat) == {"alpha", "beta", "gamma"}
    assert await searched(eve, mode=mode) == {"beta", "gamma"}


async def test_the_selection_says_what_decides(ada: AsyncClient, documents: list[str]):
    """A7: it is JSON."""
    chat = await new_conversation(ada)
    off = {"choices": [{"document": "alpha", "enabled": False}]}
    await ada.put(f"/selection/conversations/{chat}", json=off)
    page = (await ada.get("/selection", params={"conversation_id": chat})).json()
    decided = {each["resource_hash"]: each["decided_by"] for each in page["documents"]}
    assert decided == {"alpha": "conversation", "beta": "system", "gamma": "system"}
    seen = await ada.get("/selection", params={"conversation_id": chat, "enabled": True})
    assert hashes(seen.json()) == ["beta", "gamma"]
    cleared = await ada.delete(f"/selection/conversations/{chat}", params={"document": "alpha"})
    assert cleared.json() == {"count": 1}
    await ada.put("/selection/user", json=off)
    assert (await ada.delete("/selection/user")).json() == {"count": 1}


async def test_anothers_conversation_is_not_there(
    ada: AsyncClient, eve: AsyncClient, common: Database, documents: list[str]
):
    """A7: nor is one that belongs to a client, whoever that is."""
    from a2rchi_pg import ConversationRepository, Owner  # noqa: PLC0415

    hers = await new_conversation(ada)
    clients = ConversationRepository(common, owner=Owner(client_id="browser")).create()
    off = {"choices": [{"document": "alpha", "enabled": False}]}
    for chat in (hers, clients.conversation_id, 10**9):
        here, param = f"/selection/conversations/{chat}", {"conversation_id": chat}
        asked = {"query": "queue", "conversation_id": chat}
        for response in (
            await eve.put(here, json=off),
            await eve.delete(here),
            await eve.get("/selection", params=param),
            await eve.get("/documents", params=param),
            await eve.get("/documents/alpha", params=param),
            await eve.post("/search", json=asked),
        ):
            assert is_problem(response, 404)
    for no_id in (2**63, -(2**63) - 1, 1.5, "x"):
        assert is_problem(await ada.put(f"/selection/conversations/{no_id}", json=off), 422)


async def test_choices_are_stored_all_or_none(ada: AsyncClient, documents: list[str]):
    some = [{"document": "alpha", "enabled": False}, {"document": "none", "enabled": False}]
    refused = await ada.put("/selection/user", json={"choices": some})
    assert is_problem(refused, 404)
    assert "none" in refused.json()["detail"]
    assert await searched(ada) == set(documents)


async def test_a_filter_that_makes_no_sense(ada: AsyncClient, documents: list[str]):
    bad = {"query": "queue", "filter": {"kind": {"$like-ish": 1}}}
    assert is_problem(await ada.post("/search", json=bad), 422, "invalid_filter")
    assert is_problem(await ada.post("/search", json={"query": "", "k": 0}), 422)
    assert await searched(ada, filter={"resource_hash": "beta"}) == {"beta"}

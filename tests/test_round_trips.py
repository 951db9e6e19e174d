"""How often each public call asks the server, counted on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Database, PostgresVectorStore
from tests.database_support import Scattered
from tests.wire import Wire, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.servers("embedded", "plain"), pytest.mark.timeout(60)]
WARM = 8  # more than it takes until a statement is prepared
READS = {
    "similarity_search": {"query": "fox", "k": 2},
    "similarity_search_with_score": {"query": "fox", "k": 2},
    "similarity_search_with_relevance_scores": {"query": "fox", "k": 2},
    "similarity_search_by_vector": {"embedding": Scattered().embed_query("fox"), "k": 2},
    "max_marginal_relevance_search": {"query": "fox", "k": 2},
    "bm25_search": {"query": "fox", "k": 2},
    "hybrid_search": {"query": "fox", "k": 2},
    "count": {},
}
FILTERED = {"filter": {"colour": "red"}}


@pytest.fixture
def cable(dsn: str) -> Iterator[Wire]:
    with wire(dsn) as laid:
        yield laid


@pytest.fixture
def store(cable: Wire) -> Iterator[PostgresVectorStore]:
    with Database(cable.dsn, max_size=1) as database:
        yield filled(PostgresVectorStore(Scattered(), database=database))


def filled(store: PostgresVectorStore) -> PostgresVectorStore:
    store.add_texts(["a red fox", "a blue whale"], [{"colour": "red"}, {}], ids=["1", "2"])
    return store


def trips(cable: Wire, call, *args, **kwargs) -> list[int]:
    """What each of some calls costs, once the statement is known."""
    for _ in range(WARM):
        call(*args, **kwargs)
    counted = []
    for _ in range(3):
        before = cable.round_trips
        call(*args, **kwargs)
        counted.append(cable.round_trips - before)
    return counted


@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize("more", [{}, FILTERED], ids=["everything", "filtered"])
def test_a_search_is_one_round_trip(cable: Wire, store, method: str, more):
    arguments = {**READS[method], **more}
    assert trips(cable, getattr(store, method), **arguments) == [1, 1, 1]


def test_looking_up_ids_is_one_round_trip(cable: Wire, store):
    assert trips(cable, store.get_by_ids, ["1", "2"]) == [1, 1, 1]


@pytest.mark.parametrize("search_type", ["similarity", "mmr", "bm25", "hybrid"])
def test_a_retriever_asks_once(cable: Wire, store, search_type: str):
    retriever = store.as_retriever(search_type=search_type, search_kwargs={"k": 2})
    assert trips(cable, retriever.invoke, "fox") == [1, 1, 1]


def test_the_first_search_of_a_store_asks_for_its_collection_besides(cable: Wire, store):
    def search_afresh() -> None:
        PostgresVectorStore(Scattered(), database=store.database).similarity_search("fox")

    assert trips(cable, search_afresh) == [2, 2, 2]


@pytest.mark.servers("embedded")
def test_a_write_is_one_statement_in_its_transaction(cable: Wire, store):
    """But for those after which a sample of the collection is due."""
    assert min(trips(cable, store.add_texts, ["a grey wolf"], ids=["3"])) == 3
    assert trips(cable, store.delete, ["3"]) == [3, 3, 3]


async def test_in_an_event_loop_it_is_the_same(cable: Wire):
    async with Database(cable.dsn, max_size=1) as database:
        store = PostgresVectorStore(Scattered(), database=database)
        await store.aadd_texts(["a red fox", "a blue whale"])
        for method in ("asimilarity_search", "abm25_search", "ahybrid_search"):
            for _ in range(WARM):
                await getattr(store, method)("fox", k=2)
            before = cable.round_trips
            await getattr(store, method)("fox", k=2)
            assert cable.round_trips - before == 1

"""Search by words, against what PostgreSQL itself computes row by row."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from psycopg import sql

from a2rchi_pg import Collections
from a2rchi_pg._op import execute, write
from a2rchi_pg._search import MAX_QUERY_CHARACTERS, MAX_QUERY_WORDS
from tests.database_support import wait_until
from tests.lexical_support import assert_best, make_texts
from tests.plugins.stores import CountingRunner, Twin, ask, ids, rows, scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg import Database, PostgresVectorStore
    from tests.plugins.servers import Server
    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(60)
with_bm25 = pytest.mark.servers("embedded", "full")


def oracle(store: PostgresVectorStore, query: str) -> dict[str, float]:
    """The BM25 score of every text that has one, computed without the index's help."""
    collection = Collections(store.database).get(store.collection_name)
    assert collection
    statement = sql.SQL("SELECT id, -(content <@> to_bm25query(%(query)s, {index})) FROM {table}")
    found = ask(
        store,
        statement.format(
            index=sql.Literal(f"{collection.partition}_bm25"),
            table=sql.Identifier(collection.partition),
        ),
        query=query,
    )
    return {id_: score for id_, score in found if score > 0}


@with_bm25
@pytest.mark.parametrize("analysed", [False, True], ids=["new", "analysed"])
@pytest.mark.parametrize("size", [1, 5, 50, 200, 1000])
def test_bm25_is_exact_whatever_the_table_size_and_the_plan(
    new_store: NewStore, size: int, analysed: bool
):
    store = new_store()
    names = [f"{n:04}" for n in range(size)]
    store.add_texts(make_texts(size), [{"even": n % 2 == 0} for n in range(size)], ids=names)
    if analysed:
        analyse(store)
    for query in ("gluon", "boson muon", "alpha", "whale whale zebra", "alpha beta absent"):
        everything = oracle(store, query)
        even = {id_: score for id_, score in everything.items() if int(id_) % 2 == 0}
        for k in (1, 4, 60, size + 10):
            assert_best(store.bm25_search(query, k=k), everything, k)
            assert_best(store.bm25_search(query, k=k, filter={"even": True}), even, k)


@with_bm25
@pytest.mark.parametrize("size", [1, 5, 50, 200])
def test_bm25_is_exact_where_the_planner_reads_a_small_table_through(
    common: Database, new_store: NewStore, size: int
):
    store = new_store()
    names = [f"{n:04}" for n in range(size)]
    store.add_texts(make_texts(size), [{"even": n % 2 == 0} for n in range(size)], ids=names)
    with common.transaction() as transaction:
        reading = new_store(name=store.collection_name, database=transaction)
        ask(reading, "SELECT set_config('enable_indexscan', 'off', true)")
        for query in ("gluon", "whale zebra", "alpha", "absent"):
            everything = oracle(store, query)
            even = {id_: score for id_, score in everything.items() if int(id_) % 2 == 0}
            for k in (4, size + 10):
                assert_best(reading.bm25_search(query, k=k), everything, k)
                assert_best(reading.bm25_search(query, k=k, filter={"even": True}), even, k)


@with_bm25
@pytest.mark.parametrize("size", [50, 1000])
def test_bm25_stays_exact_once_its_statement_is_prepared(new_store: NewStore, size: int):
    store = new_store()
    store.add_texts(make_texts(size), ids=[f"{n:04}" for n in range(size)])
    expected = oracle(store, "whale zebra")
    for attempt in range(14):
        assert_best(store.bm25_search("whale zebra", k=5), expected, 5)
        if attempt == 6:
            analyse(store)


def analyse(store: PostgresVectorStore) -> None:
    """Tell the planner how small the table is: it then reads all of a small one."""
    collection = Collections(store.database).get(store.collection_name)
    assert collection
    statement = sql.SQL("ANALYZE {}").format(sql.Identifier(collection.partition))

    @write
    def steps():
        yield from execute(statement)

    store.database.run(steps())


def deleted_rows(store: PostgresVectorStore) -> int:
    """How many the server's statistics know of, which else hear of them within seconds."""
    collection = Collections(store.database).get(store.collection_name)
    assert collection
    ask(store, "SELECT pg_stat_force_next_flush()")
    known = "SELECT pg_stat_get_dead_tuples(%(part)s::regclass)"
    return int(ask(store, known, part=collection.partition)[0][0])


@with_bm25
def test_bm25_is_exact_after_most_rows_were_deleted(new_store: NewStore):
    store = new_store()
    names = [f"{n:04}" for n in range(1000)]
    store.add_texts(make_texts(1000), ids=names)
    store.delete(names[5:])
    analyse(store)
    for query in ("alpha", "beta gamma", "whale"):
        assert_best(store.bm25_search(query, k=10), oracle(store, query), 10)


def add_equals(
    store: PostgresVectorStore,
    random: np.random.Generator,
    longest: int,
    about: Callable[[], dict[str, int]],
) -> list[str]:
    """Short texts, many of the same score, most of them written after the index was; their ids."""
    words = [f"w{n}" for n in range(40)]
    names = [f"{n:04}" for n in range(1200)]
    for start in range(0, 1200, 60):
        texts = [" ".join(random.choice(words, random.integers(1, longest + 1))) for _ in range(60)]
        store.add_texts(texts, [about() for _ in texts], ids=names[start : start + 60])
    return names


@with_bm25
def test_a_filter_loses_no_match_among_equals_written_before_and_after_the_index(
    new_store: NewStore,
):
    store = new_store()
    random = np.random.default_rng(7)
    add_equals(store, random, 3, lambda: {"group": int(random.integers(4))})
    analyse(store)
    first = {document.id for document in store.find({"group": 0}, limit=1200)}
    for n in range(0, 30, 2):
        query = f"w{n} w{n + 1} w{n + 3}"
        eligible = {id_: score for id_, score in oracle(store, query).items() if id_ in first}
        for k in (20, 50, 100, 300):
            assert_best(store.bm25_search(query, k=k, filter={"group": 0}), eligible, k)


@with_bm25
def test_deleted_rows_cost_no_match_among_equals_written_before_and_after_the_index(
    new_store: NewStore,
):
    store = new_store()
    random = np.random.default_rng(7)
    names = add_equals(store, random, 4, dict)
    store.delete([str(name) for name in random.permutation(names)[:360]])
    wait_until(lambda: deleted_rows(store))
    for n in range(0, 37, 2):
        query = f"w{n} w{n + 1} w{n + 3}"
        expected = oracle(store, query)
        for k in (5, 20, 80, 150):
            assert_best(store.bm25_search(query, k=k), expected, k)


@with_bm25
def test_bm25_is_exact_within_a_collection_whatever_others_hold(new_store: NewStore):
    here, there = new_store(), new_store()
    there.add_texts(["whale"] * 200)
    here.add_texts(["whale alpha", "beta"], ids=["1", "2"])
    before = scores(here.bm25_search("whale"))
    there.add_texts(["whale"] * 200)
    assert scores(here.bm25_search("whale")) == before


async def test_bm25_finds_only_what_holds_a_word_best_first(twin: Twin):
    texts = ["a whale", "whale whale whale", "a fox", "the whale and many other long words here"]
    await twin.add_texts(texts, ids=["1", "2", "3", "4"])
    found = await twin.bm25_search("whale", k=4)
    assert sorted(ids(found)) == ["1", "2", "4"]
    assert all(better >= worse > 0 for better, worse in pairwise(scores(found)))


async def test_bm25_of_a_question_needs_one_of_its_words_not_all(twin: Twin):
    await twin.add_texts(["whales are mammals", "foxes too"], ids=["1", "2"])
    assert ids(await twin.bm25_search("which whales live in the Atlantic ocean?")) == ["1"]


@pytest.mark.parametrize("query", ["", " ", "\n\t", "the of and", "absent", "()", "\0", "%", "!!!"])
async def test_queries_without_a_known_word_match_no_words(twin: Twin, query: str):
    await twin.add_texts(["a whale", "a fox"], ids=["1", "2"])
    assert await twin.bm25_search(query) == []
    assert len(await twin.hybrid_search(query)) == 2
    assert len(await twin.similarity_search(query)) == 2


@pytest.mark.parametrize(
    "query",
    ["'whale'", '"whale"', "whale:*", "whale & !fox", "(whale", "whale\\", "whale | fox <-> x",
     "-whale", "%whale%", "whale OR", "$1 whale", "whale {0}", "WHALE", "whales"],
)  # fmt: skip
async def test_nothing_in_a_query_is_an_operator(twin: Twin, query: str):
    await twin.add_texts(["a whale", "a tree"], ids=["1", "2"])
    assert ids(await twin.bm25_search(query)) == ["1"]
    assert ids(await twin.hybrid_search(query, k=1)) == ["1"]


@pytest.mark.parametrize("text", ["東京は日本の首都です", "🐳🐋", "Ünïcödé straße", "кит в море"])
async def test_any_script_is_stored_and_found_by_its_own_text(twin: Twin, text: str):
    await twin.add_texts([text, "a fox"], ids=["1", "2"])
    assert (await twin.get_by_ids(["1"]))[0].page_content == text
    assert ids(await twin.similarity_search(text, k=1)) == ["1"] or "🐳" in text
    assert ids(await twin.bm25_search(text)) in (["1"], [])
    assert len(await twin.hybrid_search(text)) == 2


@pytest.mark.parametrize(
    "query", ["whale " * 170_000, "x" * 1_000_000, " ".join(f"w{n}" for n in range(150_000))]
)
async def test_of_a_query_of_a_megabyte_only_the_beginning_is_sent(
    way_in: tuple[str, Database], new_store: NewStore, query: str
):
    """Its words cost time, each of them."""
    way, database = way_in
    runner = CountingRunner(database)
    twin = Twin(new_store(database=runner), way)
    await twin.add_texts([f"whale w{n}" for n in range(200)])
    runner.ran.clear()
    await twin.bm25_search(query)
    await twin.hybrid_search(query)
    sent = [next(iter(op)).params.get("query") for op in runner.ran]
    words = [text for text in sent if text is not None]
    assert len(words) >= 2
    assert all(len(text) <= MAX_QUERY_CHARACTERS for text in words)
    assert all(len(text.split()) <= MAX_QUERY_WORDS for text in words)


def test_the_text_config_is_the_collections(new_store: NewStore):
    store = new_store(text_config="german")
    store.add_texts(["Die Häuser der Stadt", "Der Baum"], ids=["1", "2"])
    assert ids(store.bm25_search("Haus")) == ["1"]
    exact = new_store(text_config="simple")
    exact.add_texts(["the houses"], ids=["1"])
    assert exact.bm25_search("house") == []
    assert ids(exact.bm25_search("the")) == ["1"]


@pytest.mark.servers("plain")
def test_v15_without_its_index_bm25_is_computed_in_sql_and_says_so_once(
    store: PostgresVectorStore, caplog: pytest.LogCaptureFixture
):
    store.add_texts(["the whale", "a fox"], ids=["1", "2"])
    with caplog.at_level(logging.INFO, "a2rchi_pg.store"):
        for _ in range(3):
            assert ids(store.bm25_search("whales and ships")) == ["1"]
            assert ids(store.hybrid_search("whales", k=1)) == ["1"]
    assert [record.message.count("no BM25 index") for record in caplog.records] == [1]
    assert "adopt_extensions()" in caplog.text


@with_bm25
def test_v15_with_bm25_there_is_nothing_to_say(
    store: PostgresVectorStore, caplog: pytest.LogCaptureFixture, server: Server
):
    store.add_texts(["the whale"])
    store.hybrid_search("whale")
    assert caplog.records == []
    assert rows(store)

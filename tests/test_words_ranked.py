"""BM25 computed in SQL, where pg_textsearch is missing, against BM25 computed in Python."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from a2rchi_pg import Collections
from tests.database_support import admin
from tests.lexical_support import WORDS, assert_best, make_texts
from tests.plugins.stores import ask, ids, scores
from tests.test_store_scope import new_document

if TYPE_CHECKING:
    from a2rchi_pg import Database, PostgresVectorStore
    from a2rchi_pg.collections import Collection
    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.servers("plain"), pytest.mark.timeout(120)]


def of(store: PostgresVectorStore) -> Collection:
    collection = Collections(store.database).get(store.collection_name)
    assert collection
    return collection


def table(store: PostgresVectorStore, query: str) -> sql.Composed:
    return sql.SQL(query).format(sql.Identifier(of(store).partition))  # type: ignore[arg-type]


def oracle(store: PostgresVectorStore, query: str, **where: Any) -> dict[str, float]:
    """The score of every chunk that has one, of those whose metadata is so."""
    collection = of(store)
    stored = ask(
        store,
        table(
            store,
            "SELECT id, metadata, array_agg(lexeme), array_agg(cardinality(positions)) "
            "FROM (SELECT id, metadata, to_tsvector(%(config)s::regconfig, content) AS made "
            "FROM {}) AS t LEFT JOIN unnest(made) ON true GROUP BY id, metadata",
        ),
        config=collection.text_config,
    )
    (asked,) = ask(
        store,
        "SELECT array_agg(lexeme), array_agg(cardinality(positions)) "
        "FROM unnest(to_tsvector(%(config)s::regconfig, %(query)s))",
        config=collection.text_config,
        query=query,
    )
    terms = Counter(dict(zip(asked[0] or [], asked[1] or [], strict=True)))
    texts = {
        id_: {word: times for word, times in zip(words, counts, strict=True) if word}
        for id_, _, words, counts in stored
    }
    eligible = {row[0] for row in stored if where.items() <= row[1].items()}
    found = bm25(texts, terms, collection.k1, collection.b)
    return {id_: score for id_, score in found.items() if id_ in eligible}


def bm25(
    texts: dict[str, dict[str, int]], terms: Counter[str], k1: float, b: float
) -> dict[str, float]:
    mean = sum(sum(text.values()) for text in texts.values()) / max(1, len(texts))
    having = Counter(word for text in texts.values() for word in text)
    found: dict[str, float] = {}
    for id_, text in texts.items():
        norm = k1 * (1 - b + b * sum(text.values()) / max(1, mean))
        for word in terms.keys() & text.keys():
            rest = len(texts) - having[word]
            weight = terms[word] * math.log(1 + (rest + 0.5) / (having[word] + 0.5))
            part = weight * text[word] * (k1 + 1) / (text[word] + norm)
            found[id_] = found.get(id_, 0.0) + part
    return found


def filled(store: PostgresVectorStore, count: int) -> PostgresVectorStore:
    names = [f"{n:04}" for n in range(count)]
    store.add_texts(
        make_texts(count, 60), [{"third": n % 3, "n": n} for n in range(count)], ids=names
    )
    assert of(store).lexical == "words"
    return store


# -- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "k1", "b"),
    [(1, 1.2, 0.75), (5, 0.9, 0.4), (200, 2.0, 1.0), (200, 1.2, 0.0), (1500, 1.2, 0.75)],
)
def test_scores_and_order_are_those_of_bm25(new_store: NewStore, size: int, k1: float, b: float):
    store = filled(new_store(k1=k1, b=b), size)
    for query in ("gluon", "boson muon", "alpha", "whale whale zebra", "alpha beta gluon absent"):
        for k in (1, 4, 60, size + 10):
            assert_best(store.bm25_search(query, k=k), oracle(store, query), k)
            few = oracle(store, query, third=1)
            assert_best(store.bm25_search(query, k=k, filter={"third": 1}), few, k)
            one = oracle(store, query, n=size // 2)
            assert_best(store.bm25_search(query, k=k, filter={"n": size // 2}), one, k)


words = st.sampled_from([*WORDS, "don't", "it's", "a\\b", "O'Neill", "x:*", "&", "ünï", "北京"])
texts = st.lists(words, max_size=12).map(" ".join)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stored=st.lists(texts, min_size=1, max_size=20), query=texts, k=st.integers(1, 25))
def test_any_words_are_scored_as_by_bm25(
    new_store: NewStore, stored: list[str], query: str, k: int
):
    store = new_store(text_config="simple")
    store.add_texts(stored, ids=[f"{n:02}" for n in range(len(stored))])
    assert_best(store.bm25_search(query, k=k), oracle(store, query), k)
    Collections(store.database).drop(store.collection_name)


def test_every_number_of_occurrences_is_told_from_the_next(store: PostgresVectorStore):
    """Through ts_rank(), which says it in a float of 24 bits."""
    store.add_texts(["whale " * n + "fox" for n in range(256)], ids=[f"{n:03}" for n in range(256)])
    assert_best(store.bm25_search("whale", k=300), oracle(store, "whale"), 300)


@pytest.mark.parametrize("length", [3_000, 20_000])
def test_words_that_are_kept_out_of_line_are_weighed_too(store: PostgresVectorStore, length: int):
    random = np.random.default_rng(length)
    long = [" ".join(f"w{n}" for n in random.integers(0, 5000, length)) for _ in range(20)]
    store.add_texts(long, ids=[f"{n:02}" for n in range(20)])
    assert_best(store.bm25_search("w17 w18 w19", k=10), oracle(store, "w17 w18 w19"), 10)


def test_scores_are_near_where_a_large_collection_is_estimated(
    new_store: NewStore, common_dsn: str
):
    store = filled(new_store(), 6000)
    (pages,) = ask(store, "SELECT pg_relation_size(%(t)s) / 8192", t=of(store).partition)[0]
    assert pages > 256
    everything = oracle(store, "zebra gluon alpha")
    for analysed in (False, True):
        if analysed:
            admin(common_dsn, "ANALYZE document_chunks")
        found = store.bm25_search("zebra gluon alpha", k=20)
        assert scores(found) == pytest.approx([everything[id_] for id_ in ids(found)], rel=0.1)
        least = sorted(everything.values())[-20]
        assert all(everything[id_] > 0.95 * least for id_ in ids(found))


def test_k_is_reached_where_what_meets_a_common_condition_matches_worst(store: PostgresVectorStore):
    texts = ["whale whale"] * 300 + ["whale " + "fox " * (20 + n) for n in range(200)]
    names = [f"{n:03}" for n in range(500)]
    store.add_texts(texts, [{"far": n >= 300} for n in range(500)], ids=names)
    for k in (4, 150, 250):
        far = oracle(store, "whale", far=True)
        assert_best(store.bm25_search("whale", k=k, filter={"far": True}), far, k)
        found = store.hybrid_search("whale", k=k, filter={"far": True})
        assert len(found) == min(k, 200)
        assert {document.metadata["far"] for document, _ in found} == {True}


# -- what changes ---------------------------------------------------------------------------------


def test_scores_follow_what_is_written_and_deleted(store: PostgresVectorStore, common_dsn: str):
    filled(store, 300)
    query = "whale gluon alpha"
    store.delete([f"{n:04}" for n in range(0, 300, 2)])
    assert_best(store.bm25_search(query, k=20), oracle(store, query), 20)
    store.add_texts(["gluon whale"] * 3, ids=["0001", "0003", "new"])
    assert_best(store.bm25_search(query, k=20), oracle(store, query), 20)
    assert store.update_metadata({"third": 7}, filter={"third": 1}) > 0
    assert_best(store.bm25_search(query, k=20), oracle(store, query), 20)
    moved = oracle(store, query, third=7)
    assert_best(store.bm25_search(query, k=20, filter={"third": 7}), moved, 20)
    admin(common_dsn, "UPDATE document_chunks SET content = 'gluon gluon' WHERE id = 'new'")
    assert_best(store.bm25_search(query, k=20), oracle(store, query), 20)
    store.delete(filter={})
    assert store.bm25_search(query) == []


def test_scores_are_of_one_collection_whatever_others_hold_and_are_called(
    common: Database, new_store: NewStore
):
    here, there = filled(new_store(), 50), new_store(k1=2.0)
    there.add_texts(["whale"] * 200, ids=[f"{n:03}" for n in range(200)])
    assert_best(here.bm25_search("whale", k=9), oracle(here, "whale"), 9)
    Collections(common).swap(here.collection_name, there.collection_name)
    assert len(here.bm25_search("whale", k=300)) == 200
    assert_best(there.bm25_search("whale", k=9), oracle(there, "whale"), 9)
    there.add_texts(["whale"], ids=["new"])
    assert_best(there.bm25_search("whale", k=9), oracle(there, "whale"), 9)


def test_what_one_may_not_see_is_left_out_and_k_is_reached(
    store: PostgresVectorStore, common_dsn: str
):
    document = store.database.run(new_document())
    store.add_texts(["whale"] * 30, ids=[f"a{n}" for n in range(30)], document_id=document)
    store.add_texts(["whale whale fox"] * 5, ids=[f"b{n}" for n in range(5)])
    assert len(store.bm25_search("whale", k=5)) == 5
    admin(common_dsn, "UPDATE documents SET enabled = false WHERE id = %s", document)
    assert ids(store.bm25_search("whale", k=5)) == [f"b{n}" for n in range(5)]
    assert ids(store.bm25_search("whale", k=5, user_id="ann")) == [f"b{n}" for n in range(5)]


def test_writers_and_searchers_do_not_disturb_one_another(new_store: NewStore):
    store = filled(new_store(), 200)

    def write(worker: int) -> None:
        for n in range(15):
            own = [f"{worker}-{n}-{each}" for each in range(4)]
            store.add_texts(["whale gluon " + "fox " * n] * 4, ids=own)
            store.delete(own[:2])

    def search(worker: int) -> None:
        for _ in range(25):
            found = store.bm25_search("whale gluon", k=10 + worker)
            assert len(found) == 10 + worker
            assert all(score > 0 for score in scores(found))

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(write, n) for n in range(3)] + [
            pool.submit(search, n) for n in range(3)
        ]
    for each in done:
        each.result()
    assert_best(store.bm25_search("whale gluon fox", k=40), oracle(store, "whale gluon fox"), 40)


# -- the index and the stored words ---------------------------------------------------------------


def test_the_index_of_words_is_read_whatever_share_of_the_chunks_has_them(
    common: Database, new_store: NewStore
):
    store = filled(new_store(name="by its words"), 1500)
    with common.transaction() as transaction:
        inside = new_store(name="by its words", database=transaction)
        for query in ("gluon", "alpha", "alpha beta gamma"):
            for condition in (None, {"third": 1}, {"n": 7}):
                before = scans(inside)
                inside.bm25_search(query, k=10, filter=condition)
                after = scans(inside)
                assert after["index"] > before["index"], (query, condition)
                assert after["table"] == before["table"], (query, condition)
    assert f"{of(store).partition}_fts" in store.explain("gluon").indexes


def scans(store: PostgresVectorStore) -> dict[str, int]:
    """How often the store's connection read the index of words, and the whole table."""
    ((table_scans, index_scans),) = ask(
        store,
        "SELECT pg_stat_get_xact_numscans(%(table)s::regclass), "
        "pg_stat_get_xact_numscans(%(index)s::regclass)",
        table=of(store).partition,
        index=f"{of(store).partition}_fts",
    )
    return {"table": table_scans, "index": index_scans}


def test_chunks_stored_without_their_words_are_found_as_well(
    store: PostgresVectorStore, common_dsn: str
):
    """As those are that a server with pg_textsearch wrote."""
    filled(store, 40)
    partition = of(store).partition
    admin(common_dsn, f"ALTER TABLE {partition} DISABLE TRIGGER store_words")
    filled(store, 100)
    store.add_texts(["gluon " * 9], ids=["bare"])
    assert_best(store.bm25_search("gluon alpha", k=60), oracle(store, "gluon alpha"), 60)
    bare = table(store, "SELECT count(*) FILTER (WHERE words IS NULL) > 60 FROM {}")
    assert ask(store, bare) == [(True,)]

    admin(common_dsn, f"ALTER TABLE {partition} ENABLE TRIGGER store_words")
    assert store.update_metadata({}, filter={}) == 101
    assert ask(store, table(store, "SELECT count(words) = count(*) FROM {}")) == [(True,)]
    assert_best(store.bm25_search("gluon alpha", k=60), oracle(store, "gluon alpha"), 60)


def test_a_search_goes_on_where_the_index_of_words_is_dropped(
    store: PostgresVectorStore, common_dsn: str, caplog: pytest.LogCaptureFixture
):
    filled(store, 60)
    assert len(store.bm25_search("alpha", k=9)) == 9
    index = f"{of(store).partition}_fts"
    admin(common_dsn, f"DROP INDEX {index}")
    assert of(store).lexical == "fts"
    assert len(store.bm25_search("alpha", k=9)) == 9
    assert "has no index of its words" in caplog.text
    assert index in Collections(store.database).build_indexes(store.collection_name)
    assert of(store).lexical == "words"


@pytest.mark.servers("embedded", "full")
def test_where_bm25_has_an_index_words_are_not_stored(store: PostgresVectorStore):
    store.add_texts(["the whale", "a fox"])
    bare = table(store, "SELECT count(*) FROM {} WHERE words IS NULL AND word_count IS NULL")
    assert ask(store, bare) == [(2,)]
    triggers = "SELECT FROM pg_trigger WHERE tgrelid = %(t)s::regclass AND tgname = 'store_words'"
    assert ask(store, triggers, t=of(store).partition) == []

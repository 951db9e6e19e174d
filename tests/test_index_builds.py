"""Each index of a collection is built by itself, and by one client at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import (
    Collections,
    CollectionSpec,
    Database,
    InvalidInput,
    NotFound,
    PostgresVectorStore,
    _store,
)
from a2rchi_pg.errors import Conflict, DatabaseError
from tests.database_support import admin, wait_until, waiting
from tests.plugins.stores import DIMENSIONS, WordModel, ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(120)
# More words than a tsvector holds.
ENDLESS = " ".join(f"word{n}" for n in range(150_000))


def endings(store: PostgresVectorStore) -> set[str]:
    collections = Collections(store.database)
    collection = collections.get(store.collection_name)
    assert collection
    found = collections.stats(store.collection_name).indexes
    return {index.name.removeprefix(collection.partition) for index in found if index.valid}


# -- what can't be built --------------------------------------------------------------------------


@pytest.mark.servers("plain")
def test_a_text_too_long_for_full_text_search_leaves_the_vector_index(
    database: Database, dsn: str, caplog
):
    spec = CollectionSpec(name="long", fields={"n": "int"})
    Collections(database).create(spec, DIMENSIONS)
    columns = "collection_id, id, content, embedding"
    row = f"INSERT INTO document_chunks ({columns}) VALUES (1, '1', %s, %s)"
    # A store takes no text that long, nor does a table that keeps its words.
    with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="string is too long"):
        admin(dsn, row, ENDLESS, str([1.0] * DIMENSIONS))
    admin(dsn, "ALTER TABLE document_chunks_1 DISABLE TRIGGER store_words")
    admin(dsn, row, ENDLESS, str([1.0] * DIMENSIONS))
    store = PostgresVectorStore(WordModel(), database=database, collection="long")
    store.add_texts(["a fox"], ids=["2"])
    assert {"_embedding"} <= endings(store)
    assert "_fts" not in endings(store)
    assert any("_field_" in ending for ending in endings(store))
    assert "on words: string is too long for tsvector" in caplog.text
    assert ids(store.similarity_search("a fox", k=1)) == ["2"]
    for mend in (
        lambda: Collections(store.database).build_indexes(store.collection_name),
        lambda: Collections(store.database).reindex(store.collection_name),
        lambda: Collections(store.database).reindex(store.collection_name, online=False),
    ):
        with pytest.raises(DatabaseError, match=r"can't be built \(on words: string is too long"):
            mend()
        assert "_embedding" in endings(store)
    store.delete(["1"])
    assert len(Collections(store.database).build_indexes(store.collection_name)) == 1
    assert "_fts" in endings(store)


def test_a_number_too_large_for_float16_leaves_the_lexical_index(
    new_store: NewStore, common_dsn: str
):
    store = new_store(element="halfvec", metric="l2")
    store.add_embeddings(["a fox"], [[1.0, 2.0]], ids=["2"])
    name = store.collection_name
    with psycopg.connect(
        common_dsn, autocommit=True
    ) as connection:  # a store takes no number that large
        connection.execute("SELECT drop_collection_indexes(%s)", [name])
        connection.execute(
            "INSERT INTO document_chunks (collection_id, id, content, embedding) "
            "SELECT id, '1', 'a whale', '[1e6, 1]' FROM collections WHERE name = %s",
            [name],
        )
    with pytest.raises(DatabaseError, match=r"can't be built \(on vectors: .*halfvec"):
        Collections(store.database).build_indexes(name)
    assert "_embedding" not in endings(store)
    assert endings(store) & {"_bm25", "_fts"}
    assert ids(store.bm25_search("fox")) == ["2"]


def test_indexes_of_nothing_are_not_found(common: Database):
    with pytest.raises(NotFound, match="no collection 'nothing'"):
        Collections(common).build_indexes("nothing")


@pytest.mark.servers("full")
@pytest.mark.parametrize("element", ["vector", "halfvec", "bit"])
@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_ivfflat_on_one_dimension_is_refused_where_pgvector_refuses_it(
    new_store: NewStore, metric: str, element: str
):
    store = new_store(index="ivfflat", metric=metric, element=element)
    given = np.arange(1.0, 1101.0)[:, None]
    if metric == "l2" or element == "bit":
        store.add_embeddings([""] * 1100, given)
        assert "_embedding" in endings(store)
        return
    with pytest.raises(InvalidInput, match="takes at least 2 dimensions"):
        store.add_embeddings([""] * 1100, given)
    assert Collections(store.database).get(store.collection_name) is None


# -- several who build ----------------------------------------------------------------------------


@contextmanager
def a_rebuild_under_way(database: Database, dsn: str, *, online: bool) -> Iterator[Any]:
    """One that has begun, and can't end before the block does."""
    with ThreadPoolExecutor(1) as pool, psycopg.connect(dsn) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT id FROM document_chunks_1 LIMIT 1")
        rebuilding = pool.submit(Collections(database).reindex, "default", online=online)
        busy = "SELECT 1 FROM pg_index WHERE indexrelid::regclass::text ~ 'cc(new|old)'"
        if not online:
            busy = "SELECT 1 FROM pg_stat_activity WHERE query ~ 'rebuild_coll' AND wait_event > ''"
            busy += " AND pid <> pg_backend_pid()"
        wait_until(lambda: admin(dsn, busy))
        yield rebuilding
        reader.rollback()


@pytest.fixture
def filled(database: Database) -> PostgresVectorStore:
    store = PostgresVectorStore(WordModel(), database=database)
    store.add_texts([f"chunk {n} word{n % 7}" for n in range(500)])
    return store


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("other", [True, False])
def test_whoever_rebuilds_second_is_told_and_does_no_harm(
    dsn: str, database: Database, filled: PostgresVectorStore, online: bool, other: bool
):
    before = endings(filled)
    with a_rebuild_under_way(database, dsn, online=online) as rebuilding:
        with pytest.raises(Conflict, match=r"indexes of .*'default'.* by somebody else"):
            Collections(database).reindex("default", online=other)
        assert not rebuilding.done()
    rebuilding.result()
    assert endings(filled) == before
    Collections(database).reindex("default", online=other)
    assert endings(filled) == before


def test_a_large_load_does_not_wait_for_a_rebuild(
    dsn: str, database: Database, filled: PostgresVectorStore, monkeypatch
):
    monkeypatch.setattr(_store, "LARGE_LOAD", 600)
    before = endings(filled)
    with a_rebuild_under_way(database, dsn, online=True) as rebuilding:
        filled.add_texts(["late"] * 600)
        assert not rebuilding.done()
    rebuilding.result()
    assert endings(filled) == before
    assert len(filled.bm25_search("late", k=10)) == 10


def test_a_large_load_waits_for_no_reader_and_holds_up_no_one(
    dsn: str, database: Database, filled: PostgresVectorStore, monkeypatch
):
    """One that reads for long, as a dump does, keeps the indexes from being dropped."""
    monkeypatch.setattr(_store, "LARGE_LOAD", 600)
    before = endings(filled)
    impatient = Database(make_conninfo(dsn, options="-c lock_timeout=3s"))
    with psycopg.connect(dsn) as reader, impatient, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT id FROM document_chunks_1 LIMIT 1")
        loading = pool.submit(filled.add_texts, ["late"] * 600)
        other = PostgresVectorStore(WordModel(), database=impatient)
        while not loading.done():
            assert len(other.similarity_search("word3", k=5)) == 5
        assert len(loading.result()) == 600
    assert endings(filled) == before


def test_a_drop_holds_up_no_writer_of_another_collection(dsn: str, database: Database):
    for name in ("gone", "kept"):
        PostgresVectorStore(WordModel(), database=database, collection=name).add_texts(["a"])
    impatient = Database(make_conninfo(dsn, options="-c lock_timeout=3s"))
    with psycopg.connect(dsn) as reader, impatient, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT id FROM document_chunks LIMIT 1")
        dropping = pool.submit(Collections(database).drop, "gone")
        wait_until(lambda: waiting(dsn))
        PostgresVectorStore(WordModel(), database=impatient, collection="kept").add_texts(["b"])
        assert not dropping.done()
        reader.rollback()
        assert dropping.result()


def test_many_who_rebuild_at_once(database: Database, filled: PostgresVectorStore):
    before = endings(filled)
    ended: list[str] = []

    def rebuild(online: bool) -> None:
        try:
            Collections(database).reindex("default", online=online)
            ended.append("done")
        except Conflict:
            ended.append("conflict")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rebuild, [True, False] * 6))
    assert len(ended) == 12  # as chance has it, all may have been in one another's way
    Collections(database).reindex("default")
    assert endings(filled) == before

"""Kill -9 of the server while it is looked after, and a BM25 index that is broken for real.

The servers are durable as they come. What is killed is the server with all its processes at once.
(What a kill does to an add stands in ``test_faults``.)
"""

from __future__ import annotations

import os
import random
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from psycopg.conninfo import make_conninfo

from a2rchi_pg import (
    Collections,
    CollectionSpec,
    Database,
    EmbeddedPostgres,
    PostgresVectorStore,
    _schema,
)
from a2rchi_pg.embedded import _server
from a2rchi_pg.errors import DatabaseError
from tests.database_support import admin, wait_until
from tests.embedded_support import kill_server
from tests.plugins.stores import ids, rows
from tests.plugins.trees import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from a2rchi_pg import IndexProgress

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("faults")]
SMALL = {"shared_buffers": "64MB", "max_connections": 20}
DIMENSIONS = 96
ROWS = 4000
GIVEN = np.random.default_rng(3).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
LIMIT = "-c statement_timeout=20s"


class Scattered(Embeddings):
    """A direction of its own for every text, and always the same one."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def embed_query(self, text: str) -> list[float]:
        generator = np.random.default_rng(zlib.crc32(text.encode()))
        return list(generator.standard_normal(self.dimensions))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


@pytest.fixture
def durable(server_path: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    binaries = tree(getattr(request, "param", "embedded"))
    with EmbeddedPostgres(
        server_path, binaries=binaries, settings=SMALL, start_timeout=60
    ) as running:
        _schema.migrate(running.dsn)
        yield running


def start_again(durable: EmbeddedPostgres) -> None:
    durable.stop()
    durable.start()
    assert durable.unclean_start


def opened(durable: EmbeddedPostgres) -> Database:
    return Database(make_conninfo(durable.dsn, options=LIMIT), timeout=1)


def filled(database: Database, name: str = "default", count: int = ROWS) -> PostgresVectorStore:
    store = PostgresVectorStore(Scattered(DIMENSIONS), database=database, collection=name)
    texts = [f"chunk {n} word{n % 7} of {name}" for n in range(count)]
    store.add_embeddings(texts, GIVEN[:count], ids=[f"{n}" for n in range(count)])
    return store


def fresh(database: Database, name: str = "default") -> PostgresVectorStore:
    return PostgresVectorStore(Scattered(DIMENSIONS), database=database, collection=name)


def assert_whole(database: Database, name: str = "default", count: int = ROWS) -> None:
    """Every row is there and found, by its vector and by its words; and writing works."""
    store = fresh(database, name)
    assert {row.id for row in rows(store)} == {str(n) for n in range(count)}
    for n in range(0, count, max(1, count // 20)):
        assert ids(store.similarity_search_by_vector(GIVEN[n], k=1)) == [str(n)]
    assert len(store.bm25_search("chunk", k=count)) == count
    store.add_embeddings(["a needle"], [GIVEN[0] * 2 + 1], ids=["needle"])
    assert "needle" in ids(store.bm25_search("needle"))
    assert ids(store.similarity_search_by_vector(GIVEN[0] * 2 + 1, k=1)) == ["needle"]
    store.delete(["needle"])
    assert store.bm25_search("needle") == []


def assert_sound(database: Database, name: str = "default") -> None:
    """The indexes are those that a collection has, and all are valid."""
    indexes = Collections(database).stats(name).indexes
    assert all(index.valid for index in indexes)
    assert not [index.name for index in indexes if "_cc" in index.name or "retired" in index.name]
    collection = Collections(database).get(name)
    assert collection
    assert (collection.vector_index, collection.lexical) == (True, "bm25")


# -- killed -------------------------------------------------------------------------------------


def progress_of(durable: EmbeddedPostgres, at: str) -> IndexProgress | None:
    with opened(durable) as watching:
        found: list[IndexProgress] = []

        def there() -> bool:
            progress = Collections(watching).build_progress("default")
            if progress is not None and at in progress.phase and progress.done > 0:
                found.append(progress)
            return bool(found)

        wait_until(there)
        return found[0]


@pytest.mark.parametrize("online", [True, False])
def test_killed_while_an_index_is_rebuilt(durable: EmbeddedPostgres, online: bool):
    with opened(durable) as database:
        filled(database)
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(Collections(database).reindex, "default", online=online)
            progress_of(durable, "loading tuples")
            kill_server(durable)
            with pytest.raises(DatabaseError):
                building.result()
    start_again(durable)
    with opened(durable) as database:
        assert_whole(database)
        if not online:
            assert_sound(database)
        Collections(database).reindex("default")
        assert_sound(database)
        assert_whole(database)


def test_killed_during_load_then_build(durable: EmbeddedPostgres):
    """A load so large that the indexes make way: before, rows; after, rows or all of them."""
    with opened(durable) as database:
        filled(database, count=200)
        given = np.random.default_rng(4).normal(size=(6000, DIMENSIONS)).astype(np.float32)
        with ThreadPoolExecutor(1) as pool:
            adding = pool.submit(
                fresh(database).add_embeddings,
                ["late"] * 6000,
                given,
                ids=[f"late {n}" for n in range(6000)],
            )
            progress_of(durable, "loading tuples")
            kill_server(durable)
            adding.exception(60)
    start_again(durable)
    with opened(durable) as database:
        store = fresh(database)
        assert store.count() == 6200
        assert len(store.bm25_search("late", k=10_000)) == 6000
        assert ids(store.similarity_search_by_vector(given[17], k=1)) == ["late 17"]
        Collections(database).build_indexes("default")
        assert_sound(database)
        assert ids(fresh(database).similarity_search_by_vector(given[17], k=1)) == ["late 17"]
        assert len(fresh(database).bm25_search("late", k=10_000)) == 6000


def test_killed_again_and_again_while_names_are_swapped(durable: EmbeddedPostgres):
    chance = random.Random(7)
    with opened(durable) as database:
        filled(database, "old", 300)
        filled(database, "new", 200)
    for _ in range(3):
        swaps: list[int] = []
        with opened(durable) as database, ThreadPoolExecutor(1) as pool:
            swapping = pool.submit(swap_until_killed, database, swaps)
            wait_until(lambda: len(swaps) > 3)  # noqa: B023 - waited for at once
            time.sleep(chance.uniform(0, 0.3))
            kill_server(durable)
            swapping.result()
        start_again(durable)
        with opened(durable) as database:
            assert [each.name for each in Collections(database).all()] == ["new", "old"]
            sizes = {name: Collections(database).stats(name).rows for name in ("old", "new")}
            assert sorted(sizes.values()) == [200, 300]
            for name, size in sizes.items():
                assert_sound(database, name)
                assert_whole(database, name, size)
            tables = admin(
                durable.dsn,
                "SELECT chunk_partition(c), c.id, "
                "(SELECT array_agg(DISTINCT collection_id) FROM document_chunks d "
                " WHERE d.tableoid = own_relation(chunk_partition(c))) FROM collections c",
            )
            assert all(held == [id_] for _, id_, held in tables)


def swap_until_killed(database: Database, done: list[int]) -> None:
    with suppress(DatabaseError):
        for number in range(10**6):
            Collections(database).swap("old", "new")
            done.append(number)


def test_killed_while_a_collection_is_re_embedded(durable: EmbeddedPostgres):
    class Model(Scattered):
        model = "new"
        asked = 0

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            Model.asked += len(texts)
            if Model.asked == 600:
                kill_server(durable)
            return super().embed_documents(texts)

    with opened(durable) as database:
        filled(database, count=1000)
        with pytest.raises(DatabaseError):
            fresh(database).reembed(Model(48), collection="new", batch_size=100)
    start_again(durable)
    with opened(durable) as database:
        there = Collections(database).stats("new").rows
        assert there == 500
        Model.asked = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Model, "embed_documents", counting(Model))
            new = fresh(database).reembed(Model(48), collection="new", batch_size=100)
        assert Model.asked == 500
        assert {row.id for row in rows(new)} == {str(n) for n in range(1000)}
        assert_sound(database, "new")


def counting(model: Any) -> Any:
    def embed_documents(self: Any, texts: list[str]) -> list[list[float]]:
        model.asked += len(texts)
        return Scattered.embed_documents(self, texts)

    return embed_documents


# -- broken -------------------------------------------------------------------------------------


@contextmanager
def stopped(durable: EmbeddedPostgres) -> Iterator[None]:
    durable.stop()
    yield
    durable.start()


def overwrite(durable: EmbeddedPostgres, index: str, *pages: int) -> None:
    """What a failing disk does; to every page but the first where none is named."""
    (file,) = admin(durable.dsn, "SELECT pg_relation_filepath(%s)", index)[0]
    with stopped(durable), (durable.path / "data" / file).open("r+b") as data:
        for page in pages or range(1, os.fstat(data.fileno()).st_size // 8192):
            data.seek(page * 8192)
            data.write(os.urandom(8192))


@pytest.mark.parametrize("durable", ["embedded", "full"], indirect=True)
def test_a_corrupted_bm25_index_is_noticed_and_healed(
    durable: EmbeddedPostgres, monkeypatch, caplog
):
    monkeypatch.setattr(_server, "refresh", lambda *args, **kwargs: None)
    with opened(durable) as database:
        filled(database)
        filled(database, "other", 100)
    overwrite(durable, "document_chunks_1_bm25")
    with opened(durable) as database:
        store = fresh(database)
        found = [store.bm25_search("word3", k=10), store.hybrid_search("word3", k=10)]
        assert [len(each) for each in found] == [10, 10]
        assert "word3" in found[0][0][0].page_content
        said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert len(said) == 1
        assert "BM25 index of 'default' can't be used" in said[0]
        assert "invalid page" in said[0]
        assert "Collections(database).reindex('default') heals it" in said[0]
        assert len(fresh(database, "other").bm25_search("chunk", k=500)) == 100
        for kind in ("bm25", "hybrid"):
            account = fresh(database).explain("word3", search_type=kind)
            assert "document_chunks_1_bm25" not in account.indexes
            assert ".reindex('default') mends it" in account.advice[0]

        Collections(database).reindex("default")
        caplog.clear()
        assert_sound(database)
        assert_whole(database)
        assert caplog.text == ""


def test_a_corrupted_vector_index_is_healed(durable: EmbeddedPostgres):
    with opened(durable) as database:
        filled(database)
    overwrite(durable, "document_chunks_1_embedding", 5)
    with opened(durable) as database:
        with pytest.raises(DatabaseError, match="invalid page"):
            for n in range(ROWS):
                fresh(database).similarity_search_by_vector(GIVEN[n], k=50)
        Collections(database).reindex("default")
        assert_sound(database)
        assert_whole(database)


def test_a_bm25_index_broken_by_a_crash_is_healed(durable: EmbeddedPostgres, monkeypatch, caplog):
    """pg_textsearch 0.6 on a server of one's own, where nobody repairs after a crash."""
    with opened(durable) as database:
        store = filled(database)
        store.add_embeddings(["needle"] * 50, GIVEN[:50] + 1, ids=[f"n{n}" for n in range(50)])
        kill_server(durable)
    monkeypatch.setattr(_server, "repair", lambda *args, **kwargs: None)
    monkeypatch.setattr(_server, "refresh", lambda *args, **kwargs: None)
    start_again(durable)
    with opened(durable) as database:
        assert len(fresh(database).bm25_search("needle", k=100)) == 50
        assert len(fresh(database).hybrid_search("needle", k=10)) == 10
        assert "BM25 index of 'default' can't be used" in caplog.text
        done = threading.Event()
        with ThreadPoolExecutor(2) as pool:
            searching = pool.submit(search_until, done, fresh(database))
            Collections(database).reindex("default")
            done.set()
            assert searching.result() > 0
        assert len(fresh(database).bm25_search("needle", k=100)) == 50
        fresh(database).delete([f"n{n}" for n in range(50)])
        assert_sound(database)
        assert_whole(database)


def search_until(done: threading.Event, store: PostgresVectorStore) -> int:
    for number in range(1, 10**6):
        assert len(store.hybrid_search("word3 chunk", k=10)) == 10
        if done.is_set():
            return number
    return 0


def test_the_specs_of_a_collection_survive_a_rebuild(durable: EmbeddedPostgres):
    with opened(durable) as database:
        spec = CollectionSpec(name="odd", m=6, ef_construction=20, k1=0.9, text_config="simple")
        store = PostgresVectorStore(Scattered(DIMENSIONS), database=database, collection=spec)
        store.add_texts(["text"])
        before = definitions(durable, "document_chunks_1")
        for online in (True, False):
            Collections(database).reindex("odd", online=online)
            assert definitions(durable, "document_chunks_1") == before


def definitions(durable: EmbeddedPostgres, table: str) -> list[Any]:
    query = "SELECT indexdef FROM pg_indexes WHERE tablename = %s ORDER BY 1"
    return admin(durable.dsn, query, table)

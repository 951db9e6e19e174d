"""Lists are stored whole or not at all, generators batch by batch, by many writers at once."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from langchain_core.documents import Document
from psycopg.conninfo import make_conninfo

from a2rchi_pg import (
    Collections,
    Database,
    DimensionMismatch,
    InvalidInput,
    PartialWrite,
    PostgresVectorStore,
)
from tests.database_support import admin
from tests.plugins.stores import CountingRunner, Twin, WordModel, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(60)]


async def test_a_list_with_a_bad_700th_item_stores_and_embeds_nothing(twin: Twin, model: WordModel):
    metadatas: list[dict[str, Any]] = [{}] * 699 + [{"bad": float("nan")}] + [{}] * 10
    with pytest.raises(InvalidInput, match=r"item 699: metadata\.bad"):
        await twin.add_texts(["text"] * 710, metadatas)
    assert await twin.count() == 0
    assert model.asked == []


async def test_a_list_is_stored_whole_or_not_at_all(twin: Twin):
    await twin.add_texts(["there before"])
    vectors = [np.ones(64)] * 699 + [np.ones(63)]
    with pytest.raises(InvalidInput, match=r"lengths \[63, 64\]"):
        await twin.add_embeddings(["text"] * 700, vectors)
    assert await twin.count() == 1


async def test_generators_are_stored_lp2(twin: Twin):
    added = await twin.add_texts(f"text {n}" for n in range(3))
    assert len(added) == 3
    assert await twin.count() == 3
    named = await twin.add_documents(Document(id=str(n), page_content="x") for n in range(2))
    assert named == ["0", "1"]


async def test_columns_may_all_be_generators(twin: Twin):
    await twin.add_texts(
        (f"text {n}" for n in range(3)),
        ({"n": n} for n in range(3)),
        ids=(str(n) for n in range(3)),
        batch_size=2,
    )
    assert [row[:3] for row in rows(twin.target)] == [
        (str(n), f"text {n}", {"n": n}) for n in range(3)
    ]


async def test_a_generator_is_read_embedded_and_stored_batch_by_batch(twin: Twin, model: WordModel):
    read_ahead = []

    def source() -> Iterator[str]:
        for n in range(25):
            read_ahead.append(n - len(rows(twin.target)))
            yield f"text {n}"

    await twin.add_texts(source(), batch_size=10)
    assert [len(texts) for texts in model.asked] == [10, 10, 5]
    assert max(read_ahead) == 9


async def test_a_stream_that_stops_says_which_ids_are_in(twin: Twin):
    def source() -> Iterator[str]:
        for n in range(25):
            yield f"text {n}"
        raise RuntimeError("the disk is gone")

    with pytest.raises(PartialWrite, match="20 texts were stored: the disk is gone") as caught:
        await twin.add_texts(source(), ids=(f"{n:02}" for n in count()), batch_size=10)
    assert caught.value.ids == [f"{n:02}" for n in range(20)]
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert [row.id for row in rows(twin.target)] == caught.value.ids


async def test_a_stream_that_stops_before_its_first_batch_raises_what_stopped_it(twin: Twin):
    with pytest.raises(InvalidInput, match="item 1"):
        await twin.add_texts(text for text in ["good", 3])  # type: ignore[misc]
    assert await twin.count() == 0


def test_a_stream_tells_of_each_batch_when_it_is_committed(store: PostgresVectorStore):
    told = store.stream_documents(
        (Document(f"text {n}", id=f"{n:02}") for n in range(25)), batch_size=10
    )
    for start, end in ((0, 10), (10, 20), (20, 25)):
        assert next(told) == [f"{n:02}" for n in range(start, end)]
        assert store.count() == end
    assert list(told) == []


async def test_a_stream_takes_ids_and_vectors_of_its_own(twin: Twin, model: WordModel):
    documents = [Document("fox", id="not this"), Document("hen", metadata={"n": 1})]
    told = await twin.stream_documents(documents, embeddings=[[1, 0], [0, 2]], ids=["a", "b"])
    assert told == [["a", "b"]]
    assert model.asked == []
    stored = [(row.id, row.content, row.metadata, list(row.embedding)) for row in rows(twin.target)]
    assert stored == [("a", "fox", {}, [1, 0]), ("b", "hen", {"n": 1}, [0, 2])]


async def test_a_stream_that_stops_leaves_what_it_told_of(store: PostgresVectorStore):
    documents = [Document(f"text {n}", id=str(n)) for n in range(3)]
    told = store.astream_documents([*documents, "no document"], batch_size=2)  # type: ignore[list-item]
    assert await anext(told) == ["0", "1"]
    with pytest.raises(InvalidInput, match="item 3: documents must be"):
        await anext(told)
    assert [row.id for row in rows(store)] == ["0", "1"]


def test_a_streams_memory_does_not_grow_with_it(store: PostgresVectorStore):
    def peak(batches: int) -> int:
        tracemalloc.reset_peak()
        documents = (Document(f"{n:1000}") for n in range(100 * batches))
        vectors = (np.ones(64, np.float32) for _ in range(100 * batches))
        for _ in store.stream_documents(documents, embeddings=vectors, batch_size=100):
            pass
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(3)  # what is kept for good
        assert peak(60) < 1.5 * peak(3)
    finally:
        tracemalloc.stop()


async def test_a_stream_builds_the_indexes_at_its_end(twin: Twin):
    await twin.stream_documents([Document("fox")], embeddings=[[1, 0]])
    collections = Twin(Collections(twin.target.database), twin.way)
    assert (await collections.get(twin.target.collection_name)).vector_index


async def test_an_id_that_comes_again_later_in_a_stream_wins(twin: Twin):
    await twin.add_texts((f"text {n}" for n in range(4)), ids=iter("abca"), batch_size=2)
    assert [row[:2] for row in rows(twin.target)] == [
        ("a", "text 3"),
        ("b", "text 1"),
        ("c", "text 2"),
    ]


async def test_adding_nothing_asks_neither_model_nor_server(twin: Twin, model: WordModel):
    assert await twin.add_texts([]) == []
    assert await twin.add_documents([]) == []
    assert await twin.add_texts(iter([])) == []
    assert model.asked == []
    assert Collections(twin.target.database).get(twin.target.collection_name) is None


def test_a_thousand_rows_are_one_transaction_lp2(common: Database, new_store):
    runner = CountingRunner(common)
    store = new_store(database=runner)
    store.add_texts(["make the collection"])
    runner.ran.clear()
    store.add_texts([f"row {n}" for n in range(1000)])
    assert [op.name for op in runner.ran].count("upsert_chunks") == 1


async def test_after_a_large_load_the_indexes_are_back(twin: Twin):
    await twin.add_embeddings(["there before"], [[1.0, 1.0]])
    collections = Twin(Collections(twin.target.database), twin.way)
    before = await collections.get(twin.target.collection_name)
    await twin.add_embeddings(["fox"] * 5000, [[float(n), 1.0] for n in range(5000)])
    after = await collections.get(twin.target.collection_name)
    assert (after.vector_index, after.lexical) == (True, before.lexical)
    assert await twin.count() == 5001


def test_a_large_load_that_fails_leaves_the_indexes_in_place(store: PostgresVectorStore):
    store.add_texts(["there before"])
    before = Collections(store.database).get(store.collection_name)
    with pytest.raises(InvalidInput, match="NaN"):
        store.add_embeddings(["text"] * 6000, [np.ones(64)] * 5999 + [np.full(64, np.nan)])
    with pytest.raises(DimensionMismatch):
        store.add_embeddings(["text"] * 6000, np.ones((6000, 63)))
    assert Collections(store.database).get(store.collection_name) == before


def test_a_collection_that_many_stores_add_a_little_to_is_known_by_its_size(
    common: Database, common_dsn: str, model: WordModel, new_store: NewStore
):
    first = new_store()
    first.add_texts(f"text {n}" for n in range(60))
    name = first.collection_name
    grown = Collections(common).get(name)
    assert grown
    admin(common_dsn, f"ALTER TABLE {grown.partition} SET (autovacuum_enabled = off)")
    for _ in range(8):
        of_one_request = PostgresVectorStore(model, database=common, collection=name)
        of_one_request.add_texts(f"text {n}" for n in range(50))
    assert Collections(common).get(name).calibrated_rows == 60
    admin(common_dsn, f"ANALYZE {grown.partition}")  # as autovacuum would
    store = PostgresVectorStore(model, database=common, collection=name)
    assert (
        f"{grown.partition}_embedding"
        in store.explain("text 7", 10, search_type="similarity").indexes
    )
    store.add_texts(["one more"])
    after = Collections(common).get(name)
    assert after
    assert after.calibrated_rows == after.rows == 461


def test_what_fails_behind_the_rows_is_said_and_not_raised(
    common_dsn: str, store: PostgresVectorStore, caplog: pytest.LogCaptureFixture
):
    """An error would have them added once more, under other ids."""
    store.add_texts(["old"])
    impatient = Database(make_conninfo(common_dsn, options="-c lock_timeout=100ms"))
    with impatient, psycopg.connect(common_dsn) as other:
        other.execute("LOCK TABLE collection_calibration IN EXCLUSIVE MODE")
        busy = PostgresVectorStore(
            WordModel(), database=impatient, collection=store.collection_name
        )
        assert len(busy.add_texts(["new", "newer"])) == 2
    assert "the rows are stored" in caplog.text
    assert "sampling them" in caplog.text
    assert store.count() == 3


def test_concurrent_upserts_of_the_same_ids_all_succeed(store: PostgresVectorStore):
    together = threading.Barrier(4)

    def upsert(worker: int) -> list[str]:
        names = [str(n) for n in range(50)]
        together.wait(timeout=20)
        return store.add_texts([f"by {worker}"] * 50, ids=names if worker % 2 else names[::-1])

    with ThreadPoolExecutor(4) as pool:
        assert all(len(done) == 50 for done in pool.map(upsert, range(4), timeout=40))
    assert len(rows(store)) == 50


def test_stores_that_make_the_same_collection_at_once_share_it(new_store: NewStore):
    stores = [new_store(name="made by four") for _ in range(4)]
    together = threading.Barrier(4)

    def add(worker: int) -> None:
        together.wait(timeout=20)
        stores[worker].add_texts(["text"], ids=[str(worker)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4), timeout=40))
    assert [row.id for row in rows(stores[0])] == ["0", "1", "2", "3"]

"""A new model: its collection is filled beside the old one, which goes on as it was."""

from __future__ import annotations

import tracemalloc
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from a2rchi_pg import (
    CollectionMismatch,
    Collections,
    CollectionSpec,
    Database,
    InvalidInput,
    NotFound,
    PostgresVectorStore,
    ReembedProgress,
)
from tests.database_support import admin
from tests.plugins.stores import CountingRunner, Twin, WordModel, ids, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.servers("embedded", "plain"), pytest.mark.timeout(120)]


class NewModel(WordModel):
    """Another model: a name and a number of dimensions of its own.

    Attributes:
        before: Called with the texts of each batch before it is embedded.
    """

    model = "the new one"

    def __init__(self, dimensions: int = 32, before: Callable[[list[str]], None] | None = None):
        super().__init__(dimensions)
        self.before = before or (lambda texts: None)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.before(texts)
        return super().embed_documents(texts)

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.asked for text in batch]


@pytest.fixture
def target(common: Database) -> Iterator[str]:
    name = f"target-{token_hex(4)}"
    yield name
    Collections(common).drop(name)


@pytest.fixture
def old(twin: Twin) -> Twin:
    """A store of 60 chunks."""
    filled(twin.target, range(60))
    return twin


def filled(store: PostgresVectorStore, numbers: Any) -> None:
    store.add_texts(
        [f"chunk {n} word{n % 7}" for n in numbers],
        [{"n": n, "nested": {"deep": [n]}} for n in numbers],
        ids=[f"{n:05}" for n in numbers],
    )


def texts_of(store: PostgresVectorStore) -> list[tuple[str, str, dict[str, Any]]]:
    return [(row.id, row.content, row.metadata) for row in rows(store)]


def assert_is_a_mirror(new: PostgresVectorStore, old: PostgresVectorStore) -> None:
    assert texts_of(new) == texts_of(old)
    model = new.embeddings
    expected = [model.embed_query(row.content) for row in rows(new)]
    np.testing.assert_allclose([row.embedding for row in rows(new)], expected, rtol=1e-6)


async def test_a_new_collection_is_filled_and_the_old_one_stays(old: Twin, target: str):
    model, before = NewModel(), [row.version for row in rows(old.target)]
    new = await old.reembed(model, collection=target, batch_size=25)
    assert (type(new), new.collection_name, new.embeddings) == (PostgresVectorStore, target, model)
    assert_is_a_mirror(new, old.target)
    assert [row.version for row in rows(old.target)] == before
    assert [len(batch) for batch in model.asked] == [25, 25, 10]
    collection = Collections(new.database).get(target)
    assert collection
    assert (collection.embedding_model, collection.dimensions) == ("the new one", 32)
    assert collection.vector_index
    assert ids(await Twin(new, old.way).similarity_search("chunk 17 word3", k=1)) == ["00017"]
    assert len(await Twin(new, old.way).hybrid_search("word3", k=5)) == 5


async def test_then_the_names_are_swapped(old: Twin, target: str):
    await old.reembed(NewModel(), collection=target)
    name, collections = old.target.collection_name, Collections(old.target.database)
    await Twin(collections, old.way).swap(name, target)
    new = PostgresVectorStore(NewModel(), database=old.target.database, collection=name)
    assert ids(new.similarity_search("chunk 17 word3", k=1)) == ["00017"]
    with pytest.raises(CollectionMismatch, match="make a new one with that model"):
        await old.similarity_search("chunk")
    kept = PostgresVectorStore(WordModel(), database=old.target.database, collection=target)
    assert ids(kept.similarity_search("chunk 17 word3", k=1)) == ["00017"]


@pytest.mark.parametrize("stop", [1, 2, 3])
async def test_what_was_interrupted_goes_on_where_it_stopped(old: Twin, target: str, stop: int):
    calls = []

    def failing(texts: list[str]) -> None:
        calls.append(texts)
        if len(calls) == stop:
            raise ConnectionError("the model is away")

    with pytest.raises(ConnectionError):
        await old.reembed(NewModel(before=failing), collection=target, batch_size=20)
    model = NewModel()
    new = await old.reembed(model, collection=target, batch_size=20)
    assert len(model.texts) == 60 - 20 * (stop - 1)
    assert_is_a_mirror(new, old.target)


async def test_another_run_brings_it_up_to_date(old: Twin, target: str):
    await old.reembed(NewModel(), collection=target, batch_size=20)
    store = old.target
    store.delete(["00000", "00019", "00020", "00059"])
    store.add_texts(["changed"], [{"n": 30}], ids=["00030"])
    store.add_texts(["before", "between", "behind"], ids=["!", "00030a", "zzz"])
    store.update_metadata({"new": True}, ids=["00040"])
    model = NewModel()
    new = await old.reembed(model, collection=target, batch_size=20)
    assert sorted(model.texts) == ["before", "behind", "between", "changed"]
    assert_is_a_mirror(new, store)
    untouched = {row.id: row.version for row in rows(new)}
    assert await old.reembed(model, collection=target, batch_size=7)
    assert {row.id: row.version for row in rows(new)} == untouched
    assert len(model.texts) == 4


async def test_what_is_deleted_to_the_last_is_deleted_there(old: Twin, target: str):
    new = await old.reembed(NewModel(), collection=target)
    old.target.delete(filter={})
    await old.reembed(NewModel(), collection=target)
    assert rows(new) == []


async def test_what_changes_while_the_model_works_waits_for_the_next_run(old: Twin, target: str):
    store = old.target

    def meanwhile(texts: list[str]) -> None:
        store.add_texts(["changed"], ids=["00010"])
        store.delete(["00011"])

    new = await old.reembed(NewModel(before=meanwhile), collection=target)
    missing = {row.id for row in rows(store)} - {row.id for row in rows(new)}
    assert missing == {"00010"}
    await old.reembed(NewModel(), collection=target)
    assert_is_a_mirror(new, store)


async def test_progress_is_told_after_every_batch(old: Twin, target: str):
    told: list[ReembedProgress] = []
    await old.reembed(NewModel(), collection=target, batch_size=25, progress=told.append)
    assert [(each.done, each.embedded, each.total) for each in told] == [
        (25, 25, 60),
        (50, 50, 60),
        (60, 60, 60),
    ]
    told.clear()
    await old.reembed(NewModel(), collection=target, batch_size=30, progress=told.append)
    assert [(each.done, each.embedded) for each in told] == [(30, 0), (60, 0)]


def test_no_connection_is_held_while_the_model_works(common_dsn: str, target: str, new_store):
    filled(new_store(name=(name := f"source-{token_hex(4)}")), range(10))
    free = []
    with Database(common_dsn, min_size=1, max_size=1) as database:
        old = PostgresVectorStore(WordModel(), database=database, collection=name)

        def look(texts: list[str]) -> None:
            free.append(database.pool_stats()["pool_available"])
            assert old.count() == 10

        old.reembed(NewModel(before=look), collection=target, batch_size=4)
    assert free == [1, 1, 1]


def test_a_run_with_nothing_to_embed_fetches_no_texts(common: Database, target: str, new_store):
    store = new_store()
    store.add_texts(["x" * 10_000] * 200, ids=[f"{n:03}" for n in range(200)])
    store.reembed(NewModel(), collection=target, batch_size=50)
    counting = CountingRunner(common)
    again = PostgresVectorStore(WordModel(), database=counting, collection=store.collection_name)
    tracemalloc.start()
    again.reembed(NewModel(), collection=target, batch_size=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert [op.name for op in counting.ran].count("mirror") == 5


async def test_a_name_alone_takes_the_settings_of_the_old_collection(twin: Twin, new_store, target):
    settings = {"metric": "l2", "element": "halfvec", "m": 8, "fields": {"n": "int"}, "k1": 0.9}
    old = new_store(database=twin.target.database, text_config="simple", **settings)
    old.add_texts(["text"], [{"n": 1}])
    await Twin(old, twin.way).reembed(NewModel(), collection=target)
    made = Collections(old.database).get(target)
    assert made
    assert {name: getattr(made, name) for name in settings} == settings | {"k1": pytest.approx(0.9)}
    assert made.text_config in {"pg_catalog.simple", "simple"}


async def test_a_spec_says_how_it_is_made(old: Twin, target: str):
    spec = CollectionSpec(name=target, index="none", metric="l2", embedding_model="mine")
    await old.reembed(NewModel(), collection=spec)
    made = Collections(old.target.database).get(target)
    assert made
    assert (made.index, made.metric, made.embedding_model) == ("none", "l2", "mine")


def test_chunks_keep_their_document_and_place(dsn: str, target: str):
    with Database(dsn) as database:
        old = PostgresVectorStore(WordModel(), database=database)
        admin(
            dsn,
            "INSERT INTO documents (resource_hash, display_name, source_type) "
            "VALUES ('h', 'd', 'local_files')",
        )
        (document,) = admin(dsn, "SELECT id FROM documents")[0]
        old.add_texts(["one", "two"], ids=["1", "2"], document_id=document)
        place = "document_id, chunk_index, start_char, end_char"
        admin(dsn, "UPDATE document_chunks SET chunk_index = 3, start_char = 5, end_char = 9")
        old.reembed(NewModel(), collection=target)
        admin(dsn, "UPDATE document_chunks SET chunk_index = 4 WHERE collection_id = 1")
        model = NewModel()
        old.reembed(model, collection=target)
        assert model.texts == []
        found = admin(dsn, f"SELECT {place} FROM document_chunks WHERE collection_id = 2")
    assert found == [(document, 4, 5, 9)] * 2


async def test_what_can_not_be_done_is_refused_before_anything_is_written(old: Twin, target: str):
    name = old.target.collection_name
    with pytest.raises(InvalidInput, match="can't be filled from itself"):
        await old.reembed(NewModel(), collection=name)
    with pytest.raises(InvalidInput, match="batch_size"):
        await old.reembed(NewModel(), collection=target, batch_size=0)
    other = PostgresVectorStore(WordModel(), database=old.target.database, collection=target)
    other.add_texts(["precious"], ids=["precious"])
    with pytest.raises(CollectionMismatch, match="filled by embedding model 'WordModel'"):
        await old.reembed(NewModel(), collection=target)
    assert [row.content for row in rows(other)] == ["precious"]


async def test_the_old_collection_must_be_there(twin: Twin, target: str):
    with pytest.raises(NotFound):
        await twin.reembed(NewModel(), collection=target)
    assert Collections(twin.target.database).get(target) is None


async def test_an_empty_collection_makes_none(old: Twin, target: str):
    old.target.delete(filter={})
    new = await old.reembed(NewModel(), collection=target)
    assert Collections(new.database).get(target) is None
    assert await Twin(new, old.way).similarity_search("x") == []


async def test_a_model_that_returns_too_few_vectors_is_refused(old: Twin, target: str):
    class Lazy(NewModel):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return super().embed_documents(texts)[1:]

    with pytest.raises(InvalidInput, match="returned 59 vectors for 60 texts"):
        await old.reembed(Lazy(), collection=target)

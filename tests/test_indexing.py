"""langchain_core.indexing with chunks and records in one database."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import aindex, index

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg.errors import InvalidInput
from a2rchi_pg.indexing import PostgresRecordManager
from tests.database_support import commands
from tests.plugins.stores import ids, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugins.stores import NewStore, WordModel

pytestmark = pytest.mark.timeout(60)

Cleanup = Literal["incremental", "full", "scoped_full"] | None


def documents(**texts: str) -> list[Document]:
    return [Document(text, metadata={"source": source}) for source, text in texts.items()]


OLD = documents(a="the whale", b="a fox")
NEW = documents(a="the orca", c="an owl")
# What is there after OLD and then NEW were indexed.
LEFT = {
    None: {"the whale", "a fox", "the orca", "an owl"},
    "incremental": {"a fox", "the orca", "an owl"},
    "scoped_full": {"a fox", "the orca", "an owl"},
    "full": {"the orca", "an owl"},
}


async def indexed(
    way: str,
    given: list[Document],
    store: Any,
    cleanup: Cleanup,
    records: PostgresRecordManager | None = None,
) -> Any:
    options: dict[str, Any] = {
        "cleanup": cleanup, "source_id_key": "source", "key_encoder": "sha256", "batch_size": 1,
    }  # fmt: skip
    records = records or PostgresRecordManager(store)
    if way == "sync":
        return index(given, records, store, **options)
    return await aindex(given, records, store, **options)


def texts(store: PostgresVectorStore) -> set[str]:
    return {each.page_content for each in store.similarity_search("x", k=100)}


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("cleanup", [None, "incremental", "full", "scoped_full"])
async def test_all_modes_of_cleanup(new_store: NewStore, way: str, cleanup: Cleanup):
    store = new_store()
    assert (await indexed(way, OLD, store, cleanup))["num_added"] == 2
    assert (await indexed(way, OLD, store, cleanup))["num_skipped"] == 2
    done = await indexed(way, NEW, store, cleanup)
    assert (done["num_added"], done["num_deleted"]) == (2, 4 - len(LEFT[cleanup]))
    assert texts(store) == LEFT[cleanup]
    records = PostgresRecordManager(store)
    assert len(records.list_keys()) == len(LEFT[cleanup])
    fixed = records.reconcile()
    assert (fixed.records, fixed.chunks) == (0, 0)


@pytest.mark.parametrize("cleanup", ["incremental", "scoped_full"])
async def test_a_source_may_be_known_by_a_number(new_store: NewStore, cleanup: Cleanup):
    store = new_store()
    for text in ("the whale", "the orca"):
        await indexed("sync", [Document(text, metadata={"source": 7})], store, cleanup)
    assert texts(store) == {"the orca"}


def test_a_source_may_be_known_by_a_long_name(new_store: NewStore):
    records = PostgresRecordManager(new_store())
    source = "https://a.example/?" + Random(1).randbytes(5000).hex()
    records.update(["a", "b"], group_ids=[source, "another"])
    assert records.list_keys(group_ids=[source]) == ["a"]


class Killed(BaseException):
    """The end of a process, at the place where it is raised."""


def killed_after(steps: int, store: PostgresVectorStore, records: PostgresRecordManager) -> None:
    """Let so many of an indexing's writes happen, and no more."""
    left = iter(range(steps))

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left, None) is None:
                raise Killed
            return write(*args, **kwargs)

        return call

    for name in ("add_documents", "aadd_documents", "delete", "adelete"):
        setattr(store, name, counted(getattr(store, name)))
    for name in ("update", "aupdate", "delete_keys", "adelete_keys"):
        setattr(records, name, counted(getattr(records, name)))


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("cleanup", [None, "incremental", "full", "scoped_full"])
async def test_killed_between_any_steps_reconcile_restores_agreement(
    new_store: NewStore, model: WordModel, way: str, cleanup: Cleanup
):
    torn = 0
    for steps in range(20):
        store = new_store()
        await indexed(way, OLD, store, cleanup)
        dying = PostgresVectorStore(
            model, database=store.database, collection=store.collection_name
        )
        records = PostgresRecordManager(dying)
        killed_after(steps, dying, records)
        try:
            await indexed(way, NEW, dying, cleanup, records)
        except Killed:
            pass
        else:
            break
        records = PostgresRecordManager(store)
        fixed = records.reconcile() if way == "sync" else await records.areconcile()
        torn += fixed.records + fixed.chunks
        assert set(records.list_keys()) == {row.id for row in rows(store)}
        await indexed(way, NEW, store, cleanup)
        assert texts(store) == LEFT[cleanup]
        assert set(records.list_keys()) == {row.id for row in rows(store)}
    assert steps == (6 if cleanup else 4), "two adds, perhaps a delete, each and its record"
    assert torn == 2 + 4 - len(LEFT[cleanup]), "what each left without its record"


async def test_reconcile_restores_agreement(new_store: NewStore):
    store = new_store()
    await indexed("sync", OLD, store, "full")
    records = PostgresRecordManager(store)
    first, second = sorted(records.list_keys())
    store.delete([first])  # killed after chunks were deleted, before the record was
    records.delete_keys([second])  # killed after chunks were added, before the record was
    fixed = await records.areconcile()
    assert (fixed.records, fixed.chunks) == (1, 1)
    assert (records.list_keys(), store.count()) == ([], 0)
    assert (await indexed("sync", OLD, store, "full"))["num_added"] == 2


def test_reconcile_spares_the_chunks_of_catalog_documents(new_store: NewStore, common: Database):
    store = new_store()
    common.run(
        commands(
            "INSERT INTO documents (resource_hash, display_name) VALUES ('indexing', '')"
            " ON CONFLICT DO NOTHING"
        )
    )
    (document,) = store.database.run(_document())
    store.add_texts(["of the catalog"], ids=["1"], document_id=document)
    assert PostgresRecordManager(store).reconcile().chunks == 0
    assert ids(store.get_by_ids(["1"])) == ["1"]


def _document() -> Any:
    from a2rchi_pg._op import fetch_tuples, read  # noqa: PLC0415

    @read
    def found() -> Any:
        query = "SELECT id FROM documents WHERE resource_hash = 'indexing'"
        rows = yield from fetch_tuples(query)
        return rows[0]

    return found()


def test_records_of_a_collection_that_is_gone(new_store: NewStore):
    records = PostgresRecordManager(new_store())
    records.update(["1"])
    assert records.reconcile().records == 1


def test_an_indexing_is_one_with_its_transaction(new_store: NewStore, model: WordModel):
    store = new_store()
    store.add_texts(["made"], ids=["made"])

    class Stop(Exception):
        pass

    with pytest.raises(Stop), store.database.transaction() as transaction:  # type: ignore[attr-defined]
        within = PostgresVectorStore(model, database=transaction, collection=store.collection_name)
        index(OLD, PostgresRecordManager(within), within, key_encoder="sha256")
        raise Stop
    assert (store.count(), PostgresRecordManager(store).list_keys()) == (1, [])


def test_what_records_know(new_store: NewStore):
    records = PostgresRecordManager(new_store())
    records.create_schema()
    began = records.get_time()
    records.update(["a", "b", "a"], group_ids=["1", "2", "3"], time_at_least=began)
    later = records.get_time() + 1000
    records.update(["c"], time_at_least=later)
    assert records.exists(["c", "x", "a"]) == [True, False, True]
    assert records.list_keys(before=later) == ["a", "b"]
    assert records.list_keys(after=began + 500) == ["c"]
    assert records.list_keys(group_ids=["3"]) == ["a"]
    assert len(records.list_keys(limit=2)) == 2
    assert PostgresRecordManager(new_store()).list_keys() == [], "another collection has its own"
    records.update(["a"])  # as LangChain does before it names the groups: it may die in between
    assert records.list_keys(group_ids=["3"]) == ["a"]
    records.update(["a"], group_ids=[None])
    assert records.list_keys(group_ids=["3"]) == []
    with pytest.raises(InvalidInput, match="2 keys and 1 group_ids"):
        records.update(["a", "b"], group_ids=["1"])

"""A store keeps to its collection, its document and its host's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.documents import Document

from a2rchi_pg import Collections, Database, MissingReference, PostgresVectorStore
from a2rchi_pg._op import Steps, fetch_value, write
from a2rchi_pg._schema import migrate
from tests.plugins.stores import Twin, WordModel, ask, ids, rows

if TYPE_CHECKING:
    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(60)


@write
def new_document() -> Steps[int]:
    return (
        yield from fetch_value(
            "INSERT INTO documents (resource_hash, display_name) "
            "VALUES (gen_random_uuid()::text, 'a document') RETURNING id"
        )
    )


async def test_collections_are_isolated_v11(twin: Twin, new_store: NewStore):
    other = Twin(new_store(database=twin.target.database), twin.way)
    await twin.add_texts(["mine alone"], [{"of": "mine"}], ids=["1"])
    await other.add_texts(["theirs alone"], [{"of": "theirs"}], ids=["1"])
    for here, word in ((twin, "mine"), (other, "theirs")):
        expected = [Document(id="1", page_content=f"{word} alone", metadata={"of": word})]
        assert await here.get_by_ids(["1"]) == expected
        assert await here.similarity_search("alone", k=9) == expected
        assert [d for d, _ in await here.bm25_search("alone", k=9)] == expected
        assert [d for d, _ in await here.hybrid_search("alone", k=9)] == expected
        assert await here.count() == 1


async def test_delete_stays_in_its_collection_v10(twin: Twin, new_store: NewStore):
    other = new_store()
    other.add_texts(["theirs"], [{"a": 1}], ids=["1"])
    await twin.add_texts(["mine"], [{"a": 1}], ids=["1"])
    await twin.delete(["1"])
    await twin.delete(filter={"a": 1})
    await twin.delete(filter={})
    assert [row.content for row in rows(other)] == ["theirs"]


async def test_v7_a_second_add_to_a_document_keeps_the_first_chunks(twin: Twin):
    document = twin.target.database.run(new_document())
    await twin.add_texts(["chunk one"], document_id=document)
    await twin.add_texts(["chunk two"], document_id=document)
    assert {row.content for row in rows(twin.target)} == {"chunk one", "chunk two"}


async def test_v7_chunks_without_a_document_are_not_doubled(twin: Twin):
    await twin.add_texts(["text"], ids=["1"])
    await twin.add_texts(["text"], ids=["1"])
    assert await twin.count() == 1


async def test_chunks_go_with_their_document(twin: Twin):
    document = twin.target.database.run(new_document())
    await twin.add_texts(["a chunk of it"], document_id=document)
    await twin.add_texts(["no chunk of it"])
    ask(twin.target, "DELETE FROM documents WHERE id = %(id)s RETURNING id", id=document)
    assert [d.page_content for d in await twin.similarity_search("chunk")] == ["no chunk of it"]


async def test_a_document_that_is_not_there_is_refused(twin: Twin):
    with pytest.raises(MissingReference):
        await twin.add_texts(["orphan"], document_id=999_999_999)
    assert await twin.count() == 0


@pytest.mark.servers("full")
def test_v17_a_store_works_in_whatever_schema_its_database_names(empty_dsn: str, model: WordModel):
    migrate(empty_dsn, schema="rag")
    with Database(empty_dsn, schema="rag") as database:
        store = PostgresVectorStore(model, database=database)
        store.add_texts(["the whale", "a fox"], ids=["1", "2"])
        assert ids(store.bm25_search("whale")) == ["1"]
        assert ids(store.hybrid_search("fox", k=1)) == ["2"]
        assert ask(store, "SELECT to_regclass('public.collections') IS NULL") == [(True,)]


def test_v9_a_store_never_commits_a_transaction_of_the_host(common: Database, new_store):
    class Undo(Exception):
        pass

    def write_and_fail() -> None:
        with common.transaction() as transaction:
            store = new_store(name="in a transaction", database=transaction)
            store.add_texts(["seen inside"], ids=["1"])
            assert ids(store.similarity_search("seen")) == ["1"]
            raise Undo

    with pytest.raises(Undo):
        write_and_fail()
    assert Collections(common).get("in a transaction") is None


def test_a_filtered_search_leaves_later_ones_of_its_transaction_their_patience(
    common: Database, new_store: NewStore
):
    written = new_store()
    written.add_texts([f"text {n}" for n in range(600)], [{"even": n % 2 == 0} for n in range(600)])
    with common.transaction() as transaction:
        store = new_store(name=written.collection_name, database=transaction)
        explained = store.explain("text", 4, search_type="similarity", filter={"even": True})
        assert any(name.endswith("_embedding") for name in explained.indexes)
        ((most, usual),) = ask(
            store,
            "SELECT setting, reset_val FROM pg_settings WHERE name = 'hnsw.max_scan_tuples'",
        )
    assert most == usual


def test_v9_a_failed_write_leaves_the_pool_usable(store: PostgresVectorStore):
    for _ in range(12):
        with pytest.raises(MissingReference):
            store.add_texts(["orphan"], document_id=999_999_999)
    assert store.add_texts(["fine"], ids=["1"]) == ["1"]

"""What goes into a store, and what comes out of it by id.

Names ending in ``lp2`` are bugs of langchain-postgres' PGVectorStore, those with ``v1`` to ``v17``
defects of the system this package replaces; each was reproduced there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from langchain_core.documents import Document

from a2rchi_pg import InvalidInput, NotFound, PostgresVectorStore
from tests.plugins.stores import CountingRunner, Twin, WordModel, ids, rows

if TYPE_CHECKING:
    from a2rchi_pg import Database

pytestmark = pytest.mark.timeout(60)


async def test_upsert_replaces_content_metadata_and_vector(twin: Twin):
    await twin.add_texts(["old words", "other"], [{"n": 1, "gone": True}, {}], ids=["a", "b"])
    await twin.add_texts(["new phrase"], [{"n": 2}], ids=["a"])
    assert await twin.get_by_ids(["a"]) == [
        Document(id="a", page_content="new phrase", metadata={"n": 2})
    ]
    assert ids(await twin.similarity_search_with_score("new phrase", k=1)) == ["a"]
    assert ids(await twin.bm25_search("phrase")) == ["a"]
    assert await twin.bm25_search("old") == []
    assert await twin.count() == 2


def test_upsert_of_metadata_alone_keeps_the_text_findable(store: PostgresVectorStore):
    for version in range(30):
        store.add_texts(["the zebra"], [{"version": version}], ids=["a"])
    assert [d.metadata for d, _ in store.bm25_search("zebra")] == [{"version": 29}]


async def test_adding_what_is_there_already_touches_no_row(twin: Twin):
    texts, metadatas = ["one", "two"], [{"tags": ["x", "y"], "n": 1}, {}]
    await twin.add_texts(texts, metadatas, ids=["1", "2"])
    before = rows(twin.target)
    await twin.add_texts(texts, metadatas, ids=["1", "2"])
    assert [row.version for row in rows(twin.target)] == [row.version for row in before]


def test_upsert_rewrites_only_the_rows_that_changed(store: PostgresVectorStore):
    store.add_texts(["one", "two", "three"], ids=["1", "2", "3"])
    before = {row.id: row.version for row in rows(store)}
    store.add_texts(["one", "zwei", "three"], ids=["1", "2", "3"])
    after = {row.id: row.version for row in rows(store)}
    assert {id_ for id_ in after if after[id_] != before[id_]} == {"2"}


def test_a_change_of_the_vector_alone_is_stored(store: PostgresVectorStore):
    store.add_embeddings(["same"], [[1.0, 0.0]], ids=["1"])
    store.add_embeddings(["same"], [[0.0, 1.0]], ids=["1"])
    assert rows(store)[0].embedding.tolist() == [0.0, 1.0]


async def test_the_last_of_equal_ids_in_a_batch_wins(twin: Twin):
    added = await twin.add_texts(["first", "other", "last"], ids=["a", "b", "a"])
    assert added == ["a", "b", "a"]
    assert [row[:2] for row in rows(twin.target)] == [("a", "last"), ("b", "other")]


async def test_document_ids_are_honoured_v8(twin: Twin):
    documents = [Document(id="7", page_content="seven"), Document(page_content="nameless")]
    added = await twin.add_documents(documents)
    assert added[0] == "7"
    assert UUID(added[1])
    assert ids(await twin.similarity_search("seven", k=1)) == ["7"]


async def test_ids_given_beside_documents_come_before_their_own(twin: Twin):
    assert await twin.add_documents([Document(id="7", page_content="x")], ids=["8"]) == ["8"]
    assert [row.id for row in rows(twin.target)] == ["8"]


async def test_an_id_of_none_makes_a_new_one(twin: Twin):
    added = await twin.add_texts(["x", "y", "z"], ids=[None, "mine", None])
    assert added[1] == "mine"
    assert len({*added, str(UUID(added[0])), str(UUID(added[2]))}) == 3


async def test_get_by_ids_keeps_the_order_asked_for(twin: Twin):
    await twin.add_texts(["one", "two", "three"], ids=["1", "2", "3"])
    assert ids(await twin.get_by_ids(["3", "missing", "1", "3"])) == ["3", "1"]


async def test_get_by_ids_of_no_ids_is_no_documents_lp2(twin: Twin):
    assert await twin.get_by_ids([]) == []
    await twin.add_texts(["one"])
    assert await twin.get_by_ids([]) == []


async def test_ids_that_nothing_can_have_find_nothing(twin: Twin):
    await twin.add_texts(["one"], ids=["1"])
    assert ids(await twin.get_by_ids(["nul\0", "\ud800", "", "1"])) == ["1"]
    assert await twin.delete(["nul\0", "\ud800", ""]) is True
    assert await twin.count() == 1


async def test_get_by_ids_and_delete_take_iterators(twin: Twin):
    await twin.add_texts(["one", "two"], ids=["1", "2"])
    assert ids(await twin.get_by_ids(iter(["2", "1"]))) == ["2", "1"]
    await twin.delete(iter(["1"]))
    assert [row.id for row in rows(twin.target)] == ["2"]


async def test_delete_by_ids_leaves_the_others_v10(twin: Twin):
    await twin.add_texts(["one", "two", "three"], ids=["1", "2", "3"])
    assert await twin.delete(["1", "3", "unknown"]) is True
    assert [row.id for row in rows(twin.target)] == ["2"]
    assert ids(await twin.similarity_search("one", k=5)) == ["2"]
    assert await twin.bm25_search("one three") == []


async def test_delete_of_unknown_ids_raises_nothing(twin: Twin):
    assert await twin.delete(["unknown"]) is True
    await twin.add_texts(["one"])
    assert await twin.delete(["unknown"]) is True
    assert await twin.delete([]) is True
    assert await twin.count() == 1


def test_delete_of_many_ids_is_one_operation_v10(common: Database, new_store):
    runner = CountingRunner(common)
    store = new_store(database=runner)
    added = store.add_texts([f"text {n}" for n in range(600)])
    assert store.count() == 600
    runner.ran.clear()
    store.delete(added[:599])
    assert [op.name for op in runner.ran] == ["delete_where"]
    assert store.count() == 1


async def test_delete_by_filter(twin: Twin):
    await twin.add_texts(["one", "two"], [{"a": 1}, {"a": 2}], ids=["1", "2"])
    await twin.delete(filter={"a": 1})
    assert [row.id for row in rows(twin.target)] == ["2"]
    await twin.delete(filter={})
    assert await twin.count() == 0


async def test_delete_wants_to_know_what(twin: Twin):
    for arguments in ({}, {"ids": ["1"], "filter": {}}):
        with pytest.raises(InvalidInput, match=r"either ids=.* or filter="):
            await twin.delete(**arguments)


async def test_stores_are_made_from_texts_documents_or_what_exists(twin: Twin, model: WordModel):
    classes = Twin(PostgresVectorStore, twin.way)
    where = {"database": twin.target.database, "collection": twin.target.collection_name}
    await classes.from_texts(["one"], model, [{"n": 1}], ids=["1"], **where)
    await classes.from_documents([Document(id="2", page_content="two")], model, **where)
    existing = await classes.from_existing(model, **where)
    assert ids(existing.get_by_ids(["1", "2"])) == ["1", "2"]


async def test_from_existing_wants_a_collection_that_is_there(twin: Twin, model: WordModel):
    with pytest.raises(NotFound, match="there is no collection 'nowhere'"):
        await Twin(PostgresVectorStore, twin.way).from_existing(
            model, database=twin.target.database, collection="nowhere"
        )

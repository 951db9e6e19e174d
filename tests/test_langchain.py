"""LangChain's own suites, unmodified, and its indexing API, on the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_tests.integration_tests import (
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)

from a2rchi_pg import Collections, Database, PostgresRetriever, PostgresVectorStore
from tests.plugins.stores import Twin, WordModel, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(60)


class TestVectorStoreThreaded(VectorStoreIntegrationTests):
    """Sync, and async through threads: the database was opened with ``with``."""

    @pytest.fixture
    def vectorstore(self, common: Database) -> Iterator[PostgresVectorStore]:
        yield PostgresVectorStore(self.get_embeddings(), database=common, collection="threaded")
        Collections(common).drop("threaded")


class TestVectorStoreNative(VectorStoreIntegrationTests):
    """Native async, and sync on the same database: it was opened with ``async with``."""

    @pytest.fixture
    async def vectorstore(self, common_dsn: str) -> AsyncIterator[PostgresVectorStore]:
        async with Database(common_dsn) as database:
            yield PostgresVectorStore(self.get_embeddings(), database=database, collection="native")
            await Collections(database).adrop("native")


FRUIT = ("an apple is a fruit", "a pear is a fruit", "a fruit fly", "fruit salad", "granite")
SEARCHES: dict[str, dict[str, Any]] = {
    "similarity": {},
    "mmr": {"lambda_mult": 0.3},
    "similarity_score_threshold": {"score_threshold": 0.01},
    "bm25": {},
    "hybrid": {"bm25_weight": 0.3},
}


class RetrieverSuite(RetrieversIntegrationTests):
    store: PostgresVectorStore
    search_type: str

    @pytest.fixture(autouse=True, params=SEARCHES)
    def searched(self, request: pytest.FixtureRequest, vectorstore: PostgresVectorStore) -> None:
        vectorstore.add_texts(FRUIT)
        self.store, self.search_type = vectorstore, request.param

    @property
    def retriever_constructor(self) -> type[PostgresRetriever]:
        return PostgresRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {
            "vectorstore": self.store,
            "search_type": self.search_type,
            "search_kwargs": SEARCHES[self.search_type],
        }

    @property
    def retriever_query_example(self) -> str:
        return "which fruit?"


class TestRetrieverThreaded(RetrieverSuite):
    @pytest.fixture
    def vectorstore(self, store: PostgresVectorStore) -> PostgresVectorStore:
        return store


class TestRetrieverNative(RetrieverSuite):
    @pytest.fixture
    async def vectorstore(
        self, common_dsn: str, new_store: NewStore
    ) -> AsyncIterator[PostgresVectorStore]:
        async with Database(common_dsn) as database:
            yield new_store(database=database)


class Indexer:
    """``index()`` or ``aindex()`` with a record manager of its own."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.records = InMemoryRecordManager(namespace="test")
        self.records.create_schema()

    async def __call__(self, texts: dict[str, str], cleanup: str) -> dict[str, int]:
        documents = [
            Document(page_content=text, metadata={"source": source})
            for source, text in texts.items()
        ]
        arguments: dict[str, Any] = {"cleanup": cleanup, "source_id_key": "source"}
        arguments["key_encoder"] = "sha256"
        if self.twin.way == "sync":
            return dict(index(documents, self.records, self.twin.target, **arguments))
        return dict(await aindex(documents, self.records, self.twin.target, **arguments))


@pytest.fixture
def indexer(twin: Twin) -> Indexer:
    return Indexer(twin)


def contents(indexer: Indexer) -> set[str]:
    return {row.content for row in rows(indexer.twin.target)}


def report(*, added: int = 0, skipped: int = 0, deleted: int = 0) -> dict[str, int]:
    return {"num_added": added, "num_updated": 0, "num_skipped": skipped, "num_deleted": deleted}


async def test_index_full_removes_what_is_not_given_any_more(indexer: Indexer):
    assert await indexer({"a": "one", "b": "two"}, "full") == report(added=2)
    assert await indexer({"a": "one", "c": "three"}, "full") == report(
        added=1, skipped=1, deleted=1
    )
    assert contents(indexer) == {"one", "three"}


async def test_index_incremental_replaces_what_its_sources_held(indexer: Indexer):
    assert await indexer({"a": "one", "b": "two"}, "incremental") == report(added=2)
    assert await indexer({"a": "uno"}, "incremental") == report(added=1, deleted=1)
    assert contents(indexer) == {"uno", "two"}


async def test_index_embeds_nothing_twice(indexer: Indexer, model: WordModel):
    await indexer({"a": "one", "b": "two"}, "full")
    await indexer({"a": "one", "b": "two"}, "full")
    assert model.asked == [["one", "two"]]


def test_retriever_takes_k_from_the_call_then_itself_then_its_search(store: PostgresVectorStore):
    store.add_texts(FRUIT)
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert len(retriever.invoke("fruit")) == 1
    assert len(retriever.invoke("fruit", k=3)) == 3
    assert len(store.as_retriever(k=2, search_kwargs={"k": 1}).invoke("fruit")) == 2


async def test_retriever_takes_numbers_of_numpy(twin: Twin):
    await twin.add_texts(FRUIT)
    for search_type, options in SEARCHES.items():
        plain = {name: np.float32(value) for name, value in options.items()}
        for given in (
            {"k": np.int64(2), "search_kwargs": plain},
            {"search_kwargs": {**plain, "k": np.int64(2)}},
        ):
            retriever = twin.target.as_retriever(search_type=search_type, **given)
            assert len(await Twin(retriever, twin.way).invoke("fruit")) == 2
            assert len(await Twin(retriever, twin.way).invoke("fruit", k=np.uint8(3))) == 3


async def test_retriever_passes_its_search_options_on(twin: Twin):
    await twin.add_texts(FRUIT, [{"n": n} for n in range(len(FRUIT))])
    for search_type, options in SEARCHES.items():
        retriever = twin.target.as_retriever(
            search_type=search_type, search_kwargs={**options, "filter": {"n": 2}}
        )
        found = await Twin(retriever, twin.way).invoke("fruit")
        assert [document.page_content for document in found] == ["a fruit fly"], search_type


async def test_search_by_name_equals_the_method_of_that_name(twin: Twin):
    await twin.add_texts(FRUIT)
    for search_type in ("bm25", "hybrid"):
        by_method = await getattr(twin, f"{search_type}_search")("an apple", k=3)
        assert await twin.search("an apple", search_type, k=3) == [d for d, _ in by_method]


def test_retriever_refuses_an_unknown_search_type(store: PostgresVectorStore):
    with pytest.raises(ValueError, match="hybrid"):
        store.as_retriever(search_type="psychic")


def test_retriever_names_its_store_and_model_in_its_tags(store: PostgresVectorStore):
    assert store.as_retriever(tags=["mine"]).tags == ["mine", "PostgresVectorStore", "WordModel"]

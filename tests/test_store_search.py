"""Dense search: distances, order, k, relevance and diversity."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from a2rchi_pg import Collections, PostgresVectorStore
from tests.plugins.stores import CountingRunner, Twin, WordModel, ask, ids, rows, scores

if TYPE_CHECKING:
    from a2rchi_pg import Database
    from a2rchi_pg._op import Op
    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(60)]

MEASURED = [(m, i) for m in ("cosine", "l2", "inner_product") for i in ("hnsw", "none")]
DISTANCES: dict[str, Any] = {
    "cosine": lambda a, b: 1 - a @ b / np.linalg.norm(a, axis=-1) / np.linalg.norm(b),
    "l2": lambda a, b: np.linalg.norm(a - b, axis=-1),
    "inner_product": lambda a, b: -(a @ b),
}
RANDOM = np.random.default_rng(20240517)
VECTORS = RANDOM.normal(size=(60, 16)).astype(np.float32)
QUERY = RANDOM.normal(size=16).astype(np.float32)


@pytest.fixture(params=MEASURED, ids=[f"{m}-{i}" for m, i in MEASURED])
def measured(request: pytest.FixtureRequest, new_store: NewStore) -> tuple[str, Any]:
    """A metric, and a store of sixty random vectors that measures by it."""
    metric, index = request.param
    store = new_store(metric=metric, index=index)
    store.add_embeddings(
        [f"row {n}" for n in range(60)], VECTORS, ids=[f"{n:02}" for n in range(60)]
    )
    return metric, store


def test_v6_scores_are_numpys_distances_nearest_first(measured):
    metric, store = measured
    expected = DISTANCES[metric](VECTORS, QUERY)
    nearest = np.argsort(expected, kind="stable")[:20]
    found = store.similarity_search_with_score_by_vector(QUERY, k=20)
    assert ids(found) == [f"{n:02}" for n in nearest]
    assert scores(found) == pytest.approx(expected[nearest], rel=1e-5, abs=1e-6)


def test_v4_relevance_is_the_metrics_own_in_0_to_1_and_falls(measured, model: WordModel):
    metric, store = measured
    model.embed_query = lambda _: QUERY.tolist()  # type: ignore[method-assign]
    relevant = scores(store.similarity_search_with_relevance_scores("anything", k=60))
    distances = np.array(scores(store.similarity_search_with_score("anything", k=60)))
    expected = {
        "cosine": np.clip(1 - distances, 0, 1),
        "l2": 1 / (1 + distances),
        "inner_product": 1 / (1 + np.exp(distances)),
    }
    assert relevant == pytest.approx(expected[metric].tolist())
    assert all(0 <= score <= 1 for score in relevant)
    assert all(better >= worse for better, worse in pairwise(relevant))
    assert relevant[0] > relevant[-1]


def test_a_text_is_as_relevant_to_itself_as_can_be(new_store: NewStore):
    for metric in ("cosine", "l2"):
        store = new_store(metric=metric)
        store.add_texts(["the very words", "something else"])
        ((found, score), _) = store.similarity_search_with_relevance_scores("the very words")
        assert found.page_content == "the very words"
        assert score == pytest.approx(1, abs=1e-3)


class Forgetful(CountingRunner):
    """After each operation its store looks the collection up anew, as where somebody indexed it."""

    store: PostgresVectorStore

    def run(self, op: Op[Any]) -> Any:
        result = super().run(op)
        self.store._store._known = None  # what a writer in another thread does
        return result


def test_relevance_is_by_the_metric_of_the_collection_that_was_searched(
    new_store: NewStore, common: Database, model: WordModel
):
    written = new_store(metric="l2")
    written.add_texts(["red fox", "blue whale"])
    runner = Forgetful(common)
    runner.store = store = PostgresVectorStore(
        model, database=runner, collection=written.collection_name
    )
    found = store.similarity_search_with_relevance_scores("red fox", k=2)
    assert found == written.similarity_search_with_relevance_scores("red fox", k=2)
    distances = scores(store.similarity_search_with_score("red fox", k=2))
    assert scores(found) == pytest.approx([1 / (1 + distance) for distance in distances])


async def test_a_score_threshold_keeps_what_is_at_least_that_relevant(twin: Twin):
    await twin.add_texts(["red fox", "red house", "blue whale"], ids=["1", "2", "3"])
    found = await twin.similarity_search_with_relevance_scores("red fox", score_threshold=0.4)
    assert ids(found) == ["1", "2"]
    retriever = twin.target.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99}
    )
    assert ids(await Twin(retriever, twin.way).invoke("red fox")) == ["1"]


async def test_every_form_of_search_finds_the_same(twin: Twin, model: WordModel):
    await twin.add_texts([f"number {n} of the {n % 7}" for n in range(20)])
    query, vector = "number 3", model.embed_query("number 3")
    scored = await twin.similarity_search_with_score(query, k=5)
    documents = [document for document, _ in scored]
    assert await twin.similarity_search(query, k=5) == documents
    assert await twin.similarity_search_by_vector(vector, k=5) == documents
    assert await twin.similarity_search_with_score_by_vector(vector, k=5) == scored
    relevant = await twin.similarity_search_with_relevance_scores(query, k=5)
    assert [document for document, _ in relevant] == documents
    assert documents[0].page_content == "number 3 of the 3"


async def test_equal_distances_are_ordered_by_id(twin: Twin):
    await twin.add_texts(["same text"] * 9, ids=list("hgfedcbai"))
    assert ids(await twin.similarity_search("same text", k=9)) == list("abcdefghi")


@pytest.mark.parametrize("index", ["hnsw", "none"])
async def test_k_gives_k_in_every_mode_lp2(twin: Twin, new_store: NewStore, index: str):
    store = Twin(new_store(index=index, database=twin.target.database), twin.way)
    await store.add_texts([f"word number {n}" for n in range(60)])
    for k in (1, 7, 20, 60):
        assert len(await store.similarity_search("word", k=k)) == k
        assert len(await store.bm25_search("word", k=k)) == k
        assert len(await store.hybrid_search("word", k=k)) == k
        assert len(await store.max_marginal_relevance_search("word", k=k, fetch_k=5)) == k
        assert len(await store.similarity_search_with_relevance_scores("word", k=k)) == k


def test_v12_k_may_exceed_ef_search(new_store: NewStore):
    store = new_store()
    store.add_embeddings(["row"] * 1500, RANDOM.normal(size=(1500, 8)), [{"of": 3}] * 1500)
    query = RANDOM.normal(size=8)
    for k in (40, 41, 200, 1001, 1500):
        assert len(set(ids(store.similarity_search_by_vector(query, k=k, ef_search=1)))) == k
        assert (
            len(store.similarity_search_by_vector(query, k=k, ef_search=1, filter={"of": 3})) == k
        )


def test_k_gives_k_among_copies_that_the_graph_of_hnsw_loses(new_store: NewStore):
    store = new_store()
    store.add_embeddings(["copy"] * 600, np.repeat(RANDOM.normal(size=(12, 16)), 50, axis=0))
    for k in (100, 550, 600):
        for _ in range(3):
            assert len(store.similarity_search_by_vector(RANDOM.normal(size=16), k=k)) == k


def test_v12_k_rows_are_found_under_a_filter_however_few_match(new_store: NewStore):
    store = new_store()
    vectors = RANDOM.normal(size=(2000, 8))
    metadatas = [{"rare": n % 50 == 0, "common": n % 2 == 0} for n in range(2000)]
    store.add_embeddings(["row"] * 2000, vectors, metadatas, ids=[f"{n:04}" for n in range(2000)])
    query = RANDOM.normal(size=8)
    order = np.argsort(DISTANCES["cosine"](vectors, query))
    for field, step in (("rare", 50), ("common", 2)):
        expected = [f"{n:04}" for n in order if n % step == 0][:40]
        found = ids(store.similarity_search_by_vector(query, k=40, filter={field: True}))
        assert len(found) == 40
        assert len(set(found) & set(expected)) >= 38


def test_v3_search_reads_its_indexes_not_the_table(common: Database, new_store: NewStore):
    store = new_store(name="read by index")
    store.add_texts([f"word{n % 97} word{n % 89} number {n}" for n in range(3000)])
    with common.transaction() as transaction:
        inside = new_store(name="read by index", database=transaction)
        before = full_scans(inside)
        for search in (inside.similarity_search, inside.bm25_search, inside.hybrid_search):
            assert len(search("word3 word5", k=4)) == 4
            assert full_scans(inside) == before, search


def full_scans(store: PostgresVectorStore) -> int:
    """How often the store's connection has read its whole table."""
    collection = Collections(store.database).get(store.collection_name)
    assert collection
    query = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = %(name)s"
    return ask(store, query, name=collection.partition)[0][0]


async def test_v11_a_search_is_one_statement_after_the_first(
    way_in: tuple[str, Database], new_store: NewStore
):
    way, database = way_in
    runner = CountingRunner(database)
    twin = Twin(new_store(database=runner), way)
    await twin.add_texts(["text"])
    searches = {
        "similarity_search": "dense",
        "max_marginal_relevance_search": "dense",
        "bm25_search": "lexical",
        "hybrid_search": "hybrid",
    }
    await twin.count()
    for search, operation in searches.items():
        runner.ran.clear()
        await getattr(twin, search)("text")
        assert [(op.name, op.read_only) for op in runner.ran] == [(operation, True)]


async def test_a_store_without_a_collection_finds_nothing(twin: Twin):
    for search in (twin.similarity_search, twin.bm25_search, twin.hybrid_search):
        assert await search("text") == []
    assert await twin.max_marginal_relevance_search("text") == []
    assert await twin.get_by_ids(["1"]) == []
    assert await twin.count() == 0
    assert await twin.delete(["1"]) is True


# -- diversity ----------------------------------------------------------------------------------


async def test_mmr_returns_k_even_beyond_fetch_k_lp2(twin: Twin):
    await twin.add_texts([f"text {n}" for n in range(30)])
    assert len(await twin.max_marginal_relevance_search("text", k=10)) == 10
    assert len(set(ids(await twin.max_marginal_relevance_search("text", k=25, fetch_k=2)))) == 25


async def test_lambda_mult_0_means_diversity_lp2(twin: Twin):
    vectors = [[1.0, 0.0], [0.99, 0.1], [0.98, 0.2], [-0.2, 1.0]]
    await twin.add_embeddings(["a"] * 4, vectors, ids=["1", "2", "3", "far"])
    query = [1.0, 0.0]
    diverse = await twin.max_marginal_relevance_search_by_vector(query, k=2, lambda_mult=0.0)
    relevant = await twin.max_marginal_relevance_search_by_vector(query, k=2, lambda_mult=1.0)
    assert ids(diverse) == ["1", "far"]
    assert ids(relevant) == ["1", "2"]


@pytest.mark.parametrize("lambda_mult", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_mmr_picks_what_langchains_own_function_picks(measured, lambda_mult: float):
    metric, store = measured
    nearest = np.argsort(DISTANCES[metric](VECTORS, QUERY), kind="stable")[:20]
    picked = maximal_marginal_relevance(QUERY, list(VECTORS[nearest]), lambda_mult, k=8)
    found = store.max_marginal_relevance_search_by_vector(QUERY, k=8, lambda_mult=lambda_mult)
    assert ids(found) == [f"{nearest[n]:02}" for n in picked]


def test_explain_takes_any_of_equal_chunks_for_as_good_as_another(new_store: NewStore):
    store = new_store()
    places = np.repeat(RANDOM.normal(size=(15, 64)), 10, axis=0)
    store.add_embeddings(["a text"] * 150, places, ids=[f"{n:03}" for n in range(150)])
    explained = [store.explain("a text", k, search_type="similarity") for k in (1, 3, 5)]
    assert [each.recall for each in explained] == [1, 1, 1]
    assert all(each.indexes for each in explained)


# -- awkward vectors ----------------------------------------------------------------------------


async def test_texts_whose_vector_is_zero_are_kept_and_found_by_their_words(twin: Twin):
    vectors = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    await twin.add_embeddings(["nothing", "east", "north"], vectors, ids=["0", "1", "2"])
    assert ids(await twin.bm25_search("nothing")) == ["0"]
    found = ids(await twin.similarity_search_by_vector([1.0, 0.0], k=3))
    assert found[:2] == ["1", "2"]
    assert found == ["1", "2", "0"]


async def test_a_query_whose_vector_is_zero_still_gets_k_documents(twin: Twin):
    await twin.add_embeddings(["east", "north"], [[1.0, 0.0], [0.0, 1.0]], ids=["1", "2"])
    assert sorted(ids(await twin.similarity_search_by_vector([0.0, 0.0], k=2))) == ["1", "2"]


async def test_a_living_store_follows_its_collection_being_made_anew(
    twin: Twin, new_store: NewStore
):
    await twin.add_texts(["old"], ids=["old"])
    assert ids(await twin.similarity_search("x")) == ["old"]
    collections = Collections(twin.target.database)
    for remake in (["new"], ["newer"]):
        assert await Twin(collections, twin.way).drop(twin.target.collection_name)
        new_store(name=twin.target.collection_name).add_texts(remake, ids=remake)
        for search in (twin.similarity_search, twin.bm25_search, twin.hybrid_search):
            assert ids(await search(remake[0])) == remake
        assert ids(await twin.get_by_ids(remake)) == remake
        await twin.add_texts(["added"], ids=["added"])
        assert await twin.count() == 2


async def test_a_living_store_outlives_its_collection(twin: Twin):
    await twin.add_texts(["old"], ids=["old"])
    Collections(twin.target.database).drop(twin.target.collection_name)
    assert await twin.similarity_search("old") == []
    assert await twin.hybrid_search("old") == []
    assert await twin.count() == 0
    await twin.add_texts(["new"], ids=["new"])
    assert [row.id for row in rows(twin.target)] == ["new"]


def test_a_collection_made_anew_may_have_other_dimensions(
    store: PostgresVectorStore, common: Database
):
    store.add_embeddings(["x"], [[1.0, 2.0]])
    Collections(common).drop(store.collection_name)
    store.add_embeddings(["x"], [[1.0, 2.0, 3.0]], ids=["3d"])
    assert ids(store.similarity_search_by_vector([1.0, 2.0, 3.0])) == ["3d"]

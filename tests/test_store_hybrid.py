"""Search by meaning and words together: what any fusion must hold, and what each one computes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from tests.plugins.stores import Twin, WordModel, ids, scores

if TYPE_CHECKING:
    from a2rchi_pg import PostgresVectorStore
    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(60)

FUSIONS = ("calibrated", "tm2c2", "rrf")
WORDS = ("whale", "fox", "tree", "stone", "alpha", "beta", "gamma")


class Nothing(Embeddings):
    """Knows no text: every vector is zero."""

    def embed_query(self, text: str) -> list[float]:
        return [0.0 * len(text), 0.0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


def make_texts(count: int) -> list[str]:
    random = np.random.default_rng(count)
    return [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(count)]


async def test_two_hybrid_queries_in_a_row_lp2(twin: Twin):
    await twin.add_texts(["alpha", "zebra", "other"], ids=["a", "z", "o"])
    for query, expected in (("alpha", "a"), ("zebra", "z"), ("alpha", "a")):
        found = await twin.hybrid_search(query, k=1, bm25_weight=1, semantic_weight=0)
        assert ids(found) == [expected]
        assert ids(await twin.hybrid_search(query, k=1)) == [expected]


async def test_hybrid_k_20_gives_20_lp2(twin: Twin):
    await twin.add_texts([f"whale {n}" if n < 7 else f"fox {n}" for n in range(40)])
    assert len(await twin.hybrid_search("whale", k=20)) == 20
    assert len(await twin.hybrid_search("whale", k=20, fetch_k=1)) == 20


async def test_v1_hybrid_matches_the_words_of_the_query_not_of_the_collection(
    twin: Twin, new_store: NewStore
):
    named = Twin(new_store(name="zebra collection", database=twin.target.database), twin.way)
    await named.add_texts(["zebra collection", "a whale"], ids=["name", "query"])
    found = await named.hybrid_search("whale", semantic_weight=0, bm25_weight=1)
    assert ids(found) == ["query"]


async def test_v2_the_better_match_has_the_higher_score_in_0_to_1(twin: Twin):
    texts = ["whale", "whale and fox", "fox and tree", "tree and stone", "stone"]
    await twin.add_texts(texts, ids=list("12345"))
    found = await twin.hybrid_search("whale", k=5)
    assert ids(found)[:2] == ["1", "2"]
    assert all(1 >= better >= worse >= 0 for better, worse in pairwise(scores(found)))
    assert scores(found)[0] > scores(found)[1] > scores(found)[4]


async def test_a_hit_of_words_alone_outranks_what_does_not_match_v3(twin: Twin, model: WordModel):
    near = np.array(model.embed_query("zebra"))
    elsewhere = np.array(model.embed_query("granite"))
    await twin.add_embeddings(["silent"] * 2, [near, near], ids=["near 1", "near 2"])
    await twin.add_embeddings(["far"] * 20, [elsewhere] * 20, ids=[f"far {n}" for n in range(20)])
    await twin.add_embeddings(["the zebra itself"], [-near], ids=["words"])
    assert set(ids(await twin.hybrid_search("zebra", k=3, fetch_k=5))) >= {"near 1", "words"}
    favoured = {"bm25_weight": 0.7, "semantic_weight": 0.3}
    assert ids(await twin.hybrid_search("zebra", k=3, fetch_k=5, **favoured))[0] == "words"


async def test_a_hit_of_meaning_alone_is_found_too(twin: Twin, model: WordModel):
    vector = model.embed_query("zebra")
    await twin.add_embeddings(["a striped horse"], [vector], ids=["meaning"])
    await twin.add_embeddings(["zebra"] * 3, [[-v for v in vector]] * 3, ids=["1", "2", "3"])
    assert "meaning" in ids(await twin.hybrid_search("zebra", k=2, fetch_k=1))


async def test_a_weight_of_0_leaves_one_ranking(twin: Twin):
    await twin.add_texts(["whale one", "whale whale two", "fox", "tree"], ids=list("1234"))
    dense = await twin.similarity_search("whale", k=4)
    lexical = await twin.bm25_search("whale", k=4)
    assert ids(await twin.hybrid_search("whale", k=4, bm25_weight=0)) == ids(dense)
    assert ids(await twin.hybrid_search("whale", k=4, semantic_weight=0)) == ids(lexical)


async def test_only_the_ratio_of_the_weights_counts(twin: Twin):
    await twin.add_texts(make_texts(30), ids=[f"{n:02}" for n in range(30)])
    one = await twin.hybrid_search("whale", k=9, semantic_weight=0.7, bm25_weight=0.3)
    ten = await twin.hybrid_search("whale", k=9, semantic_weight=7, bm25_weight=3)
    assert ids(one) == ids(ten)
    assert scores(one) == pytest.approx(scores(ten))


async def test_hybrid_scores_rise_with_what_the_retriever_returns_first_lp2(twin: Twin):
    await twin.add_texts(["whale", "fox"], ids=["1", "2"])
    retriever = twin.target.as_retriever(search_type="hybrid", k=2)
    assert ids(await Twin(retriever, twin.way).invoke("whale")) == ["1", "2"]
    assert ids(await twin.hybrid_search("whale", k=2)) == ["1", "2"]


async def test_a_filter_holds_for_both_rankings(twin: Twin):
    metadatas = [{"keep": n % 2 == 0} for n in range(40)]
    await twin.add_texts([f"whale {n}" for n in range(40)], metadatas)
    for search in (twin.bm25_search, twin.hybrid_search):
        found = await search("whale", k=30, filter={"keep": True})
        assert len(found) == 20
        assert all(document.metadata["keep"] for document, _ in found)


async def test_rows_without_the_metadata_a_host_expects_are_found_v16(twin: Twin):
    await twin.add_texts(["whale with a name", "whale without"], [{"filename": "a.txt"}, {}])
    assert len(await twin.hybrid_search("whale")) == 2


# -- each fusion, computed again from the two searches it fuses ----------------------------------


def legs(store: PostgresVectorStore, query: str, k: int) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Distances and BM25 scores of all texts by id, each in order, best first."""
    dense = store.similarity_search_with_score(query, k=k)
    lexical = store.bm25_search(query, k=k)
    return {d.id: distance for d, distance in dense}, {d.id: score for d, score in lexical}


def reciprocal_ranks(dense: dict[Any, Any], lexical: dict[Any, Any], _: Any) -> dict[Any, float]:
    semantic = {id_: 0.7 / (60 + rank) for rank, id_ in enumerate(dense, 1)}
    words = {id_: 0.3 / (60 + rank) for rank, id_ in enumerate(lexical, 1)}
    return {id_: 61 * (semantic[id_] + words.get(id_, 0)) for id_ in dense}


def convex(dense: dict[Any, Any], lexical: dict[Any, Any], origin: float) -> dict[Any, float]:
    similarity = {id_: 1 - distance for id_, distance in dense.items()}
    top, best = max(similarity.values()), max(lexical.values())
    return {
        id_: 0.7 * max(0, (similarity[id_] - origin) / (top - origin))
        + 0.3 * lexical.get(id_, 0) / best
        for id_ in dense
    }


@pytest.mark.parametrize("fusion", FUSIONS)
def test_scores_are_what_the_fusion_says(new_store: NewStore, model: WordModel, fusion: Any):
    store = new_store()
    texts = make_texts(80)
    store.add_texts(texts, ids=[f"{n:02}" for n in range(80)])
    for query in ("whale alpha", "fox"):
        dense, lexical = legs(store, query, 80)
        mean = np.mean(model.embed_documents(texts), axis=0) @ model.embed_query(query)
        compute = reciprocal_ranks if fusion == "rrf" else convex
        expected = compute(dense, lexical, -1.0 if fusion == "tm2c2" else float(mean))
        found = store.hybrid_search(
            query, k=20, fusion=fusion, semantic_weight=0.7, bm25_weight=0.3, fetch_k=80
        )
        best = sorted(expected.values(), reverse=True)[:20]
        assert scores(found) == pytest.approx(best, abs=1e-5)
        assert [expected[id_] for id_ in ids(found)] == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
async def test_any_fusion_gives_k_in_order_between_0_and_1(twin: Twin, fusion: Any):
    await twin.add_texts(make_texts(60))
    for k in (1, 20, 60):
        found = await twin.hybrid_search("whale stone", k=k, fusion=fusion)
        assert len(set(ids(found))) == k
        assert all(1 >= better >= worse >= 0 for better, worse in pairwise(scores(found)))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_first_in_both_rankings_scores_1_whatever_their_weights(
    store: PostgresVectorStore, fusion: Any
):
    store.add_texts(["whale"])
    for weight in range(0, 1001, 25):
        found = store.hybrid_search("whale", semantic_weight=weight / 1000, fusion=fusion)
        assert scores(found) == [1], weight


@pytest.mark.parametrize("fusion", FUSIONS)
async def test_texts_whose_vector_is_zero_are_the_farthest_of_all(twin: Twin, fusion: Any):
    vectors = [[0.0] * 64, [1.0] * 64, [-1.0] * 64]
    await twin.add_embeddings(["nothing", "one", "two"], vectors, ids=["0", "1", "2"])
    found = await twin.hybrid_search_with_details("one", k=3, fusion=fusion)
    ranked = {hit.document.id: (hit.semantic_rank, hit.distance) for hit in found}
    assert found[0].document.id == "1"
    assert ranked["0"] == (3, 2.0)


def test_only_by_length_a_vector_of_zero_is_near_or_far(new_store: NewStore):
    for metric, expected in (("cosine", []), ("inner_product", []), ("l2", ["1", "2"])):
        store = new_store(metric=metric, embedding=Nothing())
        store.add_embeddings(["one", "two"], [[1.0, 0.0], [0.0, 2.0]], ids=["1", "2"])
        assert ids(store.hybrid_search("no such words", k=2)) == expected, metric
        assert ids(store.hybrid_search("two", k=1, bm25_weight=1)) == ["2"]


@pytest.mark.parametrize("metric", ["l2", "inner_product"])
@pytest.mark.parametrize("fusion", ["calibrated", "rrf"])
def test_any_metric_can_be_fused(new_store: NewStore, metric: Any, fusion: Any):
    store = new_store(metric=metric)
    store.add_texts(["whale", *make_texts(30), "whale whale"])
    found = store.hybrid_search("whale", k=32, fusion=fusion)
    assert found[0][0].page_content.startswith("whale")
    assert len(found) == 32
    assert all(1 >= better >= worse >= 0 for better, worse in pairwise(scores(found)))

"""What vectors a store takes, from callers and from models: all that it can compare."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from a2rchi_pg import Collections, DimensionMismatch, InvalidInput, Metric, PostgresVectorStore
from tests.plugins.stores import Twin, WordModel, rows, scores

if TYPE_CHECKING:
    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(60)]


class StubbornModel(Embeddings):
    """Answers with whatever it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:  # noqa: ARG002
        return self.answer

    def embed_query(self, text: str) -> list[float]:  # noqa: ARG002
        return self.answer[0]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([[1.0, 2.0]], "returned 1 vectors for 2 texts: it must return one for each"),
        ([[1.0, 2.0]] * 3, "returned 3 vectors for 2 texts"),
        ([], "returned 0 vectors for 2 texts"),
        (None, "must be lists of real numbers, all of one length; got None"),
        ([[1.0, 2.0], [1.0]], r"all of one length; got lengths \[1, 2\]"),
        ([[1.0, 2.0], [1.0, float("nan")]], "vector 1 holds NaN or infinity"),
        ([[1.0, float("-inf")], [1.0, 2.0]], "vector 0 holds NaN or infinity"),
        ([[1.0, 1e39], [1.0, 2.0]], "vector 0 holds NaN or infinity"),
        ([[], []], "must be one-dimensional with 1 to 16000 numbers"),
        ([["a", "b"], ["c", "d"]], "must be lists of real numbers"),
        ([["1", "2"], ["3", "4"]], "must be lists of real numbers"),
        ("ab", "must be lists of real numbers"),
        ([None, None], "must be lists of real numbers"),
        ([[1.0, None], [1.0, 2.0]], "must be lists of real numbers"),
        (np.array([[1, 2], [3, 4j]]), "must be lists of real numbers"),
    ],
)
async def test_what_a_model_answers_is_checked(
    new_store: NewStore, model: WordModel, answer: Any, complaint: str
):
    store = new_store(embedding=StubbornModel(answer))
    complaint = f"embedding model 'StubbornModel'.*{complaint}"
    with pytest.raises(InvalidInput, match=complaint):
        store.add_texts(["one", "two"])
    with pytest.raises(InvalidInput, match=complaint):
        await store.aadd_texts(iter(["one", "two"]))
    assert rows(store) == []
    old = new_store()
    old.add_texts(["one", "two"])
    with pytest.raises(InvalidInput, match=complaint):
        old.reembed(StubbornModel(answer), collection=store.collection_name)
    assert rows(store) == []


@pytest.mark.parametrize("answer", [None, [], [[1.0]], "text", ["1"], [1j], [float("nan")], [1e30]])
def test_what_a_model_answers_a_question_with_is_checked(new_store: NewStore, answer: Any):
    store = new_store(embedding=StubbornModel([answer]))
    for search in (
        store.similarity_search,
        store.max_marginal_relevance_search,
        store.hybrid_search,
        store.similarity_search_with_relevance_scores,
    ):
        with pytest.raises(InvalidInput, match="the vector of embedding model 'StubbornModel'"):
            search("text")


EXTREME = [[1e-19, 0.0], [0.0, -1e-30], [1e-45, 1e-45], [1e19, 0.0], [3e38, 3e38], [-1e38, 1.0]]


@pytest.mark.parametrize("metric", get_args(Metric))
async def test_vectors_too_short_or_long_to_compare_are_refused(new_store: NewStore, metric: str):
    store = new_store(metric=metric, index="none")
    store.add_embeddings(["there"], [[0.6, 0.8]], ids=["1"])
    for vector in EXTREME:
        with pytest.raises(InvalidInput, match=r"norm of .* must be 0 or between 1e-18 and 1e.18"):
            store.add_embeddings(["fine", "not"], [[0.6, 0.8], vector])
        with pytest.raises(InvalidInput, match="embedding: vector 0 has a norm of"):
            await store.asimilarity_search_by_vector(vector)
    assert [row.id for row in rows(store)] == ["1"]


@pytest.mark.parametrize("metric", get_args(Metric))
@pytest.mark.parametrize("index", ["none", "hnsw"])
def test_no_search_gives_a_score_that_is_no_number(new_store: NewStore, metric: str, index: str):
    """At the ends of what is accepted, zero among them, as chunks and as questions."""
    ends = [[1e-18, 0.0], [0.0, -1e-18], [1e18, 0.0], [-7e17, 7e17], [0.0, 0.0], [1.0, 1e-45]]
    words = " ".join(map(str, range(len(ends))))
    for query in ends:
        store = new_store(metric=metric, index=index, embedding=StubbornModel([query]))
        store.add_embeddings([words] * len(ends), ends, ids=list(words.split()))
        fusions: list[Any] = ["calibrated", "rrf", *(["tm2c2"] if metric == "cosine" else [])]
        hits = [
            store.similarity_search_with_score("0", k=6),
            store.similarity_search_with_relevance_scores("0", k=6),
            store.bm25_search("0", k=6),
            *(store.hybrid_search("0", k=6, fusion=fusion) for fusion in fusions),
            *(store.hybrid_search("no such words", k=6, fusion=fusion) for fusion in fusions),
        ]
        assert all(isfinite(score) for found in hits for _, score in found), query
        distances = scores(hits[0])
        assert distances == sorted(distances)
        assert len(store.max_marginal_relevance_search("0", k=6)) == len(distances)
        details = store.hybrid_search_with_details("0", k=6)
        assert all(hit.distance is None or isfinite(hit.distance) for hit in details)


def test_cosines_are_right_at_the_ends_of_what_is_accepted(new_store: NewStore):
    store = new_store(index="none")
    vectors = np.random.default_rng(7).normal(size=(3, 1024))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = vectors * [[1.001e-18], [1.0], [0.999e18]]
    store.add_embeddings(["x"] * 3, scaled, ids=["0", "1", "2"])
    for query, plain in zip(scaled, vectors, strict=True):
        found = store.similarity_search_with_score_by_vector(query)
        expected = 1 - vectors @ plain
        assert {d.id: s for d, s in found} == pytest.approx(
            dict(zip("012", expected, strict=True)), abs=2e-5
        )


@pytest.mark.parametrize("vector", [[65_505.0, 1.0], [1e10, 0.0], [1e-6, -6e-5]])
@pytest.mark.parametrize("by_name", [False, True])
async def test_what_float16_does_not_hold_is_refused_where_an_index_would_hold_it(
    new_store: NewStore, model: WordModel, vector: list[float], by_name: bool
):
    store = new_store(element="halfvec")
    if by_name:
        store.add_embeddings(["there"], [[0.6, 0.8]])
        store = PostgresVectorStore(
            model, database=store.database, collection=store.collection_name
        )
    before = [row.version for row in rows(store)]
    with pytest.raises(InvalidInput, match=r"element='halfvec'.* between 6.1e-05 and 65,504"):
        store.add_embeddings(["fine", "not"], [[0.6, 0.8], vector])
    with pytest.raises(InvalidInput, match=r"element='halfvec'"):
        await store.aadd_embeddings(iter(["not"]), [vector])
    assert [row.version for row in rows(store)] == before
    assert bool(Collections(store.database).get(store.collection_name)) is by_name
    store.add_embeddings(["ends"] * 3, [[65_504.0, 1.0], [6.2e-5, 0.0], [0.0, 0.0]])
    with pytest.raises(InvalidInput, match=r"element='halfvec'"):
        store.similarity_search_by_vector(vector)


def test_a_vector_of_none_among_given_ones_is_refused(store: PostgresVectorStore, model: WordModel):
    with pytest.raises(InvalidInput, match="item 1: its vector is None"):
        store.add_embeddings(["one", "two"], [[1.0], None])  # type: ignore[list-item]
    assert model.asked == []


async def test_vectors_of_another_length_are_refused_before_anything_is_written(twin: Twin):
    await twin.add_texts(["there"], ids=["1"])
    for write in (
        twin.add_embeddings(["replaced", "new"], [[0.5] * 63] * 2, ids=["1", "2"]),
        twin.similarity_search_by_vector([0.5] * 63),
        twin.max_marginal_relevance_search_by_vector([0.5] * 63),
    ):
        with pytest.raises(DimensionMismatch) as caught:
            await write
        assert (caught.value.expected, caught.value.got) == (64, 63)
    assert [row[:2] for row in rows(twin.target)] == [("1", "there")]


def test_a_model_of_another_length_is_refused(new_store: NewStore):
    new_store(name="a model changes").add_texts(["there"])
    changed = new_store(name="a model changes", embedding=WordModel(32))
    for attempt in (changed.similarity_search, changed.hybrid_search, changed.add_texts):
        with pytest.raises(DimensionMismatch) as caught:
            attempt(["text"] if attempt == changed.add_texts else "text")  # type: ignore[operator]
        assert (caught.value.expected, caught.value.got) == (64, 32)


def test_vectors_may_be_arrays_of_any_numbers(store: PostgresVectorStore):
    store.add_embeddings(["one", "two"], np.array([[1, 2], [3, 4]], dtype=np.int8), ids=["1", "2"])
    store.add_embeddings(["three"], [np.array([5, 6], dtype=np.float16)], ids=["3"])
    store.add_embeddings(["four"], iter([(7, 8)]), ids=["4"])
    assert [row.embedding.tolist() for row in rows(store)] == [[1, 2], [3, 4], [5, 6], [7, 8]]

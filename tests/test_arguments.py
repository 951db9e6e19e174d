"""Every argument of the store and its retriever that can't be meant is refused, by its name.

Nothing is asked of the model or of a database: here is neither.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from a2rchi_pg import A2rchiError, PostgresRetriever, PostgresVectorStore
from a2rchi_pg._options import SEARCHES
from tests.plugins.stores import gathered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Untouched(Embeddings):
    """A model and a database that must not be asked."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError(f"embedded {texts}")

    def embed_query(self, text: str) -> list[float]:
        raise AssertionError(f"embedded {text}")

    def run(self, op: Any) -> Any:
        raise AssertionError(f"ran {op}")

    async def arun(self, op: Any) -> Any:
        raise AssertionError(f"ran {op}")


NOWHERE = Untouched()
QUESTIONS = ("similarity_search", "similarity_search_with_score", "bm25_search", "hybrid_search")
VECTORS = ("similarity_search_by_vector", "similarity_search_with_score_by_vector")
HYBRID = ("hybrid_search", "hybrid_search_with_details")
# What each method is called with where all is well.
CALLS: dict[str, dict[str, Any]] = {
    "add_texts": {"texts": ["text"]},
    "add_embeddings": {"texts": ["text"], "embeddings": [[1.0]]},
    "add_documents": {"documents": [Document("text")]},
    "stream_documents": {"documents": [Document("text")]},
    "delete": {},
    "update_metadata": {"patch": {}},
    "get_by_ids": {},
    "count": {},
    "find": {},
    "metadata_values": {"key": "key"},
    "reembed": {"embedding": NOWHERE, "collection": "new"},
    "search": {"query": "text", "search_type": "similarity"},
    "explain": {"query": "text"},
    "similarity_search_with_relevance_scores": {"query": "text"},
    "max_marginal_relevance_search": {"query": "text"},
    "max_marginal_relevance_search_by_vector": {"embedding": [1.0]},
    "hybrid_search_with_details": {"query": "text"},
    **{method: {"query": "text"} for method in QUESTIONS},
    **{method: {"embedding": [1.0]} for method in VECTORS},
}
MMR = tuple(name for name in CALLS if name.startswith("max_marginal"))
SEARCHING = (*QUESTIONS, *VECTORS, *MMR, "hybrid_search_with_details", "explain")
SEARCHING += ("similarity_search_with_relevance_scores",)

NO_COUNT = [-1, 1.5, 2.0, True, np.True_, np.nan, np.inf, "3", [3], 2**31, 10**30]
NO_LIST = [5, "one string", b"bytes", {"a": 1}]
NO_NUMBER = ["0.5", True, np.nan, [0.5], 1j, -0.1]
NO_STRING = [None, 5, b"bytes", ["text"]]
NO_VECTOR = [None, "text", [], [[1.0]], [1j], ["1"], [None], [np.nan], [1e39], [1e-30], [1e30], {}]

ADDING = ("add_texts", "add_embeddings", "add_documents", "stream_documents")
FILTERED = (*SEARCHING, "count", "find", "metadata_values", "delete", "update_metadata")
ASKING = (*QUESTIONS, *HYBRID, *MMR[:1], "explain", "search")
# Argument: the methods that take it, and what none of them takes.
BAD: dict[str, tuple[tuple[str, ...], list[Any]]] = {
    "k": (SEARCHING, [None, *NO_COUNT]),
    "fetch_k": ((*HYBRID, *MMR), [None, *NO_COUNT]),
    "limit": (("find", "metadata_values"), [None, *NO_COUNT]),
    "batch_size": ((*ADDING, "reembed"), [0, None, *NO_COUNT]),
    "document_id": (ADDING, [2**63, -(2**63) - 1, 1.5, "1", True]),
    "ef_search": (tuple(m for m in SEARCHING if m != "bm25_search"), [0, 1001, *NO_COUNT]),
    "lambda_mult": (MMR, [None, 1.1, *NO_NUMBER]),
    "score_threshold": (("similarity_search_with_relevance_scores",), [1.1, *NO_NUMBER]),
    "semantic_weight": (HYBRID, [np.inf, 10**400, *NO_NUMBER]),
    "bm25_weight": (HYBRID, [np.inf, 10**400, *NO_NUMBER]),
    "fusion": ((*HYBRID, "explain"), [None, "magic", 5, ["rrf"]]),
    "filter": (FILTERED, [["a"], "text", 5, {3: "x"}]),
    "user_id": (SEARCHING, ["", 5, b"bytes", ["ada"], "a\0", "a" * 2001]),
    "client_id": (SEARCHING, ["", 5, b"bytes", ["a browser"], "a\0", "a" * 2001]),
    "conversation_id": (SEARCHING, ["7", True, 1.5, [7], -(2**63) - 1, 2**63]),
    "include_deleted": (SEARCHING, [None, 1, "no"]),
    "query": (ASKING, NO_STRING),
    "embedding": ((*VECTORS, *MMR[1:]), NO_VECTOR),
    "search_type": (("search", "explain"), [None, "foo", 5, ["mmr"]]),
    "texts": (ADDING[:2], [None, *NO_LIST, [5]]),
    "metadatas": (ADDING[:2], [*NO_LIST, [], [{}, {}]]),
    "embeddings": (("add_embeddings", "stream_documents"), [*NO_LIST, []]),
    "documents": (ADDING[2:], [None, *NO_LIST, ["text"]]),
    "ids": (ADDING, [*NO_LIST, [5], [], ["1", "2"]]),
    "patch": (("update_metadata",), [None, ["a"], "text", {"a": object()}, {3: 1}]),
    "remove": (("update_metadata",), [None, *NO_LIST, [5]]),
    "key": (("metadata_values",), NO_STRING),
    "after": (("find",), [5, b"bytes", ["id"]]),
    "collection": (("reembed",), NO_STRING),
    "progress": (("reembed",), [5, "text"]),
}
CASES = [
    (method, argument, values)
    for argument, (methods, values) in BAD.items()
    for method in dict.fromkeys(methods)
]
CASES += [
    (method, "ids", [5, b"bytes", {"a": 1}, [5]])
    for method in ("delete", "update_metadata", "get_by_ids")
]
CASES += [("add_embeddings", "embeddings", [None])]


@pytest.fixture
def store() -> PostgresVectorStore:
    return PostgresVectorStore(NOWHERE, database=NOWHERE)


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def call(request: pytest.FixtureRequest, store: PostgresVectorStore) -> Callable[..., Any]:
    async def call(name: str, **arguments: Any) -> Any:
        method = getattr(store, request.param + name)
        args = [arguments.pop("ids")] if name == "get_by_ids" else []
        return await gathered(method(*args, **arguments))

    return call


@pytest.mark.parametrize(("method", "argument", "values"), CASES)
async def test_what_no_argument_may_be(call, method: str, argument: str, values: list[Any]):
    needed = {"filter": {}} if method == "update_metadata" and argument != "ids" else {}
    for value in values:
        with pytest.raises(A2rchiError, match=argument.removesuffix("s")) as caught:
            await call(method, **{**CALLS[method], **needed, argument: value})
        assert len(str(caught.value)) < 500


def test_every_argument_is_tried():
    """A new parameter needs a line above."""
    tried = {
        method: {argument for argument, (methods, _) in BAD.items() if method in methods}
        | set(CALLS[method])
        for method in CALLS
    }
    for method in CALLS:
        parameters = inspect.signature(getattr(PostgresVectorStore, method)).parameters
        names = {n for n, p in parameters.items() if p.kind != p.VAR_KEYWORD}
        assert names - {"self", "ids"} <= tried[method], method


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("embedding", None),
        ("embedding", "text-embedding-3-small"),
        ("database", None),
        ("database", 5),
        ("collection", None),
        ("collection", 5),
    ],
)
@pytest.mark.parametrize("make", [PostgresVectorStore, PostgresVectorStore.from_existing])
def test_what_no_store_is_made_of(make, argument: str, value: Any):
    arguments = {"embedding": NOWHERE, "database": NOWHERE, "collection": "c", argument: value}
    with pytest.raises(A2rchiError, match=f"{argument} must be"):
        make(arguments.pop("embedding"), **arguments)


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("k", NO_COUNT),
        ("rerank_top_n", [0, None, *NO_COUNT]),
        ("search_type", [None, "foo", 5, ["mmr"]]),
        ("search_kwargs", [None, 5, "k", ["k"]]),
        ("reranker", [5, "cohere", object()]),
    ],
)
def test_what_no_retriever_is_made_of(store: PostgresVectorStore, argument: str, values: list[Any]):
    for value in values:
        with pytest.raises(A2rchiError, match=f"{argument} must be"):
            store.as_retriever(**{argument: value})
        with pytest.raises(A2rchiError, match=f"{argument} must be"):
            PostgresRetriever(vectorstore=store, **{argument: value})


@pytest.mark.parametrize("threshold", [None, 1.1, *NO_NUMBER])
def test_a_threshold_is_needed_and_a_number(store: PostgresVectorStore, threshold: Any):
    with pytest.raises(A2rchiError, match="score_threshold must be a number from 0 to 1"):
        store.as_retriever(
            search_type="similarity_score_threshold", search_kwargs={"score_threshold": threshold}
        )


@pytest.mark.parametrize("search_type", SEARCHES)
async def test_a_call_of_a_retriever_is_checked_too(store: PostgresVectorStore, search_type: str):
    threshold = {"score_threshold": 0.5} if "threshold" in search_type else {}
    retriever = store.as_retriever(search_type=search_type, **threshold)
    for k in [None, *NO_COUNT]:
        with pytest.raises(A2rchiError, match="k must be a whole number"):
            retriever.invoke("text", k=k)
        with pytest.raises(A2rchiError, match="k must be a whole number"):
            await retriever.ainvoke("text", k=k)
    with pytest.raises(A2rchiError, match="query must be a string"):
        retriever.invoke(None)


def test_a_retriever_needs_a_store():
    with pytest.raises(A2rchiError, match="vectorstore must be a PostgresVectorStore, got str"):
        PostgresRetriever(vectorstore="store")


# -- misspelt -----------------------------------------------------------------------------------


def taking_any_keyword() -> Iterator[str]:
    for name in CALLS:
        parameters = inspect.signature(getattr(PostgresVectorStore, name)).parameters.values()
        if any(p.kind == p.VAR_KEYWORD for p in parameters):
            yield name


@pytest.mark.parametrize("prefix", ["", "a"])
@pytest.mark.parametrize("method", list(taking_any_keyword()))
async def test_a_misspelt_argument_is_refused_by_the_method_called(
    store: PostgresVectorStore, prefix: str, method: str
):
    wrong, right = ("batchsize", "batch_size") if method.startswith("add") else ("filtre", "filter")
    with pytest.raises(TypeError) as caught:
        called = getattr(store, prefix + method)(**CALLS[method], **{wrong: 1})
        await called
    assert str(caught.value).startswith(
        f"{prefix}{method}() got an unexpected keyword argument '{wrong}', did you mean '{right}'? "
        "It takes "
    )


def test_documents_bring_their_own_metadata(store: PostgresVectorStore):
    with pytest.raises(TypeError, match=r"add_documents\(\) got .* 'metadatas'"):
        store.add_documents([Document("text")], metadatas=[{}])
    with pytest.raises(TypeError, match=r"add_texts\(\) got .* did you mean 'metadatas'"):
        store.add_texts(["text"], metadata=[{}])


@pytest.mark.parametrize("method", ["from_texts", "from_documents"])
async def test_a_misspelt_argument_makes_no_store(method: str):
    for name in (method, f"a{method}"):
        with pytest.raises(TypeError, match=rf"{name}\(\) got .*did you mean 'batch_size'"):
            called = getattr(PostgresVectorStore, name)([], NOWHERE, database="", batchsize=1)
            await called


def test_a_retriever_refuses_unknown_arguments_when_made(store: PostgresVectorStore):
    with pytest.raises(TypeError, match=r"as_retriever\(\) got .* 'topk': It takes k, filter, "):
        store.as_retriever(topk=2)
    with pytest.raises(TypeError, match="'rerankr', did you mean 'reranker'"):
        store.as_retriever(rerankr=None)
    with pytest.raises(TypeError, match=r"PostgresRetriever.* 'topk'"):
        PostgresRetriever(vectorstore=store, topk=2)
    for search_type in ("similarity", "bm25", "hybrid"):
        with pytest.raises(TypeError, match=f"'{search_type}' search got .* 'topk': It takes k, "):
            store.as_retriever(search_type=search_type, search_kwargs={"topk": 2})
        retriever = store.as_retriever(search_type=search_type)
        with pytest.raises(TypeError, match="'filtre', did you mean 'filter'"):
            retriever.invoke("text", filtre={})
    with pytest.raises(TypeError, match="'ef_search'"):
        store.as_retriever(search_type="bm25", ef_search=10)


@pytest.mark.parametrize("search_type", ["bm25", "hybrid"])
def test_a_named_search_takes_what_its_method_takes(search_type: str):
    method = getattr(PostgresVectorStore, f"{search_type}_search")
    assert set(SEARCHES[search_type]) == set(inspect.signature(method).parameters) - {
        "self",
        "query",
    }


def test_an_unknown_search_type_is_answered_with_all_there_are(store: PostgresVectorStore):
    with pytest.raises(A2rchiError, match=r"one of similarity, .*mmr, bm25, hybrid; got 'foo'"):
        store.search("text", "foo")

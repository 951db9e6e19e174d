"""What a store accepts, what it cleans, and what it refuses before anything is written."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from a2rchi_pg import CollectionMismatch, DimensionMismatch, FilterError, InvalidInput, PartialWrite
from a2rchi_pg.errors import DatabaseError
from tests.plugins.stores import Twin, WordModel, ids, rows

if TYPE_CHECKING:
    from a2rchi_pg import PostgresVectorStore
    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(60)

HOSTILE = [
    "'; DROP TABLE collections; --",
    "') OR true --",
    '"; DELETE FROM document_chunks; --',
    "%s",
    "%(vector)s",
    "100%",
    "{0}",
    "{partition}",
    "file-name",
    "back\\slash",
    "dollar$1",
    "日本語 😀",
    "Robert'); DROP SCHEMA public CASCADE;--",
]


# -- text and metadata --------------------------------------------------------------------------


async def test_nul_is_removed_and_lone_surrogates_replaced_v8(twin: Twin):
    text, metadata = "a\0b \ud800 c", {"k\0ey": "v\0alue", "deep": ["\udfff", {"x": "\0"}]}
    await twin.add_texts([text], [metadata], ids=["1"])
    assert rows(twin.target)[0][:3] == (
        "1",
        "ab \ufffd c",
        {"key": "value", "deep": ["\ufffd", {"x": ""}]},
    )


async def test_queries_may_hold_what_postgresql_cannot_store(twin: Twin):
    await twin.add_texts(["a whale"], ids=["1"])
    for search in (twin.similarity_search, twin.bm25_search, twin.hybrid_search):
        assert ids(await search("\0whale\ud800")) == ["1"]


async def test_metadata_comes_back_with_its_types(twin: Twin):
    metadata = {"int": 3, "float": 0.1, "whole": 2.0, "yes": True, "none": None, "list": [1, "x"]}
    metadata |= {"empty": {}, "huge": 10**300, "tiny": 5e-324, "text": "ünïcode", "": "empty key"}
    await twin.add_texts(["text"], [metadata])
    (found,) = await twin.similarity_search("text")
    assert found.metadata == metadata
    assert [type(found.metadata[key]) for key in metadata] == [type(v) for v in metadata.values()]


def test_numpy_metadata_becomes_plain(store: PostgresVectorStore):
    given = {
        "int": np.int64(3),
        "float": np.float32(0.5),
        "long": np.longdouble(0.25),
        "bool": np.bool_(True),
        "array": np.array([[1, 2], [3, 4]]),
        "day": np.datetime64("2024-05-17"),
        "nanoseconds": np.datetime64("2024-05-17T12:30:00.5", "ns"),
    }
    store.add_texts(["text"], [given])
    assert rows(store)[0].metadata == {
        "int": 3,
        "float": 0.5,
        "long": 0.25,
        "bool": True,
        "array": [[1, 2], [3, 4]],
        "day": "2024-05-17",
        "nanoseconds": "2024-05-17T12:30:00.500000000",
    }


def test_dates_paths_and_uuids_become_strings(store: PostgresVectorStore):
    moment = datetime(2024, 5, 17, 12, 30, tzinfo=UTC)
    given = {"at": moment, "on": date(2024, 5, 17), "path": Path("a/b"), "uuid": UUID(int=7)}
    store.add_texts(["text"], [given])
    assert rows(store)[0].metadata == {
        "at": "2024-05-17T12:30:00+00:00",
        "on": "2024-05-17",
        "path": "a/b",
        "uuid": "00000000-0000-0000-0000-000000000007",
    }


def holds_itself() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    return loop


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"score": float("nan")}, r"item 1: metadata\.score can't be stored as JSON: nan"),
        ({"a": {"b": [1, float("inf")]}}, r"item 1: metadata\.a\.b\[1\]"),
        ({"raw": b"bytes"}, r"item 1: metadata\.raw"),
        ({"raw": object()}, r"item 1: metadata\.raw"),
        ({"n": np.float32("nan")}, r"item 1: metadata\.n"),
        ({3: "x"}, "item 1: keys of metadata must be strings, got 3"),
        (["not", "a", "mapping"], "item 1: metadata must be a mapping"),
        (holds_itself(), "item 1: metadata is nested too deeply, or holds itself"),
    ],
)
def test_metadata_without_a_json_form_is_refused(
    store: PostgresVectorStore, metadata: Any, complaint: str
):
    with pytest.raises(InvalidInput, match=complaint):
        store.add_texts(["fine", "not fine"], [{}, metadata])
    assert rows(store) == []


async def test_what_the_caller_gave_is_not_changed_v8(twin: Twin):
    texts, names = ["one", "two"], ["1", "2"]
    metadatas: list[dict[str, Any]] = [{"nested": {"a": [1, 2]}, "nul": "a\0"}, {}]
    documents = [Document(page_content="three", metadata={"n": 3})]
    vectors = [[0.1] * 64, [0.2] * 64]
    given = (texts, metadatas, names, documents, vectors)
    before = copy.deepcopy(given)
    await twin.add_texts(texts, metadatas, ids=names)
    await twin.add_documents(documents)
    await twin.add_embeddings(texts, vectors, metadatas, ids=names)
    await twin.get_by_ids(names)
    await twin.delete(names)
    assert given == before
    assert documents[0].id is None


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["nested"]])
def test_texts_must_be_strings(store: PostgresVectorStore, text: Any):
    with pytest.raises(InvalidInput, match="item 1: texts must be strings"):
        store.add_texts(["fine", text])


def test_one_string_is_not_a_list_of_texts(store: PostgresVectorStore):
    with pytest.raises(InvalidInput, match="got one string"):
        store.add_texts("abc")


@pytest.mark.parametrize("id_", ["", "nul\0", "\ud800", "x" * 2001, "é" * 1001, 3])
def test_ids_that_cannot_be_stored_are_refused(store: PostgresVectorStore, id_: Any):
    with pytest.raises(InvalidInput, match="item 1: ids"):
        store.add_texts(["fine", "not fine"], ids=["1", id_])
    assert rows(store) == []


def test_ids_may_be_long_and_strange(store: PostgresVectorStore):
    strange = ["é" * 1000, " ", "1", "01", "a/b?c#d", *HOSTILE]
    assert store.add_texts(["text"] * len(strange), ids=strange) == strange
    assert ids(store.get_by_ids(strange)) == strange


def test_a_text_too_long_for_the_lexical_index_is_refused_whole(store: PostgresVectorStore):
    too_long = " ".join(f"word{n}" for n in range(150_000))
    with pytest.raises(DatabaseError, match="too long"):
        store.add_texts(["fine", too_long])
    assert store.add_texts(["fine"], ids=["1"]) == ["1"]
    assert [row.id for row in rows(store)] == ["1"]


# -- lengths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadatas", "names", "complaint"),
    [
        ([{}], None, "metadatas end after 1 items while texts go on"),
        ([{}] * 3, None, "texts end after 2 items while metadatas go on"),
        (None, ["1"], "ids end after 1 items while texts go on"),
        ([{}] * 2, ["1", "2", "3"], "texts, metadatas end after 2 items while ids go on"),
        ([], [], "metadatas, ids end after 0 items while texts go on"),
    ],
)
async def test_lengths_must_agree_v8(
    twin: Twin, model: WordModel, metadatas: Any, names: Any, complaint: str
):
    with pytest.raises(InvalidInput, match=complaint):
        await twin.add_texts(["one", "two"], metadatas, ids=names)
    assert model.asked == []
    assert rows(twin.target) == []


async def test_lengths_of_streams_must_agree_too(twin: Twin):
    with pytest.raises(PartialWrite, match="ids end after 2 items") as caught:
        await twin.add_texts(iter(["one", "two", "three"]), ids=iter("12"), batch_size=2)
    assert caught.value.ids == ["1", "2"]


# -- vectors ------------------------------------------------------------------------------------


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
        ([[1.0, 2.0]], "the model returned 1 vectors for 2 texts"),
        ([[1.0, 2.0]] * 3, "the model returned 3 vectors for 2 texts"),
        ([[1.0, 2.0], [1.0]], r"vectors must have one length; got lengths \[1, 2\]"),
        ([[1.0, 2.0], [1.0, float("nan")]], "vector 1 holds NaN or infinity"),
        ([[1.0, float("-inf")], [1.0, 2.0]], "vector 0 holds NaN or infinity"),
        ([[1.0, 1e39], [1.0, 2.0]], "vector 0 holds NaN or infinity"),
        ([[], []], "vectors must be one-dimensional with 1 to 16000 numbers"),
        ([["a", "b"], ["c", "d"]], "vectors must be sequences of numbers"),
        ([None, None], "vectors must be"),
    ],
)
def test_what_a_model_answers_is_checked(new_store: NewStore, answer: Any, complaint: str):
    store = new_store(embedding=StubbornModel(answer))
    with pytest.raises(InvalidInput, match=complaint):
        store.add_texts(["one", "two"])
    assert rows(store) == []


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


# -- options and names --------------------------------------------------------------------------


@pytest.mark.parametrize("k", [-1, 1.5, 2.0, True, float("nan"), float("inf"), "3", None])
async def test_k_must_be_a_whole_number(twin: Twin, k: Any):
    await twin.add_texts(["text"])
    for search in (
        twin.similarity_search,
        twin.bm25_search,
        twin.hybrid_search,
        twin.max_marginal_relevance_search,
    ):
        with pytest.raises(InvalidInput, match="k must be a whole number"):
            await search("text", k=k)


async def test_k_may_exceed_all_there_is(twin: Twin):
    await twin.add_texts(["text"], ids=["1"])
    for k in (1, np.int64(2), 10_000, 10**9, 10**30):
        for search in (
            twin.similarity_search,
            twin.bm25_search,
            twin.hybrid_search,
            twin.max_marginal_relevance_search,
        ):
            assert ids(await search("text", k=k)) == ["1"], (k, search)


async def test_k_of_zero_is_no_documents(twin: Twin):
    await twin.add_texts(["text"])
    for search in (twin.similarity_search, twin.bm25_search, twin.hybrid_search):
        assert await search("text", k=0) == []
    assert await twin.max_marginal_relevance_search("text", k=0) == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"semantic_weight": -0.1}, "semantic_weight and bm25_weight must be"),
        ({"semantic_weight": 0, "bm25_weight": 0}, "not both 0"),
        ({"bm25_weight": float("nan")}, "must be finite"),
        ({"bm25_weight": float("inf")}, "must be finite"),
        ({"fusion": "magic"}, "fusion must be"),
        ({"fetch_k": -1}, "fetch_k must be a whole number"),
        ({"ef_search": 0}, "ef_search must be between 1 and 1000"),
        ({"ef_search": 1001}, "ef_search must be between 1 and 1000"),
    ],
)
async def test_hybrid_options_are_checked(twin: Twin, options: dict[str, Any], complaint: str):
    with pytest.raises(InvalidInput, match=complaint):
        await twin.hybrid_search("text", **options)


def test_weights_may_be_as_small_or_large_as_floats_go(store: PostgresVectorStore):
    store.add_texts(["a whale", "a fox"], ids=["1", "2"])
    for semantic, lexical in ((5e-324, 0.5), (1e308, 1e308), (1e-300, 1e300)):
        found = store.hybrid_search("whale", semantic_weight=semantic, bm25_weight=lexical)
        assert ids(found)[0] == "1"
        assert all(0 <= score <= 1 for _, score in found)


async def test_unknown_arguments_are_refused(twin: Twin):
    with pytest.raises(TypeError, match="batchsize"):
        await twin.add_texts(["text"], batchsize=10)
    with pytest.raises(TypeError):
        await twin.similarity_search("text", filtre={})


@pytest.mark.parametrize("lambda_mult", [-0.1, 1.1, float("nan")])
async def test_lambda_mult_lies_between_0_and_1(twin: Twin, lambda_mult: float):
    with pytest.raises(InvalidInput, match="lambda_mult must be between 0 and 1"):
        await twin.max_marginal_relevance_search("text", lambda_mult=lambda_mult)


@pytest.mark.parametrize("key", HOSTILE)
async def test_v5_a_filter_key_is_only_a_key(twin: Twin, key: str):
    await twin.add_texts(["text one", "text two"], [{key: 1}, {"other": 1}], ids=["1", "2"])
    searches = (twin.similarity_search, twin.bm25_search, twin.hybrid_search)
    for search in (*searches, twin.max_marginal_relevance_search):
        assert ids(await search("text", filter={key: 1})) == ["1"]
    assert await twin.count(filter={key: 1}) == 1
    await twin.delete(filter={key: 1})
    assert [row.id for row in rows(twin.target)] == ["2"]


@pytest.mark.parametrize("value", HOSTILE)
async def test_v5_a_filter_value_is_only_a_value(twin: Twin, value: str):
    await twin.add_texts(["text one", "text two"], [{"a": value}, {"a": "x"}], ids=["1", "2"])
    for search in (twin.similarity_search, twin.bm25_search, twin.hybrid_search):
        assert ids(await search("text", filter={"a": value})) == ["1"]
    await twin.delete(filter={"a": value})
    assert [row.id for row in rows(twin.target)] == ["2"]


async def test_v5_filters_are_typed(twin: Twin):
    metadatas = [{"a": True}, {"a": "True"}, {"a": 1}, {"a": "1"}, {"a": 1.0}, {}]
    await twin.add_texts(["text"] * 6, metadatas, ids=list("012345"))
    for value, expected in ((True, "0"), ("True", "1"), (1, "24"), ("1", "3")):
        found = await twin.similarity_search("text", k=6, filter={"a": value})
        assert ids(found) == list(expected), value


async def test_filters_that_cannot_be_understood_are_refused(twin: Twin):
    for filter_ in ("text", {3: "x"}, {"a": float("nan")}, {"a": float("inf")}, {"$magic": 1}):
        with pytest.raises(FilterError):
            await twin.similarity_search("text", filter=filter_)


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 200, "漢" * 200, " padded "])
def test_a_collection_name_is_only_a_name(new_store: NewStore, name: str):
    store, bystander = new_store(name=name), new_store()
    bystander.add_texts(["bystander"])
    store.add_texts(["text"], ids=["1"])
    assert ids(store.hybrid_search("text")) == ["1"]
    assert ids(store.similarity_search("text")) == ["1"]
    assert len(rows(bystander)) == 1


@pytest.mark.parametrize("name", ["", "  ", "nul\0", "\ud800", "x" * 201])
def test_names_that_cannot_be_stored_are_refused(new_store: NewStore, name: str):
    with pytest.raises(InvalidInput, match="name must"):
        new_store(name=name).add_texts(["text"])


@pytest.mark.parametrize("text_config", HOSTILE)
def test_a_text_config_is_only_the_name_of_one(new_store: NewStore, text_config: str):
    store = new_store(text_config=text_config)
    with pytest.raises(DatabaseError, match=r"does not exist|invalid name"):
        store.add_texts(["text"])
    assert rows(store) == []


@pytest.mark.parametrize("text_config", ["german", "German", "pg_catalog.german", "simple"])
def test_a_text_config_may_be_written_in_any_way_postgresql_takes(
    new_store: NewStore, text_config: str
):
    for _ in range(2):
        new_store(name="ein Ort", text_config=text_config).add_texts(["Häuser"], ids=["1"])


def test_other_settings_than_a_collection_has_are_refused(new_store: NewStore):
    new_store(name="settled").add_texts(["text"])
    for settings in ({"metric": "l2"}, {"index": "ivfflat"}, {"element": "bit"}, {"m": 8}):
        ((field, value),) = settings.items()
        with pytest.raises(CollectionMismatch, match=rf"{field} is .*, asked for {value!r}"):
            new_store(name="settled", **settings).similarity_search("text")

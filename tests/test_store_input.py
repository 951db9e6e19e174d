"""What a store accepts, what it cleans, and what it refuses before anything is written."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from langchain_core.documents import Document

from a2rchi_pg import (
    A2rchiError,
    Database,
    InvalidInput,
    PartialWrite,
    PostgresVectorStore,
)
from tests.plugins.stores import Twin, WordModel, ids, rows

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(60)]


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
    strange = ["é" * 1000, " ", "1", "01", "a/b?c#d", "'; DROP TABLE documents; --", "%s"]
    assert store.add_texts(["text"] * len(strange), ids=strange) == strange
    assert ids(store.get_by_ids(strange)) == strange


@pytest.mark.parametrize("there_before", [[], ["an older fox"]])
def test_a_text_too_long_for_the_lexical_index_is_refused_whole(
    server_path: Path, model: WordModel, there_before: list[str]
):
    """On a server of its own: pg_textsearch 0.6 was seen to take the whole server down."""
    too_long = " ".join(f"word{n}" for n in range(150_000))
    with Database.embedded(server_path, timeout=10) as database:
        store = PostgresVectorStore(model, database=database)
        store.add_texts(there_before)
        with pytest.raises(A2rchiError, match="too long"):
            store.add_texts(["fine", too_long])
        store.add_texts(["a fox"], ids=["1"])
        assert ids(store.bm25_search("fox", k=1)) == ["1"]
        assert store.count() == 1 + len(there_before)


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

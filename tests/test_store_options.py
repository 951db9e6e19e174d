"""Options, filters and names: what they may be, and that no text of theirs becomes SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from a2rchi_pg import CollectionMismatch, FilterError, InvalidInput
from a2rchi_pg.errors import DatabaseError
from tests.plugins.stores import Twin, ids, rows

if TYPE_CHECKING:
    from a2rchi_pg import PostgresVectorStore
    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(60)]

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


async def test_k_may_exceed_all_there_is(twin: Twin):
    await twin.add_texts(["text"], ids=["1"])
    for k in (1, np.int64(2), np.uint8(3), 10_000, 1_000_000):
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


def test_two_weights_of_zero_are_refused(store: PostgresVectorStore):
    with pytest.raises(InvalidInput, match="must not both be 0"):
        store.hybrid_search("text", semantic_weight=0, bm25_weight=np.float32(0))


def test_weights_may_be_as_small_or_large_as_floats_go(store: PostgresVectorStore):
    store.add_texts(["a whale", "a fox"], ids=["1", "2"])
    for semantic, lexical in ((5e-324, 0.5), (1e308, 1e308), (1e-300, 1e300)):
        found = store.hybrid_search("whale", semantic_weight=semantic, bm25_weight=lexical)
        assert ids(found)[0] == "1"
        assert all(0 <= score <= 1 for _, score in found)


def test_options_may_be_numpy_numbers(store: PostgresVectorStore):
    store.add_texts(["a whale", "a fox"], ids=["1", "2"])
    five, half = np.int64(5), np.float32(0.75)
    mmr: dict[str, Any] = {"k": five, "fetch_k": five, "lambda_mult": half, "ef_search": five}
    assert len(store.max_marginal_relevance_search("whale", **mmr)) == 2
    hybrid: dict[str, Any] = {"semantic_weight": half, "bm25_weight": half, "fetch_k": five}
    assert len(store.hybrid_search("whale", k=five, ef_search=five, **hybrid)) == 2
    assert len(store.find(limit=five)) == 2
    threshold: dict[str, Any] = {"score_threshold": half}
    assert len(store.similarity_search_with_relevance_scores("a whale", five, **threshold)) == 1


@pytest.mark.parametrize("key", HOSTILE)
def test_v5_a_filter_key_is_only_a_key(store: PostgresVectorStore, key: str):
    store.add_texts(["text one", "text two"], [{key: 1}, {"other": 1}], ids=["1", "2"])
    searches = (store.similarity_search, store.bm25_search, store.hybrid_search)
    for search in (*searches, store.max_marginal_relevance_search):
        assert ids(search("text", filter={key: 1})) == ["1"]
    assert store.count(filter={key: 1}) == 1
    store.delete(filter={key: 1})
    assert [row.id for row in rows(store)] == ["2"]


@pytest.mark.parametrize("value", HOSTILE)
def test_v5_a_filter_value_is_only_a_value(store: PostgresVectorStore, value: str):
    store.add_texts(["text one", "text two"], [{"a": value}, {"a": "x"}], ids=["1", "2"])
    for search in (store.similarity_search, store.bm25_search, store.hybrid_search):
        assert ids(search("text", filter={"a": value})) == ["1"]
    store.delete(filter={"a": value})
    assert [row.id for row in rows(store)] == ["2"]


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


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"n": {"$gt": 3, "$lt": 9}}, "57"),
        ({"kind": "x", "$or": [{"n": 3}, {"n": 7}]}, "37"),
        ({"file-name": "a.txt"}, "5"),
        ({"n": None}, "0"),
    ],
)
async def test_filters_that_were_refused_or_wrong_lp2(twin: Twin, filter_: Any, expected: str):
    metadatas = [{"n": int(n), "kind": "x"} for n in "357"]
    metadatas[1]["file-name"] = "a.txt"
    await twin.add_texts(["text"] * 4, [*metadatas, {"kind": "y"}], ids=list("3570"))
    assert sorted(ids(await twin.similarity_search("text", filter=filter_))) == sorted(expected)
    assert sorted(ids(await twin.hybrid_search("text", filter=filter_))) == sorted(expected)

"""What holds for any texts, metadata and vectors: found by Hypothesis, on a real server."""

from __future__ import annotations

import re
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore
from tests.plugins.stores import Row, WordModel, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(120)]
laws = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

any_text = st.text(st.characters(), max_size=40)  # NUL and lone surrogates among them
some_ids = st.sampled_from(["a", "b", "c", "ä", "1"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
metadatas = st.dictionaries(any_text, json_values, max_size=4)
items = st.lists(st.tuples(some_ids, any_text, metadatas), max_size=8)
coordinates = st.just(0.0) | st.floats(2**-59, 2**58, width=32)
vectors = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 9)),
    elements=coordinates | coordinates.map(lambda x: -x),
)


@pytest.fixture
def fresh(common: Database) -> Iterator[Callable[[], PostgresVectorStore]]:
    """Makes empty stores without a vector index, whose laws are the same and cost less."""
    made: list[str] = []

    def make() -> PostgresVectorStore:
        made.append(f"law-{token_hex(6)}")
        spec = CollectionSpec(name=made[-1], index="none")
        return PostgresVectorStore(WordModel(4), database=common, collection=spec)

    yield make
    for name in made:
        Collections(common).drop(name)


def cleaned(value: Any) -> Any:
    """What the documentation says becomes of NUL and of lone surrogates, written again."""
    match value:
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value.replace("\0", ""))
        case list():
            return [cleaned(each) for each in value]
        case dict():
            return {cleaned(key): cleaned(each) for key, each in value.items()}
    return value


def state(store: PostgresVectorStore) -> list[Any]:
    return [(row.id, row.content, row.metadata, row.embedding.tolist()) for row in rows(store)]


def put(store: PostgresVectorStore, batch: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    names, texts, metadata = ([item[n] for item in batch] for n in range(3))
    return store.add_texts(texts, metadata, ids=names)


@laws
@given(batch=items)
def test_a_batch_is_its_items_one_by_one(fresh, batch):
    together, apart = fresh(), fresh()
    assert put(together, batch) == [name for item in batch for name in put(apart, [item])]
    assert state(together) == state(apart)


@laws
@given(batch=items)
def test_adding_twice_is_adding_once(fresh, batch):
    store = fresh()
    put(store, batch)
    once = rows(store)
    put(store, list({item[0]: item for item in batch}.values()))
    assert [row.version for row in rows(store)] == [row.version for row in once]


@laws
@given(first=items, second=items)
def test_after_two_batches_the_last_of_each_id_stands(fresh, first, second):
    store = fresh()
    put(store, first)
    put(store, second)
    expected = {name: (cleaned(text), cleaned(data)) for name, text, data in [*first, *second]}
    assert {row.id: (row.content, row.metadata) for row in rows(store)} == expected


@laws
@given(text=any_text, metadata=metadatas)
def test_any_text_and_metadata_come_back_as_documented(fresh, text, metadata):
    store = fresh()
    (id_,) = store.add_texts([text], [metadata])
    (found,) = store.get_by_ids([id_])
    assert found.page_content == cleaned(text)
    assert found.metadata == cleaned(metadata)


@laws
@given(matrix=vectors)
def test_vectors_come_back_bit_for_bit(fresh, matrix):
    store = fresh()
    store.add_embeddings(["x"] * len(matrix), matrix, ids=[str(n) for n in range(len(matrix))])
    stored = [row.embedding for row in rows(store)]
    assert [vector.tobytes() for vector in stored] == [vector.tobytes() for vector in matrix]


def test_vectors_keep_negative_zero_and_the_smallest_numbers(fresh):
    store = fresh()
    odd = np.array([-0.0, 0.0, 1e-45, -1e-45, 1.1754942e-38, 1e-18, -1e-38], np.float32)
    store.add_embeddings(["x"], [odd])
    (row,) = rows(store)
    assert isinstance(row, Row)
    assert row.embedding.dtype == np.float32
    assert row.embedding.tobytes() == odd.tobytes()


@laws
@given(batch=items, chosen=st.lists(some_ids, max_size=4))
def test_deleting_leaves_exactly_the_others(fresh, batch, chosen):
    store = fresh()
    put(store, batch)
    store.delete(chosen)
    assert {row.id for row in rows(store)} == {item[0] for item in batch} - set(chosen)


@laws
@given(query=any_text)
def test_any_query_is_answered(fresh, query):
    store = fresh()
    store.add_texts(["the whale", "a fox"])
    assert len(store.similarity_search(query, k=2)) == 2
    assert len(store.hybrid_search(query, k=2)) == 2
    assert len(store.bm25_search(query, k=2)) <= 2

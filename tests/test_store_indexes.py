"""Every metric, index and element a collection may have, and how many dimensions each takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from a2rchi_pg import CollectionMismatch, Collections, CollectionSpec, InvalidInput
from tests.plugins.stores import Twin, ask, ids, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from a2rchi_pg import Database, PostgresVectorStore
    from a2rchi_pg.collections import Collection
    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(120)]

INDEXED = [
    (index, element) for index in ("hnsw", "ivfflat") for element in ("vector", "halfvec", "bit")
]


def clustered(count: int, dimensions: int) -> NDArray[np.float32]:
    """Points around a few dozen centres, as texts lie around their topics."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(40, dimensions))
    points = centres[random.integers(40, size=count)] + 0.6 * random.normal(
        size=(count, dimensions)
    )
    return points.astype(np.float32)


def collection_of(store: PostgresVectorStore) -> Collection:
    collection = Collections(store.database).get(store.collection_name)
    assert collection
    return collection


def index_definition(store: PostgresVectorStore) -> str | None:
    found = ask(
        store,
        "SELECT pg_get_indexdef(to_regclass(%(name)s))",
        name=f"{collection_of(store).partition}_embedding",
    )
    return found[0][0]


# -- recall -------------------------------------------------------------------------------------


@pytest.mark.servers("full")
@pytest.mark.parametrize(("index", "element"), INDEXED, ids=[f"{i}-{e}" for i, e in INDEXED])
def test_recall_against_exact_search(new_store: NewStore, index: Any, element: Any):
    points = clustered(2100, 128)
    given, queries = points[:2000], points[2000:]
    store = new_store(index=index, element=element)
    store.add_embeddings([""] * 2000, given, ids=[str(n) for n in range(2000)])
    assert collection_of(store).vector_index
    units = given / np.linalg.norm(given, axis=1, keepdims=True)
    hits = 0
    for query in queries:
        exact = np.argsort(-(units @ query))[:10]
        found = ids(store.similarity_search_by_vector(query, k=10))
        hits += len({int(id_) for id_ in found if id_} & set(exact.tolist()))
    assert hits / (10 * len(queries)) >= 0.95


@pytest.mark.parametrize(("index", "element"), INDEXED, ids=[f"{i}-{e}" for i, e in INDEXED])
def test_distances_are_of_the_full_vectors_whatever_the_index_stores(
    new_store: NewStore, index: Any, element: Any
):
    given = clustered(1000, 32)
    store = new_store(index=index, element=element, metric="l2")
    store.add_embeddings([""] * 1000, given, ids=[str(n) for n in range(1000)])
    for document, distance in store.similarity_search_with_score_by_vector(given[5], k=10):
        exact = np.linalg.norm(given[5] - given[int(document.id or "")])
        assert distance == pytest.approx(exact, rel=1e-5, abs=1e-6)


# -- what is built ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "element", "expected"),
    [
        ("cosine", "vector", "(((embedding)::vector(2)) vector_cosine_ops)"),
        ("l2", "vector", "(((embedding)::vector(2)) vector_l2_ops)"),
        ("inner_product", "vector", "(((embedding)::vector(2)) vector_ip_ops)"),
        ("cosine", "halfvec", "(((embedding)::halfvec(2)) halfvec_cosine_ops)"),
        ("ip", "halfvec", "(((embedding)::halfvec(2)) halfvec_ip_ops)"),
        ("l2", "bit", "(((binary_quantize(embedding))::bit(2)) bit_hamming_ops)"),
    ],
)
def test_v13_the_index_measures_as_the_collection_does(
    new_store: NewStore, metric: Any, element: Any, expected: str
):
    store = new_store(metric=metric, element=element, m=8, ef_construction=32)
    store.add_embeddings(["text"], [[1.0, 2.0]])
    definition = (index_definition(store) or "").replace("pg_catalog.", "")
    assert expected.replace("vector_l2_ops)", "vector_l2_ops)") in with_operator_class(definition)
    assert "USING hnsw" in definition
    assert "WITH (m='8', ef_construction='32')" in definition


def with_operator_class(definition: str) -> str:
    """PostgreSQL leaves out the class that is its type's default."""
    return definition.replace("::vector(2)))", "::vector(2)) vector_l2_ops)").replace(
        "::bit(2)))", "::bit(2)) bit_hamming_ops)"
    )


def test_v13_ivfflat_is_built_once_there_are_rows_to_learn_from(new_store: NewStore):
    store = new_store(index="ivfflat")
    points = clustered(1200, 16)
    store.add_embeddings([""] * 900, points[:900])
    assert index_definition(store) is None
    assert len(store.similarity_search_by_vector(points[0], k=20)) == 20
    store.add_embeddings([""] * 300, points[900:])
    assert "USING ivfflat" in (index_definition(store) or "")
    assert len(store.similarity_search_by_vector(points[0], k=1200)) == 1200


def test_no_index_means_none(new_store: NewStore):
    store = new_store(index="none")
    store.add_embeddings(["text"], [[1.0, 2.0]])
    assert index_definition(store) is None


def test_v14_metrics_have_aliases_and_one_name(new_store: NewStore):
    for alias, metric in (("ip", "inner_product"), ("euclidean", "l2")):
        store = new_store(metric=alias)
        store.add_embeddings(["text"], [[1.0, 2.0]])
        assert collection_of(store).metric == metric
        new_store(name=store.collection_name, metric=metric).similarity_search_by_vector([1, 2])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"metric": "manhattan"}, "metric must be one of cosine, l2, inner_product"),
        ({"index": "btree"}, "index must be one of hnsw, ivfflat, none"),
        ({"element": "float64"}, "element must be one of vector, halfvec, bit"),
        ({"m": 1}, "m must be a whole number from 2 to 100"),
        (
            {"m": 50, "ef_construction": 64},
            "ef_construction must be a whole number from 100 to 1,000",
        ),
        ({"lists": 0}, "lists must be a whole number from 1 to 32,768"),
        ({"k1": 0}, "k1 must be a number from 0.1 to 10"),
        ({"b": 1.5}, "b must be a number from 0 to 1"),
    ],
)
def test_settings_are_checked_by_name(settings: dict[str, Any], complaint: str):
    with pytest.raises(InvalidInput, match=complaint):
        CollectionSpec(**settings)


# -- dimensions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dimensions", "settings"),
    [
        (1, {}),
        (2000, {}),
        (4000, {"element": "halfvec"}),
        (16000, {"element": "bit"}),
        (16000, {"index": "none"}),
        (1, {"element": "halfvec", "metric": "l2"}),
        (1, {"element": "bit", "metric": "inner_product"}),
        (4000, {"element": "halfvec", "metric": "inner_product"}),
    ],
)
async def test_dimensions_from_least_to_most(
    twin: Twin, new_store: NewStore, dimensions: int, settings: dict[str, Any]
):
    store = Twin(new_store(database=twin.target.database, **settings), twin.way)
    points = np.random.default_rng(3).normal(size=(5, dimensions)).astype(np.float32)
    points[0] = abs(points[0])
    await store.add_embeddings(["text"] * 5, points, ids=list("01234"))
    assert len(await store.similarity_search_by_vector(points[0], k=5)) == 5
    if dimensions > 1:
        assert ids(await store.similarity_search_by_vector(points[0], k=1)) == ["0"]
    assert np.array_equal([row.embedding for row in rows(store.target)], points)


@pytest.mark.parametrize(
    ("dimensions", "settings", "complaint"),
    [
        (2001, {}, r"at most 2000 dimensions, the vectors have 2001: use CollectionSpec"),
        (2001, {}, r"element='halfvec' or element='bit' or index='none'"),
        (2001, {"index": "ivfflat"}, "at most 2000"),
        (4001, {"element": "halfvec"}, r"at most 4000 .*: use CollectionSpec\(element='bit' or"),
    ],
)
async def test_v13_too_many_dimensions_are_refused_with_what_to_do(
    twin: Twin, new_store: NewStore, dimensions: int, settings: dict[str, Any], complaint: str
):
    store = Twin(new_store(database=twin.target.database, **settings), twin.way)
    with pytest.raises(InvalidInput, match=complaint):
        await store.add_embeddings(["text"], [[0.5] * dimensions])
    assert Collections(twin.target.database).get(store.target.collection_name) is None


async def test_no_vector_may_be_longer_than_pgvector_takes(twin: Twin):
    with pytest.raises(InvalidInput, match="1 to 16000 numbers"):
        await twin.add_embeddings(["text"], [[0.5] * 16_001])


# -- Collections --------------------------------------------------------------------------------


@pytest.fixture
def collections(way_in: tuple[str, Database]) -> Iterator[Twin]:
    way, database = way_in
    yield Twin(Collections(database), way)
    Collections(database).drop("made")


async def test_collections_are_created_listed_and_dropped(collections: Twin):
    spec = CollectionSpec(name="made", metric="ip", m=8, text_config="simple", k1=0.9)
    created = await collections.create(spec, 3)
    assert (created.name, created.dimensions, created.metric) == ("made", 3, "inner_product")
    assert (created.m, created.text_config, created.k1) == (8, "simple", pytest.approx(0.9))
    assert await collections.get("made") == created
    assert created in await collections.all()
    assert await collections.drop("made") is True
    assert await collections.get("made") is None
    assert await collections.drop("made") is False


async def test_creating_a_collection_twice_gives_the_first(collections: Twin):
    spec = CollectionSpec(name="made")
    assert await collections.create(spec, 3) == await collections.create(spec, 3)


async def test_creating_a_collection_with_other_settings_is_refused(collections: Twin):
    await collections.create(CollectionSpec(name="made"), 3)
    with pytest.raises(CollectionMismatch, match="metric is 'cosine', asked for 'l2'"):
        await collections.create(CollectionSpec(name="made", metric="l2"), 3)
    with pytest.raises(CollectionMismatch, match="holds vectors of 3 dimensions, asked for 4"):
        await collections.create(CollectionSpec(name="made"), 4)


async def test_dropping_a_collection_drops_its_table(collections: Twin, store: PostgresVectorStore):
    created = await collections.create(CollectionSpec(name="made"), 3)
    await collections.drop("made")
    query = "SELECT to_regclass(%(name)s) IS NULL"
    assert ask(store, query, name=created.partition) == [(True,)]

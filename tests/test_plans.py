"""The plans of search statements: its indexes are used, under custom and under generic plans.

The statements are those that the store really sends, explained as they run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.types import TypeInfo

from a2rchi_pg import CollectionSpec, Database, PostgresVectorStore, _vectors
from tests.database_support import Scattered, rows, value
from tests.plugins.servers import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg._op import Op, Statement

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(120)]
ROWS = 6000
SPECS = {
    "vector": CollectionSpec(name="vector"),
    "halfvec": CollectionSpec(name="halfvec", element="halfvec", metric="l2"),
    "bit": CollectionSpec(name="bit", element="bit"),
    "ivfflat": CollectionSpec(name="ivfflat", index="ivfflat", metric="inner_product"),
}
MODES = ["force_custom_plan", "force_generic_plan"]
SEARCHES = {
    "dense": lambda store, k: store.similarity_search("whale 17", k=k),
    "dense with vectors": lambda store, k: store.max_marginal_relevance_search("a", k=k),
    "lexical": lambda store, k: store.bm25_search("w17 w23", k=k),
    "hybrid": lambda store, k: store.hybrid_search("w17 w23", k=k),
}
COUNTED = "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relname = %(name)s"
USES = {
    "dense": {"embedding"},
    "dense with vectors": {"embedding"},
    "lexical": {"bm25"},
    "hybrid": {"embedding", "bm25"},
}


class Recorder:
    """A runner that notes the last statement which only read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.statement: Statement | None = None

    def run(self, op: Op[Any]) -> Any:
        if op.read_only:
            self.statement = next(iter(op))
        return self._database.run(op)

    async def arun(self, op: Op[Any]) -> Any:
        raise NotImplementedError


@pytest.fixture(scope="module")
def filled(server, servers, template) -> Iterator[str]:
    """A database with a collection of each kind, big enough that an index pays."""
    generator = np.random.default_rng(3)
    texts = [" ".join(f"w{n}" for n in row) for row in generator.integers(0, 800, (ROWS, 40))]
    vectors = generator.standard_normal((ROWS, 32))
    with new_database(server, f"{servers.prefix}_plans", template) as dsn:
        with Database(dsn) as database:
            for spec in SPECS.values():
                store = PostgresVectorStore(Scattered(), database=database, collection=spec)
                store.add_embeddings(texts, vectors, ids=map(str, range(ROWS)))
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE document_chunks")
        yield dsn


def statement_of(dsn: str, search: str, collection: str, k: int) -> Statement:
    with Database(dsn) as database:
        recorder = Recorder(database)
        store = PostgresVectorStore(Scattered(), database=recorder, collection=collection)
        found = SEARCHES[search](store, k)
        assert len(found) == k
    assert recorder.statement is not None
    return recorder.statement


def plan_of(dsn: str, statement: Statement, mode: str, *settings: str) -> list[dict[str, Any]]:
    """The nodes that ran, of the statement prepared by psycopg with its parameters bound."""
    assert isinstance(statement.query, bytes)
    names = dict.fromkeys(re.findall(rb"%\((\w+)\)s", statement.query))
    values = [literal(statement.params[name.decode()]) for name in names]
    with psycopg.connect(dsn, autocommit=True) as connection:
        info = TypeInfo.fetch(connection, "vector")
        assert info is not None
        _vectors.register(connection, info)
        for setting in (f"plan_cache_mode = {mode}", *settings):
            connection.execute(f"SET {setting}")
        connection.execute(statement.query, statement.params, prepare=True, binary=True)
        (name,), *others = connection.execute("SELECT name FROM pg_prepared_statements").fetchall()
        assert others == []
        explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {}({})").format(
            sql.Identifier(name), sql.SQL(", ").join(values)
        )
        row = connection.execute(explain).fetchone()
        made = connection.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
        ).fetchone()
    assert row is not None
    assert made is not None
    assert (made[0] > 0, made[1] > 0) == (mode == "force_generic_plan", mode != MODES[1])
    return [node for node in nodes(row[0][0]["Plan"]) if node["Actual Loops"]]


def literal(value: object) -> sql.Literal:
    if isinstance(value, np.ndarray):
        return sql.Literal("[" + ",".join(map(str, value.tolist())) + "]")
    return sql.Literal(value)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def indexes(ran: list[dict[str, Any]]) -> set[str]:
    """The kinds of index that were scanned, by the last part of their names.

    Words are looked up inside functions, of which test_v3 shows that they scan the index.
    """
    scanned = {node["Index Name"].rsplit("_", 1)[1] for node in ran if "Index Name" in node}
    called = {node["Function Name"].split("_")[0] for node in ran if "Function Name" in node}
    return scanned | (called & {"bm25", "words"})


def sequential(ran: list[dict[str, Any]]) -> list[str]:
    return [node["Relation Name"] for node in ran if node["Node Type"] == "Seq Scan"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [4, 50])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_uses_its_indexes(filled: str, search: str, k: int, mode: str):
    ran = plan_of(filled, statement_of(filled, search, "vector", k), mode)
    assert USES[search] <= indexes(ran)
    assert sequential(ran) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("collection", ["halfvec", "bit", "ivfflat"])
@pytest.mark.parametrize("search", ["dense", "hybrid"])
def test_every_kind_of_vector_index_is_used(filled: str, search: str, collection: str, mode: str):
    ran = plan_of(filled, statement_of(filled, search, collection, 10), mode)
    assert USES[search] <= indexes(ran)
    assert sequential(ran) == []


@pytest.mark.servers("plain")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("search", ["lexical", "hybrid"])
def test_without_bm25_the_words_have_an_index_too(filled: str, search: str, mode: str):
    ran = plan_of(filled, statement_of(filled, search, "vector", 10), mode)
    assert "words" in indexes(ran)
    assert sequential(ran) == []


@pytest.mark.parametrize("search", sorted(SEARCHES.keys() - {"lexical"}))
def test_the_guard_sees_an_index_that_is_not_used(filled: str, search: str):
    statement = statement_of(filled, search, "vector", 10)
    off = ("enable_indexscan = off", "enable_bitmapscan = off", "enable_indexonlyscan = off")
    ran = plan_of(filled, statement, MODES[0], *off)
    assert sequential(ran) != []


FILTER = {"n": {"$gte": 0}}


@pytest.mark.parametrize(
    ("search", "planned"),
    [
        (lambda store: store.similarity_search("a", k=10), "once"),
        (lambda store: store.similarity_search("a", k=10, filter=FILTER), "each time"),
        (lambda store: store.bm25_search("w17 w23", k=10), "once"),
        (lambda store: store.bm25_search("w17 w23", k=10, filter=FILTER), "each time"),
        (lambda store: store.hybrid_search("w17 w23", k=10), "once"),
        (lambda store: store.similarity_search("a", k=10, user_id="ada"), "once"),
        (lambda store: store.hybrid_search("w17 w23", k=10, user_id="ada"), "once"),
    ],
)
def test_a_search_is_planned_once_unless_it_has_a_condition(filled, search, planned):
    with Database(filled, max_size=1, prepare_threshold=0) as database:
        store = PostgresVectorStore(Scattered(), database=database, collection="vector")
        for _ in range(12):
            search(store)
        with database.transaction() as transaction:
            connection = transaction._connection  # its prepared statements are its own
            assert connection is not None
            made = connection.execute(
                "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements "
                "WHERE statement ~ 'content, metadata' AND statement !~ 'prepared'"
            ).fetchone()
    assert made == ((7, 5) if planned == "once" else (0, 12))


@pytest.mark.parametrize("fusion", ["calibrated", "tm2c2", "rrf"])
def test_psycopg_remembers_how_it_read_the_text_of_a_search(filled: str, fusion: str):
    with Database(filled) as database:
        recorder = Recorder(database)
        store = PostgresVectorStore(Scattered(), database=recorder, collection="vector")
        store.hybrid_search("w17 w23", k=1000, fusion=fusion, user_id="u", fetch_k=1000)
    assert len(recorder.statement.query) <= psycopg._queries.MAX_CACHED_STATEMENT_LENGTH


@pytest.mark.parametrize("wanted", [None, {"n": 7}])
@pytest.mark.parametrize("search_type", ["similarity", "bm25", "hybrid"])
def test_explain_names_the_indexes_that_the_server_counts(filled: str, search_type: str, wanted):
    with Database(filled, max_size=1) as database:
        store = PostgresVectorStore(Scattered(), database=database, collection="vector")

        def scans() -> dict[str, int]:
            database.run(value("SELECT pg_stat_force_next_flush()"))
            counted = database.run(rows(COUNTED, name=store.create_collection().partition))
            return dict(counted)

        before = scans()
        store.search("w17 w23", search_type, k=10, filter=wanted)
        after = scans()
        explained = store.explain("w17 w23", 10, search_type=search_type, filter=wanted)
    counted = {name for name in after if after[name] > before[name]}
    assert counted
    assert counted == {name for name in explained.indexes if name in after}

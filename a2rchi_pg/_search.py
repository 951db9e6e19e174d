"""The statements of search: dense, lexical and hybrid, each one round trip.

Text is composed once per collection and shape and cached, so that psycopg finds it prepared; all
that varies from one call to the next is a bound parameter.

Settings travel inside the statement. The query vector is a scalar subquery over ``set_config(…,
true)``: PostgreSQL evaluates it before it starts the index scan, and the setting ends with the
statement. So there is nothing to reset on the connection, and a transaction pooler may be between.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg import sql

from a2rchi_pg._filters import EVERYTHING, Condition
from a2rchi_pg._op import Steps, fetch_tuples, read

if TYPE_CHECKING:
    from a2rchi_pg._vectors import Vector
    from a2rchi_pg.collections import Collection, Metric

DEFAULT_EF_SEARCH = 100
MAX_EF_SEARCH = 1000  # pgvector's own limit; an iterative scan goes on beyond it
RRF_K = 60  # Cormack, Clarke & Büttcher, SIGIR 2009
CANDIDATES = 50
BIT_OVERSAMPLING = 8
MAX_QUERY_WORDS = 500  # a BM25 query costs time by its words: 1,000 take 80 ms, 1 MB takes minutes
MAX_QUERY_CHARACTERS = 20_000
PAGE_BYTES = 8192
SMALL_PAGES_PER_ROW = 4  # see _BM25

Hit: TypeAlias = tuple[str, str, dict[str, Any], float]  # id, content, metadata, distance or score

_OPERATORS: dict[Metric, str] = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """Reciprocal rank fusion of the dense and the lexical ranking.

    ``score(d) = Σ weight / (k + rank(d))`` (Cormack, Clarke & Büttcher, SIGIR 2009), divided by
    its highest possible value, so that it lies in [0, 1], higher is better.
    """

    semantic_weight: float
    bm25_weight: float
    candidates: int


@read
def dense(
    collection: Collection,
    vector: Vector,
    k: int,
    *,
    condition: Condition = EVERYTHING,
    ef_search: int | None = None,
    with_vectors: bool = False,
) -> Steps[list[tuple[Any, ...]]]:
    """The ``k`` nearest chunks and their distances, nearest first, ties by id.

    Rows are :data:`Hit`, followed by the chunk's vector where ``with_vectors``.
    """
    return (
        yield from fetch_tuples(
            _dense_sql(collection, condition.sql, k, with_vectors),
            vector=vector,
            **_scan_params(collection, k, ef_search),
            **condition.params,
        )
    )


@read
def lexical(
    collection: Collection, query: str, k: int, *, condition: Condition = EVERYTHING
) -> Steps[list[Hit]]:
    """The ``k`` best chunks for the words of ``query`` and their scores, highest first."""
    return (
        yield from fetch_tuples(
            _lexical_sql(collection, condition.sql, k),
            **_lexical_params(collection, query),
            **condition.params,
        )
    )


@read
def hybrid(
    collection: Collection,
    vector: Vector,
    query: str,
    k: int,
    *,
    fusion: Fusion,
    condition: Condition = EVERYTHING,
    ef_search: int | None = None,
) -> Steps[list[Hit]]:
    """The ``k`` best chunks of both rankings fused, highest score first, ties by id."""
    count = max(fusion.candidates, k)
    return (
        yield from fetch_tuples(
            _hybrid_sql(collection, condition.sql, k, count),
            vector=vector,
            semantic_weight=fusion.semantic_weight,
            bm25_weight=fusion.bm25_weight,
            **_scan_params(collection, count, ef_search),
            **_lexical_params(collection, query),
            **condition.params,
        )
    )


def _inner(collection: Collection, k: int) -> int:
    """How many rows the vector index is asked for: more where it knows distances only roughly."""
    return k * BIT_OVERSAMPLING if collection.vector_index and collection.element == "bit" else k


def _scan_params(collection: Collection, k: int, ef_search: int | None) -> dict[str, str]:
    """How hard the vector index is to look."""
    if not collection.vector_index:
        return {}
    if collection.index == "ivfflat":
        return {"effort": str(ef_search or ceil(sqrt(collection.lists or 1)))}
    wanted = min(_inner(collection, k), MAX_EF_SEARCH)
    return {"effort": str(max(ef_search or DEFAULT_EF_SEARCH, wanted))}


def _lexical_params(collection: Collection, query: str) -> dict[str, str]:
    words = " ".join(query[:MAX_QUERY_CHARACTERS].split()[:MAX_QUERY_WORDS])
    if collection.lexical == "fts":
        return {"query": words}
    return {"query": words, "bm25_index": f"{collection.partition}_bm25"}


# LIMITs are literals: a generic plan must know them, or it takes the index for too dear.
@lru_cache(maxsize=512)
def _dense_sql(collection: Collection, condition: str, k: int, with_vectors: bool) -> bytes:
    return _rendered(
        """
        SELECT id, content, metadata, distance {vector}
        FROM ({nearest}) AS nearest
        ORDER BY distance, id
        LIMIT {k}
        """,
        collection,
        nearest=_nearest(collection, condition, k),
        vector=sql.SQL(", embedding" if with_vectors else ""),
        k=sql.Literal(k),
    )


@lru_cache(maxsize=512)
def _lexical_sql(collection: Collection, condition: str, k: int) -> bytes:
    return _rendered(
        "SELECT id, content, metadata, score FROM ({matching}) AS matching ORDER BY score DESC, id",
        collection,
        matching=_matching(collection, condition, k),
    )


# Subqueries, not CTEs: in a materialised CTE pg_textsearch computes every score a second time.
# The lexical ranking is grouped by id because an index that saw updates in place may return a row
# twice; ours never does, but a host's own UPDATE would.
@lru_cache(maxsize=512)
def _hybrid_sql(collection: Collection, condition: str, k: int, count: int) -> bytes:
    return _rendered(
        """
        SELECT id, content, metadata, score
        FROM (
            SELECT id,
                   (coalesce(%(semantic_weight)s::float8 / ({rrf_k} + dense.rank), 0)
                    + coalesce(%(bm25_weight)s::float8 / ({rrf_k} + lexical.rank), 0))
                   * ({rrf_k} + 1) / (%(semantic_weight)s::float8 + %(bm25_weight)s::float8)
                   AS score
            FROM (
                SELECT id, row_number() OVER (ORDER BY distance, id) AS rank
                FROM ({nearest}) AS nearest
                ORDER BY distance, id
                LIMIT {count}
            ) AS dense
            FULL JOIN (
                SELECT id, min(rank) AS rank
                FROM (
                    SELECT id, row_number() OVER (ORDER BY score DESC, id) AS rank
                    FROM ({matching}) AS matching
                ) AS ranked
                GROUP BY id
            ) AS lexical USING (id)
            ORDER BY score DESC, id
            LIMIT {k}
        ) AS fused
        JOIN {partition} AS chunk USING (id)
        WHERE chunk.collection_id = {collection_id} AND score > 0
        ORDER BY score DESC, id
        """,
        collection,
        nearest=_nearest(collection, condition, count),
        matching=_matching(collection, condition, count),
        k=sql.Literal(k),
        count=sql.Literal(count),
        rrf_k=sql.Literal(RRF_K),
    )


def _nearest(collection: Collection, condition: str, k: int) -> sql.Composed:
    """At least as many nearest chunks as asked for, with their exact ``distance``, unordered.

    The inner query is ordered by what the index stores, which may be half-precision or bits; the
    outer one computes the distance of the full vectors, by which the caller sorts.
    """
    if not collection.vector_index:
        return _composed(
            """
            SELECT id, content, metadata, embedding, embedding {operator} %(vector)s AS distance
            FROM {partition}
            WHERE {condition}
            ORDER BY distance, id
            LIMIT {inner}
            """,
            collection,
            inner=sql.Literal(k),
            condition=sql.SQL(condition),
        )
    bits = collection.element == "bit"
    return _composed(
        """
        SELECT id, content, metadata, embedding, embedding {operator} %(vector)s AS distance
        FROM (
            SELECT id, content, metadata, embedding
            FROM {partition}
            WHERE {condition}
            ORDER BY {key} {key_operator} (SELECT {probe} FROM {settings})
            LIMIT {inner}
        ) AS candidate
        """,
        collection,
        inner=sql.Literal(_inner(collection, k)),
        condition=sql.SQL(condition),
        key=_stored(collection, sql.SQL("embedding")),
        key_operator=sql.SQL("<~>" if bits else _OPERATORS[collection.metric]),
        probe=_stored(collection, sql.SQL("%(vector)s")),
        settings=_SCAN_SETTINGS[collection.index],
    )


def _stored(collection: Collection, vector: sql.SQL) -> sql.Composed:
    """A vector as the collection's index stores it: the very expression the index is on."""
    if collection.element == "bit":
        return _composed("binary_quantize({vector})::bit({dimensions})", collection, vector=vector)
    element = sql.SQL(collection.element)
    return _composed(
        "{vector}::{element}({dimensions})", collection, vector=vector, element=element
    )


# An iterative scan goes on until enough rows pass the WHERE clause or all were seen: k means k.
_SCAN_SETTINGS = {
    "hnsw": sql.SQL(
        """
        set_config('hnsw.ef_search', %(effort)s, true) AS ef_search,
        set_config('hnsw.iterative_scan', 'relaxed_order', true) AS iterative_scan,
        set_config('hnsw.max_scan_tuples', '2147483647', true) AS max_scan_tuples
        """
    ),
    "ivfflat": sql.SQL(
        """
        set_config('ivfflat.probes', %(effort)s, true) AS probes,
        set_config('ivfflat.iterative_scan', 'relaxed_order', true) AS iterative_scan
        """
    ),
}


def _matching(collection: Collection, condition: str, count: int) -> sql.Composed:
    """The best lexical matches with their ``score``, higher is better, unordered."""
    parts = {
        "condition": sql.SQL(condition),
        "count": sql.Literal(count),
        "small": sql.Literal(SMALL_PAGES_PER_ROW * PAGE_BYTES * count),
    }
    if collection.lexical == "fts":
        return _composed(_FULL_TEXT, collection, words=_composed(_ANY_WORD, collection), **parts)
    indexed = "false" if condition != EVERYTHING.sql else _SURELY_INDEXED
    return _composed(
        _BM25,
        collection,
        query=sql.SQL("to_bm25query(%(query)s, %(bm25_index)s)"),
        indexed=_composed(indexed, collection, **parts),
        **parts,
    )


# On an index scan the score of the current row is at hand, and only matching rows come back. A
# sequential scan, which the planner prefers while the table is small or where a condition leaves
# little, returns every row and leaves the current score unset: there the score must be computed and
# rows without a match be dropped. Computing it takes ~80 µs a row, so it is kept off the index
# path: {small} bytes is well above the size at which an unconditional scan of the table can win.
_BM25 = """
    SELECT id, content, metadata,
           CASE WHEN {indexed} THEN -bm25_get_current_score()
                ELSE -(content <@> {query}) END AS score
    FROM {partition}
    WHERE {condition} AND ({indexed} OR content <@> {query} < 0)
    ORDER BY content <@> {query}
    LIMIT {count}
"""
_SURELY_INDEXED = "(SELECT pg_relation_size({partition_name}) > {small})"

# Words are ORed: no document holds all the words of a question.
_FULL_TEXT = """
    SELECT id, content, metadata,
           ts_rank(to_tsvector({text_config}, content), {words}, 1) AS score
    FROM {partition}
    WHERE {condition} AND to_tsvector({text_config}, content) @@ {words}
    ORDER BY score DESC, id
    LIMIT {count}
"""
_ANY_WORD = (
    "(SELECT replace(plainto_tsquery({text_config}, %(query)s)::text, ' & ', ' | ')::tsquery)"
)


def _composed(template: str, collection: Collection, **parts: sql.Composable) -> sql.Composed:
    """``template`` with the collection's own names filled in, each quoted for what it is."""
    return sql.SQL(template).format(
        partition=sql.Identifier(collection.partition),
        partition_name=sql.Literal(collection.partition),
        collection_id=sql.Literal(collection.id),
        dimensions=sql.Literal(collection.dimensions),
        text_config=sql.Composed([sql.Literal(collection.text_config), sql.SQL("::regconfig")]),
        operator=sql.SQL(_OPERATORS[collection.metric]),
        **parts,
    )


def _rendered(template: str, collection: Collection, **parts: sql.Composable) -> bytes:
    return _composed(template, collection, **parts).as_bytes(None)

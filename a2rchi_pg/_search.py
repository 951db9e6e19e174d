"""The statements of search: dense, lexical and hybrid, each one round trip.

Text is composed once per collection and shape and cached, so that psycopg finds it prepared; all
that varies from one call to the next is a bound parameter. LIMITs are literals: a generic plan must
know them, or it takes the index for too dear.

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
from a2rchi_pg._legs import Leg, composed, indexed_rows, matching, nearest
from a2rchi_pg._op import Steps, fetch_tuples, read

if TYPE_CHECKING:
    from a2rchi_pg._vectors import Vector
    from a2rchi_pg.collections import Collection

DEFAULT_EF_SEARCH = 100
MAX_EF_SEARCH = 1000  # pgvector's own limit; an iterative scan goes on beyond it
RRF_K = 60  # Cormack, Clarke & Büttcher, SIGIR 2009
CANDIDATES = 50
MAX_QUERY_WORDS = 500  # a BM25 query costs time by its words: 1,000 take 80 ms, 1 MB takes minutes
MAX_QUERY_CHARACTERS = 20_000

Hit: TypeAlias = tuple[str, str, dict[str, Any], float]  # id, content, metadata, distance or score


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
            **_effort(collection, k, ef_search),
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
            **_words(collection, query),
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
            **_effort(collection, count, ef_search),
            **_words(collection, query),
            **condition.params,
        )
    )


def _effort(collection: Collection, k: int, ef_search: int | None) -> dict[str, str]:
    """How hard the vector index is to look."""
    if not collection.vector_index:
        return {}
    if collection.index == "ivfflat":
        return {"effort": str(ef_search or ceil(sqrt(collection.lists or 1)))}
    wanted = min(indexed_rows(collection, k), MAX_EF_SEARCH)
    return {"effort": str(max(ef_search or DEFAULT_EF_SEARCH, wanted))}


def _words(collection: Collection, query: str) -> dict[str, str]:
    words = " ".join(query[:MAX_QUERY_CHARACTERS].split()[:MAX_QUERY_WORDS])
    if collection.lexical == "fts":
        return {"query": words}
    return {"query": words, "bm25_index": f"{collection.partition}_bm25"}


@lru_cache(maxsize=512)
def _dense_sql(collection: Collection, condition: str, k: int, with_vectors: bool) -> bytes:
    leg = nearest(collection, condition, k)
    return _statement(
        """
        SELECT id, content, metadata, distance {vector}
        FROM ({nearest}) AS nearest
        ORDER BY distance, id
        LIMIT {count}
        """,
        collection,
        k,
        leg,
        nearest=leg.body,
        vector=sql.SQL(", embedding" if with_vectors else ""),
    )


@lru_cache(maxsize=512)
def _lexical_sql(collection: Collection, condition: str, k: int) -> bytes:
    leg = matching(collection, condition, k)
    return _statement(
        "SELECT id, content, metadata, score FROM ({matching}) AS matching ORDER BY score DESC, id",
        collection,
        k,
        leg,
        matching=leg.body,
    )


# Subqueries, not CTEs: in a materialised CTE pg_textsearch computes every score a second time.
# The lexical ranking is grouped by id because an index that saw updates in place may return a row
# twice; ours never does, but a host's own UPDATE would.
@lru_cache(maxsize=512)
def _hybrid_sql(collection: Collection, condition: str, k: int, candidates: int) -> bytes:
    near = nearest(collection, condition, candidates)
    match = matching(collection, condition, candidates)
    return _statement(
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
                LIMIT {candidates}
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
            LIMIT {count}
        ) AS fused
        JOIN {partition} AS chunk USING (id)
        WHERE chunk.collection_id = {collection_id} AND score > 0
        ORDER BY score DESC, id
        """,
        collection,
        k,
        near,
        match,
        nearest=near.body,
        matching=match.body,
        candidates=sql.Literal(candidates),
        rrf_k=sql.Literal(RRF_K),
    )


def _statement(
    template: str, collection: Collection, count: int, *legs: Leg, **parts: sql.Composable
) -> bytes:
    """``template`` behind the named subqueries that its legs need, as text for the server.

    What two legs need is made as the first says, which is no less than the second wants.
    """
    before: dict[str, sql.Composed] = {}
    for name, body in (item for leg in legs for item in leg.before.items()):
        before.setdefault(name, body)
    named = [
        sql.SQL("{} AS MATERIALIZED ({})").format(sql.SQL(name), body)
        for name, body in before.items()
    ]
    start = sql.SQL("WITH {}").format(sql.SQL(", ").join(named)) if named else sql.SQL("")
    body = composed(template, collection, "true", count, **parts)
    return sql.Composed([start, body]).as_bytes(None)

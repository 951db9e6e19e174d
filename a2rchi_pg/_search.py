"""The statements of search: dense, lexical and hybrid, each one round trip.

Text is composed once per collection and shape and cached, so that psycopg finds it prepared; all
that varies from one call to the next is a bound parameter.

Settings travel inside the statement. The query vector is a scalar subquery over ``set_config(…,
true)``: PostgreSQL evaluates it before it starts the index scan, and the setting ends with the
statement. So there is nothing to reset on the connection, and a transaction pooler may be between.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from psycopg import sql

from a2rchi_pg._filters import EVERYTHING, Condition
from a2rchi_pg._fusion import (
    CONVEX,
    MEAN,
    MEAN_SIMILARITY,
    RECIPROCAL_RANKS,
    RRF_K,
    SIMILARITY,
    THEORETICAL_MINIMUM,
)
from a2rchi_pg._legs import Leg, Spare, composed, indexed_rows, matching, nearest
from a2rchi_pg._op import Steps, fetch_tuples, own_sql, read
from a2rchi_pg._scope import ALL_SHOWN

if TYPE_CHECKING:
    from a2rchi_pg._filters import Clause
    from a2rchi_pg._fusion import Fusion, FusionName
    from a2rchi_pg._scope import Shown
    from a2rchi_pg._vectors import Vector
    from a2rchi_pg.collections import Collection

DEFAULT_EF_SEARCH = 100
FILTERED_EF_SEARCH = 200  # an index scan that passes over rows loses some recall on the way
MAX_EF_SEARCH = 1000  # pgvector's own limit; an iterative scan goes on beyond it
# Times its candidates: of fifty and more, chance hides so many that too few are left less often
# than of the few of other searches, which have scope's spare.
FUSED_SPARE = 3
SPARE_OF_FEW = 0.4  # what is added to them where a user chose few documents
EXACT_SHARE = 25  # where more than a 25th of the rows is asked for, exact search is the faster
MAX_QUERY_WORDS = 500  # a BM25 query costs time by its words: 1,000 take 80 ms, 1 MB takes minutes
MAX_QUERY_CHARACTERS = 20_000

Hit: TypeAlias = tuple[str, str, dict[str, Any], float]  # id, content, metadata, distance or score
# A hit, followed by its rank and distance in the dense leg, its rank and score in the lexical one,
# whether any row of that came twice, and whether rows that aren't shown left too few others.
HybridRow: TypeAlias = tuple[
    str,
    str,
    dict[str, Any],
    float,
    int | None,
    float | None,
    int | None,
    float | None,
    bool | None,
    bool | None,
]


@read
def dense(
    collection: Collection,
    vector: Vector,
    k: int,
    *,
    condition: Condition = EVERYTHING,
    shown: Shown = ALL_SHOWN,
    ef_search: int | None = None,
    with_vectors: bool = False,
) -> Steps[list[tuple[Any, ...]]]:
    """The ``k`` nearest chunks and their distances, nearest first, ties by id.

    Rows are :data:`Hit`, followed by whether it may be shown and, where ``with_vectors``, by the
    chunk's vector. One that may not comes last, and only where there are too few others.
    """
    rows, spare = k * shown.spare, _spare(k, shown.few)
    collection = _planned(collection, rows)
    filtered = condition.sql != EVERYTHING.sql
    return (
        yield from fetch_tuples(
            _dense_sql(collection, condition.clause, shown.clause, k, rows, spare, with_vectors),
            vector=vector,
            zero=0,
            effort=_effort(collection, rows, ef_search, filtered=filtered),
            least_effort=_effort(collection, spare.few if spare else rows, ef_search),
            **condition.params,
            **shown.params,
        )
    )


@read
def lexical(
    collection: Collection,
    query: str,
    k: int,
    *,
    condition: Condition = EVERYTHING,
    shown: Shown = ALL_SHOWN,
) -> Steps[list[tuple[Any, ...]]]:
    """The ``k`` best chunks for the words of ``query`` and their scores, highest first.

    Rows are as those of :func:`dense`. A chunk that comes twice means that the index met deleted
    rows on the way and began again: others were crowded out, and a larger ``k`` finds them.
    """
    return (
        yield from fetch_tuples(
            _lexical_sql(
                collection,
                condition.clause,
                shown.clause,
                k,
                k * shown.spare,
                _spare(k, shown.few),
            ),
            zero=0,
            **_words(collection, query),
            **condition.params,
            **shown.params,
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
    shown: Shown = ALL_SHOWN,
    ef_search: int | None = None,
    words: int | None = None,
) -> Steps[list[HybridRow]]:
    """The ``k`` best chunks of both rankings fused, highest score first, ties by id.

    ``words`` rows are asked of the lexical leg: more where some came twice; see lexical().
    """
    count = max(fusion.candidates, k)
    shown = shown._replace(spare=min(shown.spare, FUSED_SPARE))
    sizes = _Sizes(k, count, words or count, shown.spare, shown.few)
    spare = _spare(count, shown.few)
    collection = _planned(collection, count * shown.spare)
    filtered = condition.sql != EVERYTHING.sql
    return (
        yield from fetch_tuples(
            _hybrid_sql(collection, condition.clause, shown.clause, sizes, fusion.name),
            vector=vector,
            zero=0,
            semantic_weight=fusion.semantic_weight,
            bm25_weight=fusion.bm25_weight,
            effort=_effort(
                collection, k, ef_search, filtered=filtered, at_least=count * shown.spare
            ),
            least_effort=_effort(collection, k, ef_search, at_least=spare.few if spare else count),
            **_words(collection, query),
            **condition.params,
            **shown.params,
        )
    )


class _Sizes(NamedTuple):
    """How many rows a hybrid search returns, and asks of its legs: times ``spare`` at first."""

    k: int
    candidates: int
    words: int
    spare: int
    few: str


def _spare(count: int, few: str) -> Spare | None:
    """What is asked of a leg where few documents were chosen, if that is worth asking."""
    return Spare(count + ceil(SPARE_OF_FEW * count), few) if few else None


def _planned(collection: Collection, k: int) -> Collection:
    """The collection, without its vector index where ``k`` is a large part of it."""
    if collection.vector_index and k * EXACT_SHARE > collection.calibrated_rows > 0:
        return replace(collection, vector_index=False)
    return collection


def _effort(
    collection: Collection,
    k: int,
    ef_search: int | None,
    *,
    filtered: bool = False,
    at_least: int = 0,
) -> str:
    """How hard the vector index is to look for ``k`` rows that must be right, of so many."""
    ef_search = ef_search or collection.ef_search
    if collection.index == "ivfflat":
        # Bits tell neighbouring lists apart only roughly, so twice as many are looked into.
        lists = (2 if collection.element == "bit" else 1) * ceil(sqrt(collection.lists or 1))
        return str(ef_search or lists)
    least = max(at_least, indexed_rows(collection, k))
    default = FILTERED_EF_SEARCH if filtered else DEFAULT_EF_SEARCH
    effort = max(least, ef_search or max(default, 3 * k))
    return str(min(effort, MAX_EF_SEARCH))


def _words(collection: Collection, query: str) -> dict[str, str]:
    words = " ".join(query[:MAX_QUERY_CHARACTERS].split()[:MAX_QUERY_WORDS])
    if collection.lexical == "bm25":
        return {"query": words, "bm25_index": collection.bm25_index}
    return {"query": words}


@lru_cache(maxsize=512)
def _dense_sql(
    collection: Collection,
    where: Clause,
    shown: Clause,
    k: int,
    rows: int,
    spare: Spare | None,
    with_vectors: bool,
) -> bytes:
    leg = nearest(collection, where, rows, spare)
    return _statement(
        """
        SELECT id, content, metadata, distance, shown {vector}
        FROM (SELECT *, {shown} AS shown FROM ({nearest}) AS nearest) AS nearest
        ORDER BY NOT shown, distance, id
        LIMIT {count}
        """,
        collection,
        k,
        leg,
        nearest=leg.body,
        shown=own_sql(shown.test),
        vector=sql.SQL(", embedding" if with_vectors else ""),
    )


@lru_cache(maxsize=512)
def _lexical_sql(
    collection: Collection, where: Clause, shown: Clause, k: int, rows: int, spare: Spare | None
) -> bytes:
    leg = matching(collection, where, rows, spare)
    return _statement(
        """
        SELECT id, content, metadata, score, shown
        FROM (SELECT *, {shown} AS shown FROM ({matching}) AS matching) AS matching
        ORDER BY NOT shown, score DESC, id
        LIMIT {count}
        """,
        collection,
        k,
        leg,
        matching=leg.body,
        shown=own_sql(shown.test),
    )


# OFFSET: what is asked of each row, it is asked once.
_SHOWN = """
    SELECT * FROM (
        SELECT *, count(*) FILTER (WHERE shown) OVER () < least({count}, count(*) OVER ()) AS short
        FROM (SELECT *, {shown} AS shown FROM ({leg}) AS leg OFFSET 0) AS leg
    ) AS leg
    WHERE shown
"""


def _seen(collection: Collection, leg: Leg, shown: Clause, count: int) -> sql.Composed:
    """The rows of a leg that may be shown, each with whether hidden ones leave too few of them."""
    if shown == EVERYTHING.clause:
        return composed("SELECT *, false AS short FROM ({leg}) AS leg", collection, leg=leg.body)
    return composed(_SHOWN, collection, count=count, leg=leg.body, shown=own_sql(shown.test))


# A distance is NaN where a zero vector has no direction.
_BY_DISTANCE = """
    SELECT id, distance, short, row_number() OVER (ORDER BY distance, id) AS semantic_rank
    FROM ({nearest}) AS nearest
    WHERE distance <> 'NaN'
    ORDER BY distance, id
    LIMIT {count}
"""
# Made distinct by id, and says whether it had to be; see lexical().
_BY_WORDS = """
    SELECT DISTINCT ON (id) id, score AS bm25_score, distance, short,
           dense_rank() OVER (ORDER BY score DESC, id) AS bm25_rank,
           count(*) OVER () AS found
    FROM (
        SELECT id, score, short, {lexical_distance} AS distance
        FROM ({matching}) AS matching
        ORDER BY score DESC, id
        LIMIT {count}
    ) AS matching
    ORDER BY id, score DESC
"""
# Subqueries, not CTEs: in a materialised CTE pg_textsearch computes every score a second time.
_HYBRID = """
    SELECT id, content, metadata, score, semantic_rank, distance, bm25_rank, bm25_score, repeated,
           short
    FROM (
        SELECT *, {score} AS score
        FROM (
            SELECT *, max(similarity) OVER () AS most_similar,
                   max(bm25_score) OVER () AS best_bm25,
                   coalesce({origin}, min(similarity) OVER ()) AS origin,
                   max(found) OVER () > count(bm25_rank) OVER () AS repeated,
                   bool_or(crowded) OVER () AS short
            FROM (
                SELECT id, semantic_rank, bm25_rank, bm25_score, found,
                       dense.short IS TRUE OR lexical.short IS TRUE AS crowded,
                       coalesce(dense.distance, lexical.distance) AS distance,
                       {similarity} AS similarity
                FROM ({by_distance}) AS dense FULL JOIN ({by_words}) AS lexical USING (id)
            ) AS candidate
        ) AS candidate
        WHERE (%(semantic_weight)s::float8 > 0 OR bm25_rank IS NOT NULL)
            AND (%(bm25_weight)s::float8 > 0 OR semantic_rank IS NOT NULL)
        ORDER BY score DESC, id
        LIMIT {count}
    ) AS fused
    JOIN {partition} AS chunk USING (id)
    WHERE chunk.collection_id = {collection_id}
    ORDER BY score DESC, id
"""


@lru_cache(maxsize=512)
def _hybrid_sql(
    collection: Collection, where: Clause, shown: Clause, sizes: _Sizes, fusion: FusionName
) -> bytes:
    k, candidates, words, spare, few = sizes
    near = nearest(collection, where, candidates * spare, _spare(candidates, few))
    match = matching(collection, where, words * spare, _spare(words, few))
    parts = _fused(collection, fusion)
    by_words = composed(
        _BY_WORDS,
        collection,
        count=words,
        matching=_seen(collection, match, shown, words),
        lexical_distance=parts.pop("lexical_distance"),
    )
    by_distance = composed(
        _BY_DISTANCE,
        collection,
        count=candidates,
        nearest=_seen(collection, near, shown, candidates),
    )
    return _statement(
        _HYBRID, collection, k, near, match, by_distance=by_distance, by_words=by_words, **parts
    )


def _fused(collection: Collection, fusion: FusionName) -> dict[str, sql.Composable]:
    """The parts of the hybrid statement that make one way of fusing from another."""
    if fusion == "rrf":
        nothing = sql.SQL("NULL::float8")
        score = composed(RECIPROCAL_RANKS, collection, rrf_k=sql.Literal(RRF_K))
        return {
            "score": score,
            "origin": nothing,
            "similarity": nothing,
            "lexical_distance": nothing,
        }
    return {
        "score": own_sql(CONVEX),
        "origin": composed(
            THEORETICAL_MINIMUM if fusion == "tm2c2" else MEAN,
            collection,
            similarity=own_sql(MEAN_SIMILARITY[collection.metric]),
        ),
        "similarity": own_sql(SIMILARITY[collection.metric]),
        "lexical_distance": composed("nullif(embedding {operator} %(vector)s, 'NaN')", collection),
    }


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
        own_sql("{} AS MATERIALIZED ({})").format(own_sql(name), body)
        for name, body in before.items()
    ]
    start = sql.SQL("WITH {}").format(sql.SQL(", ").join(named)) if named else sql.SQL("")
    body = composed(template, collection, "true", count, **parts)
    return sql.Composed([start, body]).as_bytes(None)

"""The statements of search as text, composed once for each collection and shape and remembered."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from a2rchi_pg._filters import EVERYTHING
from a2rchi_pg._fusion import (
    CONVEX,
    MEAN,
    MEAN_SIMILARITY,
    RECIPROCAL_RANKS,
    RRF_K,
    SIMILARITY,
    THEORETICAL_MINIMUM,
)
from a2rchi_pg._leg import DISTANCES, Leg, Spare, composed
from a2rchi_pg._matching import matching
from a2rchi_pg._nearest import nearest
from a2rchi_pg._op import own_sql

if TYPE_CHECKING:
    from a2rchi_pg._filters import Clause
    from a2rchi_pg._fusion import FusionName
    from a2rchi_pg.collections import Collection

SPARE_OF_FEW = 0.4  # what is added to the rows wanted where a user chose few documents


class Sizes(NamedTuple):
    """How many rows a hybrid search returns, and asks of its legs: times ``spare`` at first.

    Where ``few`` holds, hardly more of them than are wanted.
    """

    k: int
    candidates: int
    words: int
    spare: int
    few: str


def spare_of(count: int, few: str) -> Spare | None:
    """What is asked of a leg where few documents were chosen, if that is worth asking."""
    return Spare(count + ceil(SPARE_OF_FEW * count), few) if few else None


@lru_cache(maxsize=512)
def dense_sql(
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
def lexical_sql(
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


# Where hidden rows leave too few others, they stay, so that one row at least says that it is short.
# OFFSET: what is asked of each row, it is asked once.
_SHOWN = """
    SELECT * FROM (
        SELECT *, count(*) FILTER (WHERE shown) OVER () < least({count}, count(*) OVER ()) AS short
        FROM (SELECT *, {shown} AS shown FROM ({leg}) AS leg OFFSET 0) AS leg
    ) AS leg
    WHERE shown OR short
"""


def _seen(collection: Collection, leg: Leg, shown: Clause, count: int) -> sql.Composed:
    """The rows of a leg that may be shown, or, where these are too few, all of it, named short."""
    if shown == EVERYTHING.clause:
        return composed("SELECT *, false AS short FROM ({leg}) AS leg", collection, leg=leg.body)
    return composed(_SHOWN, collection, count=count, leg=leg.body, shown=own_sql(shown.test))


_BY_DISTANCE = """
    SELECT id, distance, short, row_number() OVER (ORDER BY distance, id) AS semantic_rank
    FROM ({nearest}) AS nearest
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
# A leg that is short makes the answer empty: nothing in it is what it would be without hidden rows.
_HYBRID = """
    SELECT id, content, metadata, score, semantic_rank, distance, bm25_rank, bm25_score, repeated
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
        WHERE NOT short
            AND (%(semantic_weight)s::float8 > 0 OR bm25_rank IS NOT NULL)
            AND (%(bm25_weight)s::float8 > 0 OR semantic_rank IS NOT NULL)
        ORDER BY score DESC, id
        LIMIT {count}
    ) AS fused
    JOIN {partition} AS chunk USING (id)
    WHERE chunk.collection_id = {collection_id}
    ORDER BY score DESC, id
"""


@lru_cache(maxsize=512)
def hybrid_sql(
    collection: Collection, where: Clause, shown: Clause, sizes: Sizes, fusion: FusionName
) -> bytes:
    k, candidates, words, spare, few = sizes
    near = nearest(collection, where, candidates * spare, spare_of(candidates, few))
    match = matching(collection, where, words * spare, spare_of(words, few))
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
        "lexical_distance": own_sql(DISTANCES[collection.metric]),
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

"""Searches: dense, lexical and hybrid, each one statement and one round trip.

Its text is one of few (``_search_sql``), so that psycopg finds it prepared; all that varies from
one call to the next is a bound parameter.

Settings travel inside the statement. The query vector is a scalar subquery over ``set_config(…,
true)``: PostgreSQL evaluates it before it starts the index scan, and the setting ends with the
statement. So there is nothing to reset on the connection, and a transaction pooler may be between.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg._filters import EVERYTHING, Condition
from a2rchi_pg._nearest import indexed_rows
from a2rchi_pg._op import Steps, fetch_tuples, read
from a2rchi_pg._scope import ALL_SHOWN
from a2rchi_pg._scores import relevance_of
from a2rchi_pg._search_sql import Sizes, dense_sql, hybrid_sql, lexical_sql, spare_of

if TYPE_CHECKING:
    from a2rchi_pg._fusion import Fusion
    from a2rchi_pg._scope import Shown
    from a2rchi_pg._vectors import Vector
    from a2rchi_pg.collections import Collection

DEFAULT_EF_SEARCH = 100
FILTERED_EF_SEARCH = 200  # an index scan that passes over rows loses some recall on the way
MAX_EF_SEARCH = 1000  # pgvector's own limit; an iterative scan goes on beyond it
# Times its candidates: of fifty and more, chance hides so many that too few are left less often
# than of the few of other searches, which have scope's spare.
FUSED_SPARE = 3
EXACT_SHARE = 25  # where more than a 25th of the rows is asked for, exact search is the faster
MAX_QUERY_WORDS = 500  # a BM25 query costs time by its words: 1,000 take 80 ms, 1 MB takes minutes
MAX_QUERY_CHARACTERS = 20_000

Hit: TypeAlias = tuple[str, str, dict[str, Any], float]  # id, content, metadata, distance or score
# A hit, followed by its rank and distance in the dense leg, its rank and score in the lexical one,
# and whether any row of that came twice.
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
    rows, spare = k * shown.spare, spare_of(k, shown.few)
    collection = _planned(collection, rows)
    filtered = condition.sql != EVERYTHING.sql
    return (
        yield from fetch_tuples(
            dense_sql(collection, condition.clause, shown.clause, k, rows, spare, with_vectors),
            vector=vector,
            zero=0,
            effort=_effort(collection, rows, ef_search, filtered=filtered),
            least_effort=_effort(collection, spare.few, ef_search) if spare else None,
            **condition.params,
            **shown.params,
        )
    )


@read
def relevant(collection: Collection, vector: Vector, k: int, **options: Any) -> Steps[list[Any]]:
    """The rows of :func:`dense` with their relevance, 0 to 1, in place of the distance."""
    relevance = relevance_of(collection.metric)
    rows = yield from dense(collection, vector, k, **options)
    return [(*row[:3], relevance(row[3]), *row[4:]) for row in rows]


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
            lexical_sql(
                collection,
                condition.clause,
                shown.clause,
                k,
                k * shown.spare,
                spare_of(k, shown.few),
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

    None at all where rows that may not be shown leave too few others in one of the rankings.
    ``words`` rows are asked of the lexical leg: more where some came twice; see lexical().
    """
    count = max(fusion.candidates, k)
    shown = shown._replace(spare=min(shown.spare, FUSED_SPARE))
    sizes = Sizes(k, count, words or count, shown.spare, shown.few)
    spare = spare_of(count, shown.few)
    collection = _planned(collection, count * shown.spare)
    filtered = condition.sql != EVERYTHING.sql
    return (
        yield from fetch_tuples(
            hybrid_sql(collection, condition.clause, shown.clause, sizes, fusion.name),
            vector=vector,
            zero=0,
            semantic_weight=fusion.semantic_weight,
            bm25_weight=fusion.bm25_weight,
            effort=_effort(
                collection, k, ef_search, filtered=filtered, at_least=count * shown.spare
            ),
            least_effort=_effort(collection, k, ef_search, at_least=spare.few) if spare else None,
            **_words(collection, query),
            **condition.params,
            **shown.params,
        )
    )


def _planned(collection: Collection, k: int) -> Collection:
    """The collection, without its vector index where ``k`` is a large part of it."""
    if collection.vector_index and k * EXACT_SHARE > collection.rows > 0:
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

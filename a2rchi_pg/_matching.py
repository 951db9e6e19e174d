"""The lexical leg of search as SQL: the chunks that hold the words of a question, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from a2rchi_pg._filters import EVERYTHING
from a2rchi_pg._leg import (
    ELIGIBLE,
    PAGE_BYTES,
    Leg,
    Spare,
    both,
    composed,
    eligible,
    most,
    opaque,
    plain,
    sampled,
    spared,
)

if TYPE_CHECKING:
    from a2rchi_pg._filters import Clause
    from a2rchi_pg.collections import Collection

FEW_ROWS = 250  # up to which words are scored row by row, at 80 µs each
SMALL_PAGES = 8  # times the rows wanted: the size of a table that may be read rather than searched


def matching(collection: Collection, where: Clause, count: int, spare: Spare | None = None) -> Leg:
    """At most the ``count`` best lexical matches with their ``score``, higher is better."""
    if collection.lexical == "fts":
        words = composed(_ANY_WORD, collection)
        return Leg(body=composed(_FULL_TEXT, collection, where.seek, count, words=words))
    if collection.lexical == "words":
        return _weighed(collection, where, count, spare)
    if where == EVERYTHING.clause:
        return _of_all(collection, _BM25_OF_ALL, count, spare)
    narrow = "(SELECT narrow FROM sampled)"
    return Leg(
        before={
            "sampled": sampled(collection, where, count),
            "eligible": eligible(collection, both(narrow, where.seek), FEW_ROWS + 1),
            "few": composed(_FEW, collection, narrow, FEW_ROWS),
        },
        body=composed(
            "({indexed}) UNION ALL ({scored})",
            collection,
            indexed=_bm25(collection, both("(SELECT NOT yes FROM few)", opaque(where)), count),
            scored=composed(_SCORED, collection, ELIGIBLE, count, query=plain(_QUERY)),
        ),
    )


def _of_all(collection: Collection, template: str, count: int, spare: Spare | None) -> Leg:
    """Without a condition: what the template makes of the rows wanted."""
    rows = sql.Literal(count) if spare is None else most(spare.few, count)
    before = {} if spare is None else spared(collection, spare)
    return Leg(before=before, body=composed(template, collection, most=rows, among=_EVERYTHING))


_QUERY = "to_bm25query(%(query)s, %(bm25_index)s)"

# The function plans for itself, each time: it has to be an index scan, and pg_textsearch heeds a
# LIMIT only beside words that are a constant. So the statement around it may be planned once.
_BM25_OF_ALL = """
    SELECT id, document_id, content, metadata, embedding, score
    FROM bm25_ranked({partition_name}, %(bm25_index)s, %(query)s, {most}) AS ranked
    JOIN {partition} AS chunk ON chunk.ctid = ranked.address
"""

# On an index scan the score of the current row is at hand, and only matching rows come back. A
# sequential scan, which the planner prefers while the table is small, returns every row and leaves
# the current score unset. Computing a score takes ~80 µs, so it is kept off the index path: {small}
# bytes is well above the size at which a sequential scan can win.
_BM25 = """
    SELECT * FROM (
        SELECT id, document_id, content, metadata, embedding,
               CASE WHEN {indexed} THEN -bm25_get_current_score()
                    ELSE -(content <@> {query}) END AS score
        FROM {partition}
        WHERE {condition} AND ({indexed} OR content <@> {query} < 0)
        ORDER BY content <@> (SELECT {query} WHERE {batch} IS NOT NULL)
        LIMIT (SELECT {count})
    ) AS ranked
    {limit}
"""
# An index scan that runs out of rows begins again for twice as many. pg_textsearch 0.6 then goes
# on at the same place of an order that may be another among equals, and leaves some out: so the
# first batch is to be enough. It would be the LIMIT, if the planner knew that.
_BATCH = """
    set_config('pg_textsearch.default_limit',
               (SELECT least(greatest(patience::bigint, 1000), 100000)::text FROM sampled), true)
"""


def _bm25(collection: Collection, condition: str, count: int) -> sql.Composed:
    indexed = composed(
        "(SELECT pg_relation_size({partition_name}) > {small})",
        collection,
        small=sql.Literal(SMALL_PAGES * PAGE_BYTES * count),
    )
    parts = {"query": plain(_QUERY), "indexed": indexed, "batch": plain(_BATCH)}
    return composed(_BM25, collection, condition, count, **parts)


_FEW = "SELECT {condition} AND count(*) <= {count} AS yes FROM eligible"

# Not ordered by the operator itself: that would invite the planner to scan the BM25 index.
_SCORED = """
    SELECT id, document_id, content, metadata, embedding, score
    FROM (
        SELECT id, document_id, content, metadata, embedding, -(content <@> {query}) AS score
        FROM {partition}
        WHERE (SELECT yes FROM few) AND {condition}
        OFFSET 0
    ) AS scored
    WHERE score > 0
    ORDER BY score DESC, id
    {limit}
"""

# Plans for itself, as the other does. What it chooses among is a list of addresses, or all.
_WEIGHED = """
    SELECT id, document_id, content, metadata, embedding, score
    FROM words_ranked({collection_id}, %(query)s, {most}, {among}) AS ranked
    JOIN {partition} AS chunk ON chunk.ctid = ranked.address
    WHERE {condition}
"""
# A condition that many meet is asked of the best of all, in which it should be met often enough.
# Where it isn't, or few meet it, only what meets it is weighed.
_PATIENCE = "(SELECT least(patience::bigint, 2147483647)::integer FROM sampled)"
_AMONG_ALL = _WEIGHED + "ORDER BY score DESC, id {limit}"
_EVERYTHING = plain("NULL")
_AMONG_ELIGIBLE = "ARRAY(SELECT ctid FROM {partition} WHERE {condition})"


def _weighed(collection: Collection, where: Clause, count: int, spare: Spare | None) -> Leg:
    if where == EVERYTHING.clause:
        return _of_all(collection, _WEIGHED, count, spare)
    return Leg(
        before={
            "sampled": sampled(collection, where, count),
            "foremost": composed(
                _AMONG_ALL,
                collection,
                both("(SELECT common FROM sampled)", opaque(where)),
                count,
                most=plain(_PATIENCE),
                among=_EVERYTHING,
            ),
            "sufficient": composed(
                "SELECT count(*) = {count} AS yes FROM foremost", collection, count=count
            ),
        },
        body=composed(
            "SELECT * FROM foremost WHERE (SELECT yes FROM sufficient) UNION ALL ({exact})",
            collection,
            exact=composed(
                _WEIGHED,
                collection,
                "(SELECT NOT yes FROM sufficient)",
                most=sql.Literal(count),
                among=composed(_AMONG_ELIGIBLE, collection, where.seek),
            ),
        ),
    )


# Words are ORed: no document holds all the words of a question.
_FULL_TEXT = """
    SELECT id, document_id, content, metadata, embedding,
           ts_rank(to_tsvector({text_config}, content), {words}, 1) AS score
    FROM {partition}
    WHERE {condition} AND to_tsvector({text_config}, content) @@ {words}
    ORDER BY score DESC, id
    {limit}
"""
_ANY_WORD = (
    "(SELECT replace(plainto_tsquery({text_config}, %(query)s)::text, ' & ', ' | ')::tsquery)"
)

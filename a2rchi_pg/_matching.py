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
        return Leg(body=_weighed(collection, where, count))
    if where == EVERYTHING.clause:
        if spare is None:
            return Leg(body=composed(_BM25_OF_ALL, collection, most=sql.Literal(count)))
        body = composed(_BM25_OF_ALL, collection, most=most(spare.few, count))
        return Leg(before=spared(collection, spare), body=body)
    narrow = "(SELECT narrow FROM sampled)"
    return Leg(
        before={
            "sampled": sampled(collection, where, 0),
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
    SELECT id, document_id, content, metadata, embedding,
           CASE WHEN {indexed} THEN -bm25_get_current_score()
                ELSE -(content <@> {query}) END AS score
    FROM {partition}
    WHERE {condition} AND ({indexed} OR content <@> {query} < 0)
    ORDER BY content <@> {query}
    {limit}
"""


def _bm25(collection: Collection, condition: str, count: int) -> sql.Composed:
    indexed = composed(
        "(SELECT pg_relation_size({partition_name}) > {small})",
        collection,
        small=sql.Literal(SMALL_PAGES * PAGE_BYTES * count),
    )
    return composed(_BM25, collection, condition, count, query=plain(_QUERY), indexed=indexed)


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

# Plans for itself, as the other does. What it may choose among is a list of addresses, or all.
_WORDS = """
    SELECT id, document_id, content, metadata, embedding, score
    FROM words_ranked({collection_id}, %(query)s, {count}, {among}) AS ranked
    JOIN {partition} AS chunk ON chunk.ctid = ranked.address
"""


def _weighed(collection: Collection, where: Clause, count: int) -> sql.Composed:
    if where == EVERYTHING.clause:
        return composed(_WORDS, collection, count=count, among=plain("NULL"))
    template = "ARRAY(SELECT ctid FROM {partition} WHERE {condition})"
    among = composed(template, collection, where.seek)
    return composed(_WORDS + "{limit}", collection, count=count, among=among)


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

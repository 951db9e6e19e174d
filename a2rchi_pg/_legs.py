"""The two legs of search as SQL: the nearest chunks, and those that hold the words.

A condition is met in one of two ways, and the statement itself decides which: from some rows picked
evenly over the table it estimates how many meet the condition. Where many do, the vector (or BM25)
index is scanned in order and the others are passed over; where few do, exactly those are fetched by
the condition's own index and ranked, which is then both faster and exact. An index scan that ends
before it has found enough gives way to the exact form as well: k means k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from psycopg import sql

from a2rchi_pg._filters import EVERYTHING
from a2rchi_pg._op import own_sql

if TYPE_CHECKING:
    from collections.abc import Mapping

    from a2rchi_pg._filters import Clause
    from a2rchi_pg.collections import Collection, Metric

PAGE_BYTES = 8192
SAMPLE_ROWS = 128
SAMPLE_HITS = 3  # fewer say no more than "few"
# Ranking a row exactly takes ~2 µs. Scanning the vector index takes ~130 µs for each row wanted,
# over the share of rows that meet the condition. The two break even at share² · rows = 66.
BREAK_EVEN = 66
PATIENCE = 2  # times the rows an index scan should have to see by the sample's share
OVERFETCH = 40  # least rows asked of a filtered index scan, whose order is only nearly right
BIT_OVERSAMPLING, BIT_ROWS = 8, 200  # times k, and at least
ONE_LOOK = 500  # rows, half of pgvector's largest ef_search
FEW_ROWS = 250  # up to which words are scored row by row, at 80 µs each
SMALL_PAGES = 8  # times the rows wanted: the size of a table that may be read rather than searched

# A prepared statement may be planned once for all. That is right for a search of a whole index,
# and wrong for conditions, whose rows only a custom plan can estimate. Those have a LIMIT that a
# generic plan can't know: it takes a tenth of the table for it, looks dear, and is never chosen.
LIMIT = own_sql("LIMIT {count}")
LIMIT_OF_CUSTOM_PLAN = own_sql("LIMIT {count} + %(zero)s::int")

OPERATORS: dict[Metric, str] = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}


class Spare(NamedTuple):
    """How many rows a leg looks for where some may not be shown: ``few`` where ``test`` holds.

    The test is made once, inside the statement, which can so be planned once for every answer.
    """

    few: int
    test: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A subquery, and the named ones that have to stand before it."""

    body: sql.Composed
    before: Mapping[str, sql.Composed] = field(default_factory=dict)


def nearest(collection: Collection, where: Clause, k: int, spare: Spare | None = None) -> Leg:
    """At least the ``k`` nearest chunks, with their exact ``distance``, unordered."""
    if not collection.vector_index:
        return Leg(body=_exact(collection, where.seek, k))
    if where == EVERYTHING.clause:
        scan = _scan(collection, "true", indexed_rows(collection, k), spared=spare is not None)
        if spare is None:
            return Leg(body=_reranked(collection, scan))
        few, rows = indexed_rows(collection, spare.few), indexed_rows(collection, k)
        scan = composed(_AT_FIRST, collection, scan=scan, most=_most(few, rows))
        return Leg(before=_spared(collection, spare), body=_reranked(collection, scan))
    rows = indexed_rows(collection, max(OVERFETCH, 2 * k))
    return Leg(
        before={
            "sampled": _sampled(collection, where, rows),
            "near": _scan(
                collection,
                _both("(SELECT wide FROM sampled)", _opaque(where)),
                rows,
                patience="(SELECT patience FROM sampled)",
            ),
            "enough": composed(
                "SELECT count(*) = {count} AS yes FROM near", collection, count=rows
            ),
            "eligible": _eligible(collection, _both("(SELECT NOT yes FROM enough)", where.seek)),
        },
        body=composed(
            "{reranked} WHERE (SELECT yes FROM enough) UNION ALL ({exact})",
            collection,
            reranked=_reranked(collection, _plain("TABLE near")),
            exact=_exact(collection, _ELIGIBLE, k),
        ),
    )


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
        body = composed(_BM25_OF_ALL, collection, most=_most(spare.few, count))
        return Leg(before=_spared(collection, spare), body=body)
    narrow = "(SELECT narrow FROM sampled)"
    return Leg(
        before={
            "sampled": _sampled(collection, where, 0),
            "eligible": _eligible(collection, _both(narrow, where.seek), FEW_ROWS + 1),
            "few": composed(_FEW, collection, narrow, FEW_ROWS),
        },
        body=composed(
            "({indexed}) UNION ALL ({scored})",
            collection,
            indexed=_bm25(collection, _both("(SELECT NOT yes FROM few)", _opaque(where)), count),
            scored=composed(_SCORED, collection, _ELIGIBLE, count, query=_plain(_QUERY)),
        ),
    )


def indexed_rows(collection: Collection, k: int) -> int:
    """How many rows the vector index is asked for to find ``k``.

    More where it knows distances only roughly, and where ``k`` is more than one look finds, as what
    an iterative scan adds comes only nearly in order.
    """
    if collection.element == "bit":
        return max(BIT_ROWS, BIT_OVERSAMPLING * k)
    return k if k <= ONE_LOOK else 2 * k


def _opaque(where: Clause) -> str:
    """The condition in a form that no index but the one being scanned can answer."""
    return f"CASE WHEN {where.test} THEN true ELSE false END"


def _both(gate: str, condition: str) -> str:
    return f"{gate} AND {condition}"


_EXACT = """
    SELECT id, document_id, content, metadata, embedding,
           embedding {operator} %(vector)s AS distance
    FROM {partition}
    WHERE {condition}
    ORDER BY distance, id
    {limit}
"""


def _exact(collection: Collection, condition: str, k: int) -> sql.Composed:
    return composed(_EXACT, collection, condition, k)


def _reranked(collection: Collection, candidates: sql.Composed) -> sql.Composed:
    """Candidates of the index, which may know bits or halves, with their exact distances."""
    return composed(
        "SELECT id, document_id, content, metadata, embedding, "
        "embedding {operator} %(vector)s AS distance FROM ({candidates}) AS candidate",
        collection,
        candidates=candidates,
    )


_ELIGIBLE = "ctid = ANY (ARRAY(SELECT address FROM eligible))"


def _eligible(collection: Collection, condition: str, most: int | None = None) -> sql.Composed:
    """The addresses of the rows that meet the condition, found once for both legs."""
    template = "SELECT ctid AS address FROM {partition} WHERE {condition} LIMIT {most}"
    return composed(template, collection, condition, most=sql.Literal(most))


# The LIMIT inside is a constant, which the planner takes for what it is. That on the place ends the
# scan earlier: PostgreSQL reads no further once a row_number() is past it.
_AT_FIRST = """
    SELECT id, document_id, content, metadata, embedding
    FROM (SELECT *, row_number() OVER () AS place FROM ({scan}) AS scan) AS scan
    WHERE place <= {most}
"""


def _spared(collection: Collection, spare: Spare) -> dict[str, sql.Composed]:
    return {"chosen": composed("SELECT {condition} AS few", collection, spare.test)}


def _most(few: int, rows: int) -> sql.Composed:
    return _either(sql.Literal(few), sql.Literal(rows))


def _either(few: sql.Composable, others: sql.Composable) -> sql.Composed:
    """The first where few documents were chosen."""
    template = own_sql("(SELECT CASE WHEN few THEN {few} ELSE {others} END FROM chosen)")
    return template.format(few=few, others=others)


def _scan(
    collection: Collection,
    condition: str,
    rows: int,
    patience: str | None = None,
    *,
    spared: bool = False,
) -> sql.Composed:
    """The first rows in the vector index's own order that meet the condition."""
    if patience is None and rows > ONE_LOOK:
        patience = "'2147483647'"
    effort: sql.Composable = own_sql("%(effort)s")
    if spared:
        effort = _either(own_sql("%(least_effort)s"), effort)
    settings = _SETTINGS[collection.index].format(effort=effort)
    if patience is not None and collection.index == "hnsw":
        settings += _FAR.format(patience=own_sql(patience))
    bits = collection.element == "bit"
    return composed(
        """
        SELECT id, document_id, content, metadata, embedding
        FROM {partition}
        WHERE {condition}
        ORDER BY {key} {key_operator} (SELECT {probe} WHERE ({settings}) IS NOT NULL)
        {limit}
        """,
        collection,
        condition,
        rows,
        limit=_limit(rows, LIMIT if condition == "true" else LIMIT_OF_CUSTOM_PLAN),
        key=_stored(collection, "embedding"),
        key_operator=own_sql("<~>" if bits else OPERATORS[collection.metric]),
        probe=_stored(collection, "%(vector)s"),
        settings=settings,
    )


def _stored(collection: Collection, vector: str) -> sql.Composed:
    """A vector as the collection's index stores it: the very expression the index is on."""
    if collection.element == "bit":
        template = "binary_quantize({vector})::bit({dimensions})"
    else:
        template = "{vector}::{element}({dimensions})"
    return composed(
        template, collection, vector=own_sql(vector), element=own_sql(collection.element)
    )


# An iterative scan goes on until enough rows pass the WHERE clause. How far, and with how much
# memory, is set only where one look may not do: each setting costs some 15 µs.
_SETTINGS = {
    "hnsw": sql.SQL(
        """
        set_config('hnsw.ef_search', {effort}, true)
        || set_config('hnsw.iterative_scan', 'relaxed_order', true)
        """
    ),
    "ivfflat": sql.SQL(
        """
        set_config('ivfflat.probes', {effort}, true)
        || set_config('ivfflat.iterative_scan', 'relaxed_order', true)
        """
    ),
}
_FAR = sql.SQL(
    """
    || set_config('hnsw.max_scan_tuples', {patience}, true)
    || set_config('hnsw.scan_mem_multiplier', '32', true)
    """
)


def _sampled(collection: Collection, where: Clause, rows: int) -> sql.Composed:
    """How much of the table meets the condition, by a sample, and what follows from that.

    ``wide``: scanning the vector index is the faster way, unless what meets the condition lies far
    from the query; ``patience`` says after how many rows it has proved to. ``narrow``: too few to
    count. Rows are picked by address, evenly over the table's pages. Their number is the
    statistics', or before the first ANALYZE what fits on the pages at a typical length of text.
    """
    row_bytes = 4 * collection.dimensions + 800
    return composed(
        """
        SELECT met < {hits} AS narrow,
            ({patience} * {rows}::bigint * seen / greatest(met, 1))::text AS patience,
            met >= {hits} AND met::float8 ^ 2 * (
                SELECT CASE WHEN reltuples > 0 THEN reltuples
                            ELSE pg_relation_size(oid) / {page_bytes} * {page_rows} END
                FROM pg_class
                WHERE oid = {partition_name}::regclass
            ) > {break_even} * seen::float8 ^ 2 AS wide
        FROM (
            SELECT count(*) AS seen, count(*) FILTER (WHERE {condition}) AS met
            FROM {partition}
            WHERE ctid = ANY (ARRAY(
                SELECT format('(%%s,%%s)', i * pages / {count}, 1 + i %% 2)::tid
                FROM generate_series(0, {count} - 1) AS i,
                    (SELECT pg_relation_size({partition_name}) / {page_bytes} AS pages) AS size
            ))
        ) AS sample
        """,
        collection,
        where.test,
        SAMPLE_ROWS,
        rows=sql.Literal(rows),
        patience=sql.Literal(PATIENCE),
        hits=sql.Literal(SAMPLE_HITS),
        break_even=sql.Literal(BREAK_EVEN),
        page_bytes=sql.Literal(PAGE_BYTES),
        page_rows=sql.Literal(max(1, PAGE_BYTES // row_bytes)),
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
    return composed(_BM25, collection, condition, count, query=_plain(_QUERY), indexed=indexed)


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
        return composed(_WORDS, collection, count=count, among=_plain("NULL"))
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


def composed(
    template: str,
    collection: Collection,
    condition: str = "true",
    count: int = 0,
    **parts: sql.Composable,
) -> sql.Composed:
    """``template`` with the collection's own names filled in, each quoted for what it is."""
    return own_sql(template).format(
        partition=collection.table,
        partition_name=sql.Literal(collection.table.as_string()),
        collection_id=sql.Literal(collection.id),
        dimensions=sql.Literal(collection.dimensions),
        text_config=sql.Composed([sql.Literal(collection.text_config), sql.SQL("::regconfig")]),
        operator=own_sql(OPERATORS[collection.metric]),
        condition=own_sql(condition),
        count=sql.Literal(count),
        **{"limit": _limit(count, LIMIT_OF_CUSTOM_PLAN), **parts},
    )


def _limit(count: int, template: sql.SQL) -> sql.Composed:
    return template.format(count=sql.Literal(count))


def _plain(text: str) -> sql.Composed:
    return sql.Composed([own_sql(text)])

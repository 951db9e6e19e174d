"""What the two legs of search are composed of: subqueries, and the decisions they share.

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
# One in so many rows meets a condition: words are then weighed first, and it is asked afterwards.
COMMON = 8
PATIENCE = 2  # times the rows an index scan should have to see by the sample's share

# A prepared statement may be planned once for all. That is right for a search of a whole index,
# and wrong for conditions, whose rows only a custom plan can estimate. Those have a LIMIT that a
# generic plan can't know: it takes a tenth of the table for it, looks dear, and is never chosen.
LIMIT = own_sql("LIMIT {count}")
LIMIT_OF_CUSTOM_PLAN = own_sql("LIMIT {count} + %(zero)s::int")

OPERATORS: dict[Metric, str] = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}
# A zero vector has no direction, and so no cosine: it is as far away as can be.
DISTANCES: dict[Metric, str] = {
    "cosine": "coalesce(nullif(embedding <=> %(vector)s, 'NaN'), 2)",
    "l2": "embedding <-> %(vector)s",
    "inner_product": "embedding <#> %(vector)s",
}


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
        distance=own_sql(DISTANCES[collection.metric]),
        condition=own_sql(condition),
        count=sql.Literal(count),
        **{"limit": limit(count, LIMIT_OF_CUSTOM_PLAN), **parts},
    )


def limit(count: int, template: sql.SQL) -> sql.Composed:
    return template.format(count=sql.Literal(count))


def plain(text: str) -> sql.Composed:
    return sql.Composed([own_sql(text)])


def both(gate: str, condition: str) -> str:
    return f"{gate} AND {condition}"


def opaque(where: Clause) -> str:
    """The condition in a form that no index but the one being scanned can answer."""
    return f"CASE WHEN {where.test} THEN true ELSE false END"


def sampled(collection: Collection, where: Clause, rows: int) -> sql.Composed:
    """How much of the table meets the condition, by a sample, and what follows from that.

    ``wide``: scanning the vector index is the faster way, unless what meets the condition lies far
    from the query; ``patience`` says after how many rows it has proved to. ``narrow``: too few to
    count; ``common``: enough to find them among all that match. Rows are picked by address, evenly
    over the table's pages. Their number is the statistics', or before the first ANALYZE what fits
    on the pages at a typical length of text.
    """
    row_bytes = 4 * collection.dimensions + 800
    return composed(
        """
        SELECT met < {hits} AS narrow, met * {common} > seen AS common,
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
        common=sql.Literal(COMMON),
        break_even=sql.Literal(BREAK_EVEN),
        page_bytes=sql.Literal(PAGE_BYTES),
        page_rows=sql.Literal(max(1, PAGE_BYTES // row_bytes)),
    )


ELIGIBLE = "ctid = ANY (ARRAY(SELECT address FROM eligible))"


def eligible(collection: Collection, condition: str, most: int | None = None) -> sql.Composed:
    """The addresses of the rows that meet the condition, found once for both legs."""
    template = "SELECT ctid AS address FROM {partition} WHERE {condition} LIMIT {most}"
    return composed(template, collection, condition, most=sql.Literal(most))


def spared(collection: Collection, spare: Spare) -> dict[str, sql.Composed]:
    return {"chosen": composed("SELECT {condition} AS few", collection, spare.test)}


def most(few: int, rows: int) -> sql.Composed:
    return either(sql.Literal(few), sql.Literal(rows))


def either(few: sql.Composable, others: sql.Composable) -> sql.Composed:
    """The first where few documents were chosen."""
    template = own_sql("(SELECT CASE WHEN few THEN {few} ELSE {others} END FROM chosen)")
    return template.format(few=few, others=others)

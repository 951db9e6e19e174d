"""The dense leg of search as SQL: the nearest chunks, by the vector index or exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from a2rchi_pg._filters import EVERYTHING
from a2rchi_pg._leg import (
    ELIGIBLE,
    LIMIT,
    LIMIT_OF_CUSTOM_PLAN,
    OPERATORS,
    Leg,
    Spare,
    both,
    composed,
    either,
    eligible,
    limit,
    most,
    opaque,
    plain,
    sampled,
    spared,
)
from a2rchi_pg._op import own_sql

if TYPE_CHECKING:
    from a2rchi_pg._filters import Clause
    from a2rchi_pg.collections import Collection

OVERFETCH = 40  # least rows asked of a filtered index scan, whose order is only nearly right
BIT_OVERSAMPLING, BIT_ROWS = 8, 200  # times k, and at least
ONE_LOOK = 500  # rows, half of pgvector's largest ef_search


def nearest(collection: Collection, where: Clause, k: int, spare: Spare | None = None) -> Leg:
    """At least the ``k`` nearest chunks, with their exact ``distance``, unordered."""
    if not collection.vector_index:
        return Leg(body=_exact(collection, where.seek, k))
    if where == EVERYTHING.clause:
        scan = _scan(collection, "true", indexed_rows(collection, k), spared=spare is not None)
        if spare is None:
            return Leg(body=_reranked(collection, scan))
        few, rows = indexed_rows(collection, spare.few), indexed_rows(collection, k)
        scan = composed(_AT_FIRST, collection, scan=scan, most=most(few, rows))
        return Leg(before=spared(collection, spare), body=_reranked(collection, scan))
    rows = indexed_rows(collection, max(OVERFETCH, 2 * k))
    return Leg(
        before={
            "sampled": sampled(collection, where, rows),
            "near": _scan(
                collection,
                both("(SELECT wide FROM sampled)", opaque(where)),
                rows,
                patience="(SELECT patience FROM sampled)",
            ),
            "enough": composed(_ENOUGH, collection, count=rows),
            "eligible": eligible(collection, both("(SELECT NOT yes FROM enough)", where.seek)),
        },
        body=composed(
            "{reranked} WHERE (SELECT yes FROM enough) UNION ALL ({exact})",
            collection,
            reranked=_reranked(collection, plain("TABLE near")),
            exact=_exact(collection, ELIGIBLE, k),
        ),
    )


# Patience ends with the scan: in a transaction of the host's, later searches would have it too.
_ENOUGH = """
    SELECT count(*) = {count} AS yes, set_config('hnsw.max_scan_tuples', NULL, true) FROM near
"""


def indexed_rows(collection: Collection, k: int) -> int:
    """How many rows the vector index is asked for to find ``k``.

    More where it knows distances only roughly, and where ``k`` is more than one look finds, as what
    an iterative scan adds comes only nearly in order.
    """
    if collection.element == "bit":
        return max(BIT_ROWS, BIT_OVERSAMPLING * k)
    return k if k <= ONE_LOOK else 2 * k


_EXACT = """
    SELECT id, document_id, content, metadata, embedding, {distance} AS distance
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
        "SELECT id, document_id, content, metadata, embedding, {distance} AS distance "
        "FROM ({candidates}) AS candidate",
        collection,
        candidates=candidates,
    )


# The LIMIT inside is a constant, which the planner takes for what it is. That on the place ends the
# scan earlier: PostgreSQL reads no further once a row_number() is past it.
_AT_FIRST = """
    SELECT id, document_id, content, metadata, embedding
    FROM (SELECT *, row_number() OVER () AS place FROM ({scan}) AS scan) AS scan
    WHERE place <= {most}
"""


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
        effort = either(own_sql("%(least_effort)s"), effort)
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
        limit=limit(rows, LIMIT if condition == "true" else LIMIT_OF_CUSTOM_PLAN),
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

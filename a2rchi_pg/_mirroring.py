"""One collection made what another is, but for the vectors: chunks range by range, then states."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._ingestion import FINGERPRINT, model_fingerprint
from a2rchi_pg._op import (
    Statement,
    Steps,
    execute,
    fetch_tuples,
    fetch_value,
    own_sql,
    upsert,
    write,
)
from a2rchi_pg._vectors import VectorArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._vectors import Vector
    from a2rchi_pg.collections import Collection


@write
def page(
    source: Collection, target: Collection | None, after: str | None, limit: int
) -> Steps[list[tuple[str, str | None]]]:
    """Ids in their order, each with its text where the target doesn't have it.

    No ``@read``: a replica that is behind may know neither the last texts nor the target.
    """
    query = _between(_PAGE if target else _FIRST_PAGE, source, target or source)
    return (yield from fetch_tuples(query, after=after, last=None, limit=limit))


@upsert
def mirror(
    source: Collection,
    target: Collection,
    fresh: Sequence[tuple[str, str]],
    vectors: Vector,
    after: str | None,
    last: str | None,
) -> Steps[None]:
    """Make a range of the target what it is in the source; what changed meanwhile has to wait."""
    params: dict[str, Any] = {
        "ids": [id_ for id_, _ in fresh],
        "contents": [content for _, content in fresh],
        "vectors": VectorArray(vectors),
    }
    query = _between(_MIRROR, source, target)
    yield Statement(query=query, params={**params, "after": after, "last": last})


@write
def oldest_transaction() -> Steps[str]:
    """The oldest transaction under way: what older ones wrote, every later statement sees."""
    query = "SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text"
    return str((yield from fetch_value(query)))


@upsert
def carry_over(source: Collection, target: Collection, horizon: str) -> Steps[None]:
    """Have the target's documents be embedded as the source's are, but by its own model.

    Not those that were embedded since this began, as their chunks may be of before or after: a
    manager embeds them when it is asked to bring the target in line.

    Args:
        source: The collection that was copied.
        target: Its mirror.
        horizon: Of when the copying began; see :func:`oldest_transaction`.
    """
    yield from execute(
        """
        WITH kept AS MATERIALIZED (
            SELECT document_id, content_fingerprint, chunk_count, indexed_at,
                   %(model)s || substr(embedding_fingerprint, %(behind)s) AS embedding_fingerprint
            FROM indexed_documents AS i
            WHERE collection_id = %(source)s AND status = 'embedded'
                AND age(i.xmin) > age(%(horizon)s::text::xid)
        ),
        gone AS (
            DELETE FROM indexed_documents AS i
            WHERE collection_id = %(target)s AND status = 'embedded'
                AND NOT EXISTS (SELECT FROM kept WHERE kept.document_id = i.document_id)
        )
        INSERT INTO indexed_documents AS i (collection_id, document_id, status,
            content_fingerprint, embedding_fingerprint, chunk_count, indexed_at)
        SELECT %(target)s, document_id, 'embedded', content_fingerprint, embedding_fingerprint,
               chunk_count, indexed_at
        FROM kept
        ORDER BY document_id
        ON CONFLICT (collection_id, document_id) DO UPDATE
        SET status = 'embedded', error = NULL, attempts = 0, leased_until = NULL,
            content_fingerprint = excluded.content_fingerprint,
            embedding_fingerprint = excluded.embedding_fingerprint,
            chunk_count = excluded.chunk_count, indexed_at = excluded.indexed_at
        WHERE i.status <> 'embedding'
        """,
        source=source.id,
        target=target.id,
        model=model_fingerprint(target.embedding_model),
        behind=FINGERPRINT + 1,
        horizon=horizon,
    )


_FIRST_PAGE = """
    SELECT s.id, s.content FROM {source} AS s WHERE {range_s} ORDER BY s.id LIMIT %(limit)s
"""
_PAGE = """
    SELECT s.id, CASE WHEN t.content = s.content THEN NULL ELSE s.content END
    FROM {source} AS s
    LEFT JOIN {target} AS t ON t.collection_id = {target_id} AND t.id = s.id
    WHERE {range_s}
    ORDER BY s.id
    LIMIT %(limit)s
"""
# Delete and insert, as everywhere, and the table locked at once as one that is written to. Of a
# text that changed since it was read the vector is an old one: it stays out until the next run.
_MIRROR = """
    WITH held AS (DELETE FROM {target} WHERE false),
    given AS MATERIALIZED (
        SELECT id, content, embedding
        FROM unnest(%(ids)b::text[], %(contents)b::text[], %(vectors)b::vector[])
            AS t (id, content, embedding)
    ),
    wanted AS MATERIALIZED (
        SELECT s.document_id, s.chunk_index, s.start_char, s.end_char, s.id, s.content, s.metadata,
               coalesce(given.embedding, t.embedding) AS embedding
        FROM {source} AS s
        LEFT JOIN given ON given.id = s.id AND given.content = s.content
        LEFT JOIN {target} AS t
            ON t.collection_id = {target_id} AND t.id = s.id AND t.content = s.content
        WHERE {range_s} AND coalesce(given.embedding, t.embedding) IS NOT NULL
    ),
    gone AS (
        DELETE FROM {target} AS t
        WHERE {range_t} AND NOT EXISTS (
            SELECT FROM wanted AS w
            WHERE w.id = t.id
                AND (w.document_id, w.chunk_index, w.start_char, w.end_char, w.content, w.metadata,
                    w.embedding) IS NOT DISTINCT FROM
                    (t.document_id, t.chunk_index, t.start_char, t.end_char, t.content, t.metadata,
                    t.embedding)
        )
        RETURNING t.id
    )
    INSERT INTO {target} (collection_id, document_id, chunk_index, start_char, end_char, id,
        content, metadata, embedding)
    SELECT {target_id}, document_id, chunk_index, start_char, end_char, id, content, metadata,
           embedding
    FROM wanted
    WHERE id IN (SELECT id FROM gone)
        OR NOT EXISTS (
            SELECT FROM {target} AS t WHERE t.collection_id = {target_id} AND t.id = wanted.id
        )
"""
_RANGE = """
    {side}.collection_id = {id}
        AND (%(after)s::text IS NULL OR {side}.id > %(after)s)
        AND (%(last)s::text IS NULL OR {side}.id <= %(last)s)
"""


@lru_cache(maxsize=32)
def _between(template: str, source: Collection, target: Collection) -> bytes:
    return (
        own_sql(template)
        .format(
            source=source.table,
            target=target.table,
            target_id=sql.Literal(target.id),
            range_s=_range("s", source),
            range_t=_range("t", target),
        )
        .as_bytes(None)
    )


def _range(side: str, collection: Collection) -> sql.Composed:
    return own_sql(_RANGE).format(side=own_sql(side), id=sql.Literal(collection.id))

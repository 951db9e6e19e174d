"""What LangChain's indexing has put into a collection: its records, and whether they are true.

Nothing here is a ``@read``, which a replica may answer: LangChain deletes the chunks of what it was
not told is new, and doesn't add the chunks of what it was told is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from a2rchi_pg._chunks import rendered
from a2rchi_pg._op import Steps, execute, fetch_one, fetch_tuples, fetch_value, upsert, write
from a2rchi_pg.collections import Collection, get_collection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What was taken away because it had no counterpart.

    Attributes:
        records: Records of chunks that are not there: the next indexing adds these anew.
        chunks: Chunks of no record, which no cleanup would ever have found.
    """

    records: int
    chunks: int


@write
def server_time() -> Steps[float]:
    """Now by the server's clock, in seconds since 1970."""
    query = "SELECT extract(epoch FROM clock_timestamp())::float8"
    return float((yield from fetch_value(query)))


@upsert
def record(
    namespace: str,
    keys: Sequence[str],
    groups: Sequence[str | None] | None,
    at_least: float | None,
) -> Steps[None]:
    """Record keys as seen now; of equal ones the last counts. Without groups, theirs stay."""
    latest = dict(zip(keys, _names(groups or [None] * len(keys)), strict=True))
    query = """
        INSERT INTO index_records AS record (namespace, key, group_id, updated_at)
        SELECT %(namespace)s, key, group_id,
               greatest(extract(epoch FROM clock_timestamp())::float8, %(at_least)s::float8)
        FROM unnest(%(keys)s::text[], %(groups)s::text[]) AS given (key, group_id)
        ORDER BY key
        ON CONFLICT (namespace, key) DO UPDATE
        SET updated_at = excluded.updated_at,
            group_id = CASE WHEN %(regrouped)s THEN excluded.group_id ELSE record.group_id END
    """
    params: dict[str, Any] = {"keys": list(latest), "groups": list(latest.values())}
    params["regrouped"] = groups is not None
    yield from execute(query, namespace=namespace, at_least=at_least, **params)


@write
def recorded(namespace: str, keys: Sequence[str]) -> Steps[list[bool]]:
    """Which of the keys are recorded, in their order."""
    query = """
        SELECT key FROM index_records
        WHERE namespace = %(namespace)s AND key = ANY(%(keys)s::text[])
    """
    rows = yield from fetch_tuples(query, namespace=namespace, keys=list(keys))
    found = {row[0] for row in rows}
    return [key in found for key in keys]


@write
def list_keys(
    namespace: str,
    before: float | None,
    after: float | None,
    groups: Sequence[str] | None,
    limit: int | None,
) -> Steps[list[str]]:
    """Keys that were last seen between two times, from the given groups, oldest first."""
    query = """
        SELECT key
        FROM index_records
        WHERE namespace = %(namespace)s
            AND (%(before)s::float8 IS NULL OR updated_at < %(before)s)
            AND (%(after)s::float8 IS NULL OR updated_at > %(after)s)
            AND (%(groups)s::text[] IS NULL OR group_id = ANY(%(groups)s))
        ORDER BY updated_at, key
        LIMIT %(limit)s
    """
    given = None if groups is None else _names(groups)
    rows = yield from fetch_tuples(
        query, namespace=namespace, before=before, after=after, groups=given, limit=limit
    )
    return [row[0] for row in rows]


def _names(groups: Iterable[object]) -> list[str | None]:
    """Groups as they are stored: LangChain takes them from metadata, where some are numbers."""
    return [None if group is None else str(group) for group in groups]


@write
def forget(namespace: str, keys: Sequence[str]) -> Steps[None]:
    """Delete records."""
    query = "DELETE FROM index_records WHERE namespace = %(namespace)s AND key = ANY(%(keys)s)"
    yield from execute(query, namespace=namespace, keys=list(keys))


@write
def reconcile(namespace: str, collection_name: str) -> Steps[Reconciled]:
    """Take away records without a chunk and chunks without a record, in one transaction."""
    collection = yield from get_collection(collection_name)
    if collection is None:
        query = """
            WITH gone AS (DELETE FROM index_records WHERE namespace = %(namespace)s RETURNING key)
            SELECT count(*) AS records, 0 AS chunks FROM gone
        """
        found = yield from fetch_one(query, Reconciled, namespace=namespace)
    else:
        found = yield from fetch_one(_reconcile_sql(collection), Reconciled, namespace=namespace)
    return found or Reconciled(records=0, chunks=0)


@lru_cache(maxsize=128)
def _reconcile_sql(collection: Collection) -> bytes:
    return rendered(
        """
        WITH lost_chunks AS (
            DELETE FROM {partition} AS chunk
            WHERE collection_id = {collection_id} AND document_id IS NULL AND NOT EXISTS (
                SELECT FROM index_records WHERE namespace = %(namespace)s AND key = chunk.id
            )
            RETURNING id
        ),
        false_records AS (
            DELETE FROM index_records AS record
            WHERE namespace = %(namespace)s AND NOT EXISTS (
                SELECT FROM {partition}
                WHERE collection_id = {collection_id} AND id = record.key
            )
            RETURNING key
        )
        SELECT (SELECT count(*) FROM false_records) AS records,
               (SELECT count(*) FROM lost_chunks) AS chunks
        """,
        collection,
    )

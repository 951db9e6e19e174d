"""Documents in and out of the catalog: upsert, get, delete, restore, purge."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from psycopg.types.json import Jsonb

from a2rchi_pg._arguments import shown
from a2rchi_pg._documents import COLUMNS, CatalogDocument, DocumentSpec
from a2rchi_pg._op import Steps, fetch, fetch_tuples, fetch_value, own_sql, read, upsert, write
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._filters import Condition

BATCH = 5000  # documents a statement, each some kilobytes of JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What recording a document came to.

    Attributes:
        outcome: ``"added"``, ``"changed"``, ``"restored"`` (it had been deleted) or
            ``"unchanged"``.
    """

    id: int
    resource_hash: str
    outcome: Literal["added", "changed", "restored", "unchanged"]


@upsert
def upsert_documents(specs: Sequence[DocumentSpec]) -> Steps[list[Recorded]]:
    """Record every document; one result for each, in order. Of equal hashes the last one counts."""
    for spec in specs:
        if not isinstance(spec, DocumentSpec):
            raise InvalidInput(f"a document must be a DocumentSpec, got {shown(spec)}")
    latest = {spec.resource_hash: spec for spec in specs}
    rows = [latest[key].as_row() for key in sorted(latest)]
    recorded: dict[str, Recorded] = {}
    for start in range(0, len(rows), BATCH):
        batch = Jsonb(rows[start : start + BATCH])
        for each in (yield from fetch(_UPSERT, Recorded, documents=batch)):
            recorded[each.resource_hash] = each
    if len(recorded) < len(rows):
        # Another writer added the same ones after our statement began: they stand as we want them.
        hashes = [row["resource_hash"] for row in rows]
        for each in (yield from fetch(_UNCHANGED, Recorded, hashes=hashes)):
            recorded.setdefault(each.resource_hash, each)
    return [recorded[spec.resource_hash] for spec in specs]


# Rows in the order of their hashes, which is Python's too, batch by batch: two writers wait for one
# another and never deadlock.
_GIVEN = """
    SELECT *
    FROM jsonb_to_recordset(%(documents)s) AS document (
        resource_hash text, display_name text, source_type text, url text, ticket_id text,
        git_repo text, git_commit text, suffix text, mime_type text, size_bytes bigint,
        file_path text, original_path text, base_path text, relative_path text, metadata jsonb,
        content_hash text, source_created_at timestamptz, source_modified_at timestamptz,
        ingested_at timestamptz)
    ORDER BY resource_hash COLLATE "C"
"""
_NAMES = ", ".join(each.name for each in fields(DocumentSpec))
# What keeps its value where none is given: content_hash, ingested_at; and `enabled` always.
_UPSERT = f"""
    WITH given AS MATERIALIZED ({_GIVEN}),
    before AS MATERIALIZED (
        SELECT id, resource_hash, deleted_at FROM documents JOIN given USING (resource_hash)
    ),
    written AS (
        INSERT INTO documents AS d ({_NAMES})
        SELECT {_NAMES} FROM given
        ON CONFLICT (resource_hash) DO UPDATE
        SET display_name = excluded.display_name, source_type = excluded.source_type,
            url = excluded.url, ticket_id = excluded.ticket_id, git_repo = excluded.git_repo,
            git_commit = excluded.git_commit, suffix = excluded.suffix,
            mime_type = excluded.mime_type, size_bytes = excluded.size_bytes,
            file_path = excluded.file_path, original_path = excluded.original_path,
            base_path = excluded.base_path, relative_path = excluded.relative_path,
            metadata = excluded.metadata,
            content_hash = coalesce(excluded.content_hash, d.content_hash),
            source_created_at = excluded.source_created_at,
            source_modified_at = excluded.source_modified_at,
            ingested_at = coalesce(excluded.ingested_at, d.ingested_at),
            updated_at = now(), deleted_at = NULL
        WHERE d.deleted_at IS NOT NULL OR (
            d.display_name, d.source_type, d.url, d.ticket_id, d.git_repo, d.git_commit, d.suffix,
            d.mime_type, d.size_bytes, d.file_path, d.original_path, d.base_path, d.relative_path,
            d.metadata, d.content_hash, d.source_created_at, d.source_modified_at, d.ingested_at
        ) IS DISTINCT FROM (
            excluded.display_name, excluded.source_type, excluded.url, excluded.ticket_id,
            excluded.git_repo, excluded.git_commit, excluded.suffix, excluded.mime_type,
            excluded.size_bytes, excluded.file_path, excluded.original_path, excluded.base_path,
            excluded.relative_path, excluded.metadata,
            coalesce(excluded.content_hash, d.content_hash), excluded.source_created_at,
            excluded.source_modified_at, coalesce(excluded.ingested_at, d.ingested_at))
        RETURNING id, resource_hash
    )
    SELECT coalesce(w.id, b.id) AS id, resource_hash,
           CASE WHEN w.id IS NULL THEN 'unchanged' WHEN b.id IS NULL THEN 'added'
                WHEN b.deleted_at IS NULL THEN 'changed' ELSE 'restored' END AS outcome
    FROM written AS w FULL JOIN before AS b USING (resource_hash)
"""  # noqa: S608 - made of our own parts
_UNCHANGED = """
    SELECT id, resource_hash, 'unchanged' AS outcome
    FROM documents
    WHERE resource_hash = ANY(%(hashes)s)
"""


def insert_documents(specs: Sequence[DocumentSpec]) -> Steps[set[str]]:
    """Record the documents whose hashes are free, and leave the others; the hashes that were."""
    rows = [spec.as_row() for spec in specs]
    return {key for (key,) in (yield from fetch_tuples(_INSERT, documents=Jsonb(rows)))}


_INSERT = f"""
    INSERT INTO documents ({_NAMES})
    SELECT {_NAMES} FROM ({_GIVEN}) AS given
    ON CONFLICT (resource_hash) DO NOTHING
    RETURNING resource_hash
"""  # noqa: S608 - made of our own parts


@read
def get_documents(condition: Condition, *, include_deleted: bool) -> Steps[list[CatalogDocument]]:
    """The documents that meet a condition, in no particular order."""
    query = _rendered(_GET, condition.sql, include_deleted)
    return (yield from fetch(query, CatalogDocument, **condition.params))


_GET = f"SELECT {COLUMNS} FROM documents WHERE {{condition}} AND {{state}}"  # noqa: S608 - ours


@write
def delete_documents(condition: Condition) -> Steps[int]:
    """Hide documents until they are restored; how many there were."""
    query = _rendered(_SET_DELETED, condition.sql, False, "now()")
    return int((yield from fetch_value(query, **condition.params)))


@write
def restore_documents(condition: Condition) -> Steps[int]:
    """Show deleted documents again, with the chunks they had; how many there were."""
    query = _rendered(_SET_DELETED, condition.sql, None, "NULL")
    return int((yield from fetch_value(query, **condition.params)))


_SET_DELETED = """
    WITH changed AS (
        UPDATE documents SET deleted_at = {value}, updated_at = now()
        WHERE {condition} AND {state}
        RETURNING id
    )
    SELECT count(*) FROM changed
"""


@write
def purge_documents(condition: Condition, *, only_deleted: bool) -> Steps[int]:
    """Remove documents with their chunks, states and selections; how many there were."""
    query = _rendered(_PURGE, condition.sql, None if only_deleted else True)
    return int((yield from fetch_value(query, **condition.params)))


_PURGE = """
    WITH gone AS (DELETE FROM documents WHERE {condition} AND {state} RETURNING id)
    SELECT count(*) FROM gone
"""

# By whether deleted documents count too: True; not: False; they alone: None.
_STATE = {True: "true", False: "deleted_at IS NULL", None: "deleted_at IS NOT NULL"}


@lru_cache(maxsize=256)
def _rendered(template: str, condition: str, deleted: bool | None, value: str = "") -> bytes:
    parts = {"condition": own_sql(condition), "state": own_sql(_STATE[deleted])}
    return own_sql(template).format(value=own_sql(value), **parts).as_bytes(None)

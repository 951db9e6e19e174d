"""The catalog in figures: counts by kind and state, groups by origin, the values of a field."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from a2rchi_pg._arguments import collection_or_all, page_size
from a2rchi_pg._content import clean_text
from a2rchi_pg._document_filter import FILTERABLE
from a2rchi_pg._documents import STATUSES, source_type_of
from a2rchi_pg._op import Steps, fetch, fetch_tuples, own_sql, read
from a2rchi_pg._scope import hidden
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._documents import SourceType, Status
    from a2rchi_pg._filters import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStats:
    """The live documents of one kind of source."""

    documents: int = 0
    enabled: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogStats:
    """What the catalog holds; deleted documents count only as ``deleted``.

    Attributes:
        documents: How many live documents there are.
        enabled: How many of them searches see.
        deleted: How many were deleted and not purged.
        size_bytes: Their sizes together, as far as they are known.
        chunks: How many chunks were made of them.
        by_source_type: Figures by kind of source.
        by_status: How many are in each state; see ``ListedDocument.status``.
        last_sync: When a document was last collected.
        last_indexed: When a document was last embedded.
    """

    documents: int
    enabled: int
    deleted: int
    size_bytes: int
    chunks: int
    by_source_type: dict[SourceType, SourceStats] = field(hash=False)
    by_status: dict[Status, int] = field(hash=False)
    last_sync: datetime | None
    last_indexed: datetime | None

    @property
    def disabled(self) -> int:
        """How many live documents searches don't see."""
        return self.documents - self.enabled


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentGroup:
    """The live documents of one origin; ``filter={"origin": …}`` lists them.

    Attributes:
        origin: A site (``https://a.example``), a repository, a ticket project, ``Local files``.
        documents: How many there are, in whatever state.
    """

    source_type: SourceType
    origin: str
    documents: int
    size_bytes: int
    pending: int
    embedding: int
    embedded: int
    failed: int

    @property
    def actionable(self) -> bool:
        """Whether something in it isn't embedded yet."""
        return self.embedded < self.documents


# The worst state of each document that was ever taken up, in one collection or in all.
_STATE = """
    SELECT document_id, sum(chunk_count) AS chunks, max(indexed_at) AS indexed_at,
           CASE WHEN bool_or(status = 'failed') THEN 'failed'
                WHEN bool_or(status = 'embedding') THEN 'embedding'
                WHEN bool_or(status = 'pending') THEN 'pending' ELSE 'embedded' END AS status
    FROM indexed_documents
    WHERE %(collection)s::text IS NULL
        OR collection_id = (SELECT id FROM collections WHERE name = %(collection)s::text)
    GROUP BY document_id
"""


@read
def catalog_stats(
    user_id: str | None, conversation_id: int | None, client_id: str | None, collection: str | None
) -> Steps[CatalogStats]:
    """Everything there is to count, in one pass over an index of the live documents."""
    off = hidden(user_id, conversation_id, client_id=client_id)
    name = collection_or_all(collection)
    rows = yield from fetch(_stats_sql(off.sql), _Counted, collection=name, **off.params)
    live = [row for row in rows if row.source_type is not None]
    return CatalogStats(
        documents=sum(row.documents for row in live),
        enabled=sum(row.enabled for row in live),
        deleted=sum(row.documents for row in rows if row.source_type is None),
        size_bytes=sum(row.size_bytes for row in live),
        chunks=sum(row.chunks for row in live),
        by_source_type=_by_source_type(live),
        by_status={
            status: sum(row.documents for row in live if row.status == status)
            for status in STATUSES
        },
        last_sync=max((row.last_sync for row in live if row.last_sync), default=None),
        last_indexed=max((row.last_indexed for row in live if row.last_indexed), default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """Figures of one kind and state, or of what was deleted where the kind is None."""

    source_type: SourceType | None
    status: Status | None
    documents: int
    enabled: int
    size_bytes: int
    chunks: int
    last_sync: datetime | None
    last_indexed: datetime | None


def _by_source_type(rows: list[_Counted]) -> dict[SourceType, SourceStats]:
    found: dict[SourceType, SourceStats] = {}
    for row in rows:
        if row.source_type is not None:
            so_far = found.get(row.source_type, SourceStats())
            found[row.source_type] = SourceStats(
                documents=so_far.documents + row.documents,
                enabled=so_far.enabled + row.enabled,
                size_bytes=so_far.size_bytes + row.size_bytes,
            )
    return found


@lru_cache(maxsize=8)
def _stats_sql(off: str) -> bytes:
    return (
        own_sql(
            """
            SELECT source_type, coalesce(state.status, 'pending') AS status,
                   count(*) AS documents, count(*) FILTER (WHERE id NOT IN ({off})) AS enabled,
                   coalesce(sum(size_bytes), 0)::bigint AS size_bytes,
                   coalesce(sum(state.chunks), 0)::bigint AS chunks,
                   max(ingested_at) AS last_sync, max(state.indexed_at) AS last_indexed
            FROM documents LEFT JOIN ({state}) AS state ON state.document_id = id
            WHERE deleted_at IS NULL
            GROUP BY 1, 2
            UNION ALL
            SELECT NULL, NULL, count(*), 0, 0, 0, NULL, NULL
            FROM documents
            WHERE deleted_at IS NOT NULL
            """
        )
        .format(off=own_sql(off), state=own_sql(_STATE))
        .as_bytes(None)
    )


@read
def document_groups(
    source_type: str | None, collection: str | None, limit: int
) -> Steps[list[DocumentGroup]]:
    """Live documents by origin; first those where something is still to be done, then by name."""
    query = own_sql(_GROUPS).format(state=own_sql(_STATE)).as_bytes(None)
    params = {
        "source_type": None if source_type is None else source_type_of(source_type),
        "collection": collection_or_all(collection),
        "limit": page_size(limit, 0),
    }
    return (yield from fetch(query, DocumentGroup, **params))


_GROUPS = """
    SELECT source_type, origin, count(*) AS documents,
           coalesce(sum(size_bytes), 0)::bigint AS size_bytes,
           count(*) FILTER (WHERE coalesce(state.status, 'pending') = 'pending') AS pending,
           count(*) FILTER (WHERE state.status = 'embedding') AS embedding,
           count(*) FILTER (WHERE state.status = 'embedded') AS embedded,
           count(*) FILTER (WHERE state.status = 'failed') AS failed
    FROM documents LEFT JOIN ({state}) AS state ON state.document_id = id
    WHERE deleted_at IS NULL
        AND (%(source_type)s::text IS NULL OR source_type = %(source_type)s::text)
    GROUP BY source_type, origin
    ORDER BY bool_and(coalesce(state.status = 'embedded', false)), origin, source_type
    LIMIT %(limit)s
"""


@read
def distinct_values(key: str, condition: Condition, limit: int) -> Steps[list[tuple[Any, int]]]:
    """The commonest values of a column or metadata key, each with its number of documents."""
    name = clean_text(key)
    if not name or name.startswith("$"):
        raise InvalidInput(f"distinct takes a column or a key of the metadata, got {key!r}")
    params = {"limit": page_size(limit, 0), **condition.params}
    if name not in FILTERABLE:
        params["key"] = name
    return (yield from fetch_tuples(_distinct_sql(name, condition.sql), **params))


@lru_cache(maxsize=128)
def _distinct_sql(key: str, condition: str) -> bytes:
    value = key if key in FILTERABLE else "metadata -> %(key)s::text"
    return (
        own_sql(
            """
            SELECT {value}, count(*)
            FROM documents
            WHERE deleted_at IS NULL AND {value} IS NOT NULL AND {condition}
            GROUP BY 1
            ORDER BY 2 DESC, 1
            LIMIT %(limit)s
            """
        )
        .format(value=own_sql(value), condition=own_sql(condition))
        .as_bytes(None)
    )

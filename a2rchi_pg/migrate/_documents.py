"""Documents, on their way into the catalog."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._document_rows import insert_documents
from a2rchi_pg._documents import DocumentSpec
from a2rchi_pg._op import fetch_tuples
from a2rchi_pg.errors import InvalidInput
from a2rchi_pg.migrate._cleaned import CLEANED, is_storable
from a2rchi_pg.migrate._digest import canonical, digest
from a2rchi_pg.migrate._hashes import ORIGINAL
from a2rchi_pg.migrate._source import Row, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from a2rchi_pg._op import Steps

_NAMES = [each.name for each in fields(DocumentSpec)]


def document_row(
    key: str, original: str, about: Mapping[str, Any], notes: Sequence[str]
) -> Row[DocumentSpec]:
    """A document of an older catalog as a row; its ``problem`` says why it can't be stored.

    Args:
        key: The hash it gets.
        original: The hash it had, which its metadata keeps where it is another.
        about: What the catalog says of it, flat.
        notes: What was to be said of it already.
    """
    kept = {} if key == original else {ORIGINAL: original}
    try:
        spec = DocumentSpec.from_metadata(key, {**about, **kept})
    except InvalidInput as error:
        return Row(key=key, problem=str(error))
    return Row(
        key=key,
        digest=_digest(spec.as_row() | {"enabled": True, "deleted": False}),
        value=spec,
        notes=(*notes, *_changes(about, spec)),
    )


def _changes(about: Mapping[str, Any], spec: DocumentSpec) -> list[str]:
    """What isn't stored as the catalog had it."""
    told = [
        f"{name} can't be read and is kept as metadata" for name in _READ if name in spec.metadata
    ]
    if "original_source_type" in spec.metadata:
        told.append("source_type is none we know and is kept as metadata")
    if not is_storable(about):
        told.append(CLEANED)
    return told


_READ = ("created_at", "modified_at", "ingested_at", "size_bytes", "suffix", "ticket_id")


def _digest(document: Mapping[str, Any]) -> bytes:
    moments = {
        name: value.astimezone(UTC).isoformat()
        for name, value in document.items()
        if isinstance(value, datetime)
    }
    return digest(canonical({**document, **moments}))


class DocumentTarget(Target[DocumentSpec]):
    """The catalog, a table that all sources of documents share."""

    @property
    def name(self) -> str:
        """What reports call it."""
        return "documents"

    def insert(self, rows: Sequence[Row[DocumentSpec]]) -> Steps[set[str]]:
        """Add the documents whose hashes are free."""
        return (yield from insert_documents([row.value for row in rows if row.value is not None]))

    def digests(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The fingerprints of documents; one that was hidden since has another."""
        query = f"""
            SELECT {", ".join(_NAMES)}, enabled, deleted_at IS NOT NULL
            FROM documents WHERE resource_hash = ANY(%(keys)s::text[])
        """  # noqa: S608 - our own names
        found = yield from fetch_tuples(query.encode(), keys=list(keys))
        rows = [dict(zip((*_NAMES, "enabled", "deleted"), row, strict=True)) for row in found]
        return {row["resource_hash"]: _digest(row) for row in rows}

    def keys(self) -> sql.Composable:
        """A query of every document's hash."""
        return sql.SQL("SELECT resource_hash AS key FROM documents")

    def delete(self, keys: Sequence[str]) -> Steps[set[str]]:
        """Delete documents that have no chunks and that nobody chose."""
        query = """
            DELETE FROM documents AS d
            WHERE resource_hash = ANY(%(keys)s::text[])
                AND NOT EXISTS (SELECT FROM document_chunks WHERE document_id = d.id)
                AND NOT EXISTS (SELECT FROM user_document_selection WHERE document_id = d.id)
                AND NOT EXISTS (SELECT FROM conversation_document_selection
                    WHERE document_id = d.id)
            RETURNING resource_hash
        """
        return {key for (key,) in (yield from fetch_tuples(query, keys=list(keys)))}

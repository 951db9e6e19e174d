"""What a document says, by its chunks: they hold the text that was read, whatever the file was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg._arguments import MAX_INTEGER, collection_or_all, page_size, whole
from a2rchi_pg._op import Steps, fetch, fetch_one, read

if TYPE_CHECKING:
    from collections.abc import Iterable

Keys: TypeAlias = "tuple[list[int], list[str]]"  # of one document


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentChunk:
    """One chunk of a document.

    Attributes:
        index: Its place in the document, from 0; None where it was stored without one.
        start_char: Where it begins in the document's text; None where that isn't known.
        end_char: Where it ends, likewise.
    """

    id: str
    index: int | None
    text: str
    start_char: int | None
    end_char: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentContent:
    """The beginning of a document's text.

    Attributes:
        text: Its chunks put together, overlaps once; empty where it has none.
        mime_type: The type of the file that was read; the text is plain text, whatever that is.
        size_bytes: The size of the file, which says nothing about the length of the text.
        truncated: Whether there is more.
    """

    id: int
    resource_hash: str
    display_name: str
    mime_type: str | None
    size_bytes: int | None
    text: str
    truncated: bool


# One collection: the one named, or the first in which the document has chunks.
_OWN = """
    WITH target AS MATERIALIZED (
        SELECT id, resource_hash, display_name, mime_type, size_bytes
        FROM documents
        WHERE (id = ANY(%(ids)s::bigint[]) OR resource_hash = ANY(%(hashes)s::text[]))
            AND deleted_at IS NULL
    ),
    own AS MATERIALIZED (
        SELECT id, chunk_index, content, start_char, end_char
        FROM document_chunks
        WHERE document_id = (SELECT id FROM target)
            AND collection_id = CASE WHEN %(collection)s::text IS NULL
                THEN (SELECT min(collection_id) FROM document_chunks
                      WHERE document_id = (SELECT id FROM target))
                ELSE (SELECT id FROM collections WHERE name = %(collection)s::text) END
    )
"""


@read
def document_chunks(
    document: Keys, collection: str | None, limit: int, offset: int
) -> Steps[list[DocumentChunk]]:
    """A document's chunks in their order."""
    query = (
        _OWN  # noqa: S608 - our own text
        + """
        SELECT id, chunk_index AS index, content AS text, start_char, end_char
        FROM own
        ORDER BY chunk_index, id
        LIMIT %(limit)s OFFSET %(offset)s
        """
    )
    ids, hashes = document
    params = {"ids": ids, "hashes": hashes, "collection": collection_or_all(collection)}
    page = {"limit": page_size(limit, 0), "offset": whole(offset, "offset", 0, MAX_INTEGER)}
    return (yield from fetch(query, DocumentChunk, **params, **page))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preview:
    id: int
    resource_hash: str
    display_name: str
    mime_type: str | None
    size_bytes: int | None
    pieces: list[list[Any]]
    chunks: int


@read
def document_content(
    document: Keys, collection: str | None, max_chars: int
) -> Steps[DocumentContent | None]:
    """The beginning of a live document's text; None where there is no such document."""
    query = (
        _OWN  # noqa: S608 - our own text
        + """
        SELECT id, resource_hash, display_name, mime_type, size_bytes, coalesce((
            SELECT jsonb_agg(jsonb_build_array(content, start_char, end_char) ORDER BY place)
            FROM (
                SELECT content, start_char, end_char,
                       row_number() OVER in_order AS place,
                       coalesce(start_char,
                           sum(length(content)) OVER in_order - length(content)) AS before
                FROM own
                WINDOW in_order AS (ORDER BY chunk_index, id)
            ) AS piece
            WHERE before <= %(max_chars)s
        ), '[]') AS pieces, (SELECT count(*) FROM own) AS chunks
        FROM target
        """
    )
    ids, hashes = document
    most = whole(max_chars, "max_chars", 0, MAX_INTEGER)
    params = {"ids": ids, "hashes": hashes, "collection": collection_or_all(collection)}
    found = yield from fetch_one(query, _Preview, **params, max_chars=most)
    if found is None:
        return None
    text = joined(found.pieces)
    return DocumentContent(
        id=found.id,
        resource_hash=found.resource_hash,
        display_name=found.display_name,
        mime_type=found.mime_type,
        size_bytes=found.size_bytes,
        text=text[:most],
        truncated=len(text) > most or len(found.pieces) < found.chunks,
    )


def joined(pieces: Iterable[list[Any]]) -> str:
    """Chunks as one text: what two share stands once, where something is missing a line ends."""
    text: list[str] = []
    end: int | None = None
    for content, start, stop in pieces:
        follows = not text or (end is not None and start is not None and start <= end)
        shared = end - start if follows and end is not None and start is not None else 0
        text.append(content[shared:] if follows else f"\n{content}")
        end = None if stop is None else max(stop, end or 0)
    return "".join(text)

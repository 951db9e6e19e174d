"""What a collection lacks of the catalog: taken up a few documents at a time, stored one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._chunks import rendered
from a2rchi_pg._content import clean_text
from a2rchi_pg._ingestion import finish
from a2rchi_pg._op import (
    Steps,
    execute,
    fetch,
    fetch_one,
    fetch_value,
    own_sql,
    read,
    upsert,
    write,
)
from a2rchi_pg._vectors import Vector, VectorArray
from a2rchi_pg.errors import DimensionMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from a2rchi_pg._splitting import Piece
    from a2rchi_pg.collections import Collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhashed:
    """A document whose collector didn't say what its content is: its file has to."""

    id: int
    file_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A document that the collection lacks, or has in another state.

    Attributes:
        taken: Whether it is ours now; else another manager was quicker.
        content: Fingerprint of the content it is to be made from.
        attempts: How often it was tried, this time included.
        chunk_count: How many chunks it had before; None where it never had any.
    """

    id: int
    resource_hash: str
    display_name: str
    source_type: str
    url: str | None
    file_path: str | None
    metadata: dict[str, Any]
    content: str | None
    taken: bool
    attempts: int | None
    chunk_count: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many live documents there are, and how many of them, and chunks, in the collection."""

    documents: int
    embedded: int
    chunks: int


@read
def unhashed_documents() -> Steps[list[Unhashed]]:
    """The live documents with a file and without a ``content_hash``."""
    query = """
        SELECT id, file_path
        FROM documents
        WHERE deleted_at IS NULL AND content_hash IS NULL AND file_path IS NOT NULL
        ORDER BY id
    """
    return (yield from fetch(query, Unhashed))


@read
def standing(collection: Collection) -> Steps[Standing]:
    """Where the collection stands."""
    query = """
        SELECT count(*) AS documents, count(*) FILTER (WHERE i.status = 'embedded') AS embedded,
               coalesce(sum(i.chunk_count), 0) AS chunks
        FROM documents AS d LEFT JOIN indexed_documents AS i
            ON i.document_id = d.id AND i.collection_id = %(collection_id)s
        WHERE d.deleted_at IS NULL
    """
    found = yield from fetch_one(query, Standing, collection_id=collection.id)
    return found or Standing(documents=0, embedded=0, chunks=0)


# Asked once to find documents, and once more of the row as it is when it is ours to change.
_IS_DUE = """
    (i.status = 'pending'
     OR i.status = 'embedded' AND (i.content_fingerprint, i.embedding_fingerprint)
        IS DISTINCT FROM ({content}, %(embedding)s::text)
     OR i.status IN ('embedding', 'failed') AND coalesce(i.leased_until < clock_timestamp(), true))
"""
_DUE = own_sql("""
    WITH due AS MATERIALIZED (
        SELECT d.id, coalesce(d.content_hash, given.fingerprint) AS content
        FROM documents AS d
        LEFT JOIN unnest(%(ids)s::bigint[], %(fingerprints)s::text[]) AS given (id, fingerprint)
            USING (id)
        LEFT JOIN indexed_documents AS i
            ON i.document_id = d.id AND i.collection_id = %(collection_id)s
        WHERE d.deleted_at IS NULL AND d.id > %(after)s
            AND (i.document_id IS NULL OR {found_due})
        ORDER BY d.id
        LIMIT %(limit)s
    )
""").format(
    found_due=own_sql(_IS_DUE).format(
        content=sql.SQL("coalesce(d.content_hash, given.fingerprint)")
    )
)
_COUNT = (_DUE + sql.SQL("SELECT count(*) FROM due")).as_bytes(None)
_CLAIM = (
    _DUE
    + own_sql("""
    , taken AS (
        INSERT INTO indexed_documents AS i
            (collection_id, document_id, status, attempts, leased_by, leased_until)
        SELECT %(collection_id)s, id, 'embedding', 1, %(owner)s::text,
               clock_timestamp() + make_interval(secs => %(seconds)s)
        FROM due
        ORDER BY id
        ON CONFLICT (collection_id, document_id) DO UPDATE
        SET status = 'embedding', error = NULL, attempts = i.attempts + 1,
            leased_by = excluded.leased_by, leased_until = excluded.leased_until
        WHERE {still_due}
        RETURNING document_id, attempts, chunk_count
    )
    SELECT d.id, d.resource_hash, d.display_name, d.source_type, d.url, d.file_path, d.metadata,
           due.content, taken.document_id IS NOT NULL AS taken, taken.attempts, taken.chunk_count
    FROM due JOIN documents AS d USING (id) LEFT JOIN taken ON taken.document_id = d.id
    ORDER BY d.id
""").format(
        still_due=own_sql(_IS_DUE).format(
            content=sql.SQL("(SELECT content FROM due WHERE due.id = i.document_id)")
        )
    )
).as_bytes(None)


@write
def adopt(collection: Collection, files: Mapping[int, str], embedding: str) -> Steps[None]:
    """Take what others embedded without a word of what it was made from as made from what is there.

    So is all that was brought over from another store: a later change is noticed, and nothing is
    embedded for the move.
    """
    query = """
        UPDATE indexed_documents AS i
        SET content_fingerprint = coalesce(d.content_hash, given.fingerprint),
            embedding_fingerprint = %(embedding)s
        FROM documents AS d
        LEFT JOIN unnest(%(ids)s::bigint[], %(fingerprints)s::text[]) AS given (id, fingerprint)
            USING (id)
        WHERE i.collection_id = %(collection_id)s AND i.document_id = d.id
            AND i.status = 'embedded'
            AND i.content_fingerprint IS NULL AND i.embedding_fingerprint IS NULL
    """
    yield from execute(
        query,
        collection_id=collection.id,
        ids=list(files),
        fingerprints=list(files.values()),
        embedding=embedding,
    )


@read
def count_due(collection: Collection, files: Mapping[int, str], embedding: str) -> Steps[int]:
    """How many documents the collection lacks."""
    params = _due(collection, files, embedding, 0, None)
    return int((yield from fetch_value(_COUNT, **params)))


@upsert
def claim(
    collection: Collection,
    files: Mapping[int, str],
    embedding: str,
    after: int,
    limit: int,
    owner: str,
    seconds: float,
) -> Steps[list[Due]]:
    """Take up the next documents that the collection lacks; none are left where none is returned.

    Args:
        collection: The collection.
        files: Fingerprints of the files of documents that have no ``content_hash``.
        embedding: Fingerprint of splitter and model.
        after: The id of the last document seen.
        limit: How many at most.
        owner: Who takes them.
        seconds: For how long.
    """
    params = _due(collection, files, embedding, after, limit)
    return (yield from fetch(_CLAIM, Due, owner=owner, seconds=seconds, **params))


def _due(
    collection: Collection, files: Mapping[int, str], embedding: str, after: int, limit: int | None
) -> dict[str, Any]:
    return {
        "collection_id": collection.id,
        "ids": list(files),
        "fingerprints": list(files.values()),
        "embedding": embedding,
        "after": after,
        "limit": limit,
    }


@upsert
def replace_chunks(
    collection: Collection,
    document: Due,
    pieces: Sequence[Piece],
    metadatas: Sequence[str],
    vectors: Vector,
    owner: str,
    embedding: str,
) -> Steps[None]:
    """A document's new chunks in place of its old ones, and its state, in one transaction.

    What has their ids goes too, whosever it is: added anew by the host, it is of no document.

    Raises:
        IllegalTransition: If the owner doesn't hold it any more; nothing was written.
    """
    check_dimensions(collection, vectors)
    yield from finish(collection.name, document.id, owner, len(pieces), document.content, embedding)
    ids = [f"{document.resource_hash}-{n:06}" for n in range(len(pieces))]
    yield from execute(_delete_sql(collection), document_id=document.id, ids=ids)
    yield from execute(
        _insert_sql(collection),
        document_id=document.id,
        ids=ids,
        starts=[piece.start for piece in pieces],
        ends=[piece.end for piece in pieces],
        contents=[piece.text for piece in pieces],
        metadatas=list(metadatas),
        vectors=VectorArray(vectors),
    )


def check_dimensions(collection: Collection, vectors: Vector) -> None:
    """Whether ``(n, dim)`` vectors fit a collection.

    Raises:
        DimensionMismatch: If they don't.
    """
    if vectors.shape[1] != collection.dimensions:
        raise DimensionMismatch(
            f"collection {collection.name!r} holds vectors of {collection.dimensions} dimensions, "
            f"the model makes {vectors.shape[1]}",
            expected=collection.dimensions,
            got=vectors.shape[1],
        )


@lru_cache(maxsize=128)
def _delete_sql(collection: Collection) -> bytes:
    """All rows are of the collection; told so, a planner without statistics reads its whole key."""
    return rendered(
        """
        WITH own AS (
            DELETE FROM {partition}
            WHERE document_id = %(document_id)s
        )
        DELETE FROM {partition}
        WHERE collection_id = {collection_id} AND id = ANY(%(ids)s::text[])
        """,
        collection,
    )


@lru_cache(maxsize=128)
def _insert_sql(collection: Collection) -> bytes:
    return rendered(
        """
        INSERT INTO {partition} (collection_id, document_id, chunk_index, start_char, end_char, id,
                                 content, metadata, embedding)
        SELECT {collection_id}, %(document_id)s, n - 1, start_char, end_char, id, content,
               metadata::jsonb, embedding
        FROM unnest(%(ids)b::text[], %(starts)s::int[], %(ends)s::int[], %(contents)b::text[],
                    %(metadatas)b::text[], %(vectors)b::vector[])
            WITH ORDINALITY AS t (id, start_char, end_char, content, metadata, embedding, n)
        """,
        collection,
    )


@write
def remove_deleted(collection: Collection) -> Steps[int]:
    """Take what was deleted in the catalog out of the collection; how many documents there were."""
    return int((yield from fetch_value(_remove_sql(collection))))


@lru_cache(maxsize=128)
def _remove_sql(collection: Collection) -> bytes:
    return rendered(
        """
        WITH gone AS (
            DELETE FROM indexed_documents AS i
            USING documents AS d
            WHERE d.id = i.document_id AND d.deleted_at IS NOT NULL
                AND i.collection_id = {collection_id}
                AND (i.status <> 'embedding' OR coalesce(i.leased_until < clock_timestamp(), true))
            RETURNING i.document_id
        ),
        emptied AS (
            DELETE FROM {partition}
            WHERE collection_id = {collection_id}
                AND document_id IN (SELECT document_id FROM gone)
        )
        SELECT count(*) FROM gone
        """,
        collection,
    )


@write
def server_time() -> Steps[datetime]:
    """Now, by the clock of the server that is written to."""
    now: datetime = yield from fetch_value("SELECT clock_timestamp()")
    return now


@write
def delete_missing(base_path: str, present: Sequence[str], listed_at: datetime) -> Steps[int]:
    """Delete a folder's documents in the catalog but for those hashes; how many there were.

    What was recorded since the folder was listed stays: another manager saw it.
    """
    query = """
        WITH gone AS (
            UPDATE documents SET deleted_at = now(), updated_at = now()
            WHERE source_type = 'local_files' AND base_path = %(base_path)s
                AND deleted_at IS NULL AND updated_at < %(listed_at)s
                AND resource_hash <> ALL(%(present)s::text[])
            RETURNING id
        )
        SELECT count(*) FROM gone
    """
    params = {"base_path": clean_text(base_path), "listed_at": listed_at}
    return int((yield from fetch_value(query, **params, present=list(present))))

"""How far each document has come into each collection: a state machine that the database checks.

    (unknown), pending ──▶ embedding ──▶ embedded
                            │  ▲   ▲        │
                 pending ◀──┤  │   └────────┘
                            └──▶ failed ──▶ pending

Every step is one statement that names the states it may start from, so two managers never both take
it. Whoever embeds holds a lease; where it ran out, the document may be taken by another.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from a2rchi_pg._arguments import MAX_INTEGER, collection_name, number, row_id, text, whole
from a2rchi_pg._content import clean_text, optional_text
from a2rchi_pg._op import Steps, fetch, fetch_tuples, fetch_value, read, write
from a2rchi_pg.errors import IllegalTransition, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from a2rchi_pg._documents import Status

MAX_ERROR = 2000  # characters
FINGERPRINT = 16  # characters each of a model's and of a splitter's


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """How far a document has come into a collection.

    Attributes:
        status: ``"pending"``, ``"embedding"``, ``"embedded"`` or ``"failed"``.
        error: Why it failed; None in every other state.
        attempts: How often it was taken up since it was last embedded.
        content_fingerprint: Of the content that its chunks were made from.
        embedding_fingerprint: Of the splitter and the model that made them.
        chunk_count: How many chunks it has.
        indexed_at: When it was last embedded.
        leased_by: Who is embedding it.
        leased_until: When that one is given up; of a failed one, when it may be tried again.
    """

    document_id: int
    resource_hash: str
    status: Status
    error: str | None
    attempts: int
    content_fingerprint: str | None
    embedding_fingerprint: str | None
    chunk_count: int | None
    indexed_at: datetime | None
    leased_by: str | None
    leased_until: datetime | None


def embedding_fingerprint(model: str | None, splitter: str) -> str:
    """What tells the chunks of one model and splitter from others; see :func:`carry_over`."""
    return model_fingerprint(model) + _short_hash(splitter)


def model_fingerprint(model: str | None) -> str:
    """The part of an embedding fingerprint that is the model's."""
    return _short_hash(str(model))


def _short_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:FINGERPRINT]


@read
def ingestion(collection: str, ids: Sequence[int], hashes: Sequence[str]) -> Steps[list[Ingestion]]:
    """What is recorded of these documents, in no particular order; nothing where nothing is."""
    query = """
        SELECT document_id, resource_hash, status, error, attempts, content_fingerprint,
               embedding_fingerprint, chunk_count, i.indexed_at, leased_by, leased_until
        FROM indexed_documents AS i JOIN documents AS d ON d.id = i.document_id
        WHERE i.collection_id = (SELECT id FROM collections WHERE name = %(collection)s)
            AND (d.id = ANY(%(ids)s::bigint[]) OR d.resource_hash = ANY(%(hashes)s::text[]))
    """
    name = collection_name(collection)
    return (yield from fetch(query, Ingestion, collection=name, ids=list(ids), hashes=list(hashes)))


@write
def begin(
    collection: str, ids: Sequence[int], hashes: Sequence[str], owner: str, lease: float
) -> Steps[list[Ingestion]]:
    """Take documents up: → embedding. What another holds, is to wait, or is deleted stays out."""
    params = {"owner": check_owner(owner), "seconds": check_lease(lease)}
    collection_id = yield from _existing(collection)
    query = """
        WITH wanted AS (
            SELECT id, resource_hash FROM documents
            WHERE deleted_at IS NULL
                AND (id = ANY(%(ids)s::bigint[]) OR resource_hash = ANY(%(hashes)s::text[]))
            ORDER BY id
        ),
        taken AS (
            INSERT INTO indexed_documents AS i
                (collection_id, document_id, status, attempts, leased_by, leased_until)
            SELECT %(collection_id)s, id, 'embedding', 1, %(owner)s::text,
                   clock_timestamp() + make_interval(secs => %(seconds)s)
            FROM wanted
            ON CONFLICT (collection_id, document_id) DO UPDATE
            SET status = 'embedding', error = NULL, attempts = i.attempts + 1,
                leased_by = excluded.leased_by, leased_until = excluded.leased_until
            WHERE i.status IN ('pending', 'embedded')
                OR coalesce(i.leased_until < clock_timestamp(), true)
            RETURNING i.*
        )
        SELECT t.document_id, w.resource_hash, t.status, t.error, t.attempts, t.content_fingerprint,
               t.embedding_fingerprint, t.chunk_count, t.indexed_at, t.leased_by, t.leased_until
        FROM taken AS t JOIN wanted AS w ON w.id = t.document_id
        ORDER BY t.document_id
    """
    rows = fetch(
        query,
        Ingestion,
        collection_id=collection_id,
        ids=list(ids),
        hashes=list(hashes),
        **params,
    )
    return (yield from rows)


@write
def finish(
    collection: str,
    document_id: int,
    owner: str,
    chunk_count: int,
    content_fingerprint: str | None,
    embedding_fingerprint: str | None,
) -> Steps[None]:
    """Embedding → embedded, by whoever took it up."""
    query = """
        UPDATE indexed_documents
        SET status = 'embedded', error = NULL, attempts = 0, chunk_count = %(chunk_count)s,
            content_fingerprint = %(content)s, embedding_fingerprint = %(embedding)s,
            indexed_at = clock_timestamp(), leased_by = NULL, leased_until = NULL
        WHERE collection_id = (SELECT id FROM collections WHERE name = %(collection)s)
            AND document_id = %(document_id)s AND status = 'embedding' AND leased_by = %(owner)s
        RETURNING document_id
    """
    done = yield from fetch_value(
        query,
        collection=collection_name(collection),
        document_id=row_id(document_id, "document_id"),
        owner=check_owner(owner),
        chunk_count=whole(chunk_count, "chunk_count", 0, MAX_INTEGER),
        content=optional_text(content_fingerprint, "content_fingerprint"),
        embedding=optional_text(embedding_fingerprint, "embedding_fingerprint"),
    )
    if done is None:
        yield from _refuse(collection, document_id, owner, "embedded")


@write
def fail(
    collection: str, document_id: int, owner: str, error: str, retry_after: float
) -> Steps[None]:
    """Embedding → failed, by whoever took it up; chunks there were before stay as they are."""
    query = """
        UPDATE indexed_documents
        SET status = 'failed', error = %(error)s, leased_by = NULL,
            leased_until = clock_timestamp() + make_interval(secs => %(retry_after)s)
        WHERE collection_id = (SELECT id FROM collections WHERE name = %(collection)s)
            AND document_id = %(document_id)s AND status = 'embedding' AND leased_by = %(owner)s
        RETURNING document_id
    """
    done = yield from fetch_value(
        query,
        collection=collection_name(collection),
        document_id=row_id(document_id, "document_id"),
        owner=check_owner(owner),
        error=check_reason(error),
        retry_after=number(retry_after, "retry_after", 0, MAX_INTEGER),
    )
    if done is None:
        yield from _refuse(collection, document_id, owner, "failed")


@write
def renew(collection: str, owner: str, lease: float) -> Steps[int]:
    """Hold on for longer to all that an owner is embedding; how many documents that is."""
    query = """
        WITH held AS (
            UPDATE indexed_documents
            SET leased_until = clock_timestamp() + make_interval(secs => %(seconds)s)
            WHERE collection_id = (SELECT id FROM collections WHERE name = %(collection)s)
                AND status = 'embedding' AND leased_by = %(owner)s
            RETURNING document_id
        )
        SELECT count(*) FROM held
    """
    params = {"collection": collection_name(collection), "owner": check_owner(owner)}
    return int((yield from fetch_value(query, **params, seconds=check_lease(lease))))


@write
def retry(
    collection: str, documents: tuple[list[int], list[str]] | None, status: Status
) -> Steps[int]:
    """Failed or embedded → pending, of these documents or of all; how many there were."""
    query = """
        WITH again AS (
            UPDATE indexed_documents
            SET status = 'pending', error = NULL, attempts = 0, leased_until = NULL
            WHERE collection_id = %(collection_id)s AND status = %(status)s
                AND (%(every)s OR document_id IN (
                    SELECT id FROM documents
                    WHERE id = ANY(%(ids)s::bigint[]) OR resource_hash = ANY(%(hashes)s::text[])
                ))
            RETURNING document_id
        )
        SELECT count(*) FROM again
    """
    check_retried(status)
    ids, hashes = documents or ([], [])
    params = {"every": documents is None, "ids": ids, "hashes": hashes, "status": status}
    collection_id = yield from _existing(collection)
    return int((yield from fetch_value(query, collection_id=collection_id, **params)))


@write
def release(collection: str, owner: str) -> Steps[int]:
    """Embedding → pending, of all that an owner holds and won't finish; how many there were."""
    query = """
        WITH released AS (
            UPDATE indexed_documents
            SET status = 'pending', leased_by = NULL, leased_until = NULL
            WHERE collection_id = (SELECT id FROM collections WHERE name = %(collection)s)
                AND status = 'embedding' AND leased_by = %(owner)s
            RETURNING document_id
        )
        SELECT count(*) FROM released
    """
    params = {"collection": collection_name(collection), "owner": check_owner(owner)}
    return int((yield from fetch_value(query, **params)))


def _existing(collection: str) -> Steps[int]:
    query = "SELECT id FROM collections WHERE name = %(collection)s"
    collection_id = yield from fetch_value(query, collection=collection_name(collection))
    if collection_id is None:
        raise NotFound(f"there is no collection {collection!r}")
    return int(collection_id)


def _refuse(collection: str, document_id: int, owner: str, wanted: str) -> Steps[None]:
    """Say why a document can't go on to the wanted state."""
    query = """
        SELECT status, leased_by
        FROM indexed_documents
        WHERE collection_id = (SELECT id FROM collections WHERE name = %(collection)s)
            AND document_id = %(document_id)s
    """
    rows = yield from fetch_tuples(query, collection=collection, document_id=document_id)
    status, holder = rows[0] if rows else ("pending", None)
    held = f" by {holder!r}, not {owner!r}" if status == "embedding" else ""
    raise IllegalTransition(
        f"document {document_id} in {collection!r} is {status}{held}: it can't become {wanted}. "
        "Only who holds it in 'embedding' may finish it"
    )


def check_owner(owner: object) -> str:
    """Who embeds, which must be a non-empty string."""
    return text(owner, "owner", 1)


def check_lease(seconds: object) -> float:
    """For how long somebody embeds, in seconds."""
    return number(seconds, "lease", 0, MAX_INTEGER)


def check_reason(error: str) -> str:
    """Why a document failed: clean, not empty and not too long."""
    reason = clean_text(error)[:MAX_ERROR]
    if not reason.strip():
        raise InvalidInput("say why it failed: error is empty")
    return reason


def check_retried(status: object) -> None:
    """Refuse a state from which no command leads back to pending."""
    if status not in ("failed", "embedded"):
        raise IllegalTransition(
            f"documents that are {status!r} can't be made pending: 'failed' and 'embedded' ones can"
        )

"""A page of the catalog as one statement.

It has three parts. ``found`` is what free text finds, if any was given; ``counted`` counts what
meets the conditions, by an index-only scan; the page itself is read in the order of an index and
only then looks up each document's status and what was chosen for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from psycopg import sql

from a2rchi_pg._documents import COLUMNS, CatalogDocument, Status
from a2rchi_pg._listing import SORTS, Listing, Sort
from a2rchi_pg._op import Statement, Steps, own_sql, read
from a2rchi_pg._scope import CONVERSATION_CHOICE, USER_CHOICE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from psycopg._cursor_base import BaseCursor

Decider: TypeAlias = Literal["conversation", "user", "system", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDocument(CatalogDocument):
    """A document with its state in one collection, or the worst of all, and who may see it.

    Attributes:
        status: ``"failed"``, ``"embedding"``, ``"pending"`` or ``"embedded"``; what was never taken
            up is pending.
        error: Why it failed.
        attempts: How often it was tried.
        chunk_count: How many chunks it has.
        indexed_at: When it was last embedded.
        user_default: What the user chose; None where nothing was chosen.
        conversation_override: What was chosen for the conversation; None where nothing was.
    """

    status: Status
    error: str | None
    attempts: int
    chunk_count: int
    indexed_at: datetime | None
    user_default: bool | None
    conversation_override: bool | None

    @property
    def effective(self) -> bool:
        """Whether searches of that user and conversation see it."""
        return {
            "deleted": False,
            "conversation": self.conversation_override is True,
            "user": self.user_default is True,
            "system": self.enabled,
        }[self.decided_by]

    @property
    def decided_by(self) -> Decider:
        """What says so: the narrowest tier that is set, or that it was deleted."""
        if self.deleted_at is not None:
            return "deleted"
        if self.conversation_override is not None:
            return "conversation"
        return "system" if self.user_default is None else "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPage:
    """A page of documents.

    Attributes:
        documents: The documents, in order.
        total: How many there are on all pages together; None where that wasn't asked for.
        next: Where the next page starts, to be given as ``after``; None at the end.
    """

    documents: list[ListedDocument]
    total: int | None
    next: str | None


@read
def list_documents(listing: Listing) -> Steps[DocumentPage]:
    """One page, how many documents there are on all of them, and where the next begins."""
    key, id_ = listing.after or (None, None)
    params = {
        **listing.params,
        **listing.condition.params,
        "search": listing.search,
        "limit": listing.limit + 1,
        "offset": listing.offset,
        "after_key": key,
        "after_id": id_,
    }
    shape = _Shape(
        condition=listing.condition.sql,
        sort=listing.sort,
        descending=listing.descending,
        searched=listing.search is not None,
        after=listing.after is not None,
        with_total=listing.with_total,
        for_user=listing.params["user_id"] is not None,
        for_conversation=listing.params["conversation_id"] is not None,
    )
    rows = yield Statement(query=_page_sql(shape), params=params, row_factory=_page_row)
    found = [(key, document) for _, key, document in rows if document is not None]
    shown = found[: listing.limit]
    return DocumentPage(
        documents=[document for _, document in shown],
        total=rows[0][0],
        next=_cursor(listing, *shown[-1]) if shown and len(found) > len(shown) else None,
    )


_PAGE = """
    {found}
    SELECT counted.total, page.*
    FROM (SELECT {count} AS total) AS counted
    LEFT JOIN (
        SELECT document.sort_key, {columns}, coalesce(state.status, 'pending') AS status,
               state.error, coalesce(state.attempts, 0) AS attempts,
               coalesce(state.chunk_count, 0) AS chunk_count, state.indexed_at,
               {user} AS user_default, {conversation} AS conversation_override
        FROM (
            SELECT *, {key} AS sort_key
            FROM {source}
            WHERE {condition} {after}
            ORDER BY sort_key {direction}, id {direction}
            LIMIT %(limit)s OFFSET %(offset)s
        ) AS document
        LEFT JOIN LATERAL (
            SELECT i.status, i.error, i.attempts, i.indexed_at,
                   (sum(i.chunk_count) OVER ())::integer AS chunk_count
            FROM indexed_documents AS i
            WHERE i.document_id = document.id AND (%(collection)s::text IS NULL OR i.collection_id =
                (SELECT c.id FROM collections AS c WHERE c.name = %(collection)s::text))
            ORDER BY array_position('{{failed,embedding,pending,embedded}}', i.status)
            LIMIT 1
        ) AS state ON true
    ) AS page ON true
    ORDER BY page.sort_key {direction}, page.id {direction}
"""
_COUNT = "(SELECT count(*) FROM {source} WHERE {condition})"
_FOUND = (
    "WITH found AS MATERIALIZED (SELECT document_id, score FROM search_documents(%(search)s::text))"
)
_JOINED = "documents JOIN found ON found.document_id = documents.id"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """All that the text of a page's statement depends on."""

    condition: str
    sort: Sort
    descending: bool
    searched: bool
    after: bool
    with_total: bool
    for_user: bool
    for_conversation: bool


@lru_cache(maxsize=256)
def _page_sql(shape: _Shape) -> bytes:
    key, kind = SORTS[shape.sort]
    beyond = "<" if shape.descending else ">"
    past = f"AND ({key}, id) {beyond} (%(after_key)s::{kind}, %(after_id)s::bigint)"
    parts = {
        "source": own_sql(_JOINED if shape.searched else "documents"),
        "condition": own_sql(shape.condition),
    }
    return (
        own_sql(_PAGE)
        .format(
            found=own_sql(_FOUND if shape.searched else ""),
            count=own_sql(_COUNT).format(**parts) if shape.with_total else sql.NULL,
            columns=own_sql(", ".join(f"document.{name}" for name in COLUMNS.split(", "))),
            user=_choice(USER_CHOICE, shape.for_user),
            conversation=_choice(CONVERSATION_CHOICE, shape.for_conversation),
            key=own_sql(key),
            after=own_sql(past if shape.after else ""),
            direction=own_sql("DESC" if shape.descending else "ASC"),
            **parts,
        )
        .as_bytes(None)
    )


def _choice(of_tier: str, is_asked: bool) -> sql.SQL:
    return own_sql(of_tier.format(document="document.id") if is_asked else "NULL::boolean")


_LISTED = [each.name for each in fields(ListedDocument)]


def _page_row(cursor: BaseCursor[Any, Any]) -> Callable[[Sequence[Any]], Any]:
    """Rows as total, sort key and document; the document is None where the page is empty."""
    names = [column.name for column in cursor.description or ()]

    def make(values: Sequence[Any]) -> tuple[int | None, Any, ListedDocument | None]:
        row = dict(zip(names, values, strict=True))
        listed = {name: row[name] for name in _LISTED}
        document = None if row["id"] is None else ListedDocument(**listed)
        return row["total"], row["sort_key"], document

    return make


def _cursor(listing: Listing, key: object, document: ListedDocument) -> str:
    return json.dumps([listing.sort, listing.descending, str(key), document.id])

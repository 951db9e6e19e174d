"""What a page of the catalog is to show: options, checked and made conditions of a statement."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from a2rchi_pg._arguments import MAX_INTEGER, collection_or_all, page_size, row_id, shown, whole
from a2rchi_pg._content import clean_text
from a2rchi_pg._document_filter import document_filter
from a2rchi_pg._documents import STATUSES, Status, source_type_of
from a2rchi_pg._filters import EVERYTHING, Condition
from a2rchi_pg._scope import all_of, hidden, scope_params
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

Sort: TypeAlias = Literal["relevance", "name", "modified", "added", "size"]

MAX_SEARCH = 1000  # characters
MAX_WORDS = 32

# The very expressions that the indexes of sql/0002_documents.sql are on, and their types.
SORTS: dict[str, tuple[str, str]] = {
    "relevance": ("score", "real"),
    "name": ("lower(left(display_name, 200))", "text"),
    "modified": (
        "coalesce(source_modified_at, source_created_at, ingested_at, created_at)",
        "timestamptz",
    ),
    "added": ("created_at", "timestamptz"),
    "size": ("coalesce(size_bytes, 0)", "bigint"),
}


class ListOptions(TypedDict, total=False):
    """What a page of documents shows; every option may be left out.

    Attributes:
        search: Free text. Every word must be found in the name, the addresses and paths, the ids or
            the values of the metadata: anywhere, and nearly so where nothing else is found, if the
            server has pg_trgm; at the start of words if it doesn't.
        source_type: One kind of source; the older words are understood.
        status: ``"pending"``, ``"embedding"``, ``"embedded"`` or ``"failed"``.
        collection: In which collection; otherwise the worst state of all counts.
        filter: Columns and metadata, as for chunks: ``{"$or": [{"suffix": "md"}, …]}``. Every
            column can stand here: ``origin``, ``relative_path``, ``created_at`` …
        user_id: Whose selection counts.
        conversation_id: Which conversation's selection counts.
        client_id: Of which client that conversation has to be, if it is no user's.
        enabled: Only what that user and conversation see, or only what they don't.
        deleted: Deleted documents instead of live ones; None for both.
        sort: ``"name"``, ``"modified"`` (at the source, as far as it is known), ``"added"``,
            ``"size"`` or, with ``search`` and then the default, ``"relevance"``.
        descending: Names go up and all else down, unless this says.
        limit: How many at most: 50, or up to 10,000.
        offset: How many to pass over.
        after: The page before's ``next``. Unlike ``offset`` it costs the same on every page, and
            nothing is shown twice or missed when documents come and go.
        with_total: Count what is on all pages together; saves some time where False.
    """

    search: str | None
    source_type: str | None
    status: Status | None
    collection: str | None
    filter: Mapping[str, Any] | None
    user_id: str | None
    conversation_id: int | None
    client_id: str | None
    enabled: bool | None
    deleted: bool | None
    sort: Sort | None
    descending: bool | None
    limit: int
    offset: int
    after: str | None
    with_total: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a page is to show, checked; the statement's text depends on no value in it."""

    search: str | None
    condition: Condition
    sort: Sort
    descending: bool
    limit: int
    offset: int
    after: tuple[str, int] | None
    with_total: bool
    params: Mapping[str, Any]


def listing(
    *,
    search: str | None = None,
    source_type: str | None = None,
    status: Status | None = None,
    collection: str | None = None,
    filter: Mapping[str, Any] | None = None,  # noqa: A002 - as everywhere
    user_id: str | None = None,
    conversation_id: int | None = None,
    client_id: str | None = None,
    enabled: bool | None = None,
    deleted: bool | None = False,
    named: Condition = EVERYTHING,
    sort: Sort | None = None,
    descending: bool | None = None,
    limit: int = 50,
    offset: int = 0,
    after: str | None = None,
    with_total: bool = True,
) -> Listing:
    """Check what a caller asked to see; ``named`` is the condition that names single documents.

    Raises:
        InvalidInput: If an argument is out of range; names it.
        FilterError: If the filter can't be understood.
    """
    text = None if search is None else check_search(search)
    sort = sort or ("name" if text is None else "relevance")
    if sort not in SORTS or (sort == "relevance" and text is None):
        raise InvalidInput(f"sort must be one of {', '.join(SORTS)}; got {sort!r}, search={text!r}")
    conditions = [
        _DELETED[deleted],
        named,
        _typed(source_type),
        _in_state(status),
        document_filter(filter),
        _enabled(
            enabled,
            hidden(user_id, conversation_id, client_id=client_id, include_deleted=True),
        ),
    ]
    down = sort != "name" if descending is None else descending
    return Listing(
        search=text,
        condition=all_of(*conditions),
        sort=sort,
        descending=down,
        limit=page_size(limit, 0),
        offset=whole(offset, "offset", 0, MAX_INTEGER),
        after=None if after is None else _position(after, sort, down),
        with_total=with_total,
        params={
            "collection": collection_or_all(collection),
            **scope_params(user_id, conversation_id, client_id),
        },
    )


_DELETED = {
    True: Condition(sql="deleted_at IS NOT NULL"),
    False: Condition(sql="deleted_at IS NULL"),
    None: EVERYTHING,
}


def check_search(text: object) -> str:
    """Free text for ``search_documents()``: its first words, up to a length."""
    words = clean_text(text)[:MAX_SEARCH].split()[:MAX_WORDS]
    return " ".join(words)


def _typed(source_type: str | None) -> Condition:
    if source_type is None:
        return EVERYTHING
    params = {"source_type": source_type_of(source_type)}
    return Condition(sql="source_type = %(source_type)s::text", params=params)


def _taken_up(status: str) -> str:
    """The ids of the documents with such a status, in the collection asked for or in any."""
    return (
        f"SELECT document_id FROM indexed_documents WHERE status {status}"  # noqa: S608 - ours
        " AND (%(collection)s::text IS NULL OR collection_id = "
        "(SELECT c.id FROM collections AS c WHERE c.name = %(collection)s::text))"
    )


# The worst state counts, and what is in no collection is pending.
_FAILED, _EMBEDDING = _taken_up("= 'failed'"), _taken_up("= 'embedding'")
_PENDING, _EMBEDDED = _taken_up("= 'pending'"), _taken_up("= 'embedded'")
_UNFINISHED, _EVER = _taken_up("<> 'embedded'"), _taken_up("IS NOT NULL")
_IN_STATE: dict[Status, str] = {
    "failed": f"id IN ({_FAILED})",
    "embedding": f"id IN ({_EMBEDDING}) AND id NOT IN ({_FAILED})",
    "pending": f"(id IN ({_PENDING}) OR id NOT IN ({_EVER}))"
    f" AND id NOT IN ({_FAILED}) AND id NOT IN ({_EMBEDDING})",
    "embedded": f"id IN ({_EMBEDDED}) AND id NOT IN ({_UNFINISHED})",
}


def _in_state(status: Status | None) -> Condition:
    if status is None:
        return EVERYTHING
    if status not in _IN_STATE:
        raise InvalidInput(f"status must be one of {', '.join(STATUSES)}; got {status!r}")
    return Condition(sql=_IN_STATE[status])


def _enabled(wanted: bool | None, off: Condition) -> Condition:
    if wanted is None:
        return EVERYTHING
    # IS TRUE keeps the planner from a join, at which it guesses badly how many there are.
    sql = f"id NOT IN ({off.sql})" if wanted else f"(id IN ({off.sql})) IS TRUE"
    return Condition(sql=sql, params=off.params)


def _position(after: str, sort: str, descending: bool) -> tuple[str, int]:
    """Where a page ended: its last sort key and id."""
    try:
        was_sort, was_descending, key, id_ = json.loads(after)
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput(f"after is the next of a page before, got {shown(after)}") from None
    if not isinstance(key, str) or clean_text(key) != key:
        raise InvalidInput(f"after is the next of a page before, got {shown(after)}")
    id_ = row_id(id_, "after")
    if (was_sort, was_descending) != (sort, descending):
        raise InvalidInput(f"after is of a page sorted by {was_sort!r}, this one is by {sort!r}")
    return key, id_

"""The catalog: listed, searched and read by everybody, deleted and restored by admins."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute, Refused, problems
from a2rchi_pg.api._shapes import Absent, After, InConversation, Limit, Shown, found

# A hash is the host's: it may hold slashes. So what ends in a word comes before what doesn't.
router = APIRouter(prefix="/documents", tags=["documents"], route_class=ProblemRoute)
admin = APIRouter(prefix="/documents", tags=["documents"], route_class=ProblemRoute)


class Document(Shown):
    """A document with its state, and which tier of the selection decides about it."""

    id: int
    resource_hash: str
    display_name: str
    source_type: str
    url: str | None
    ticket_id: str | None
    suffix: str | None
    mime_type: str | None
    size_bytes: int | None
    metadata: dict[str, Any]
    source_modified_at: datetime | None
    ingested_at: datetime | None
    deleted_at: datetime | None
    status: str
    error: str | None
    chunk_count: int
    indexed_at: datetime | None
    enabled: bool
    user_default: bool | None
    conversation_override: bool | None
    effective: bool
    decided_by: str


class Documents(Shown):
    """A page of documents; ``next`` is the next page's ``after``."""

    documents: list[Document]
    total: int | None
    next: str | None


class Content(Shown):
    """The beginning of a document's text."""

    resource_hash: str
    display_name: str
    mime_type: str | None
    size_bytes: int | None
    text: str
    truncated: bool


@router.get("", responses=problems(404))
async def documents(
    caller: Caller,
    search: Annotated[str | Absent, Query(max_length=1000)] = None,
    source_type: Annotated[str | Absent, Query(max_length=50)] = None,
    status: Literal["pending", "embedding", "embedded", "failed"] | Absent = None,
    conversation_id: InConversation = None,
    enabled: bool | Absent = None,
    sort: Literal["relevance", "name", "modified", "added", "size"] | Absent = None,
    descending: bool | Absent = None,
    limit: Limit = 50,
    after: After = None,
) -> Documents:
    """Live documents, with what you chose and what was chosen in a conversation of yours."""
    await caller.check_own(conversation_id)
    page = await caller.services.catalog.alist(
        search=search,
        source_type=source_type,
        status=status,
        user_id=caller.user_id,
        conversation_id=conversation_id,
        enabled=enabled,
        sort=sort,
        descending=descending,
        limit=limit,
        after=after,
    )
    return Documents.model_validate(page)


@router.get("/{resource_hash:path}/content", responses=problems(404))
async def content(
    resource_hash: str,
    caller: Caller,
    max_chars: Annotated[int, Query(ge=1, le=1_000_000)] = 100_000,
) -> Content:
    """The beginning of a document's text, put together from its chunks."""
    text = await caller.services.catalog.acontent(resource_hash, max_chars=max_chars)
    return Content.model_validate(found(text, "document"))


@router.get("/{resource_hash:path}", responses=problems(404))
async def document(
    resource_hash: str, caller: Caller, conversation_id: InConversation = None
) -> Document:
    """One live document."""
    await caller.check_own(conversation_id)
    selection = caller.services.selection
    named = await selection.aexplain(resource_hash, caller.user_id, conversation_id)
    if named is None or named.deleted_at is not None:
        raise _missing()
    return Document.model_validate(named)


@admin.delete("/{resource_hash:path}", status_code=204, responses=problems(404))
async def delete(resource_hash: str, caller: Caller) -> None:
    """Hide a document from listings and searches until it is restored."""
    if not await caller.services.catalog.adelete(resource_hash):
        raise _missing()


@admin.post("/{resource_hash:path}/restore", status_code=204, responses=problems(404))
async def restore(resource_hash: str, caller: Caller) -> None:
    """Bring a deleted document back."""
    if not await caller.services.catalog.arestore(resource_hash):
        raise _missing()


def _missing() -> Refused:
    return Refused(404, "not_found", "there is no such document")

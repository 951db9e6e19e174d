"""Your conversations."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute, Refused, problems
from a2rchi_pg.api._shapes import Absent, After, Id, Limit, Sent, Shown, cursor, found, read_cursor

router = APIRouter(prefix="/conversations", tags=["conversations"], route_class=ProblemRoute)


class Conversation(Shown):
    """A conversation without its messages."""

    conversation_id: int
    title: str | None
    created_at: datetime
    last_message_at: datetime
    message_count: int


class Conversations(Shown):
    """A page, the one last spoken in first; ``next`` is the next page's ``after``."""

    conversations: list[Conversation]
    next: str | None


class Titled(Sent):
    """A conversation's title, or none."""

    title: Annotated[str | None, Field(max_length=1000)] = None


@router.post("", status_code=201)
async def begin(new: Titled, caller: Caller) -> Conversation:
    """Begin a conversation."""
    return Conversation.model_validate(await caller.conversations.acreate(new.title))


@router.get("", responses=problems(400))
async def conversations(
    caller: Caller,
    search: Annotated[str | Absent, Query(min_length=1, max_length=1000)] = None,
    limit: Limit = 50,
    after: After = None,
) -> Conversations:
    """Your conversations, or those in which a message holds all words of ``search``."""
    mine, start = caller.conversations, read_cursor(after)
    if search is None:
        page = await mine.apage(limit=limit, after=start)
    else:
        page = await mine.asearch(search, limit=limit, after=start)
    return Conversations(
        conversations=[Conversation.model_validate(each) for each in page],
        next=cursor(*page[-1].cursor) if len(page) == limit else None,
    )


@router.get("/{conversation_id}", responses=problems(404))
async def conversation(conversation_id: Id, caller: Caller) -> Conversation:
    """One conversation of yours."""
    mine = await caller.conversations.aget(conversation_id)
    return Conversation.model_validate(found(mine, "conversation of yours"))


@router.patch("/{conversation_id}", status_code=204, responses=problems(404))
async def rename(conversation_id: Id, new: Titled, caller: Caller) -> None:
    """Give a conversation another title."""
    await caller.conversations.arename(conversation_id, new.title)


@router.delete("/{conversation_id}", status_code=204, responses=problems(404))
async def delete(conversation_id: Id, caller: Caller) -> None:
    """Delete a conversation with all that hangs on it."""
    if not await caller.conversations.adelete(conversation_id):
        raise Refused(404, "not_found", "there is no such conversation of yours")

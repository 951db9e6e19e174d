"""Which documents searches see: for everybody, for you, in a conversation of yours."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._documents import Documents
from a2rchi_pg.api._problems import ProblemRoute, problems
from a2rchi_pg.api._shapes import (
    MAX_CHOICES,
    Absent,
    After,
    BodyId,
    Count,
    Id,
    InConversation,
    Limit,
    Sent,
)

router = APIRouter(prefix="/selection", tags=["selection"], route_class=ProblemRoute)
admin = APIRouter(prefix="/selection", tags=["selection"], route_class=ProblemRoute)

Hashes = Annotated[
    list[str] | Absent,
    Query(max_length=MAX_CHOICES, description="Of these documents; else of all."),
]


class Choice(Sent):
    """Whether searches see a document, named by its hash or its id."""

    document: BodyId | Annotated[str, Field(min_length=1)]
    enabled: bool


class Choices(Sent):
    """One choice or many: all are stored, or none."""

    choices: Annotated[list[Choice], Field(min_length=1, max_length=MAX_CHOICES)]

    def by_document(self) -> dict[int | str, bool]:
        """As the repository takes them."""
        return {each.document: each.enabled for each in self.choices}


@router.get("", responses=problems(404))
async def effective(
    caller: Caller,
    conversation_id: InConversation = None,
    enabled: bool | Absent = None,
    limit: Limit = 50,
    after: After = None,
) -> Documents:
    """Documents by name, each with all three tiers and which of them decides."""
    await caller.check_own(conversation_id)
    page = await caller.services.selection.aeffective(
        caller.user_id, conversation_id, enabled=enabled, limit=limit, after=after
    )
    return Documents.model_validate(page)


@router.put("/user", responses=problems(404))
async def set_defaults(wanted: Choices, caller: Caller) -> Count:
    """Choose for all your conversations."""
    selection = caller.services.selection
    return Count(count=await selection.aset_user(caller.user_id, wanted.by_document()))


@router.delete("/user")
async def clear_defaults(caller: Caller, document: Hashes = None) -> Count:
    """Forget what you chose; how much that was."""
    selection = caller.services.selection
    return Count(count=await selection.aclear_user(caller.user_id, document))


@router.put("/conversations/{conversation_id}", responses=problems(404))
async def set_overrides(conversation_id: Id, wanted: Choices, caller: Caller) -> Count:
    """Choose for one conversation of yours."""
    stored = await caller.services.selection.aset_conversation(
        conversation_id, wanted.by_document(), user_id=caller.user_id
    )
    return Count(count=stored)


@router.delete("/conversations/{conversation_id}", responses=problems(404))
async def clear_overrides(conversation_id: Id, caller: Caller, document: Hashes = None) -> Count:
    """Forget what was chosen in a conversation of yours; how much that was."""
    gone = await caller.services.selection.aclear_conversation(
        conversation_id, document, user_id=caller.user_id
    )
    return Count(count=gone)


@admin.put("/system", responses=problems(404))
async def set_system(wanted: Choices, caller: Caller) -> Count:
    """Choose for everybody who didn't choose otherwise."""
    return Count(count=await caller.services.selection.aset_system(wanted.by_document()))

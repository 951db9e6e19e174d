"""Two answers to one question, and which is preferred."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter

from a2rchi_pg._comparisons import Candidate
from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute, problems
from a2rchi_pg.api._shapes import BodyId, Id, Sent, Shown, found

router = APIRouter(tags=["comparisons"], route_class=ProblemRoute)


class Answer(Sent):
    """One of the two answers; its message says what model and pipeline gave it."""

    message_id: BodyId


class NewComparison(Sent):
    """A question with two answers, all three of one conversation of yours."""

    user_prompt_message_id: BodyId
    a: Answer
    b: Answer
    is_config_a_first: bool = True


class Vote(Sent):
    """Which is preferred."""

    preference: Literal["a", "b", "tie", "skip"]


class Comparison(Shown):
    """A comparison, with its vote where there is one."""

    comparison_id: int
    conversation_id: int
    user_prompt_message_id: int
    response_a_message_id: int
    response_b_message_id: int
    model_a: str | None
    pipeline_a: str | None
    model_b: str | None
    pipeline_b: str | None
    is_config_a_first: bool
    preference: str | None
    preference_ts: datetime | None
    created_at: datetime


@router.get("/conversations/{conversation_id}/comparisons", responses=problems(404))
async def comparisons(
    conversation_id: Id, caller: Caller, pending_only: bool = False
) -> list[Comparison]:
    """The comparisons of a conversation of yours, oldest first."""
    await caller.check_own(conversation_id)
    mine = caller.conversations.comparisons
    stored = await mine.aof_conversation(conversation_id, pending_only=pending_only)
    return [Comparison.model_validate(each) for each in stored]


@router.post("/comparisons", status_code=201, responses=problems(404, 409))
async def compare(new: NewComparison, caller: Caller) -> Comparison:
    """Put two answers side by side."""
    stored = await caller.conversations.comparisons.acreate(
        new.user_prompt_message_id,
        Candidate(message_id=new.a.message_id),
        Candidate(message_id=new.b.message_id),
        is_config_a_first=new.is_config_a_first,
    )
    return Comparison.model_validate(stored)


@router.get("/comparisons/{comparison_id}", responses=problems(404))
async def comparison(comparison_id: Id, caller: Caller) -> Comparison:
    """One comparison of yours."""
    stored = await caller.conversations.comparisons.aget(comparison_id)
    return Comparison.model_validate(found(stored, "comparison of yours"))


@router.post("/comparisons/{comparison_id}/vote", responses=problems(404, 409))
async def vote(comparison_id: Id, wanted: Vote, caller: Caller) -> Comparison:
    """Say which answer is preferred; once."""
    mine = caller.conversations.comparisons
    return Comparison.model_validate(await mine.avote(comparison_id, wanted.preference))

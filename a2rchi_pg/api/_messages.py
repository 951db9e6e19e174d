"""What was said in your conversations, and what you think of it."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from a2rchi_pg._arguments import MAX_BIGINT, MIN_BIGINT
from a2rchi_pg._feedback import Flags
from a2rchi_pg._messages import NewMessage
from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute, Refused, problems
from a2rchi_pg.api._shapes import Absent, Id, Limit, Sent, Shown, found

router = APIRouter(tags=["messages"], route_class=ProblemRoute)

Next = Annotated[int | Absent, Query(ge=MIN_BIGINT, le=MAX_BIGINT)]
Text = Annotated[str, Field(min_length=1, max_length=1_000_000)]


class Message(Shown):
    """A message with the reaction to it."""

    message_id: int
    conversation_id: int
    role: str
    sender: str
    content: str
    model_used: str | None
    pipeline_used: str | None
    link: str
    ts: datetime
    reaction: str | None
    comment_count: int


class Question(Sent):
    """What you say. Answers are the host's to store: nobody puts words into its mouth here."""

    content: Text


class Said(Shown):
    """The id of what was stored."""

    message_id: int


class Opinion(Sent):
    """A reaction, of which a message has one, or a comment, of which it may have many."""

    feedback: Literal["like", "dislike", "comment"]
    text: Annotated[str | None, Field(max_length=100_000)] = None
    incorrect: bool = False
    unhelpful: bool = False
    inappropriate: bool = False


class Feedback(Shown):
    """What was thought of a message."""

    feedback_id: int
    message_id: int
    feedback: str
    feedback_msg: str | None
    incorrect: bool
    unhelpful: bool
    inappropriate: bool
    feedback_ts: datetime


@router.get("/conversations/{conversation_id}/messages", responses=problems(404))
async def messages(
    conversation_id: Id, caller: Caller, limit: Limit = 100, before: Next = None, after: Next = None
) -> list[Message]:
    """The newest messages, or those next to one of them; the oldest comes first."""
    said = await caller.conversations.messages.awindow(
        conversation_id, limit=limit, before=before, after=after
    )
    return [Message.model_validate(each) for each in said]


@router.post("/conversations/{conversation_id}/messages", status_code=201, responses=problems(404))
async def say(conversation_id: Id, question: Question, caller: Caller) -> Said:
    """Add what you say to the end of a conversation of yours."""
    new = NewMessage(role="user", content=question.content)
    return Said(message_id=await caller.conversations.messages.aadd(conversation_id, new))


@router.get("/messages/{message_id}", responses=problems(404))
async def message(message_id: Id, caller: Caller) -> Message:
    """One message."""
    said = await caller.conversations.messages.aget(message_id)
    return Message.model_validate(found(said, "message of yours"))


@router.get("/messages/{message_id}/feedback", responses=problems(404))
async def feedback(message_id: Id, caller: Caller) -> list[Feedback]:
    """The reaction to a message and the comments on it, oldest first."""
    mine = caller.conversations
    found(await mine.messages.aget(message_id), "message of yours")
    return [Feedback.model_validate(each) for each in await mine.feedback.aof_message(message_id)]


@router.post("/messages/{message_id}/feedback", status_code=201, responses=problems(404))
async def give_feedback(message_id: Id, opinion: Opinion, caller: Caller) -> Feedback:
    """Like, dislike or comment; a reaction takes the place of the one there was."""
    given = caller.conversations.feedback
    flags = Flags(
        incorrect=opinion.incorrect,
        unhelpful=opinion.unhelpful,
        inappropriate=opinion.inappropriate,
    )
    if opinion.feedback == "comment":
        entry = await given.acomment(message_id, opinion.text or "", flags)
    else:
        entry = await given.areact(message_id, opinion.feedback, opinion.text, flags)
    return Feedback.model_validate(entry)


@router.delete("/messages/{message_id}/feedback", status_code=204, responses=problems(404))
async def withdraw_reaction(message_id: Id, caller: Caller) -> None:
    """Take the reaction back; comments stay."""
    if not await caller.conversations.feedback.awithdraw(message_id):
        raise Refused(404, "not_found", "there is no reaction of yours to this message")

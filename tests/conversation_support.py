"""Conversations to test with: an owner of its own for each test, and one of everything."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING

from a2rchi_pg import Candidate, ConversationRepository, NewMessage, Owner, ToolCall

if TYPE_CHECKING:
    from a2rchi_pg import Comparison, Conversation, Database, Trace


def new_owner() -> Owner:
    return Owner(user_id=f"user-{token_hex(6)}", client_id=f"client-{token_hex(6)}")


def question(content: str = "Why does my job wait?", **rest) -> NewMessage:
    return NewMessage(role="user", content=content, **rest)


def answer(content: str = "The queue is full.", model: str | None = "gpt", **rest) -> NewMessage:
    rest.setdefault("pipeline_used", "qa")
    return NewMessage(role="assistant", content=content, model_used=model, **rest)


@dataclass(frozen=True, kw_only=True)
class Everything:
    """A conversation with one of everything that may hang on it."""

    chat: Conversation
    asked: int
    answered: int
    other_answer: int
    trace: Trace
    comparison: Comparison


def everything(database: Database, owner: Owner) -> Everything:
    mine = ConversationRepository(database, owner=owner)
    chat = mine.create("Queues")
    asked, answered, other = mine.messages.add_many(
        chat.conversation_id, [question(), answer(), answer("Priorities.", "claude")]
    )
    mine.feedback.react(answered, "like")
    mine.feedback.comment(answered, "Very good")
    mine.traces.add_tool_calls(answered, [ToolCall(step_number=0, tool_name="search")])
    trace = mine.traces.start(chat.conversation_id, "agent", user_message_id=asked)
    comparison = mine.comparisons.create(
        asked, Candidate(message_id=answered), Candidate(message_id=other)
    )
    return Everything(
        chat=chat,
        asked=asked,
        answered=answered,
        other_answer=other,
        trace=trace,
        comparison=comparison,
    )

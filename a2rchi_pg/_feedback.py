"""Feedback: one reaction per message, and comments on it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from a2rchi_pg._arguments import flag, one_of
from a2rchi_pg._content import clean_text, optional_text
from a2rchi_pg._op import Op, Steps, fetch, fetch_one, fetch_value, read, write
from a2rchi_pg._owner import asking, required
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._op import Runner
    from a2rchi_pg._owner import Owner

Reaction: TypeAlias = Literal["like", "dislike"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEntry:
    """A reaction to a message, or a comment on it."""

    feedback_id: int
    message_id: int
    feedback: Literal["like", "dislike", "comment"]
    feedback_msg: str | None
    incorrect: bool
    unhelpful: bool
    inappropriate: bool
    feedback_ts: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What is wrong with an answer.

    Raises:
        InvalidInput: If one is neither True nor False.
    """

    incorrect: bool = False
    unhelpful: bool = False
    inappropriate: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            flag(getattr(self, each.name), each.name)


NO_FLAGS = Flags()


def react(
    message_id: int, reaction: Reaction, text: str | None, flags: Flags, owner: Owner | None
) -> Op[FeedbackEntry]:
    """Set the message's one reaction, whatever it was before."""
    one_of(reaction, "reaction", get_args(Reaction))
    return _give(message_id, reaction, optional_text(text, "text"), flags, owner)


def comment(message_id: int, text: str, flags: Flags, owner: Owner | None) -> Op[FeedbackEntry]:
    """Add a comment."""
    cleaned = clean_text(text)
    if not cleaned.strip():
        raise InvalidInput("a comment must not be blank")
    return _give(message_id, "comment", cleaned, flags, owner)


@write
def _give(
    message_id: int, feedback: str, text: str | None, flags: Flags, owner: Owner | None
) -> Steps[FeedbackEntry]:
    """Comments never conflict: the index is of reactions alone."""
    given = yield from fetch_one(
        """
        INSERT INTO feedback AS f
            (message_id, feedback, feedback_msg, incorrect, unhelpful, inappropriate)
        SELECT m.message_id, %(feedback)s, %(text)s, %(incorrect)s, %(unhelpful)s,
               %(inappropriate)s
        FROM conversations m JOIN conversation_metadata c USING (conversation_id)
        WHERE m.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        ON CONFLICT (message_id) WHERE feedback <> 'comment' DO UPDATE
        SET feedback = excluded.feedback, feedback_msg = excluded.feedback_msg,
            incorrect = excluded.incorrect, unhelpful = excluded.unhelpful,
            inappropriate = excluded.inappropriate, feedback_ts = excluded.feedback_ts
        RETURNING f.*
        """,
        FeedbackEntry,
        feedback=feedback,
        text=text,
        incorrect=flags.incorrect,
        unhelpful=flags.unhelpful,
        inappropriate=flags.inappropriate,
        **asking(owner, message_id=message_id),
    )
    return required(given, "message", message_id)


@write
def withdraw(message_id: int, owner: Owner | None) -> Steps[bool]:
    """Take the reaction back; False where there is none."""
    query = """
        DELETE FROM feedback f USING conversations m, conversation_metadata c
        WHERE f.message_id = %(message_id)s AND f.feedback <> 'comment'
            AND m.message_id = f.message_id AND c.conversation_id = m.conversation_id
            AND owned_by(c, %(user_id)s, %(client_id)s)
        RETURNING true
    """
    return bool((yield from fetch_value(query, **asking(owner, message_id=message_id))))


@read
def feedback_of(message_id: int, owner: Owner | None) -> Steps[list[FeedbackEntry]]:
    """What was said of a message, oldest first."""
    return (
        yield from fetch(
            """
            SELECT f.* FROM feedback f JOIN conversations m USING (message_id)
                JOIN conversation_metadata c USING (conversation_id)
            WHERE f.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
            ORDER BY f.feedback_ts, f.feedback_id
            """,
            FeedbackEntry,
            **asking(owner, message_id=message_id),
        )
    )


class Feedback:
    """Reactions and comments, as :attr:`ConversationRepository.feedback`."""

    def __init__(self, runner: Runner, owner: Owner | None) -> None:
        self._runner = runner
        self._owner = owner

    def react(
        self, message_id: int, reaction: Reaction, text: str | None = None, flags: Flags = NO_FLAGS
    ) -> FeedbackEntry:
        """Like or dislike a message; takes the place of the reaction there was.

        Args:
            message_id: The message.
            reaction: ``"like"`` or ``"dislike"``.
            text: What is to be said about it.
            flags: What is wrong with the message.

        Raises:
            NotFound: If there is no such message, or it is another's.
            InvalidInput: If it is another reaction.
        """
        return self._runner.run(react(message_id, reaction, text, flags, self._owner))

    async def areact(
        self, message_id: int, reaction: Reaction, text: str | None = None, flags: Flags = NO_FLAGS
    ) -> FeedbackEntry:
        """The asynchronous twin of :meth:`react`."""
        return await self._runner.arun(react(message_id, reaction, text, flags, self._owner))

    def withdraw(self, message_id: int) -> bool:
        """Take the reaction to a message back; False where there is none of yours."""
        return self._runner.run(withdraw(message_id, self._owner))

    async def awithdraw(self, message_id: int) -> bool:
        """The asynchronous twin of :meth:`withdraw`."""
        return await self._runner.arun(withdraw(message_id, self._owner))

    def comment(self, message_id: int, text: str, flags: Flags = NO_FLAGS) -> FeedbackEntry:
        """Comment on a message; it may have any number of comments.

        Raises:
            NotFound: If there is no such message, or it is another's.
            InvalidInput: If the text is blank.
        """
        return self._runner.run(comment(message_id, text, flags, self._owner))

    async def acomment(self, message_id: int, text: str, flags: Flags = NO_FLAGS) -> FeedbackEntry:
        """The asynchronous twin of :meth:`comment`."""
        return await self._runner.arun(comment(message_id, text, flags, self._owner))

    def of_message(self, message_id: int) -> list[FeedbackEntry]:
        """The reaction to a message and the comments on it, oldest first."""
        return self._runner.run(feedback_of(message_id, self._owner))

    async def aof_message(self, message_id: int) -> list[FeedbackEntry]:
        """The asynchronous twin of :meth:`of_message`."""
        return await self._runner.arun(feedback_of(message_id, self._owner))

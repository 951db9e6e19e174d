"""Messages: what was said in a conversation, in order, and by which model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from psycopg import sql
from psycopg.types.json import Jsonb

from a2rchi_pg._arguments import one_of, page_size, row_id, stored_moment
from a2rchi_pg._content import (
    clean_name,
    clean_text,
    optional_name,
    optional_text,
    plain_metadata,
)
from a2rchi_pg._op import Op, Steps, fetch, fetch_one, fetch_tuples, fetch_value, read, write
from a2rchi_pg._owner import asking, required
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from a2rchi_pg._op import Runner
    from a2rchi_pg._owner import Owner

Role: TypeAlias = Literal["user", "assistant", "system", "tool", "expert"]
_SENDERS = {"user": "User", "assistant": "archi", "expert": "Expert"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to add; NUL and lone surrogates are taken out of its texts.

    Args:
        role: ``"user"``, ``"assistant"``, ``"system"``, ``"tool"`` or ``"expert"`` (a person who
            answers).
        content: What was said.
        model_used: The model that really wrote it, not the one configured; a user has none.
        pipeline_used: The pipeline that really ran; a user has none.
        sender: How people know who speaks; None takes a name for the role.
        link: Where the answer's sources are.
        context: What the model was given to answer from.
        service: Which of the host's services the message belongs to.
        ts: When it was said; None is now.
        payload: A JSON object with what else is to be kept.

    Raises:
        InvalidInput: If a value can't be stored; names it.
    """

    role: Role
    content: str
    model_used: str | None = None
    pipeline_used: str | None = None
    sender: str | None = None
    link: str = ""
    context: str = ""
    service: str = "chat"
    ts: datetime | None = None
    payload: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        one_of(self.role, "role", get_args(Role))
        if self.role == "user" and (self.model_used or self.pipeline_used):
            raise InvalidInput("model_used and pipeline_used belong to the answer, not the user")
        clean = {
            "content": clean_text(self.content),
            "model_used": optional_name(self.model_used, "model_used"),
            "pipeline_used": optional_name(self.pipeline_used, "pipeline_used"),
            "sender": optional_text(self.sender, "sender") or _SENDERS.get(self.role, self.role),
            "link": clean_text(self.link),
            "context": clean_text(self.context),
            "service": clean_name(self.service, "service"),
            "ts": stored_moment(self.ts, "ts"),
            "payload": None if self.payload is None else plain_metadata(self.payload, "payload"),
        }
        for name, value in clean.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it is stored.

    Attributes:
        reaction: ``"like"`` or ``"dislike"``, if there is a reaction.
        comment_count: How many comments there are on it.
    """

    message_id: int
    conversation_id: int
    role: Role
    sender: str
    content: str
    model_used: str | None
    pipeline_used: str | None
    link: str
    context: str
    service: str
    ts: datetime
    payload: dict[str, Any] | None
    reaction: Literal["like", "dislike"] | None
    comment_count: int


@write
def add_messages(
    conversation_id: int, messages: Sequence[NewMessage], owner: Owner | None
) -> Steps[list[int]]:
    """Store messages in the order given; their ids.

    The conversation is held before the time is taken, so that what is stored later stands later:
    whoever asks for what came after the last message they know misses none.
    """
    rows = [asdict(message) | {"ts": message.ts and message.ts.isoformat()} for message in messages]
    added = yield from fetch_tuples(
        """
        INSERT INTO conversations (conversation_id, role, sender, content, model_used,
            pipeline_used, link, context, archi_service, ts, payload)
        SELECT c.conversation_id, n.role, n.sender, n.content, n.model_used, n.pipeline_used,
               n.link, n.context, n.service, coalesce(n.ts, clock_timestamp()), n.payload
        FROM (
            SELECT c.conversation_id FROM conversation_metadata c
            WHERE c.conversation_id = %(conversation_id)s
                AND owned_by(c, %(user_id)s, %(client_id)s)
            FOR NO KEY UPDATE
        ) AS c, ROWS FROM (jsonb_to_recordset(%(rows)s) AS (
            role text, sender text, content text, model_used text, pipeline_used text, link text,
            context text, service text, ts timestamptz, payload jsonb)) WITH ORDINALITY AS n
        ORDER BY n.ordinality
        RETURNING message_id
        """,
        rows=Jsonb(rows),
        **asking(owner, conversation_id=conversation_id),
    )
    required(added or None, "conversation", conversation_id)
    return [id_ for (id_,) in added]


_COLUMNS = sql.SQL("""
    m.message_id, m.conversation_id, m.role, m.sender, m.content, m.model_used, m.pipeline_used,
    m.link, m.context, m.archi_service AS service, m.ts, m.payload,
    (SELECT f.feedback FROM feedback f
     WHERE f.message_id = m.message_id AND f.feedback <> 'comment') AS reaction,
    (SELECT count(*) FROM feedback f
     WHERE f.message_id = m.message_id AND f.feedback = 'comment') AS comment_count
""")
_GET = (
    sql.SQL("""
    SELECT {columns} FROM conversations m JOIN conversation_metadata c USING (conversation_id)
    WHERE m.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
""")
    .format(columns=_COLUMNS)
    .as_bytes()
)
# The conversation's own row comes first, so that one that isn't there differs from an empty one.
_WINDOW = sql.SQL("""
    SELECT w.* FROM conversation_metadata c LEFT JOIN LATERAL (
        SELECT {columns} FROM conversations m
        WHERE m.conversation_id = c.conversation_id {bound}
        ORDER BY {order} LIMIT %(limit)s
    ) AS w ON true
    WHERE c.conversation_id = %(conversation_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
    ORDER BY w.ts, w.message_id
""")
_BOUND = sql.SQL("""
    AND (m.ts, m.message_id) {operator} (
        SELECT b.ts, b.message_id FROM conversations b
        WHERE b.message_id = %(bound)s AND b.conversation_id = %(conversation_id)s)
""")
_FORWARD, _BACKWARD = sql.SQL("m.ts, m.message_id"), sql.SQL("m.ts DESC, m.message_id DESC")
_NEWEST, _BEFORE, _AFTER = (
    _WINDOW.format(columns=_COLUMNS, bound=bound, order=order).as_bytes()
    for bound, order in (
        (sql.SQL(""), _BACKWARD),
        (_BOUND.format(operator=sql.SQL("<")), _BACKWARD),
        (_BOUND.format(operator=sql.SQL(">")), _FORWARD),
    )
)


@read
def get_message(message_id: int, owner: Owner | None) -> Steps[Message | None]:
    """A message, or None."""
    return (yield from fetch_one(_GET, Message, **asking(owner, message_id=message_id)))


def window(
    conversation_id: int, limit: int, before: int | None, after: int | None, owner: Owner | None
) -> Op[list[Message]]:
    """A page of a conversation, oldest first."""
    if before is not None and after is not None:
        raise InvalidInput("pass before or after, not both")
    before = None if before is None else row_id(before, "before")
    after = None if after is None else row_id(after, "after")
    return _window(conversation_id, page_size(limit), before, after, owner)


@read
def _window(
    conversation_id: int, limit: int, before: int | None, after: int | None, owner: Owner | None
) -> Steps[list[Message]]:
    query = _NEWEST if before is None and after is None else _AFTER if before is None else _BEFORE
    rows = yield from fetch(
        query,
        Message,
        limit=limit,
        bound=after if before is None else before,
        **asking(owner, conversation_id=conversation_id),
    )
    required(rows or None, "conversation", conversation_id)
    # A conversation that is empty is one row, and no message.
    return [row for row in rows if row.message_id is not None]  # type: ignore[redundant-expr]


@write
def clear_messages(conversation_id: int, owner: Owner | None) -> Steps[int]:
    """Remove a conversation's messages; how many there were."""
    removed = yield from fetch_value(
        """
        WITH own AS (
            SELECT c.conversation_id FROM conversation_metadata c
            WHERE c.conversation_id = %(conversation_id)s
                AND owned_by(c, %(user_id)s, %(client_id)s)
        ), removed AS (
            DELETE FROM conversations WHERE conversation_id = (SELECT conversation_id FROM own)
            RETURNING message_id
        )
        SELECT (SELECT count(*) FROM removed) FROM own
        """,
        **asking(owner, conversation_id=conversation_id),
    )
    return int(required(removed, "conversation", conversation_id))


class Messages:
    """The messages of conversations, as :attr:`ConversationRepository.messages`."""

    def __init__(self, runner: Runner, owner: Owner | None) -> None:
        self._runner = runner
        self._owner = owner

    def add(self, conversation_id: int, message: NewMessage) -> int:
        """Add a message to the end of a conversation.

        Returns:
            Its id.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        return self._runner.run(add_messages(conversation_id, [message], self._owner))[0]

    async def aadd(self, conversation_id: int, message: NewMessage) -> int:
        """The asynchronous twin of :meth:`add`."""
        op = add_messages(conversation_id, [message], self._owner)
        return (await self._runner.arun(op))[0]

    def add_many(self, conversation_id: int, messages: Sequence[NewMessage]) -> list[int]:
        """Add messages in the order given, all or none.

        Returns:
            Their ids, in the same order.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        if not messages:
            return []
        return self._runner.run(add_messages(conversation_id, messages, self._owner))

    async def aadd_many(self, conversation_id: int, messages: Sequence[NewMessage]) -> list[int]:
        """The asynchronous twin of :meth:`add_many`."""
        if not messages:
            return []
        return await self._runner.arun(add_messages(conversation_id, messages, self._owner))

    def get(self, message_id: int) -> Message | None:
        """A message with its reaction, or None."""
        return self._runner.run(get_message(message_id, self._owner))

    async def aget(self, message_id: int) -> Message | None:
        """The asynchronous twin of :meth:`get`."""
        return await self._runner.arun(get_message(message_id, self._owner))

    def window(
        self,
        conversation_id: int,
        *,
        limit: int = 100,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Message]:
        """The newest messages, or those next to one of them; the oldest comes first.

        Args:
            conversation_id: The conversation.
            limit: How many at most.
            before: A message's id: those that came just before it.
            after: A message's id: those that came just after it.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        op = window(conversation_id, limit, before, after, self._owner)
        return self._runner.run(op)

    async def awindow(
        self,
        conversation_id: int,
        *,
        limit: int = 100,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Message]:
        """The asynchronous twin of :meth:`window`."""
        op = window(conversation_id, limit, before, after, self._owner)
        return await self._runner.arun(op)

    def clear(self, conversation_id: int) -> int:
        """Remove all messages of a conversation, with what hangs on them; how many there were.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        return self._runner.run(clear_messages(conversation_id, self._owner))

    async def aclear(self, conversation_id: int) -> int:
        """The asynchronous twin of :meth:`clear`."""
        return await self._runner.arun(clear_messages(conversation_id, self._owner))

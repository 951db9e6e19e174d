"""Conversations as such: whose they are, what they are called, and where words were said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from a2rchi_pg._arguments import moment, page_size, row_id, shown, string
from a2rchi_pg._content import clean_text, optional_text
from a2rchi_pg._op import Op, Steps, fetch, fetch_one, fetch_value, read, write
from a2rchi_pg._owner import Owner, asking, owner_of, required
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import datetime

Cursor: TypeAlias = "tuple[datetime, int]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation, without its messages.

    Attributes:
        user_id: The user whose it is, or None.
        client_id: Where it was begun; whose it is as long as it has no user.
        last_message_at: When its newest message was said, or when it was created.
    """

    conversation_id: int
    user_id: str | None
    client_id: str | None = field(repr=False)
    title: str | None
    archi_version: str | None
    created_at: datetime
    last_message_at: datetime
    message_count: int

    @property
    def cursor(self) -> Cursor:
        """Where the page after this conversation begins."""
        return (self.last_message_at, self.conversation_id)


@write
def create_conversation(
    title: str | None, archi_version: str | None, owner: Owner | None
) -> Steps[Conversation]:
    """Make a conversation, and its user where that one isn't known yet."""
    made = yield from fetch_one(
        """
        WITH person AS (
            INSERT INTO users (id) SELECT %(user_id)s::text WHERE %(user_id)s::text IS NOT NULL
            ON CONFLICT (id) DO NOTHING
        )
        INSERT INTO conversation_metadata (user_id, client_id, title, archi_version)
        VALUES (%(user_id)s, %(client_id)s, %(title)s, %(archi_version)s)
        RETURNING *, 0::bigint AS message_count
        """,
        Conversation,
        title=optional_text(title, "title"),
        archi_version=optional_text(archi_version, "archi_version"),
        **asking(owner),
    )
    return required(made, "conversation", "that was just made")


@read
def get_conversation(conversation_id: int, owner: Owner | None) -> Steps[Conversation | None]:
    """A conversation, or None."""
    return (
        yield from fetch_one(
            """
            SELECT c.*, (SELECT count(*) FROM conversations m
                         WHERE m.conversation_id = c.conversation_id) AS message_count
            FROM conversation_metadata c
            WHERE c.conversation_id = %(conversation_id)s
                AND owned_by(c, %(user_id)s, %(client_id)s)
            """,
            Conversation,
            **asking(owner, conversation_id=conversation_id),
        )
    )


def page(limit: int, after: Cursor | None, owner: Owner | None) -> Op[list[Conversation]]:
    """A page of an owner's conversations, the latest first."""
    return _page(page_size(limit), *_position(after), owner)


@read
def _page(
    limit: int, ts: datetime | None, id_: int | None, owner: Owner | None
) -> Steps[list[Conversation]]:
    """Each branch reads one index in order; the planner drops those that nobody asked for."""
    return (
        yield from fetch(
            """
            SELECT p.*, (SELECT count(*) FROM conversations m
                         WHERE m.conversation_id = p.conversation_id) AS message_count
            FROM (
                (SELECT * FROM conversation_metadata
                 WHERE user_id = %(user_id)s AND (last_message_at, conversation_id) <
                     (coalesce(%(ts)s, 'infinity'::timestamptz), coalesce(%(id)s, 0))
                 ORDER BY last_message_at DESC, conversation_id DESC LIMIT %(limit)s)
                UNION ALL
                (SELECT * FROM conversation_metadata
                 WHERE user_id IS NULL AND client_id = %(client_id)s
                     AND (last_message_at, conversation_id) <
                         (coalesce(%(ts)s, 'infinity'::timestamptz), coalesce(%(id)s, 0))
                 ORDER BY last_message_at DESC, conversation_id DESC LIMIT %(limit)s)
                UNION ALL
                (SELECT * FROM conversation_metadata
                 WHERE %(user_id)s::text IS NULL AND %(client_id)s::text IS NULL
                     AND (last_message_at, conversation_id) <
                         (coalesce(%(ts)s, 'infinity'::timestamptz), coalesce(%(id)s, 0))
                 ORDER BY last_message_at DESC, conversation_id DESC LIMIT %(limit)s)
                ORDER BY last_message_at DESC, conversation_id DESC LIMIT %(limit)s
            ) AS p
            ORDER BY last_message_at DESC, conversation_id DESC
            """,
            Conversation,
            limit=limit,
            ts=ts,
            id=id_,
            **asking(owner),
        )
    )


def search(
    words: str, limit: int, after: Cursor | None, owner: Owner | None
) -> Op[list[Conversation]]:
    """A page of those conversations in which a message holds all the words."""
    wanted = clean_text(string(words, "words")), page_size(limit), *_position(after)
    return _search_all(*wanted) if owner is None else _search_own(*wanted, owner)


@read
def _search_own(
    words: str, limit: int, ts: datetime | None, id_: int | None, owner: Owner
) -> Steps[list[Conversation]]:
    """Begins with what is the owner's: no plan reads more than that and the words' index."""
    return (
        yield from fetch(
            """
            SELECT p.*, (SELECT count(*) FROM conversations m
                         WHERE m.conversation_id = p.conversation_id) AS message_count
            FROM (
                SELECT c.* FROM (
                    SELECT * FROM conversation_metadata WHERE user_id = %(user_id)s
                    UNION ALL
                    SELECT * FROM conversation_metadata
                    WHERE user_id IS NULL AND client_id = %(client_id)s
                ) AS c
                WHERE (c.last_message_at, c.conversation_id) <
                        (coalesce(%(ts)s, 'infinity'::timestamptz), coalesce(%(id)s, 0))
                    AND EXISTS (
                        SELECT FROM conversations m
                        WHERE m.conversation_id = c.conversation_id
                            AND to_tsvector('simple', left(m.content, 80000))
                                @@ words_query(%(words)s))
                ORDER BY c.last_message_at DESC, c.conversation_id DESC LIMIT %(limit)s
            ) AS p
            ORDER BY last_message_at DESC, conversation_id DESC
            """,
            Conversation,
            words=words,
            limit=limit,
            ts=ts,
            id=id_,
            **asking(owner),
        )
    )


@read
def _search_all(
    words: str, limit: int, ts: datetime | None, id_: int | None
) -> Steps[list[Conversation]]:
    """Begins with the words: planned for any, it would walk through all conversations for them."""
    return (
        yield from fetch(
            """
            WITH found AS MATERIALIZED (
                SELECT DISTINCT m.conversation_id FROM conversations m
                WHERE to_tsvector('simple', left(m.content, 80000)) @@ words_query(%(words)s)
            )
            SELECT p.*, (SELECT count(*) FROM conversations m
                         WHERE m.conversation_id = p.conversation_id) AS message_count
            FROM (
                SELECT c.* FROM found JOIN conversation_metadata c USING (conversation_id)
                WHERE (c.last_message_at, c.conversation_id) <
                    (coalesce(%(ts)s, 'infinity'::timestamptz), coalesce(%(id)s, 0))
                ORDER BY c.last_message_at DESC, c.conversation_id DESC LIMIT %(limit)s
            ) AS p
            ORDER BY last_message_at DESC, conversation_id DESC
            """,
            Conversation,
            words=words,
            limit=limit,
            ts=ts,
            id=id_,
        )
    )


def _position(after: object) -> tuple[datetime | None, int | None]:
    if after is None:
        return None, None
    if not isinstance(after, tuple | list) or len(after) != 2 or after[0] is None:  # noqa: PLR2004 - a pair
        raise InvalidInput(f"after must be the cursor of a conversation, got {shown(after)}")
    ts, id_ = after
    return moment(ts, "after"), row_id(id_, "after")


@write
def rename_conversation(
    conversation_id: int, title: str | None, owner: Owner | None
) -> Steps[None]:
    """Give a conversation another title."""
    done = yield from fetch_value(
        """
        UPDATE conversation_metadata c SET title = %(title)s
        WHERE c.conversation_id = %(conversation_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        RETURNING true
        """,
        title=optional_text(title, "title"),
        **asking(owner, conversation_id=conversation_id),
    )
    required(done, "conversation", conversation_id)


@write
def delete_conversation(conversation_id: int, owner: Owner | None) -> Steps[bool]:
    """Delete a conversation with all that hangs on it; False where there is none."""
    query = """
        DELETE FROM conversation_metadata c
        WHERE c.conversation_id = %(conversation_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        RETURNING true
    """
    return bool((yield from fetch_value(query, **asking(owner, conversation_id=conversation_id))))


@write
def transfer(conversation_id: int, to: Owner, owner: Owner | None) -> Steps[None]:
    """Give one conversation to another owner, made where it isn't known yet."""
    owner_of(to, "to")
    done = yield from fetch_value(
        """
        WITH person AS (
            INSERT INTO users (id) SELECT %(to_user)s::text WHERE %(to_user)s::text IS NOT NULL
            ON CONFLICT (id) DO NOTHING
        )
        UPDATE conversation_metadata c SET user_id = %(to_user)s, client_id = %(to_client)s
        WHERE c.conversation_id = %(conversation_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        RETURNING true
        """,
        to_user=to.user_id,
        to_client=to.client_id,
        **asking(owner, conversation_id=conversation_id),
    )
    required(done, "conversation", conversation_id)


def transfer_all(to: Owner, owner: Owner | None) -> Op[int]:
    """Give all of an owner's conversations to another; how many those were."""
    if owner is None:
        raise InvalidInput("say whose conversations: ConversationRepository(…, owner=…)")
    owner_of(to, "to")
    return _transfer_all(to, owner)


@write
def _transfer_all(to: Owner, owner: Owner) -> Steps[int]:
    moved = yield from fetch_value(
        """
        WITH person AS (
            INSERT INTO users (id) SELECT %(to_user)s::text WHERE %(to_user)s::text IS NOT NULL
            ON CONFLICT (id) DO NOTHING
        ), moved AS (
            UPDATE conversation_metadata c SET user_id = %(to_user)s, client_id = %(to_client)s
            WHERE owned_by(c, %(user_id)s, %(client_id)s)
            RETURNING conversation_id
        )
        SELECT count(*) FROM moved
        """,
        to_user=to.user_id,
        to_client=to.client_id,
        **asking(owner),
    )
    return int(moved)

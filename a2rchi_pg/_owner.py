"""Whose a conversation is, and so who may see and change what hangs on it.

Every statement that names an owner asks ``owned_by`` (a function of the schema, inlined by the
planner) about the conversation it touches: no check comes before the write, nor in another
statement. What is another's is not there: nothing tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from a2rchi_pg._arguments import row_id, user_id_of
from a2rchi_pg.errors import InvalidInput, NotFound

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A user, a client, or a user at a client.

    A conversation that has a user is that user's, in whatever browser. One without is its client's:
    whoever knows the client's id reads it, so ids of clients must be hard to guess.

    Args:
        user_id: The host's id of a person that it has authenticated.
        client_id: What a browser, a mailbox or a ticket is known by.

    Raises:
        InvalidInput: If neither is given, or one is empty.
    """

    user_id: str | None = None
    client_id: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.user_id is None and self.client_id is None:
            raise InvalidInput("an owner needs a user_id or a client_id")
        for name in ("user_id", "client_id"):
            value = getattr(self, name)
            if value is not None:
                user_id_of(value, name)


def owner_of(value: object, name: str) -> Owner:
    """An owner: the empty id of nobody is none, and must not pass for the host.

    Raises:
        InvalidInput: If it isn't one; the text doesn't show it, as it may be a client's id.
    """
    if not isinstance(value, Owner):
        raise InvalidInput(f"{name} must be an Owner, got a {type(value).__name__}")
    return value


def asking(owner: Owner | None, **ids: object) -> dict[str, Any]:
    """The parameters of ``owned_by(c, %(user_id)s, %(client_id)s)``; None is the host itself.

    Args:
        owner: Who asks.
        **ids: What of: the ids of rows, checked, which are parameters too.

    Raises:
        InvalidInput: If no row can have such an id, or it is no owner that asks; names it.
    """
    asks = None if owner is None else owner_of(owner, "owner")
    return {
        **{name: row_id(value, name) for name, value in ids.items()},
        "user_id": None if asks is None else asks.user_id,
        "client_id": None if asks is None else asks.client_id,
    }


def required(found: T | None, what: str, id_: object) -> T:
    """``found``, where it was."""
    if found is None:
        raise NotFound(f"there is no {what} {id_}, or it is not yours")
    return found

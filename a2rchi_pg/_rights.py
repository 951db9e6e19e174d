"""Who does something, and whether they may."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias

from a2rchi_pg._arguments import shown, string, user_id_of
from a2rchi_pg._content import clean_text
from a2rchi_pg._op import Steps, fetch_value, read
from a2rchi_pg.errors import InvalidInput, PermissionDenied


class _System(Enum):
    SYSTEM = "the deployment itself"

    def __repr__(self) -> str:
        return "SYSTEM"


# Written out where it is meant: None in its place, as of somebody who isn't logged in, is refused.
SYSTEM: Final = _System.SYSTEM
Actor: TypeAlias = "str | Literal[_System.SYSTEM]"


def actor_id(actor: Actor) -> str | None:
    """What is stored of an actor: a user's id, or None for the deployment itself.

    Raises:
        InvalidInput: If it is neither.
    """
    if actor is SYSTEM:
        return None
    given: object = actor
    if not isinstance(given, str) or not given:
        raise InvalidInput(f"who does this must be a user's id or SYSTEM, got {shown(given)}")
    return user_id_of(given)


def clean_note(note: object) -> str | None:
    """Why something was done, as it is stored.

    Raises:
        InvalidInput: If it is neither text nor None.
    """
    return None if note is None else clean_text(string(note, "note"))


def check_admin(actor: Actor) -> Steps[None]:
    """Part of a write: an admin's role can't be taken away before it ends.

    Raises:
        PermissionDenied: If the actor is a user and no admin.
    """
    user_id = actor_id(actor)
    if user_id is None:
        return
    query = "SELECT role FROM users WHERE id = %(user_id)s FOR SHARE"
    if (yield from fetch_value(query, user_id=user_id_of(user_id))) != "admin":
        raise PermissionDenied(f"only an admin may do this, and user {user_id!r} is none")


@read
def is_admin(user_id: str) -> Steps[bool]:
    """Whether a user is an admin; False for one that isn't there."""
    query = "SELECT role = 'admin' FROM users WHERE id = %(user_id)s"
    return bool((yield from fetch_value(query, user_id=user_id_of(user_id))))

"""Arguments checked by kind: an error names the argument and says what it takes."""

from __future__ import annotations

import re
import reprlib
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, TypeVar
from uuid import UUID

import numpy as np

from a2rchi_pg.errors import InvalidInput

Word = TypeVar("Word", bound=str)

MAX_ROWS = 1_000_000  # more can't be meant, and pg_textsearch takes memory for each
MAX_PAGE = 10_000
MAX_INTEGER = 2**31 - 1
MIN_BIGINT, MAX_BIGINT = -(2**63), 2**63 - 1
MAX_ID_BYTES = 2000  # an index takes no longer ones
LARGEST = sys.float_info.max
_ZONES = timedelta(days=1)  # no zone is further from UTC
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # what PostgreSQL has no place for in text


def whole(value: object, name: str, least: int = 0, most: int = MAX_ROWS) -> int:
    """A whole number between two others; numpy's are as good as Python's, a bool is none.

    Raises:
        InvalidInput: If it isn't one.
    """
    if (
        not isinstance(value, int | np.integer)
        or isinstance(value, bool)
        or not least <= value <= most
    ):
        raise InvalidInput(
            f"{name} must be a whole number from {least:,} to {most:,}, got {shown(value)}"
        )
    return int(value)


def row_id(value: object, name: str) -> int:
    """The id of a row that the database numbers: a conversation, a message, a document.

    What came from another system may have a number of zero or below.

    Raises:
        InvalidInput: If no row has such a one.
    """
    return whole(value, name, MIN_BIGINT, MAX_BIGINT)


def page_size(limit: object, least: int = 1) -> int:
    """How many rows a page has, 10,000 at most.

    Raises:
        InvalidInput: If it is no such number.
    """
    return whole(limit, "limit", least, MAX_PAGE)


def number(value: object, name: str, low: float, high: float = LARGEST) -> float:
    """A finite number between two others.

    Raises:
        InvalidInput: If it isn't one.
    """
    plain = float(value) if isinstance(value, np.integer | np.floating) else value
    if not isinstance(plain, int | float) or isinstance(plain, bool) or not low <= plain <= high:
        takes = "of at least {:g}, and finite" if high == LARGEST else "from {:g} to {:g}"
        raise InvalidInput(f"{name} must be a number {takes.format(low, high)}, got {shown(value)}")
    return float(plain)


def string(value: object, name: str) -> str:
    """A string.

    Raises:
        InvalidInput: If it isn't one.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string, got {shown(value)}")
    return value


def text(value: object, name: str, least: int = 0, most: int | None = None) -> str:
    """A string that PostgreSQL can store as it is, of so many bytes.

    Raises:
        InvalidInput: If it isn't one.
    """
    if (
        not isinstance(value, str)
        or UNSTORABLE.search(value)
        or not least <= len(value.encode())
        or (most is not None and len(value.encode()) > most)
    ):
        size = f"of at least {least:,}" if most is None else f"of {least:,} to {most:,}"
        raise InvalidInput(
            f"{name} must be a string {size} bytes without NUL or lone surrogates, "
            f"got {shown(value)}"
        )
    return value


def user_id_of(value: object, name: str = "user_id") -> str:
    """The id that a host knows somebody by.

    Raises:
        InvalidInput: If it is no string of 1 to 2,000 bytes that PostgreSQL can store.
    """
    return text(value, name, 1, MAX_ID_BYTES)


def collection_name(value: object) -> str:
    """The name of a collection, there or not.

    Raises:
        InvalidInput: If no collection can have it.
    """
    return text(value, "collection", 1)


def collection_or_all(value: object) -> str | None:
    """The name of a collection; None means all of them, or whichever it may be.

    Raises:
        InvalidInput: If no collection can have it.
    """
    return None if value is None else collection_name(value)


def uuid_of(value: object, name: str) -> UUID:
    """A UUID, or a string that is one written out.

    Raises:
        InvalidInput: If it is neither.
    """
    try:
        return value if isinstance(value, UUID) else UUID(string(value, name))
    except ValueError:
        raise InvalidInput(f"{name} must be a UUID, got {shown(value)}") from None


def flag(value: object, name: str) -> bool:
    """True or False.

    Raises:
        InvalidInput: If it is neither.
    """
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be True or False, got {shown(value)}")
    return value


def moment(value: object, name: str) -> datetime | None:
    """A time that says which moment it means, as one without a zone doesn't; None stays None.

    Raises:
        InvalidInput: If it doesn't.
    """
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInput(f"{name} must be a datetime with a time zone, got {shown(value)}")
    return value


def stored_moment(value: object, name: str) -> datetime | None:
    """A moment to store: one that Python can read again, in whatever time zone. None stays None.

    Raises:
        InvalidInput: If it has no zone, or is less than a day from where years end.
    """
    given = moment(value, name)
    try:
        if given is not None:
            given = given.astimezone(UTC)
            _ = given - _ZONES, given + _ZONES
    except OverflowError:
        raise InvalidInput(f"{name} must lie in the years 1 to 9999, wherever it is read") from None
    return given


def many(value: object, name: str, of: str) -> Iterable[Any]:
    """Several things to iterate over; neither the characters of one string nor a mapping's keys.

    Raises:
        InvalidInput: If there is nothing to iterate over.
    """
    if isinstance(value, str):
        raise InvalidInput(f"{name} must be a list or another iterable of {of}, got one string")
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidInput(f"{name} must be a list or another iterable of {of}, got {shown(value)}")
    return value


def mapping(value: object, name: str) -> dict[str, Any]:
    """A mapping, as a dict of its own.

    Raises:
        InvalidInput: If it isn't one.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} must be a mapping, got {shown(value)}")
    return dict(value)


def one_of(value: object, name: str, accepted: Collection[Word]) -> Word:
    """One of the words that are accepted.

    Raises:
        InvalidInput: If it is none of them.
    """
    if not isinstance(value, str) or value not in accepted:
        raise InvalidInput(f"{name} must be one of {', '.join(accepted)}; got {shown(value)}")
    return value  # type: ignore[return-value]  # it is one of them


def only(given: Iterable[str], accepted: Sequence[str], called: str) -> None:
    """Refuse keyword arguments that what was called doesn't take.

    Raises:
        TypeError: As Python does; says what may have been meant.
    """
    for name in given:
        if name not in accepted:
            near = get_close_matches(name, accepted, 1)
            meant = f", did you mean {near[0]!r}?" if near else ":"
            raise TypeError(
                f"{called} got an unexpected keyword argument {name!r}{meant} "
                f"It takes {', '.join(accepted)}"
            )


def shown(value: object) -> str:
    """``value`` for a message: short, however long or deep it is."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return "a number of thousands of digits"

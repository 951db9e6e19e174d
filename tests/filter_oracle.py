"""What a filter means, in Python: the specification that the compiled SQL is held to.

It shares nothing with ``a2rchi_pg._filters`` and reads from the top: a filter is met when all its
entries are; ``OPERATORS`` says of each operator when a value meets it. Metadata is what JSON gives
back; a chunk that belongs to a document has that document's columns in place of some keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

COLUMNS = {
    *("resource_hash", "display_name", "source_type", "url", "ticket_id", "git_repo"),
    *("git_commit", "suffix", "mime_type", "size_bytes"),
}
TIME_COLUMNS = {"source_created_at", "source_modified_at", "ingested_at"}


class Missing:
    """Stands for a value that isn't there; equal to nothing, not even to null."""


def matches(
    filter: Mapping[str, Any],  # noqa: A002 - LangChain's name
    metadata: Mapping[str, Any],
    document: Mapping[str, Any] | None = None,
) -> bool:
    return all(_entry(key, given, metadata, document) for key, given in filter.items())


def _entry(
    key: str, given: Any, metadata: Mapping[str, Any], document: Mapping[str, Any] | None
) -> bool:
    match key:
        case "$and":
            return all(matches(each, metadata, document) for each in given)
        case "$or":
            return any(matches(each, metadata, document) for each in given)
        case "$not":
            return not matches(given, metadata, document)
    if key in TIME_COLUMNS:
        given = _strings_as_times(given)
    if document is not None and key in COLUMNS | TIME_COLUMNS:
        value = document.get(key)
        return _meets(Missing if value is None else value, given)
    return _meets(_reached(key, metadata), given)


def _reached(key: str, metadata: Mapping[str, Any]) -> Any:
    """A key that has dots comes before the path it could be."""
    if key in metadata:
        return metadata[key]
    here: Any = metadata
    for step in key.split("."):
        if not isinstance(here, Mapping) or step not in here:
            return Missing
        here = here[step]
    return here


def _meets(value: Any, given: Any) -> bool:
    if not isinstance(given, Mapping):
        return equal(value, given)
    return all(
        not _meets(value, operand) if name == "$not" else OPERATORS[name](value, operand)
        for name, operand in given.items()
    )


def equal(value: Any, operand: Any) -> bool:
    if operand is None:
        return value is Missing or value is None
    if isinstance(operand, date):
        return instant(value) == instant(operand)
    return same(value, operand)


def same(a: Any, b: Any) -> bool:
    """Equal and of one type, all the way down; 1 and 1.0 are one number."""
    if kind(a) != kind(b):
        return False
    match kind(a):
        case "number":
            return exact(a) == exact(b)
        case "list":
            return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
        case "dict":
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        case _:
            return a == b


def kind(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def exact(number: float) -> Decimal:
    """The number as it is stored: a fraction as it is written, a whole number with every digit."""
    return Decimal(number) if number == int(number) else Decimal(repr(number))


_ISO = re.compile(
    r"(\d{4}-\d{2}-\d{2})"
    r"([T ](\d{2}):(\d{2})(:(\d{2})(\.\d{1,9})?)?(Z|([+-])(\d{2})(:?(\d{2})(:?(\d{2}))?)?)?)?",
    re.ASCII,
)
_DAY = 86_400 * 10**6


def instant(value: Any) -> int | None:
    """Microseconds since the year 1 of a date, a time or an ISO 8601 string; None of others."""
    if isinstance(value, date):
        time = datetime.fromisoformat(value.isoformat())
        since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - datetime(1, 1, 1, tzinfo=UTC)
        return _DAY + since // timedelta(microseconds=1)
    found = _ISO.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    day, _, hours, minutes, _, seconds, fraction, _, sign, *offset = found.groups(default="0")
    h, m, s = int(hours), int(minutes), int(seconds)
    away = [int(part) for part in (offset[0], offset[2], offset[4])]
    clock = ((h * 60 + m) * 60 + s) * 10**6 + round(Decimal(fraction) * 10**6)
    if m > 59 or s > 60 or clock > _DAY or away[0] > 15 or away[1] > 59 or away[2] > 59:
        return None
    try:
        days = date.fromisoformat(day).toordinal()
    except ValueError:
        return None
    shift = (away[0] * 60 + away[1]) * 60 + away[2]
    return days * _DAY + clock - shift * 10**6 * (-1 if sign == "-" else 1)


def compared(value: Any, operand: Any) -> int | None:
    """-1, 0 or 1 as the value comes before, with or after the operand; None if it can't be said."""
    a: Any
    b: Any
    if isinstance(operand, date):
        a, b = instant(value), instant(operand)
    elif kind(value) != kind(operand):
        return None
    elif kind(value) == "number":
        a, b = exact(value), exact(operand)
    else:
        a, b = value, operand
    return None if a is None else (a > b) - (a < b)


def like(value: Any, pattern: str, *, fold: bool = False) -> bool:
    r"""% is any text and _ any character, unless a \ stands before; one at the end is a \."""
    if not isinstance(value, str):
        return False
    if fold:
        value, pattern = lower(value), lower(pattern)
    parts = re.findall(r"\\.|.|\\$", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    text = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(text, value, re.DOTALL) is not None


def lower(text: str) -> str:
    """Character by character, as PostgreSQL does it."""
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def contains(value: Any, operand: Any) -> bool:
    """A list has the element, a string the substring."""
    if isinstance(value, list):
        return any(same(each, operand) for each in value)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def _strings_as_times(given: Any) -> Any:
    """What is asked of a column that holds times: strings mean times, except in patterns."""
    match given:
        case str():
            time = datetime.fromisoformat(given)
            return time if time.tzinfo else time.replace(tzinfo=UTC)
        case list():
            return [_strings_as_times(each) for each in given]
        case Mapping():
            return {
                name: operand if name in {"$like", "$ilike"} else _strings_as_times(operand)
                for name, operand in given.items()
            }
        case _:
            return given


OPERATORS = {
    "$eq": equal,
    "$ne": lambda value, operand: not equal(value, operand),
    "$gt": lambda value, operand: compared(value, operand) == 1,
    "$gte": lambda value, operand: compared(value, operand) in {0, 1},
    "$lt": lambda value, operand: compared(value, operand) == -1,
    "$lte": lambda value, operand: compared(value, operand) in {0, -1},
    "$in": lambda value, operands: any(equal(value, each) for each in operands),
    "$nin": lambda value, operands: not any(equal(value, each) for each in operands),
    "$between": lambda value, bounds: (
        compared(value, bounds[0]) in {0, 1} and compared(value, bounds[1]) in {0, -1}
    ),
    "$exists": lambda value, wanted: (value is not Missing) == wanted,
    "$like": like,
    "$ilike": lambda value, pattern: like(value, pattern, fold=True),
    "$contains": contains,
}

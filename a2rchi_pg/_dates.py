"""Dates as hosts, trackers, mail and web servers write them, read as one kind of time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

MILLISECONDS_FROM = 1e11  # as seconds it would be the year 5138


def read_moment(value: object) -> datetime | None:
    """A date or time with its zone, UTC where none is given; None where it can't be read.

    Read are ``datetime`` and ``date``, ISO 8601 with any zone (``+0200`` as well), RFC 2822, and
    seconds or milliseconds since 1970, as numbers or in digits, with a fraction or without.
    """
    try:
        moment = _moment(value)
        return None if moment is None else _with_zone(moment)
    except (ValueError, OverflowError, OSError):
        return None


def _moment(value: object) -> datetime | None:
    match value:
        case datetime():
            return value
        case date():
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        case bool():
            return None
        case int() | float():
            return _since_1970(value)
        case str():
            return _written(value.strip())
        case _:
            return None


def _since_1970(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds / (1000 if seconds >= MILLISECONDS_FROM else 1), UTC)


def _written(text: str) -> datetime:
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):  # more digits than 20240501 has
        return _since_1970(float(text))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)


def _with_zone(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

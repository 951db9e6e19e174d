"""Checks of what a host passes, the same wherever it is passed; each error names the argument."""

from __future__ import annotations

from datetime import datetime

from a2rchi_pg._arguments import shown
from a2rchi_pg._content import clean_text
from a2rchi_pg.errors import InvalidInput


def aware(name: str, value: object) -> datetime | None:
    """``value``, where it says which moment it means: a time without a zone doesn't."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInput(f"{name} must be a datetime with a time zone, got {shown(value)}")
    return value


def optional_text(value: str | None) -> str | None:
    """``value`` as PostgreSQL can store it; None stays None."""
    return None if value is None else clean_text(value)


def named(name: str, value: str | None) -> str | None:
    """A name of something (a model, a tool): clean, and not blank where it is given."""
    cleaned = optional_text(value)
    if cleaned is not None and not cleaned.strip():
        raise InvalidInput(f"{name} must not be blank")
    return cleaned

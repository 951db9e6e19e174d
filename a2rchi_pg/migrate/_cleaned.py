"""Text that PostgreSQL doesn't take: found, so that a report can say how many rows had it."""

from __future__ import annotations

from a2rchi_pg._arguments import UNSTORABLE

CLEANED = "NUL characters were removed, or what isn't UTF-8 replaced"


def is_storable(value: object) -> bool:
    """Whether PostgreSQL takes all text in a value; what is nested there may be so at any depth."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text if UNSTORABLE.search(text):
                return False
            case dict() as held:
                waiting += [*held, *held.values()]
            case list() | tuple() as held:
                waiting += held
    return True

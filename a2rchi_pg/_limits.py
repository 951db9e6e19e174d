"""How much may be asked for at once."""

from __future__ import annotations

from a2rchi_pg.errors import InvalidInput

MAX_PAGE = 10_000


def page_size(limit: object) -> int:
    """How many rows a page has.

    Raises:
        InvalidInput: If it is no whole number from 1 to 10,000.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"limit must be a whole number from 1 to {MAX_PAGE}, got {limit!r}")
    return limit

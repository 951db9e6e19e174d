"""How much may be asked for at once."""

from __future__ import annotations

from a2rchi_pg._arguments import whole

MAX_PAGE = 10_000


def page_size(limit: object) -> int:
    """How many rows a page has.

    Raises:
        InvalidInput: If it is no whole number from 1 to 10,000.
    """
    return whole(limit, "limit", 1, MAX_PAGE)

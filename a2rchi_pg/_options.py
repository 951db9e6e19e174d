"""The options that searches share, checked before anything is asked of model or database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from a2rchi_pg._content import wanted_ids
from a2rchi_pg._filters import Condition, compile_filter
from a2rchi_pg._search import MAX_EF_SEARCH
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_ROWS = 1_000_000  # more can't be meant, and pg_textsearch takes memory for each

Filter: TypeAlias = "Mapping[str, Any] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What narrows a search and how hard it looks."""

    condition: Condition
    ef_search: int | None


def search_options(
    filter: Filter,  # noqa: A002 - LangChain's name
    ef_search: int | None = None,
) -> SearchOptions:
    """Check and compile a search's options.

    Raises:
        FilterError: If the filter can't be understood.
        InvalidInput: If ``ef_search`` isn't between 1 and 1,000.
    """
    if ef_search is not None and not 1 <= ef_search <= MAX_EF_SEARCH:
        raise InvalidInput(f"ef_search must be between 1 and {MAX_EF_SEARCH}, got {ef_search!r}")
    return SearchOptions(condition=compile_filter(filter), ef_search=ef_search)


def which(ids: str | Sequence[str] | None, filter: Filter) -> Condition:  # noqa: A002
    """The condition that names documents by their ids or by their metadata.

    Raises:
        InvalidInput: If neither or both are given, or an id isn't a string.
        FilterError: If the filter can't be understood.
    """
    if (ids is None) == (filter is None):
        raise InvalidInput("say which: either ids=[…] or filter={…} ({} for every document)")
    if ids is None:
        return compile_filter(filter)
    return Condition(sql="id = ANY(%(ids)s)", params={"ids": wanted_ids(ids)})


def check_k(k: object, name: str = "k") -> int:
    """``k``, which must be a whole number of at least 0."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 0:
        raise InvalidInput(f"{name} must be a whole number of at least 0, got {k!r}")
    return min(int(k), MAX_ROWS)

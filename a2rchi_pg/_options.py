"""The options that searches share, checked before anything is asked of model or database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg._arguments import whole
from a2rchi_pg._content import wanted_ids
from a2rchi_pg._filters import Condition, compile_filter
from a2rchi_pg._scope import Scope
from a2rchi_pg._search import MAX_EF_SEARCH
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

SCOPE = ("user_id", "conversation_id", "client_id", "include_deleted")
NEAREST = ("k", "filter", "ef_search", *SCOPE)
FUSED = ("semantic_weight", "bm25_weight", "fusion", "fetch_k")
# The searches that have a name, and what each may be given besides the question.
SEARCHES = {
    "similarity": NEAREST,
    "similarity_score_threshold": (*NEAREST, "score_threshold"),
    "mmr": (*NEAREST, "fetch_k", "lambda_mult"),
    "bm25": ("k", "filter", *SCOPE),
    "hybrid": (*NEAREST, *FUSED),
}

Filter: TypeAlias = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What narrows a search, whose it is, and how hard it looks."""

    condition: Condition
    scope: Scope
    ef_search: int | None


def search_options(
    filter: Filter = None,  # noqa: A002 - LangChain's name
    ef_search: int | None = None,
    user_id: str | None = None,
    conversation_id: int | None = None,
    client_id: str | None = None,
    include_deleted: bool = False,
) -> SearchOptions:
    """Check and compile a search's options.

    Raises:
        FilterError: If the filter can't be understood.
        InvalidInput: If ``ef_search`` isn't a whole number from 1 to 1,000, or whose search it is
            can't be understood.
    """
    if ef_search is not None:
        ef_search = whole(ef_search, "ef_search", 1, MAX_EF_SEARCH)
    scope = Scope(
        user_id=user_id,
        conversation_id=conversation_id,
        client_id=client_id,
        include_deleted=include_deleted,
    )
    return SearchOptions(condition=compile_filter(filter), scope=scope, ef_search=ef_search)


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

"""Search, in the documents that you see."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute, Refused, problems
from a2rchi_pg.api._shapes import BodyId, Sent, Shown

router = APIRouter(tags=["search"], route_class=ProblemRoute)


class Query(Sent):
    """A question; with a conversation's id, what was chosen there counts too."""

    query: Annotated[str, Field(min_length=1, max_length=100_000)]
    k: Annotated[int, Field(ge=1, le=100)] = 4
    mode: Literal["hybrid", "semantic", "bm25"] = "hybrid"
    filter: dict[str, Any] | None = None
    conversation_id: BodyId | None = None


class Hit(Shown):
    """A chunk with its score: a distance, lower is better, where ``mode`` is semantic."""

    id: str | None
    content: str
    metadata: dict[str, Any]
    score: float


class Hits(Shown):
    """The best chunks, best first."""

    hits: list[Hit]


@router.post("/search", responses=problems(404))
async def search(asked: Query, caller: Caller) -> Hits:
    """The best chunks for a question."""
    store = caller.services.store
    if store is None:
        raise Refused(503, "unavailable", "there is nothing to search here")
    await caller.check_own(asked.conversation_id)
    method = {
        "hybrid": store.ahybrid_search,
        "semantic": store.asimilarity_search_with_score,
        "bm25": store.abm25_search,
    }[asked.mode]
    found = await method(
        asked.query,
        asked.k,
        filter=asked.filter,
        user_id=caller.user_id,
        conversation_id=asked.conversation_id,
    )
    return Hits(
        hits=[
            Hit(
                id=document.id,
                content=document.page_content,
                metadata=document.metadata,
                score=score,
            )
            for document, score in found
        ]
    )

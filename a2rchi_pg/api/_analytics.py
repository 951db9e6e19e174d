"""What everybody asked and preferred, counted: for admins."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute
from a2rchi_pg.api._shapes import Absent, Moment, Shown
from a2rchi_pg.conversations import ConversationRepository

admin = APIRouter(prefix="/analytics", tags=["analytics"], route_class=ProblemRoute)

Name = Annotated[str | Absent, Query(min_length=1, max_length=200)]


class Usage(Shown):
    """How many answers a model gave."""

    period: datetime | None
    service: str
    model: str | None
    pipeline: str | None
    message_count: int
    conversation_count: int


class Preferences(Shown):
    """How two models fared against one another."""

    model_a: str | None
    model_b: str | None
    total: int
    wins_a: int
    wins_b: int
    ties: int
    skips: int
    pending: int
    win_rate_a: float | None
    win_rate_b: float | None


class Catalog(Shown):
    """What is in the catalog."""

    documents: int
    enabled: int
    disabled: int
    deleted: int
    size_bytes: int
    chunks: int
    by_source_type: dict[str, Any]
    by_status: dict[str, int]
    last_sync: datetime | None
    last_indexed: datetime | None


@admin.get("/usage")
async def usage(
    caller: Caller,
    since: Moment = None,
    until: Moment = None,
    service: Name = None,
    every: Literal["hour", "day", "week", "month"] | Absent = None,
) -> list[Usage]:
    """How many answers there were, by service, model and pipeline."""
    everybody = ConversationRepository(caller.services.database)
    counted = await everybody.ausage(since=since, until=until, service=service, every=every)
    return [Usage.model_validate(each) for each in counted]


@admin.get("/comparisons")
async def preferences(
    caller: Caller,
    model_a: Name = None,
    model_b: Name = None,
    since: Moment = None,
    until: Moment = None,
) -> list[Preferences]:
    """Votes and win rates by pair of models, the most compared first."""
    everybody = ConversationRepository(caller.services.database).comparisons
    counted = await everybody.astats(model_a=model_a, model_b=model_b, since=since, until=until)
    return [Preferences.model_validate(each) for each in counted]


@admin.get("/documents")
async def catalog(caller: Caller) -> Catalog:
    """Documents by kind and state, sizes and chunks."""
    return Catalog.model_validate(await caller.services.catalog.astats())

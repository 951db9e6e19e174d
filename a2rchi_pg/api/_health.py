"""Whether the process lives, and whether the database answers."""

from typing import Literal

from fastapi import APIRouter

from a2rchi_pg.api._problems import ProblemRoute, problems
from a2rchi_pg.api._shapes import Shown
from a2rchi_pg.database import Database


class Alive(Shown):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(Shown):
    """The database answers too."""

    status: Literal["ready"] = "ready"
    read_only: bool


def routes(database: Database) -> APIRouter:
    """The two endpoints that ask for nobody's name, and so say nothing about the server."""
    router = APIRouter(tags=["health"], route_class=ProblemRoute)

    @router.get("/health")
    async def health() -> Alive:
        """Whether this process answers; doesn't touch the database."""
        return Alive()

    @router.get("/ready", responses=problems(503))
    async def ready() -> Ready:
        """Whether the database can be reached."""
        return Ready(read_only=(await database.ahealth()).read_only)

    return router

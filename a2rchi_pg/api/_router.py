"""The router: every group of routes, with whom it is for."""

from fastapi import APIRouter, Depends

from a2rchi_pg._settings import DynamicConfig
from a2rchi_pg.api import (
    _analytics,
    _comparisons,
    _config,
    _conversations,
    _documents,
    _health,
    _keys,
    _messages,
    _profile,
    _search,
    _selection,
)
from a2rchi_pg.api._caller import Dependency, Services, admit, identify
from a2rchi_pg.api._problems import ProblemRoute, problems
from a2rchi_pg.database import Database
from a2rchi_pg.keyring import KeyRing
from a2rchi_pg.vectorstore import PostgresVectorStore

_FOR_PEOPLE = (_config, _profile, _documents, _selection, _conversations, _messages, _comparisons)
_FOR_ADMINS = (_config, _documents, _selection, _analytics)
_ANYBODY = (400, 401, 413, 422, 503)  # what every endpoint may answer: a body may be no JSON, …


def create_router(
    database: Database,
    *,
    current_user: Dependency,
    require_admin: Dependency | None = None,
    store: PostgresVectorStore | None = None,
    keyring: KeyRing | None = None,
    model: type[DynamicConfig] = DynamicConfig,
    prefix: str = "/api/v2",
) -> APIRouter:
    """Endpoints for configuration, profile, documents, conversations, search and health.

    Args:
        database: Opened with ``async with``, endpoints wait on the event loop; with ``with``, in
            threads.
        current_user: A FastAPI dependency that returns the id of who is logged in; None or "", or
            an ``HTTPException`` of its own, where nobody is.
        require_admin: A dependency that raises, or returns False, where who asks is no admin; None
            goes by the role in the database. Changes of the configuration need that role too.
        store: What ``/search`` searches; without one there is no such endpoint.
        keyring: What users' keys are encrypted with; without one there are no such endpoints.
        model: What can be set at run time: ``DynamicConfig`` or an extension of it.
        prefix: Where the endpoints are.
    """
    services = Services(database=database, model=model, store=store, keyring=keyring)
    router = APIRouter(prefix=prefix, route_class=ProblemRoute)
    router.include_router(_health.routes(database))
    people = [Depends(identify(services, current_user))]
    admins = [*people, *admit(require_admin)]
    for group in _FOR_PEOPLE:
        router.include_router(group.router, dependencies=people, responses=problems(*_ANYBODY))
    if keyring is not None:
        router.include_router(_keys.router, dependencies=people, responses=problems(*_ANYBODY))
    if store is not None:
        router.include_router(_search.router, dependencies=people, responses=problems(*_ANYBODY))
    for group in _FOR_ADMINS:
        router.include_router(group.admin, dependencies=admins, responses=problems(*_ANYBODY, 403))
    return router

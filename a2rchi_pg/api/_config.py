"""Configuration: what was deployed, what is set now, what was set before."""

import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from pydantic import Field

from a2rchi_pg._arguments import MAX_BIGINT
from a2rchi_pg._layers import Layers, read_layers, resolve
from a2rchi_pg._settings import CLEAR
from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute, Refused, problems
from a2rchi_pg.api._shapes import Absent, Limit, Sent, Shown, found

router = APIRouter(prefix="/config", tags=["config"], route_class=ProblemRoute)
admin = APIRouter(prefix="/config", tags=["config"], route_class=ProblemRoute)

IfMatch = Annotated[str | Absent, Header(description='The revision that is changed, as in `"7"`.')]
Number = Annotated[int, Field(ge=0, le=MAX_BIGINT)]
Note = Annotated[str | None, Field(max_length=2000)]


class Static(Shown):
    """What was deployed, without the sections that only the deployment itself needs."""

    deployment_name: str
    config_version: str
    collection: str
    embedding_model: str
    embedding_dimensions: int | None
    distance_metric: str
    chunk_size: int
    chunk_overlap: int
    available_pipelines: list[str]
    available_models: list[str]
    available_providers: list[str]
    auth_enabled: bool
    session_lifetime_days: int


class Dynamic(Shown):
    """The settings that hold, and which of them were set here; the rest follow the deployment."""

    revision: int
    settings: dict[str, Any]
    set: list[str]


class RevisionShown(Shown):
    """What was set, by whom and when."""

    revision: int
    settings: dict[str, Any]
    changed_by: str | None
    changed_at: datetime
    note: str | None


class History(Shown):
    """A page of revisions, newest first; ``next`` is the next page's ``before``."""

    revisions: list[RevisionShown]
    next: int | None


class Change(Sent):
    """Settings to set, and others that are to follow the deployment again."""

    settings: dict[str, Any] = Field(default_factory=dict)
    clear: list[str] = Field(default_factory=list)
    note: Note = None


class Rollback(Sent):
    """The revision whose settings are to hold again; 0 is before the first."""

    to_revision: Number
    note: Note = None


@router.get("/static", responses=problems(404))
async def static_config(caller: Caller) -> Static:
    """What was deployed."""
    config = await caller.services.config.aget_static_config(force_reload=True)
    return Static.model_validate(found(config, "configuration: nothing was deployed yet"))


@router.get("/dynamic")
async def dynamic_config(caller: Caller, response: Response) -> Dynamic:
    """The settings that hold for whoever has no preferences; the revision is in ``ETag`` too."""
    services = caller.services
    layers, _ = await services.database.arun(read_layers(Layers()))
    response.headers["ETag"] = _tag(layers.dynamic_revision)
    return Dynamic(
        revision=layers.dynamic_revision,
        settings=resolve(services.model, layers, {}).model_dump(mode="json"),
        set=sorted(layers.dynamic),
    )


@router.get("/effective")
async def effective_config(caller: Caller) -> dict[str, Any]:
    """The settings that hold for who asks: preference, run time, deployment, default."""
    config = await caller.services.config.aeffective(caller.user_id)
    return config.model_dump(mode="json")


@admin.put("/dynamic", responses=problems(400, 412, 428))
async def change_dynamic_config(
    change: Change, caller: Caller, response: Response, if_match: IfMatch = None
) -> RevisionShown:
    """Change settings; what isn't named stays."""
    stored = await caller.services.config.aupdate_dynamic_config(
        {**change.settings, **dict.fromkeys(change.clear, CLEAR)},
        updated_by=caller.user_id,
        expected_revision=_expected(if_match),
        note=change.note,
    )
    response.headers["ETag"] = _tag(stored.revision)
    return RevisionShown.model_validate(stored)


@admin.post("/dynamic/rollback", responses=problems(400, 404, 412, 428))
async def roll_back(
    wanted: Rollback, caller: Caller, response: Response, if_match: IfMatch = None
) -> RevisionShown:
    """Set everything as an earlier revision had it, as a new revision."""
    stored = await caller.services.config.arollback(
        wanted.to_revision,
        updated_by=caller.user_id,
        expected_revision=_expected(if_match),
        note=wanted.note,
    )
    response.headers["ETag"] = _tag(stored.revision)
    return RevisionShown.model_validate(stored)


@admin.get("/dynamic/history")
async def history(
    caller: Caller,
    limit: Limit = 50,
    before: Annotated[int | Absent, Query(ge=1, le=MAX_BIGINT)] = None,
) -> History:
    """Who set what, newest first."""
    revisions = await caller.services.config.ahistory(limit=limit, before=before)
    return History(
        revisions=[RevisionShown.model_validate(each) for each in revisions],
        next=revisions[-1].revision if len(revisions) == limit else None,
    )


def _tag(revision: int) -> str:
    return f'"{revision}"'


def _expected(if_match: str | None) -> int | None:
    """The revision that a change is made for; ``*`` is any."""
    if if_match is None:
        raise Refused(428, "revision_required")
    if if_match.strip() == "*":
        return None
    named = re.fullmatch(r'"?([0-9]{1,18})"?', if_match.strip())
    if named is None:
        raise Refused(400, "invalid_revision", 'If-Match takes a revision, as in "7", or *')
    return int(named[1])

"""Who asks: name, role, preferences."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from a2rchi_pg._op import Steps, write
from a2rchi_pg._people import User, update_preferences, update_profile
from a2rchi_pg._settings import CLEAR, DynamicConfig
from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute
from a2rchi_pg.api._shapes import Sent, Shown

router = APIRouter(prefix="/user", tags=["user"], route_class=ProblemRoute)


class Profile(Shown):
    """A person, with the preferences they set."""

    id: str
    display_name: str | None
    email: str | None
    auth_provider: str
    role: str
    preferences: dict[str, Any]
    created_at: datetime
    updated_at: datetime


class ProfileChange(Sent):
    """What isn't named stays. The e-mail address comes from the login, and is not changed here."""

    display_name: Annotated[str | None, Field(max_length=500)] = None
    preferences: dict[str, Any] = Field(default_factory=dict)
    clear: list[str] = Field(default_factory=list)


@router.get("/profile")
async def profile(caller: Caller) -> Profile:
    """Your profile; who comes for the first time becomes known."""
    return Profile.model_validate(await caller.services.users.aget_or_create(caller.user_id))


@router.put("/profile")
async def change_profile(change: ProfileChange, caller: Caller) -> Profile:
    """Change name and preferences together, or neither."""
    services = caller.services
    await services.users.aget_or_create(caller.user_id)
    named = (
        {"display_name": change.display_name} if "display_name" in change.model_fields_set else {}
    )
    preferences = {**change.preferences, **dict.fromkeys(change.clear, CLEAR)}
    changed = await services.database.arun(
        _change(services.model, caller.user_id, named, preferences)
    )
    return Profile.model_validate(changed)


@write
def _change(
    model: type[DynamicConfig],
    user_id: str,
    named: Mapping[str, str | None],
    preferences: Mapping[str, Any],
) -> "Steps[User]":
    user = yield from update_profile(user_id, named)
    if preferences:
        user = yield from update_preferences(model, user_id, preferences)
    return user

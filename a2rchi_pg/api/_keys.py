"""The keys that users bring: stored, listed and deleted, and never given out."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field, SecretStr

from a2rchi_pg.api._caller import Caller
from a2rchi_pg.api._problems import ProblemRoute, Refused, problems
from a2rchi_pg.api._shapes import Sent, Shown, Time

router = APIRouter(prefix="/user/api-keys", tags=["user"], route_class=ProblemRoute)

Provider = Annotated[str, Path(pattern="^[a-z0-9][a-z0-9_.-]{0,63}$")]


class NewKey(Sent):
    """A key to be stored, encrypted."""

    api_key: Annotated[SecretStr, Field(max_length=8192)]
    expires_at: Time | None = None


class StoredKey(Shown):
    """What may be shown of a key."""

    provider: str
    last_four: str
    created_at: datetime
    rotated_at: datetime | None
    last_used_at: datetime | None
    expires_at: datetime | None
    state: str


@router.get("")
async def keys(caller: Caller) -> list[StoredKey]:
    """Your keys, by provider."""
    stored = await caller.services.users.alist_api_keys(caller.user_id)
    return [StoredKey.model_validate(each) for each in stored]


@router.get("/{provider}", responses=problems(404))
async def key(provider: Provider, caller: Caller) -> StoredKey:
    """Your key for one provider."""
    for each in await keys(caller):
        if each.provider == provider:
            return each
    raise _missing(provider)


@router.post("/{provider}", status_code=204)
async def set_key(provider: Provider, new: NewKey, caller: Caller) -> None:
    """Store a key, in place of the one there may be."""
    users = caller.services.users
    await users.aget_or_create(caller.user_id)
    await users.aset_api_key(
        caller.user_id, provider, new.api_key.get_secret_value(), expires_at=new.expires_at
    )


@router.delete("/{provider}", status_code=204, responses=problems(404))
async def delete_key(provider: Provider, caller: Caller) -> None:
    """Delete a key."""
    if not await caller.services.users.adelete_api_key(caller.user_id, provider):
        raise _missing(provider)


def _missing(provider: str) -> Refused:
    return Refused(404, "not_found", f"you have no key for {provider}")

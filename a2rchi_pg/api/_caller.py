"""Who asks, and what an endpoint works with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from a2rchi_pg._owner import Owner
from a2rchi_pg._settings import DynamicConfig
from a2rchi_pg.api._problems import Refused
from a2rchi_pg.catalog import CatalogRepository
from a2rchi_pg.config import ConfigRepository
from a2rchi_pg.conversations import ConversationRepository
from a2rchi_pg.database import Database
from a2rchi_pg.keyring import KeyRing
from a2rchi_pg.selection import SelectionRepository
from a2rchi_pg.users import UserRepository
from a2rchi_pg.vectorstore import PostgresVectorStore

Dependency = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Services:
    """The database, and every repository on it."""

    database: Database
    model: type[DynamicConfig]
    store: PostgresVectorStore | None
    keyring: KeyRing | None
    users: UserRepository = field(init=False)
    config: ConfigRepository[DynamicConfig] = field(init=False)
    catalog: CatalogRepository = field(init=False)
    selection: SelectionRepository = field(init=False)

    def __post_init__(self) -> None:
        made = {
            "users": UserRepository(self.database, self.keyring, model=self.model),
            "config": ConfigRepository(self.database, model=self.model),
            "catalog": CatalogRepository(self.database),
            "selection": SelectionRepository(self.database),
        }
        for name, repository in made.items():
            object.__setattr__(self, name, repository)


@dataclass(frozen=True, kw_only=True)
class CallerOf:
    """The person that the host says is asking."""

    user_id: str
    services: Services

    @property
    def conversations(self) -> ConversationRepository:
        """This person's conversations and nobody else's."""
        return ConversationRepository(self.services.database, owner=Owner(user_id=self.user_id))

    async def check_own(self, conversation_id: int | None) -> None:
        """Refuse a conversation that isn't this person's."""
        if conversation_id is not None and not await self.conversations.aget(conversation_id):
            raise Refused(404, "not_found", f"there is no conversation {conversation_id} of yours")


def identify(services: Services, current_user: Dependency) -> Dependency:
    """The dependency of every endpoint that is for people: keeps who asks for :data:`Caller`."""

    async def identified(
        request: Request, user_id: Annotated[str | None, Depends(current_user)]
    ) -> None:
        if not user_id:
            raise Refused(401, "unauthenticated")
        request.state.a2rchi_caller = CallerOf(user_id=user_id, services=services)

    return identified


def admit(require_admin: Dependency | None) -> Sequence[Any]:
    """The dependencies of the endpoints for admins; they come after :func:`identify`'s."""
    if require_admin is None:
        return [Depends(_has_the_role)]

    async def admitted(allowed: Annotated[Any, Depends(require_admin)]) -> None:
        if allowed is False:
            raise Refused(403, "permission_denied")

    return [Depends(admitted)]


def _identified(request: Request) -> CallerOf:
    caller: CallerOf = request.state.a2rchi_caller
    return caller


Caller = Annotated[CallerOf, Depends(_identified)]


async def _has_the_role(caller: Caller) -> None:
    if not await caller.services.users.ais_admin(caller.user_id):
        raise Refused(403, "permission_denied")

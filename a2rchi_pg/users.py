"""Users: profiles, preferences, roles, the keys they bring, and what becomes of all that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from a2rchi_pg import _api_keys, _people
from a2rchi_pg._arguments import mapping, one_of, page_size, shown, user_id_of
from a2rchi_pg._people import (
    AuthProvider,
    Profile,
    Rebound,
    Role,
    User,
    new_anonymous_id,
)
from a2rchi_pg._rights import is_admin
from a2rchi_pg._settings import DynamicConfig
from a2rchi_pg._user_keys import UserKeys
from a2rchi_pg.errors import Conflict, DecryptionError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from a2rchi_pg._api_keys import StoredKey
    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Op, Runner
    from a2rchi_pg._people import RoleChange
    from a2rchi_pg._rights import Actor
    from a2rchi_pg.keyring import KeyRing

_LINK_ATTEMPTS = 5


class UserRepository(UserKeys):
    """The users of an application.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
        keyring: What the keys that users bring are encrypted with; without one they can't be.
        model: The settings, of which those in ``model.personal`` may be preferences.
    """

    def __init__(
        self,
        runner: Runner,
        keyring: KeyRing | None = None,
        *,
        model: type[DynamicConfig] = DynamicConfig,
    ) -> None:
        super().__init__(runner, keyring)
        self._model = model

    def get(self, user_id: str) -> User | None:
        """The user of that id, or None."""
        return self._runner.run(_people.get_user(user_id))

    async def aget(self, user_id: str) -> User | None:
        """The asynchronous twin of :meth:`get`."""
        return await self._runner.arun(_people.get_user(user_id))

    def get_or_create(
        self,
        user_id: str | None = None,
        *,
        auth_provider: AuthProvider | None = None,
        display_name: str | None = None,
        email: str | None = None,
    ) -> User:
        """The user, made on the first interaction and kept up to date on later ones.

        Args:
            user_id: The host's id; None makes an anonymous user with an id nobody can guess.
            auth_provider: How they logged in; one who has is never anonymous again.
            display_name: Replaces the one stored; None leaves it.
            email: Replaces the one stored; None leaves it.

        Raises:
            InvalidInput: If an argument can't be stored.
        """
        profile = Profile(auth_provider=auth_provider, display_name=display_name, email=email)
        return self._runner.run(_get_or_create(user_id, profile))

    async def aget_or_create(
        self,
        user_id: str | None = None,
        *,
        auth_provider: AuthProvider | None = None,
        display_name: str | None = None,
        email: str | None = None,
    ) -> User:
        """The asynchronous twin of :meth:`get_or_create`."""
        profile = Profile(auth_provider=auth_provider, display_name=display_name, email=email)
        return await self._runner.arun(_get_or_create(user_id, profile))

    def list_users(
        self,
        *,
        auth_provider: AuthProvider | None = None,
        role: Role | None = None,
        limit: int = 100,
        after: User | None = None,
    ) -> list[User]:
        """Users, newest first; ``after`` is the last one of the page before."""
        return self._runner.run(_list(auth_provider, role, limit, after))

    async def alist_users(
        self,
        *,
        auth_provider: AuthProvider | None = None,
        role: Role | None = None,
        limit: int = 100,
        after: User | None = None,
    ) -> list[User]:
        """The asynchronous twin of :meth:`list_users`."""
        return await self._runner.arun(_list(auth_provider, role, limit, after))

    def update_profile(self, user_id: str, patch: Mapping[str, str | None]) -> User:
        """Change ``display_name`` and ``email``: a key that is absent stays, None empties.

        Raises:
            NotFound: If there is no such user.
            InvalidInput: If the patch holds anything else.
        """
        return self._runner.run(_update_profile(user_id, patch))

    async def aupdate_profile(self, user_id: str, patch: Mapping[str, str | None]) -> User:
        """The asynchronous twin of :meth:`update_profile`."""
        return await self._runner.arun(_update_profile(user_id, patch))

    def update_preferences(self, user_id: str, patch: Mapping[str, Any]) -> User:
        """Change preferences: a key that is absent stays, ``CLEAR`` follows the configuration.

        None and zero are values, where the setting admits them.

        Raises:
            NotFound: If there is no such user.
            ConfigError: If a value is out of range or no preference; names every such field.
        """
        return self._runner.run(_people.update_preferences(self._model, user_id, patch))

    async def aupdate_preferences(self, user_id: str, patch: Mapping[str, Any]) -> User:
        """The asynchronous twin of :meth:`update_preferences`."""
        return await self._runner.arun(_people.update_preferences(self._model, user_id, patch))

    def record_login(self, user_id: str) -> User:
        """Note that a user logged in just now.

        Raises:
            NotFound: If there is no such user.
        """
        return self._runner.run(_people.record_login(user_id))

    async def arecord_login(self, user_id: str) -> User:
        """The asynchronous twin of :meth:`record_login`."""
        return await self._runner.arun(_people.record_login(user_id))

    def is_admin(self, user_id: str) -> bool:
        """Whether a user is an admin; False for one that isn't there."""
        return self._runner.run(is_admin(user_id))

    async def ais_admin(self, user_id: str) -> bool:
        """The asynchronous twin of :meth:`is_admin`."""
        return await self._runner.arun(is_admin(user_id))

    def set_role(
        self, user_id: str, role: Role, *, changed_by: Actor, note: str | None = None
    ) -> User:
        """Make somebody an admin, or no longer; kept in the audit.

        Args:
            user_id: Whose role it is.
            role: ``"user"`` or ``"admin"``.
            changed_by: The admin who does it, or ``SYSTEM``: the deployment itself.
            note: Why.

        Raises:
            PermissionDenied: If ``changed_by`` is no admin.
            NotFound: If there is no such user.
        """
        return self._runner.run(_people.set_role(user_id, _role(role), changed_by, note))

    async def aset_role(
        self, user_id: str, role: Role, *, changed_by: Actor, note: str | None = None
    ) -> User:
        """The asynchronous twin of :meth:`set_role`."""
        return await self._runner.arun(_people.set_role(user_id, _role(role), changed_by, note))

    def role_changes(self, user_id: str | None = None, *, limit: int = 100) -> list[RoleChange]:
        """Changes of one user's role, or of everybody's, newest first."""
        return self._runner.run(_people.role_changes(user_id, page_size(limit)))

    async def arole_changes(
        self, user_id: str | None = None, *, limit: int = 100
    ) -> list[RoleChange]:
        """The asynchronous twin of :meth:`role_changes`."""
        return await self._runner.arun(_people.role_changes(user_id, page_size(limit)))

    def link(
        self,
        anonymous: str,
        authenticated: str,
        *,
        auth_provider: Literal["basic", "sso"] = "sso",
        display_name: str | None = None,
        email: str | None = None,
    ) -> User:
        """Hand what an anonymous user did to the one who logged in, and delete the former.

        Whatever refers to the anonymous user is moved, in one transaction; of what both have, the
        authenticated user's own stays. Where there is no anonymous user, this only brings the other
        one up to date, so it may be called again.

        Args:
            anonymous: From the host's own session, never from a request: whose it is can't be
                checked here. A user whose ``auth_provider`` nobody ever told counts as anonymous.
            authenticated: Who logged in; made where they aren't known yet.
            auth_provider: How they did.
            display_name: Replaces the one stored; None leaves it.
            email: Replaces the one stored; None leaves it.

        Raises:
            PermissionDenied: If the first is not anonymous.
            InvalidInput: If they are the same, or there are keys to move and no key ring.
        """
        profile = _linked(auth_provider, display_name, email)
        return self._do(self._link(anonymous, authenticated, profile))

    async def alink(
        self,
        anonymous: str,
        authenticated: str,
        *,
        auth_provider: Literal["basic", "sso"] = "sso",
        display_name: str | None = None,
        email: str | None = None,
    ) -> User:
        """The asynchronous twin of :meth:`link`."""
        profile = _linked(auth_provider, display_name, email)
        return await self._ado(self._link(anonymous, authenticated, profile))

    def delete(self, user_id: str) -> bool:
        """Delete a user and all that is theirs; False where there is none.

        What they changed of the configuration and of roles stays in the audit, under their id.
        """
        return self._runner.run(_people.delete_user(user_id))

    async def adelete(self, user_id: str) -> bool:
        """The asynchronous twin of :meth:`delete`."""
        return await self._runner.arun(_people.delete_user(user_id))

    def export(self, user_id: str) -> dict[str, Any]:
        """All rows about a user, by table, ready for JSON; encrypted keys are left out.

        Raises:
            NotFound: If there is no such user.
        """
        return self._runner.run(_people.export_user(user_id))

    async def aexport(self, user_id: str) -> dict[str, Any]:
        """The asynchronous twin of :meth:`export`."""
        return await self._runner.arun(_people.export_user(user_id))

    def _link(self, anonymous: str, authenticated: str, profile: Profile) -> Flow[User]:
        """Keys are encrypted for whom they are, so those of the one have to be for the other."""
        if user_id_of(anonymous, "anonymous") == user_id_of(authenticated, "authenticated"):
            raise InvalidInput(f"user {anonymous!r} can't be linked with themselves")
        for _ in range(_LINK_ATTEMPTS):
            stored: list[StoredKey] = yield _api_keys.all_of(anonymous)
            rebound = [self._rebound(each, authenticated) for each in stored]
            user: User | None = yield _people.link(anonymous, authenticated, profile, rebound)
            if user is not None:
                return user
        raise Conflict(f"the keys of user {anonymous!r} change all the time: try again")

    def _rebound(self, stored: StoredKey, user_id: str) -> Rebound:
        ring, provider = self._ring(), stored.provider
        try:
            secret = _api_keys.opened(ring, stored)
        except DecryptionError:
            sealed = stored.sealed  # of no use to either of them: it is moved, and shown as such
        else:
            sealed = ring.seal(secret, user_id=user_id, provider=provider)
        return Rebound(provider=provider, was=bytes(stored.ciphertext), sealed=sealed)


def _get_or_create(user_id: str | None, profile: Profile) -> Op[User]:
    wanted = new_anonymous_id() if user_id is None else user_id_of(user_id)
    return _people.get_or_create(wanted, profile)


def _list(
    auth_provider: AuthProvider | None, role: Role | None, limit: int, after: User | None
) -> Op[list[User]]:
    if after is not None and not isinstance(after, User):
        raise InvalidInput(f"after must be the last user of a page, got {shown(after)}")
    if auth_provider is not None:
        one_of(auth_provider, "auth_provider", get_args(AuthProvider))
    if role is not None:
        _role(role)
    position = None if after is None else (after.created_at, after.id)
    return _people.list_users(auth_provider, role, page_size(limit), position)


def _update_profile(user_id: str, patch: Mapping[str, str | None]) -> Op[User]:
    given = mapping(patch, "patch")
    strangers = [shown(key) for key in given if key not in {"display_name", "email"}]
    if strangers:
        raise InvalidInput(f"a profile has display_name and email, not {', '.join(strangers)}")
    return _people.update_profile(user_id, given)


def _role(role: object) -> str:
    checked: str = one_of(role, "role", get_args(Role))
    return checked


def _linked(
    auth_provider: Literal["basic", "sso"], display_name: str | None, email: str | None
) -> Profile:
    one_of(auth_provider, "auth_provider", ("basic", "sso"))
    return Profile(auth_provider=auth_provider, display_name=display_name, email=email)

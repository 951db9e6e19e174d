"""Configuration: what was deployed, what was set since, and which value holds."""

from __future__ import annotations

from dataclasses import replace
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from a2rchi_pg import _flow, _revisions, _watching
from a2rchi_pg._config_file import read_static_config
from a2rchi_pg._layers import ConfigT, Explained, Layers, explain, read_layers, resolve
from a2rchi_pg._limits import page_size
from a2rchi_pg._rights import SYSTEM, Actor, is_admin
from a2rchi_pg._settings import DynamicConfig, StaticConfig
from a2rchi_pg.database import Database
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from os import PathLike

    from a2rchi_pg._connection import ConnectionSettings
    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Runner
    from a2rchi_pg._revisions import FieldChange, Revision

T = TypeVar("T")


def _never() -> bool:
    return False


class ConfigRepository(Generic[ConfigT]):
    """The configuration of an application.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
        model: What can be set at run time: ``DynamicConfig`` or an extension of it.
        cache_seconds: How long what was read is used without asking whether it is still in force.
            With a user's preferences it is always asked, in the same statement.
    """

    @overload
    def __init__(
        self: ConfigRepository[DynamicConfig], runner: Runner, *, cache_seconds: float = ...
    ) -> None: ...
    @overload
    def __init__(
        self, runner: Runner, *, model: type[ConfigT], cache_seconds: float = ...
    ) -> None: ...
    def __init__(
        self, runner: Runner, *, model: Any = DynamicConfig, cache_seconds: float = 1.0
    ) -> None:
        self._runner = runner
        self._model: type[ConfigT] = model
        self._cache_seconds = cache_seconds
        self._layers = Layers()
        self._read_at: float | None = None

    def load_static_config(
        self,
        source: str | PathLike[str] | Mapping[str, Any],
        *,
        changed_by: Actor = SYSTEM,
        redeploy: bool = False,
        note: str | None = None,
    ) -> StaticConfig:
        """Put a deployment's configuration in force; does nothing where it is already.

        Args:
            source: Path of a ``config.yaml``, or what was read from one. References to secrets, as
                in ``${NAME}``, stay references; secrets themselves are refused.
            changed_by: The admin who does it, or the deployment itself.
            redeploy: Put it in force although it differs from what was deployed before.
            note: Why.

        Raises:
            ConfigError: If it can't be read or is not valid, differs without ``redeploy``, or
                contradicts the vectors that are stored; names every such field.
            PermissionDenied: If ``changed_by`` is a user and no admin.
        """
        config = read_static_config(source)
        return self._do(self._load(config, changed_by, redeploy, note))

    async def aload_static_config(
        self,
        source: str | PathLike[str] | Mapping[str, Any],
        *,
        changed_by: Actor = SYSTEM,
        redeploy: bool = False,
        note: str | None = None,
    ) -> StaticConfig:
        """The asynchronous twin of :meth:`load_static_config`."""
        config = read_static_config(source)
        return await self._ado(self._load(config, changed_by, redeploy, note))

    def get_static_config(self, *, force_reload: bool = False) -> StaticConfig | None:
        """What was deployed, or None."""
        return self._do(self._current(force_reload)).static

    async def aget_static_config(self, *, force_reload: bool = False) -> StaticConfig | None:
        """The asynchronous twin of :meth:`get_static_config`."""
        return (await self._ado(self._current(force_reload))).static

    def get_dynamic_config(self, *, force_reload: bool = False) -> ConfigT:
        """The run-time settings that hold for whoever has no preferences."""
        layers = self._do(self._current(force_reload))
        return resolve(self._model, layers, {})

    async def aget_dynamic_config(self, *, force_reload: bool = False) -> ConfigT:
        """The asynchronous twin of :meth:`get_dynamic_config`."""
        layers = await self._ado(self._current(force_reload))
        return resolve(self._model, layers, {})

    def effective(self, user: str | None = None) -> ConfigT:
        """The settings that hold for a user: preference, run time, deployment, default."""
        layers, preferences = self._do(self._for(user))
        return resolve(self._model, layers, preferences)

    async def aeffective(self, user: str | None = None) -> ConfigT:
        """The asynchronous twin of :meth:`effective`."""
        layers, preferences = await self._ado(self._for(user))
        return resolve(self._model, layers, preferences)

    def explain(self, key: str, user: str | None = None) -> Explained:
        """Where a setting's value comes from.

        Raises:
            ConfigError: If there is no such setting.
        """
        layers, preferences = self._do(self._for(user))
        return explain(self._model, layers, preferences, key)

    async def aexplain(self, key: str, user: str | None = None) -> Explained:
        """The asynchronous twin of :meth:`explain`."""
        layers, preferences = await self._ado(self._for(user))
        return explain(self._model, layers, preferences, key)

    def update_dynamic_config(
        self,
        patch: Mapping[str, Any],
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """Change settings: a key that is absent stays, ``CLEAR`` follows the deployment again.

        Args:
            patch: The settings that change.
            updated_by: The admin who does it, or ``SYSTEM``: the deployment itself.
            expected_revision: The revision the change was made for; None takes any.
            note: Why.

        Returns:
            The new revision.

        Raises:
            ConfigError: If the outcome is not valid; names every field that is wrong.
            ConfigConflict: If there is another revision than that expected.
            PermissionDenied: If ``updated_by`` is a user and no admin.
        """
        return self._do(self._update(lambda _: patch, updated_by, expected_revision, note))

    async def aupdate_dynamic_config(
        self,
        patch: Mapping[str, Any],
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """The asynchronous twin of :meth:`update_dynamic_config`."""
        return await self._ado(self._update(lambda _: patch, updated_by, expected_revision, note))

    def update_source_schedule(
        self, source: str, schedule: str, *, updated_by: Actor, note: str | None = None
    ) -> Revision:
        """Set when one source is collected, and leave the others.

        Args:
            source: Its name.
            schedule: A cron expression of five fields, ``""`` or ``"disabled"`` for never, or
                ``"hourly"``, ``"every_6h"`` or ``"daily"``.
            updated_by: The admin who does it, or ``SYSTEM``.
            note: Why.

        Raises:
            ConfigError: If it is no schedule.
            PermissionDenied: If ``updated_by`` is a user and no admin.
        """
        return self._do(self._update(_scheduled(source, schedule), updated_by, None, note))

    async def aupdate_source_schedule(
        self, source: str, schedule: str, *, updated_by: Actor, note: str | None = None
    ) -> Revision:
        """The asynchronous twin of :meth:`update_source_schedule`."""
        return await self._ado(self._update(_scheduled(source, schedule), updated_by, None, note))

    def rollback(
        self,
        to_revision: int,
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """Set everything as an earlier revision had it, as a new revision; 0 is before the first.

        Raises:
            NotFound: If there is no such revision.
            ConfigError: If it is not valid any more.
            ConfigConflict: If there is another revision than that expected.
            PermissionDenied: If ``updated_by`` is a user and no admin.
        """
        return self._do(self._roll_back(to_revision, updated_by, expected_revision, note))

    async def arollback(
        self,
        to_revision: int,
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """The asynchronous twin of :meth:`rollback`."""
        return await self._ado(self._roll_back(to_revision, updated_by, expected_revision, note))

    def history(self, *, limit: int = 100, before: int | None = None) -> list[Revision]:
        """Revisions, newest first; ``before`` is the last one of the page before."""
        return self._runner.run(_revisions.history(page_size(limit), before))

    async def ahistory(self, *, limit: int = 100, before: int | None = None) -> list[Revision]:
        """The asynchronous twin of :meth:`history`."""
        return await self._runner.arun(_revisions.history(page_size(limit), before))

    def diff(self, old: int, new: int) -> dict[str, tuple[Any, Any]]:
        """Each setting that two revisions differ in, with both values; 0 is before the first.

        Raises:
            NotFound: If there is no such revision.
        """
        return self._runner.run(_revisions.diff(old, new))

    async def adiff(self, old: int, new: int) -> dict[str, tuple[Any, Any]]:
        """The asynchronous twin of :meth:`diff`."""
        return await self._runner.arun(_revisions.diff(old, new))

    def audit(
        self,
        *,
        user: str | None = None,
        field: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[FieldChange]:
        """Who changed which setting, from what to what, newest first."""
        return self._runner.run(_revisions.audit(user, field, since, page_size(limit)))

    async def aaudit(
        self,
        *,
        user: str | None = None,
        field: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[FieldChange]:
        """The asynchronous twin of :meth:`audit`."""
        return await self._runner.arun(_revisions.audit(user, field, since, page_size(limit)))

    def is_admin(self, user: str) -> bool:
        """Whether a user may change the configuration; False for one that isn't there."""
        return self._runner.run(is_admin(user))

    async def ais_admin(self, user: str) -> bool:
        """The asynchronous twin of :meth:`is_admin`."""
        return await self._runner.arun(is_admin(user))

    def watch(
        self,
        callback: Callable[[], object],
        *,
        interval: float = 1.0,
        direct_dsn: str | None = None,
        until: Callable[[], bool] = _never,
    ) -> None:
        """Call ``callback`` whenever the configuration has changed; give it a thread of its own.

        It hears of changes at once, on a connection of its own. Behind a transaction pooler nothing
        can be heard: changes are then found by asking, each ``interval``.

        Args:
            callback: Called without arguments, after this repository has read what is new. What it
                raises ends the watching.
            interval: Seconds after which it is asked in any case.
            direct_dsn: A way to the server that goes through no pooler, to listen on.
            until: Asked once an interval: True ends the watching.

        Raises:
            InvalidInput: If this works on a ``Transaction``, which can't see what others change.
        """
        _watching.watch(
            lambda: self._do(self._current(force=True)),
            callback,
            direct=self._direct(direct_dsn),
            interval=interval,
            until=until,
        )

    async def awatch(
        self,
        callback: Callable[[], object],
        *,
        interval: float = 1.0,
        direct_dsn: str | None = None,
        until: Callable[[], bool] = _never,
    ) -> None:
        """The asynchronous twin of :meth:`watch`: a task; ``callback`` may be asynchronous."""

        async def tell() -> None:
            result = callback()
            if isawaitable(result):
                await result

        await _watching.awatch(
            lambda: self._ado(self._current(force=True)),
            tell,
            direct=self._direct(direct_dsn),
            interval=interval,
            until=until,
        )

    def _direct(self, dsn: str | None) -> ConnectionSettings | None:
        if not isinstance(self._runner, Database):
            raise InvalidInput("watch() needs a repository on a Database, not on a Transaction")
        settings = self._runner._settings  # noqa: SLF001 - a connection like its others
        if dsn is not None:
            return replace(settings, dsn=dsn, pooler=False)
        return None if settings.pooler else settings

    def _do(self, flow: Flow[T]) -> T:
        return _flow.run(flow, None, self._runner)

    async def _ado(self, flow: Flow[T]) -> T:
        return await _flow.arun(flow, None, self._runner)

    def _current(self, force: bool) -> Flow[Layers]:
        read_at = self._read_at
        if not force and read_at is not None and monotonic() - read_at < self._cache_seconds:
            return self._layers
        layers, _ = yield from self._fresh(None)
        return layers

    def _for(self, user: str | None) -> Flow[tuple[Layers, Mapping[str, Any]]]:
        if user is None:
            return (yield from self._current(force=False)), {}
        return (yield from self._fresh(user))

    def _fresh(self, user: str | None) -> Flow[tuple[Layers, Mapping[str, Any]]]:
        layers, preferences = yield read_layers(self._layers, user)
        self._layers, self._read_at = layers, monotonic()
        return layers, preferences

    def _load(
        self, config: StaticConfig, actor: Actor, redeploy: bool, note: str | None
    ) -> Flow[StaticConfig]:
        loaded: StaticConfig = yield _revisions.load_static(
            self._model, config, actor, redeploy=redeploy, note=note
        )
        self._read_at = None
        return loaded

    def _update(
        self,
        patch: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        actor: Actor,
        expected: int | None,
        note: str | None,
    ) -> Flow[Revision]:
        stored: Revision = yield _revisions.update(self._model, patch, actor, expected, note)
        self._read_at = None
        return stored

    def _roll_back(
        self, to: int, actor: Actor, expected: int | None, note: str | None
    ) -> Flow[Revision]:
        stored: Revision = yield _revisions.roll_back(self._model, to, actor, expected, note)
        self._read_at = None
        return stored


def _scheduled(source: str, schedule: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    def patch(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"source_schedules": {**settings.get("source_schedules", {}), source: schedule}}

    return patch

"""The half of :class:`ConfigRepository` that reads: which value holds, and when it changes."""

from __future__ import annotations

from dataclasses import replace
from inspect import isawaitable
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from a2rchi_pg import _flow, _watching
from a2rchi_pg._arguments import number, user_id_of
from a2rchi_pg._layers import ConfigT, Explained, Layers, explain, read_layers, resolve
from a2rchi_pg._rights import is_admin
from a2rchi_pg._settings import DynamicConfig
from a2rchi_pg.database import Database
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from a2rchi_pg._connection import ConnectionSettings
    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Runner
    from a2rchi_pg._settings import StaticConfig

T = TypeVar("T")
SHORTEST_INTERVAL = 0.01


def _never() -> bool:
    return False


class ConfigReader(Generic[ConfigT]):
    """Reads the configuration, and keeps what it read for a moment."""

    @overload
    def __init__(
        self: ConfigReader[DynamicConfig], runner: Runner, *, cache_seconds: float = ...
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
        self._cache_seconds = number(cache_seconds, "cache_seconds", 0)
        self._layers = Layers()
        self._read_at: float | None = None
        self._since, self._lock = 0.0, Lock()  # what was asked for earlier than that is outdated

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

        Changed since this repository last read it: nothing is missed between reading and watching.

        It hears of changes at once, on a connection of its own. Behind a transaction pooler nothing
        can be heard: changes are then found by asking, each ``interval``.

        Args:
            callback: Called without arguments, after this repository has read what is new. What it
                raises ends the watching.
            interval: Seconds after which it is asked in any case.
            direct_dsn: A way to the server that goes through no pooler, to listen on.
            until: Asked once an interval: True ends the watching.

        Raises:
            InvalidInput: If this works on a ``Transaction``, which can't see what others change, or
                ``interval`` is less than a hundredth of a second.
        """
        _watching.watch(
            lambda: self._do(self._current(force=True)),
            callback,
            known=None if self._read_at is None else self._layers,
            direct=self._direct(direct_dsn),
            interval=number(interval, "interval", SHORTEST_INTERVAL),
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
            known=None if self._read_at is None else self._layers,
            direct=self._direct(direct_dsn),
            interval=number(interval, "interval", SHORTEST_INTERVAL),
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
        return (yield from self._fresh(user_id_of(user, "user")))

    def _fresh(self, user: str | None) -> Flow[tuple[Layers, Mapping[str, Any]]]:
        asked = monotonic()
        layers, preferences = yield read_layers(self._layers, user)
        with self._lock:
            if asked >= self._since:
                self._layers, self._read_at, self._since = layers, asked, asked
        return layers, preferences

    def _forget(self) -> None:
        """After a change: what another thread is reading may be of before it, and isn't kept."""
        with self._lock:
            self._read_at, self._since = None, monotonic()

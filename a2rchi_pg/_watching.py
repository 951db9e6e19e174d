"""Hearing of a new configuration: by NOTIFY where the connection is direct, by asking where not.

What is heard only says that it is time to look. Nothing is lost with a notification that a pooler
or a broken connection kept: the next look, one interval later, finds the revision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg

from a2rchi_pg.errors import Unavailable, translate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from a2rchi_pg._connection import ConnectionSettings
    from a2rchi_pg._layers import Layers

logger = logging.getLogger("a2rchi_pg.config")

LISTEN = "LISTEN a2rchi_config"
Versions: TypeAlias = "tuple[int, int]"


def versions(layers: Layers) -> Versions:
    """What tells one state of the configuration from another."""
    return layers.static_revision, layers.dynamic_revision


def watch(
    look: Callable[[], Layers],
    tell: Callable[[], object],
    *,
    known: Layers | None,
    direct: ConnectionSettings | None,
    interval: float,
    until: Callable[[], bool],
) -> None:
    """Call ``tell`` whenever ``look`` finds something new; ``direct`` says how to listen.

    New is what differs from ``known``, or from what is there at the start where that is None.
    """
    with ExitStack() as stack:
        ears = _Ears(direct, stack)
        seen = versions(look() if known is None else known)
        while not until():
            ears.wait(interval)
            try:
                now = versions(look())
            except Unavailable as error:
                _note(error)
                continue
            if now != seen:
                seen = now
                tell()


async def awatch(
    look: Callable[[], Awaitable[Layers]],
    tell: Callable[[], Awaitable[object]],
    *,
    known: Layers | None,
    direct: ConnectionSettings | None,
    interval: float,
    until: Callable[[], bool],
) -> None:
    """The asynchronous twin of :func:`watch`."""
    async with AsyncExitStack() as stack:
        ears = _AsyncEars(direct, stack)
        seen = versions(await look() if known is None else known)
        while not until():
            await ears.wait(interval)
            try:
                now = versions(await look())
            except Unavailable as error:
                _note(error)
                continue
            if now != seen:
                seen = now
                await tell()


class _Ears:
    """A connection that listens, made again when it is lost."""

    def __init__(self, settings: ConnectionSettings | None, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._connection: psycopg.Connection[Any] | None = None

    def wait(self, seconds: float) -> None:
        """Until something is heard, but no longer; not at all if there was no listening before."""
        if self._settings is None:
            time.sleep(seconds)
            return
        try:
            if self._connection is None:
                connection = self._stack.enter_context(
                    psycopg.connect(self._settings.conninfo, **self._settings.kwargs)
                )
                connection.execute(LISTEN)
                self._connection = connection
                return
            for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                pass
        except psycopg.Error as error:
            _note(translate(error))
            self._connection = None
            self._stack.close()
            time.sleep(seconds)


class _AsyncEars:
    """The asynchronous twin of :class:`_Ears`."""

    def __init__(self, settings: ConnectionSettings | None, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def wait(self, seconds: float) -> None:
        """Until something is heard, but no longer; not at all if there was no listening before."""
        if self._settings is None:
            await asyncio.sleep(seconds)
            return
        try:
            if self._connection is None:
                connection = await self._stack.enter_async_context(
                    await psycopg.AsyncConnection.connect(
                        self._settings.conninfo, **self._settings.kwargs
                    )
                )
                await connection.execute(LISTEN)
                self._connection = connection
                return
            async for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                pass
        except psycopg.Error as error:
            _note(translate(error))
            self._connection = None
            await self._stack.aclose()
            await asyncio.sleep(seconds)


def _note(error: Exception) -> None:
    logger.warning("the configuration can't be watched just now (%s), trying again", error)

"""A supervised PostgreSQL 17 on pip-installed binaries, shared by every process that asks.

    with EmbeddedPostgres("var/pg") as server:
        psycopg.connect(server.dsn)

The first client starts the server, the last one out stops it. Whatever ends a client (an
exit, an exception, kill -9), its hold on the server goes with it. ``python -m
a2rchi_pg.embedded start PATH`` keeps a server running without a client.

PostgreSQL refuses to run as root: started by root, it runs as the owner of the data directory,
and that of a new one is ``nobody``.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Self

from a2rchi_pg.embedded._client import enter, leave
from a2rchi_pg.embedded._locks import Layout
from a2rchi_pg.embedded._process import find_postmaster
from a2rchi_pg.embedded._server import Options, Running
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

__all__ = ["EmbeddedPostgres"]


class EmbeddedPostgres:
    """A PostgreSQL 17 in a directory, started or joined.

    Args:
        path: The directory that holds everything: data, log, locks. A new server needs one that
            is empty or not there yet.
        binaries: An installation root of PostgreSQL 17; the pip-installed one by default.
        preload: ``shared_preload_libraries``; by default pg_textsearch where it is installed.
        settings: Server settings that override this package's, for whoever starts the server.
        tcp: Also listen on 127.0.0.1, with a generated password; see `tcp_dsn`.
        start_timeout: Seconds to wait for a start, the replay of a long log included.

    An object may be started several times, from several threads, and is stopped as often. A
    forked child shares its parent's hold: the server stays until both are gone.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        binaries: str | os.PathLike[str] | None = None,
        preload: Sequence[str] | None = None,
        settings: Mapping[str, str | int | float | bool] | None = None,
        tcp: bool = False,
        start_timeout: float = 300.0,
    ) -> None:
        if "\0" in os.fspath(path):
            raise EmbeddedError("a path can't hold a NUL character")
        if not isinstance(start_timeout, int | float) or not start_timeout > 0:  # type: ignore[redundant-expr]
            raise EmbeddedError(f"start_timeout must be seconds above 0, got {start_timeout!r}")
        self._layout = Layout(Path(os.path.realpath(path)))
        self._options = Options(
            binaries=binaries, preload=preload, settings=settings or {}, tcp=tcp
        )
        self._timeout = start_timeout
        self._mutex = threading.RLock()
        self._count = 0
        self._running: Running | None = None
        self._hold: weakref.finalize[..., EmbeddedPostgres] | None = None
        _instances.add(self)

    def start(self) -> Self:
        """Start the server, or join it, and hold it until `stop`.

        Raises:
            EmbeddedError: It can't be started or joined; the message says what to do.
        """
        with self._mutex:
            if self._count == 0:
                self._enter()
            else:
                self.ensure()
            self._count += 1
        return self

    def ensure(self) -> bool:
        """Start the server again if it crashed; say whether it had.

        Raises:
            EmbeddedError: It was not started here, or can't be started again.
        """
        with self._mutex:
            self._started()
            if find_postmaster(self._layout.data) is not None:
                return False
            self._enter()
            return True

    def stop(self) -> None:
        """Give up one hold; the last hold of the last client stops the server."""
        with self._mutex:
            if self._count == 0:
                return
            self._count -= 1
            if self._count == 0:
                self._leave()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "started" if self._running else "not started"
        return f"<{type(self).__name__} {str(self.path)!r}, {state}>"

    @property
    def path(self) -> Path:
        """The directory that holds everything, absolute and without symbolic links."""
        return self._layout.root

    @property
    def dsn(self) -> str:
        """A libpq URI over the private socket, for this OS user and root."""
        return self._started().dsn

    @property
    def tcp_dsn(self) -> str | None:
        """A libpq URI over 127.0.0.1, password included; None where TCP was not asked for."""
        return self._started().tcp_dsn

    @property
    def version(self) -> str:
        """The server's version, such as ``17.9``."""
        return self._started().version

    @property
    def unclean_start(self) -> bool:
        """Whether this object started the server and found that it had crashed before."""
        return self._started().unclean_start

    def _started(self) -> Running:
        if self._running is None:
            raise EmbeddedError(f"the server of {self.path} is not started")
        return self._running

    def _enter(self) -> None:
        former = self._hold
        hold, self._running = enter(self._layout, self._options, self._timeout)
        # Where nobody calls stop(), closing is enough: the watcher does the rest.
        self._hold = weakref.finalize(self, os.close, hold)
        self._hold.atexit = False
        if former is not None:
            former()

    def _leave(self) -> None:
        self._running = None
        held = self._hold.detach() if self._hold is not None else None
        if held is not None:
            leave(self._layout, held[2][0])


def _leave_all() -> None:
    """At exit, so that the directory is quiet when the process is gone."""
    for instance in list(_instances):
        instance._leave()  # noqa: SLF001 -- of this very module


def _renew_mutexes() -> None:
    """In a forked child: a mutex may be held by a thread that only the parent has."""
    for instance in list(_instances):
        instance._mutex = threading.RLock()  # noqa: SLF001 -- of this very module


_instances: weakref.WeakSet[EmbeddedPostgres] = weakref.WeakSet()
atexit.register(_leave_all)
os.register_at_fork(after_in_child=_renew_mutexes)

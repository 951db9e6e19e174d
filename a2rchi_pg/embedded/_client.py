"""A client's coming and going."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from a2rchi_pg.embedded._account import whose
from a2rchi_pg.embedded._cluster import refuse_foreign
from a2rchi_pg.embedded._locks import (
    Layout,
    acquire_by,
    is_free,
    is_unused,
    open_private,
    opened,
)
from a2rchi_pg.embedded._server import Options, Running, serve
from a2rchi_pg.embedded._spawn import ensure_watcher
from a2rchi_pg.embedded._watch import is_kept, stop_if_unused
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEAVE_TIMEOUT = 120.0
_log = logging.getLogger("a2rchi_pg.embedded")


def enter(layout: Layout, options: Options, timeout: float) -> tuple[int, Running]:
    """Start or join the server.

    Returns:
        The hold on it (a descriptor that `leave` closes), and the server.
    """
    try:
        refuse_foreign(layout)
        _make_directories(layout)
        with _transition(layout, timeout) as deadline:
            return _enter(layout, options, deadline)
    except PermissionError as error:
        raise EmbeddedError(f"can't use {layout.root}: {error}; {whose(layout.root)}") from error
    except OSError as error:
        raise EmbeddedError(f"can't use {layout.root}: {error}") from error
    except psycopg.Error as error:
        raise EmbeddedError(f"the server of {layout.root} failed: {error}") from error


def _enter(layout: Layout, options: Options, deadline: float) -> tuple[int, Running]:
    hold = open_private(layout.lock("clients"))
    try:
        # Granted at once, or when a watcher that is just looking lets go of it.
        fcntl.flock(hold, fcntl.LOCK_SH)
        # The watcher comes first: should we be killed while starting, it ends what we started.
        ensure_watcher(layout)
        return hold, serve(layout, options, deadline)
    except BaseException:
        os.close(hold)
        raise


def leave(layout: Layout, hold: int) -> None:
    """Give a hold back; stop the server if nobody else has one."""
    os.close(hold)
    if layout.lock("clients").exists():
        stop_if_last(layout)
    else:
        _log.warning("%s was removed while its server ran; the server will notice", layout.root)


def stop_if_last(layout: Layout) -> None:
    """Stop the server now, unless it has clients or is kept."""
    if not is_unused(layout.lock("clients")):
        return
    with _transition(layout, _LEAVE_TIMEOUT):
        if stop_if_unused(layout) and not is_kept(layout) and not is_free(layout.lock("server")):
            _log.error("the server of %s can't be stopped from here", layout.root)


@contextmanager
def _transition(layout: Layout, timeout: float) -> Iterator[float]:
    """The start lock: one start or stop at a time. Yields the deadline of the whole."""
    deadline = time.monotonic() + timeout
    with opened(layout.lock("start")) as start:
        if not acquire_by(start, deadline):
            raise EmbeddedError(
                f"another process was still starting or stopping the server of {layout.root} "
                f"after {timeout:g} s; its log is {layout.log}"
            )
        yield deadline


def _make_directories(layout: Layout) -> None:
    # Closed to others; but a server that root runs under another account has to pass.
    layout.root.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    locks = layout.lock("start").parent
    if not locks.exists():
        locks.mkdir(mode=0o700, exist_ok=True)
        owner = layout.root.stat()
        if owner.st_uid != os.geteuid():
            os.chown(locks, owner.st_uid, owner.st_gid)

"""Start the processes that outlive this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg.embedded._locks import acquire, acquire_by, opened
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg.embedded._locks import Layout

_DETACH = str(Path(__file__).with_name("_detach.py"))


def environment() -> dict[str, str]:
    """What a server needs of our environment: no locale, no PG* variable, no secret."""
    return {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}


def spawn(layout: Layout, role: str, *arguments: str, keep_open: int) -> None:
    """Start a daemon that inherits one descriptor and writes to the server's log."""
    command = [_python(), "-I", "-S", _DETACH, role, *arguments]
    with opened(layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as log:
        try:
            subprocess.run(  # noqa: S603 -- no shell, and every argument is ours
                command,
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(keep_open,),
                cwd="/",
                env=environment(),
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise EmbeddedError(f"can't start a process with {command[0]}: {error}") from error


def ensure_watcher(layout: Layout) -> None:
    """Start a watcher unless one is there. The caller holds the start lock."""
    with opened(layout.lock("watch")) as fd:
        if acquire(fd):
            spawn(layout, "watch", str(layout.root), str(fd), keep_open=fd)


@contextmanager
def claimed(layout: Layout) -> Iterator[int]:
    """The server's lock, for a child to inherit; only while nothing of a server lives."""
    with opened(layout.lock("server")) as fd:
        # Not at once, because a look at the lock takes a share in it for an instant.
        if not acquire_by(fd, time.monotonic() + 1):
            raise EmbeddedError(f"{layout.root} is served by something that just started")
        yield fd


def _python() -> str:
    # Inside uWSGI and the like, sys.executable is the host program.
    if Path(sys.executable).name.startswith(("python", "pypy")):
        return sys.executable
    return str(Path(sys.prefix) / "bin" / "python3")

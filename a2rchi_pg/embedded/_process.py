"""The server's processes: which pid is ours, and how it is ended.

A pid in ``postmaster.pid`` may belong to a zombie or, after a reboot, to anybody. Ours carries
a name made from the data directory in its command line, as all its children do in their
titles. (What else would tell, such as the working directory, a container's root may not see.)

This module uses the standard library only: the watcher runs it without site-packages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg.embedded._locks import acquire, acquire_by, opened, save

if TYPE_CHECKING:
    from a2rchi_pg.embedded._locks import Layout

NAME_PREFIX = "a2rchi_pg-"
PROC = Path("/proc/self/cwd").exists()
_FAST, _IMMEDIATE, _KILL = signal.SIGINT, signal.SIGQUIT, signal.SIGKILL
_PATIENCE = {_FAST: 60.0, _IMMEDIATE: 10.0, _KILL: 30.0}
_GRACE = 0.5  # for what has no postmaster: children notice its death and leave by themselves


@dataclass(frozen=True)
class Postmaster:
    """What a running server says of itself in ``postmaster.pid``."""

    pid: int
    started: int
    port: int
    socket_dir: str
    listens: bool
    status: str

    @property
    def run_id(self) -> str:
        """Names this run: a pid alone comes back."""
        return f"{self.pid} {self.started}"


def read_pidfile(data: Path) -> list[str]:
    """The lines of ``postmaster.pid``; none where there is no such file."""
    try:
        return os.fsdecode((data / "postmaster.pid").read_bytes()).splitlines()
    except FileNotFoundError:
        return []


def recorded_pid(data: Path) -> int | None:
    """The pid that ``postmaster.pid`` names, alive or not."""
    first = (read_pidfile(data) or [""])[0].strip()
    return int(first) if first.isdecimal() else None


def find_postmaster(data: Path) -> Postmaster | None:
    """The live postmaster of this data directory, if it has said where it listens."""
    try:
        pid, _, started, port, socket_dir, listen, _, status = read_pidfile(data)[:8]
        server = Postmaster(
            int(pid), int(started), int(port), socket_dir, bool(listen), status.strip()
        )
    except ValueError:  # still being written
        return None
    return server if is_server(server.pid, data) else None


def mark_open(layout: Layout, server: Postmaster) -> None:
    """Say that this run is ready for clients."""
    save(layout.opened, server.run_id)


def is_open(layout: Layout, server: Postmaster) -> bool:
    """Whether this run was made ready; a first client may have been killed before it was."""
    return names_run(layout.opened, server)


def names_run(mark: Path, server: Postmaster) -> bool:
    """Whether a file names this very run of the server."""
    return mark.exists() and mark.read_text() == server.run_id


def cluster_name(data: Path) -> str:
    """A name for this very directory, whatever path leads to it; a copy has another."""
    status = data.stat()
    return f"{NAME_PREFIX}{status.st_dev:08x}{status.st_ino:016x}"


def is_server(pid: int, data: Path) -> bool:
    """Whether this pid is a live postgres process of this data directory."""
    return data.exists() and cluster_name(data) in command_line(pid)


def command_line(pid: int) -> str:
    """What a process was started with or calls itself; empty for a zombie or none."""
    if not PROC:
        shown = ["/bin/ps", "-o", "command=", "-p", str(pid)]
        return os.fsdecode(subprocess.run(shown, capture_output=True, check=False).stdout)  # noqa: S603 -- fixed argv
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return ""


def exists(pid: int) -> bool:
    """Whether any process, a zombie too, has this pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_server(layout: Layout) -> bool:
    """Stop everything that serves this data directory, politely at first.

    Returns:
        Whether all of it is gone.
    """
    with opened(layout.lock("server"), os.O_RDWR) as fd:
        if acquire(fd):
            return True
        server = find_postmaster(layout.data)
        ended = any(_end_by(step, layout.data, fd) for step in (_FAST, _IMMEDIATE, _KILL))
    if ended and server is not None:
        _remove_if_empty(Path(server.socket_dir))
    return ended


def _end_by(step: signal.Signals, data: Path, server: int) -> bool:
    pids = _family(data) if step is _KILL else _postmaster(data)
    for pid in pids:
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.kill(pid, step)
    # At the last step nothing but an interrupted initdb may go on; it ends by itself.
    patience = _PATIENCE[step] if pids or step is _KILL else _GRACE
    return acquire_by(server, time.monotonic() + patience)


def _postmaster(data: Path) -> list[int]:
    pid = recorded_pid(data)
    return [pid] if pid is not None and is_server(pid, data) else []


def _family(data: Path) -> list[int]:
    """The postmaster, and the children that outlive a killed one."""
    if not PROC:
        return _postmaster(data)
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in pids if is_server(pid, data)]


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):  # not empty, or gone: either is fine
        directory.rmdir()

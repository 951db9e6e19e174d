"""Advisory locks: how processes that share one server know about each other.

Four files stand in ``<path>/lock``:

``start``    held while a server is being started or stopped: one at a time
``clients``  shared by every client; whoever gets it exclusively is the last one out
``server``   inherited by postgres and all its children: free only when every one is gone
``watch``    held by the watcher, so that a client can tell whether there is one

They are ``flock`` locks, which belong to the open file: a forked child keeps its parent's
hold, and the kernel gives a hold back whatever ended the process. No pid is trusted for that.

This module uses the standard library only: the watcher runs it without site-packages.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PAUSE = 0.005
_FIRST = 3  # behind stdin, stdout and stderr


@dataclass(frozen=True)
class Layout:
    """Where everything of one embedded server lies."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def keep(self) -> Path:
        """Names the run that outlives its clients."""
        return self.root / "keep"

    @property
    def opened(self) -> Path:
        """Names the run that was made ready for clients."""
        return self.root / "opened"

    @property
    def repair(self) -> Path:
        """Stands from a crash until its repair is complete."""
        return self.root / "repair"

    @property
    def stamp(self) -> Path:
        """Which binaries this cluster was last brought up to."""
        return self.root / "binaries"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def port(self) -> Path:
        return self.root / "port"

    def lock(self, name: str) -> Path:
        return self.root / "lock" / name


def open_private(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open or create a file for its directory's owner alone.

    Root may work in a directory of somebody else: it follows no link there, and what it
    creates belongs to the directory's owner, who must be able to go on alone.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    if not flags & os.O_CREAT:
        return _open(path, flags)
    try:
        fd = _open(path, flags | os.O_EXCL)
    except FileExistsError:
        return _open(path, flags & ~os.O_CREAT)
    owner = path.parent.stat()
    if owner.st_uid != os.geteuid():
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


def _open(path: Path, flags: int) -> int:
    """Open a file, but not as 0, 1 or 2: a daemon may have closed these; a child has its own."""
    fd = os.open(path, flags, 0o600)
    if fd >= _FIRST:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    finally:
        os.close(fd)


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """A private file's descriptor, closed (and its lock released) at the end."""
    fd = open_private(path, flags)
    _passing.add(fd)
    try:
        yield fd
    finally:
        _passing.discard(fd)
        os.close(fd)


def _close_in_child() -> None:
    """A child forked by another thread must not prolong a lock that was to last a moment."""
    while _passing:
        os.close(_passing.pop())


_passing: set[int] = set()
os.register_at_fork(after_in_child=_close_in_child)


def save(path: Path, text: str) -> None:
    """Write a small file of ours so that it survives a power failure."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        os.write(fd, text.encode())
        os.fsync(fd)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the creation or the renaming of an entry durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def acquire(fd: int, *, shared: bool = False) -> bool:
    """Take the lock if that needs no waiting; say whether it did."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def acquire_by(fd: int, deadline: float) -> bool:
    """Take the lock before ``time.monotonic()`` passes the deadline; say whether it did."""
    while not acquire(fd):
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def is_free(path: Path) -> bool:
    """Whether nobody holds that lock exclusively; True where there is no such file."""
    try:
        with opened(path, os.O_RDWR) as fd:
            return acquire(fd, shared=True)
    except FileNotFoundError:
        return True


def is_same_file(fd: int, path: Path) -> bool:
    """Whether that path still leads to the open file."""
    return path.exists() and os.path.samestat(os.fstat(fd), path.stat())


def is_unused(clients: Path) -> bool:
    """Whether no client holds the clients' lock.

    A watcher has it exclusively for an instant when the last client leaves. That is told from
    a client by asking for a share: a client would grant it.
    """
    with opened(clients, os.O_RDWR) as fd:
        while not acquire(fd):
            if acquire(fd, shared=True):
                return acquire(fd)
            time.sleep(_PAUSE)
    return True

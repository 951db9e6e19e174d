"""Launch postgres and wait until it answers."""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg

from a2rchi_pg.embedded._cluster import SUPERUSER, data_argument
from a2rchi_pg.embedded._locks import Layout, is_free
from a2rchi_pg.embedded._process import cluster_name, end_server
from a2rchi_pg.embedded._spawn import claimed, spawn
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from a2rchi_pg.embedded._account import Account
    from a2rchi_pg.embedded._binaries import Binaries

    Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

MAINTENANCE = "postgres"  # the database that is always there
_SOCKET_PATH_LIMIT = 100  # sun_path holds 104 bytes on some systems, 108 on Linux
_LONGEST_NAME = len("/.s.PGSQL.65535.lock")
_PLAIN = re.compile(r"/[\w/.+-]+", re.ASCII)  # libpq splits a host list at commas
_LOG_LIMIT = 10 * 1024**2
_TAIL = 2000


@dataclass(frozen=True)
class Launcher:
    """One start of one server: what to run, as whom, and until when to wait for it."""

    layout: Layout
    binaries: Binaries
    account: Account
    deadline: float

    def launch(self, port: int, *, listen: str) -> Connection:
        """Start postgres in its own session; return a connection to it."""
        sockets = _socket_directory(self.layout, self.account)
        _clear_sockets(sockets)
        _rotate(self.layout.log)
        log_from = self.layout.log.stat().st_size if self.layout.log.exists() else 0
        data = self.layout.data
        command = [
            str(self.binaries.program("postgres")),
            *("-D", data_argument(data, self.account), "-k", str(sockets), "-p", str(port)),
            *("-c", f"listen_addresses={listen}", "-c", f"cluster_name={cluster_name(data)}"),
        ]
        account = self.account
        with claimed(self.layout) as fd:
            whose = (str(account.uid), str(account.gid))
            spawn(self.layout, "serve", *whose, str(data), *command, keep_open=fd)
        dsn = socket_dsn(str(sockets), port, MAINTENANCE)
        return connect(self.layout, dsn, self.deadline, log_from=log_from)


def end(layout: Layout) -> None:
    """Stop what serves this directory.

    Raises:
        EmbeddedError: Something holds on to it that can't be ended from here.
    """
    if not end_server(layout):
        raise EmbeddedError(
            f"{layout.lock('server')} is held by processes that can't be seen or ended from here; "
            "is the directory shared with another container?"
        )


def socket_dsn(directory: str, port: int, database: str) -> str:
    """A libpq URI over the private socket."""
    return f"postgresql://{SUPERUSER}@/{database}?host={quote(directory, safe='')}&port={port}"


def connect(layout: Layout, dsn: str, deadline: float, *, log_from: int) -> Connection:
    """Connect as soon as the server is ready.

    Raises:
        EmbeddedError: It ended, or was not ready in time; with the log's tail.
    """
    pause = 0.005
    while True:
        try:
            return psycopg.connect(dsn, connect_timeout=5, autocommit=True)
        except psycopg.OperationalError as error:
            said = str(error).strip()
            if is_free(layout.lock("server")):
                tail = _log_tail(layout.log, log_from)
                raise EmbeddedError(f"PostgreSQL ended while starting:\n{tail}") from error
            if time.monotonic() > deadline:
                tail = _log_tail(layout.log, log_from)
                raise EmbeddedError(
                    f"PostgreSQL was not ready in time ({said}):\n{tail}"
                ) from error
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)


def _log_tail(log: Path, start: int) -> str:
    with log.open("rb") as file:
        end_of_file = file.seek(0, os.SEEK_END)
        file.seek(max(start, end_of_file - _TAIL))
        text = file.read().decode(errors="replace").strip()
    return f"{text or 'nothing was logged'}\n(from {log})"


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.rename(log.with_name(log.name + ".1"))


def _socket_directory(layout: Layout, account: Account) -> Path:
    """A directory of 0700 that the account owns, with a path short enough for a socket."""
    inside = layout.root / "run"
    fits = len(os.fsencode(inside)) + _LONGEST_NAME <= _SOCKET_PATH_LIMIT
    if fits and _PLAIN.fullmatch(str(inside)) and account.reaches(layout.root):
        return _private_directory(inside, account)
    name = hashlib.sha256(os.fsencode(layout.root)).hexdigest()[:16]
    return _private_directory(_runtime_directory() / f"a2rchi_pg-{account.uid}-{name}", account)


def _runtime_directory() -> Path:
    # /tmp first: XDG_RUNTIME_DIR vanishes at logout, under a server that may go on.
    shared = Path("/tmp")  # noqa: S108 -- ownership of what stands in it is checked
    own = os.environ.get("XDG_RUNTIME_DIR")
    return Path(own) if own and not os.access(shared, os.W_OK) else shared


def _private_directory(path: Path, account: Account) -> Path:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        status = path.lstat()
        if status.st_uid != account.uid or not path.is_dir() or path.is_symlink():
            raise EmbeddedError(
                f"the socket directory {path} is not {account.name}'s; remove it"
            ) from None
        if status.st_mode & 0o077:
            raise EmbeddedError(
                f"the socket directory {path} is open to others; remove it"
            ) from None
    else:
        account.own(path)
    return path


def _clear_sockets(directory: Path) -> None:
    """Remove what a killed server left; PostgreSQL would trust the pid in its lock file."""
    for leftover in directory.glob(".s.PGSQL.*"):
        leftover.unlink()

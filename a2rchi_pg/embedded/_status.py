"""What can be said about a server without becoming its client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from a2rchi_pg.embedded._launch import socket_dsn
from a2rchi_pg.embedded._process import find_postmaster, is_open
from a2rchi_pg.embedded._server import DATABASE
from a2rchi_pg.embedded._watch import is_kept

if TYPE_CHECKING:
    from a2rchi_pg.embedded._locks import Layout

_LOCKS = Path("/proc/locks")


@dataclass(frozen=True, kw_only=True)
class Status:
    """A running server."""

    ready: bool
    pid: int
    version: str
    clients: int | None
    kept: bool
    dsn: str


def inspect(layout: Layout) -> Status | None:
    """The server of this directory; None if none runs."""
    server = find_postmaster(layout.data)
    if server is None:
        return None
    dsn = socket_dsn(server.socket_dir, server.port, DATABASE)
    return Status(
        ready=is_open(layout, server),
        pid=server.pid,
        version=_version(dsn),
        clients=_count_clients(layout),
        kept=is_kept(layout),
        dsn=dsn,
    )


def _version(dsn: str) -> str:
    try:
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            return connection.info.parameter_status("server_version") or "unknown"
    except psycopg.OperationalError as error:
        return f"unknown, as it can't be reached now: {str(error).splitlines()[-1]}"


def _count_clients(layout: Layout) -> int | None:
    """How many processes share the clients' lock; None where the kernel does not tell."""
    if not _LOCKS.exists():
        return None
    inode = str(layout.lock("clients").stat().st_ino)
    # 1: FLOCK  ADVISORY  READ  4711 08:01:1234567 0 EOF
    fields = (line.split() for line in _LOCKS.read_text().splitlines())
    return sum(
        kind == "FLOCK" and mode == "READ" and place.rpartition(":")[2] == inode
        for _, kind, _, mode, _, place, *_ in fields
        if kind != "->"
    )

"""Start a server or join the one that runs. The caller holds the start lock."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from psycopg import sql

from a2rchi_pg.embedded import _config
from a2rchi_pg.embedded._account import account_for
from a2rchi_pg.embedded._binaries import find_binaries, reachable_by
from a2rchi_pg.embedded._cluster import (
    SUPERUSER,
    ensure_cluster,
    forget_stale_pid,
    was_unclean,
    write_private,
)
from a2rchi_pg.embedded._launch import MAINTENANCE, Launcher, connect, end, socket_dsn
from a2rchi_pg.embedded._locks import Layout, is_free, save
from a2rchi_pg.embedded._process import Postmaster, find_postmaster, is_open, mark_open
from a2rchi_pg.embedded._recovery import REPAIR_PORT, refresh, repair, repair_needed
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from a2rchi_pg.embedded._launch import Connection

DATABASE = "a2rchi"
_PORT = 5432
_LOCALHOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server is to be started; a running one is joined as it is."""

    binaries: str | os.PathLike[str] | None = None
    preload: Sequence[str] | None = None
    settings: Mapping[str, _config.Setting] = field(default_factory=dict)
    tcp: bool = False


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    dsn: str
    tcp_dsn: str | None
    version: str
    unclean_start: bool


def serve(layout: Layout, options: Options, deadline: float) -> Running:
    """The running server of this directory, started if there is none."""
    if not is_free(layout.lock("server")):
        server = find_postmaster(layout.data)
        if server and server.status != "stopping" and is_open(layout, server):
            return _join(layout, options, server, deadline)
        end(layout)
    return _start(layout, options, deadline)


def _join(layout: Layout, options: Options, server: Postmaster, deadline: float) -> Running:
    if options.tcp and not server.listens:
        raise EmbeddedError(
            f"{layout.root} is served without TCP; stop it there before starting it with TCP"
        )
    dsn = socket_dsn(server.socket_dir, server.port, MAINTENANCE)
    with connect(layout, dsn, deadline, log_from=0) as connection:
        return _running(layout, server, connection, unclean=False)


def _start(layout: Layout, options: Options, deadline: float) -> Running:
    found = find_binaries(options.binaries)
    account = account_for(layout)
    launcher = Launcher(layout, reachable_by(found, account), account, deadline)
    ensure_cluster(layout, launcher.binaries, account)
    forget_stale_pid(layout.data)
    unclean = was_unclean(layout.data)
    _configure(launcher, options)
    if repair_needed(layout, launcher.binaries, unclean=unclean):
        _repair(launcher, unclean=unclean)
    try:
        return _open(launcher, tcp=options.tcp, unclean=unclean)
    except BaseException:
        end(layout)
        raise


def _configure(launcher: Launcher, options: Options) -> None:
    preload = options.preload
    if preload is None:
        preload = ["pg_textsearch"] if launcher.binaries.library("pg_textsearch") else []
    settings = _config.settings_file(
        preload,
        options.settings,
        memory=_config.machine_memory(),
        shm_free=_config.free_shm(),
        crash_safe=launcher.binaries.crash_safe(),
    )
    data, account = launcher.layout.data, launcher.account
    write_private(data / _config.INCLUDED, settings, account)
    write_private(data / "pg_hba.conf", _config.hba_file(tcp=options.tcp), account)
    write_private(data / "pg_ident.conf", _config.ident_file(account), account)


def _repair(launcher: Launcher, *, unclean: bool) -> None:
    """Start where no client looks, mend every database, stop."""
    layout = launcher.layout
    crashed = unclean or layout.repair.exists()
    if crashed:  # a clean stop half-way through must not pass for a finished repair
        save(layout.repair, "")
    try:
        with launcher.launch(REPAIR_PORT, listen="") as connection:
            complete = repair(connection, crashed=crashed)
    finally:
        end(layout)
    save(layout.stamp, launcher.binaries.fingerprint())
    if complete:  # what could not be rebuilt is tried again at the next start
        layout.repair.unlink(missing_ok=True)


def _open(launcher: Launcher, *, tcp: bool, unclean: bool) -> Running:
    layout = launcher.layout
    port, listen = (_tcp_port(layout), _LOCALHOST) if tcp else (_PORT, "")
    with launcher.launch(port, listen=listen) as connection:
        server = find_postmaster(layout.data)
        if server is None:
            raise EmbeddedError(f"the server of {layout.root} ended as soon as it had started")
        _ensure_database(connection)
        if tcp:
            _ensure_password(layout, connection)
        if not launcher.binaries.crash_safe():
            refresh(connection)
        mark_open(layout, server)
        return _running(layout, server, connection, unclean=unclean)


def _running(
    layout: Layout, server: Postmaster, connection: Connection, *, unclean: bool
) -> Running:
    return Running(
        dsn=socket_dsn(server.socket_dir, server.port, DATABASE),
        tcp_dsn=_tcp_dsn(layout, server.port) if server.listens else None,
        version=connection.info.parameter_status("server_version") or "unknown",
        unclean_start=unclean,
    )


def _ensure_database(connection: Connection) -> None:
    found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
    if found.fetchone() is None:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _ensure_password(layout: Layout, connection: Connection) -> None:
    known = connection.execute("SELECT FROM pg_authid WHERE rolname = user AND rolpassword <> ''")
    if known.fetchone() is not None and layout.password.exists():
        return
    save(layout.password, secrets.token_urlsafe(24))
    verifier = connection.pgconn.encrypt_password(
        layout.password.read_bytes(), SUPERUSER.encode(), b"scram-sha-256"
    )
    alter = sql.SQL("ALTER ROLE {} PASSWORD {}")
    connection.execute(alter.format(sql.Identifier(SUPERUSER), verifier.decode()))


def _tcp_dsn(layout: Layout, port: int) -> str:
    password = quote(layout.password.read_text(), safe="")
    return f"postgresql://{SUPERUSER}:{password}@{_LOCALHOST}:{port}/{DATABASE}"


def _tcp_port(layout: Layout) -> int:
    """A free port: the one used last time if nobody took it, so that addresses last."""
    with suppress(OSError, ValueError):
        return _bindable(int(layout.port.read_text()))
    port = _bindable(0)
    save(layout.port, str(port))
    return port


def _bindable(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_LOCALHOST, port))
        return int(probe.getsockname()[1])

"""How a connection is made, prepared for use and kept alive in a pool."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection, BaseConnection, Connection, OperationalError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InFailedSqlTransaction
from psycopg.pq import TransactionStatus
from psycopg.types import TypeInfo

from a2rchi_pg import _dsn, _jsonb, _vectors
from a2rchi_pg._arguments import MAX_INTEGER, flag, number, text, whole
from a2rchi_pg.errors import DatabaseError, Unavailable, translate

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from psycopg.pq.abc import PGconn

# A check costs a round trip, so only a connection that has lain idle for longer gets one; one that
# broke in the meantime is caught by the retry instead.
IDLE_SECONDS = 5.0
_NAME_BYTES = 63  # PostgreSQL would cut a longer name
_SHORTEST, _LONGEST = 0.001, MAX_INTEGER  # seconds; libpq reads a C int


# pg_textsearch 0.6 holds a lightweight lock from an insert to the end of its transaction. Ended by
# ROLLBACK, the backend would never again hear a cancellation or a time-out. An error gives the lock
# back in order: this one, caught, or that of a role that may not DO.
_GIVE_LOCKS_BACK = """
    DO $$ BEGIN RAISE assert_failure; EXCEPTION WHEN assert_failure THEN NULL; END $$
"""


class PooledConnection(Connection[Any]):
    """A connection that knows when it was last taken from its pool."""

    taken_at = 0.0

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__(pgconn)
        _connections.add(self)

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect; where that fails and the server is then started again, once more."""
        revive: Callable[[], float] = kwargs.pop("revive")
        began = monotonic()
        try:
            return super().connect(conninfo, **kwargs)
        except OperationalError:
            if revive() < began:
                raise
        return super().connect(conninfo, **kwargs)


class AsyncPooledConnection(AsyncConnection[Any]):
    """The asynchronous twin of :class:`PooledConnection`."""

    taken_at = 0.0

    def __init__(self, pgconn: PGconn) -> None:
        super().__init__(pgconn)
        _connections.add(self)

    @classmethod
    async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect; where that fails and the server is then started again, once more."""
        revive: Callable[[], float] = kwargs.pop("revive")
        began = monotonic()
        try:
            return await super().connect(conninfo, **kwargs)
        except OperationalError:
            if await asyncio.to_thread(revive) < began:
                raise
        return await super().connect(conninfo, **kwargs)


def _cut_off() -> None:
    """In a forked child: the parent's connections lead nowhere, so nothing said there is heard."""
    for connection in list(_connections):
        if not connection.closed:
            dead, other = socket.socketpair()
            other.close()
            os.dup2(dead.fileno(), connection.fileno(), inheritable=False)
            dead.close()


_connections: WeakSet[BaseConnection[Any]] = WeakSet()
os.register_at_fork(after_in_child=_cut_off)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What every connection of a database is opened with."""

    dsn: str
    schema: str | None
    pooler: bool
    prepare_threshold: int | None
    application_name: str
    timeout: float = 30.0

    def __post_init__(self) -> None:
        _dsn.check(self.dsn)
        if self.schema is not None:
            text(self.schema, "schema", 1, _NAME_BYTES)
        flag(self.pooler, "pooler")
        if self.prepare_threshold is not None:
            whole(self.prepare_threshold, "prepare_threshold", 0, MAX_INTEGER)
        text(self.application_name, "application_name")
        number(self.timeout, "timeout", _SHORTEST, _LONGEST)

    @property
    def conninfo(self) -> str:
        """The DSN, with our session options added to whatever options it already has.

        A transaction pooler may drop startup options, so there nothing is prepared and the
        search_path is set inside each transaction instead.
        """
        if self.pooler:
            return self.dsn
        # An option we pass hides the environment's.
        given = conninfo_to_dict(self.dsn).get("options") or os.environ.get("PGOPTIONS", "")
        options = [str(given)]
        if self.schema is not None:
            options.append(f"-c search_path={_escape_option(self.search_path)}")
        return make_conninfo(self.dsn, options=" ".join(filter(None, options)))

    @property
    def search_path(self) -> str:
        """The schema first, then public, where extensions usually live."""
        quoted = (self.schema or "public").replace('"', '""')
        return f'"{quoted}", public'

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments for ``connect``; the host's own connect_timeout has precedence."""
        given = conninfo_to_dict(self.dsn).get("connect_timeout")
        return {
            "autocommit": True,
            "application_name": self.application_name,
            "client_encoding": "UTF8",  # whatever the DSN or the server says: psycopg decodes text
            "prepare_threshold": None if self.pooler else self.prepare_threshold,
            "connect_timeout": given or os.environ.get("PGCONNECT_TIMEOUT") or ceil(self.timeout),
        }

    @property
    def local_settings(self) -> dict[str, str]:
        """Settings that each transaction must make for itself."""
        return {"search_path": self.search_path} if self.pooler and self.schema else {}

    def unreachable(self, error: psycopg.Error) -> DatabaseError:
        """The error to raise where the server was not reached at all."""
        translated = translate(error)
        if not _dsn.is_missing(self.dsn) or not isinstance(translated, Unavailable):
            return translated
        return Unavailable(
            f"{translated} (no DSN was given: pass one, set {_dsn.VARIABLE} or libpq's PG* "
            "variables, or use Database.embedded(path))",
            sqlstate=translated.sqlstate,
        )


def _escape_option(value: str) -> str:
    return re.sub(r"([\s\\])", r"\\\1", value)


def configure(connection: Connection[Any]) -> None:
    """Register jsonb, and the vector type where the extension is installed."""
    _jsonb.register(connection)
    info = TypeInfo.fetch(connection, "vector")
    if info is not None:
        _vectors.register(connection, info)


async def aconfigure(connection: AsyncConnection[Any]) -> None:
    """Register jsonb, and the vector type where the extension is installed."""
    _jsonb.register(connection)
    info = await TypeInfo.fetch(connection, "vector")
    if info is not None:
        _vectors.register(connection, info)


# The time is noted here, when a connection is taken, though its return would be more exact: a pool
# with a reset callback hands every return to a worker, and whoever comes next finds it empty.
def check(connection: PooledConnection) -> None:
    """Ask a connection not used lately for a sign of life; the pool replaces it if none comes."""
    before, connection.taken_at = connection.taken_at, monotonic()
    if connection.taken_at - before > IDLE_SECONDS:
        connection.execute("")


async def acheck(connection: AsyncPooledConnection) -> None:
    """The asynchronous twin of :func:`check`."""
    before, connection.taken_at = connection.taken_at, monotonic()
    if connection.taken_at - before > IDLE_SECONDS:
        await connection.execute("")


def refuse_failed(connection: BaseConnection[Any]) -> None:
    """Raise where a COMMIT would be a rollback that nobody hears of."""
    if connection.info.transaction_status is TransactionStatus.INERROR:
        raise InFailedSqlTransaction("an operation had failed, so the transaction is rolled back")


def give_locks_back(connection: Connection[Any]) -> None:
    """Before the rollback of a transaction in which nothing failed; an error did it already."""
    if connection.info.transaction_status is TransactionStatus.INTRANS:
        with suppress(psycopg.Error):
            connection.execute(_GIVE_LOCKS_BACK)


async def agive_locks_back(connection: AsyncConnection[Any]) -> None:
    """The asynchronous twin of :func:`give_locks_back`."""
    if connection.info.transaction_status is TransactionStatus.INTRANS:
        with suppress(psycopg.Error):
            await connection.execute(_GIVE_LOCKS_BACK)

"""How a connection is made, prepared for use and kept alive in a pool."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from math import ceil
from time import monotonic
from typing import Any

from psycopg import AsyncConnection, BaseConnection, Connection, ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InFailedSqlTransaction
from psycopg.pq import TransactionStatus
from psycopg.types import TypeInfo

from a2rchi_pg import _vectors
from a2rchi_pg.errors import InvalidInput

# A check costs a round trip, so only a connection that has lain idle for longer gets one; one that
# broke in the meantime is caught by the retry instead.
IDLE_SECONDS = 5.0


class PooledConnection(Connection[Any]):
    """A connection that knows when it was last taken from its pool."""

    taken_at = 0.0


class AsyncPooledConnection(AsyncConnection[Any]):
    """The asynchronous twin of :class:`PooledConnection`."""

    taken_at = 0.0


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
        try:
            conninfo_to_dict(self.dsn)
        except ProgrammingError:  # its text repeats the DSN's, and with it the password
            raise InvalidInput("the DSN is not a libpq connection string or URI") from None

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
            "prepare_threshold": None if self.pooler else self.prepare_threshold,
            "connect_timeout": given or os.environ.get("PGCONNECT_TIMEOUT") or ceil(self.timeout),
        }

    @property
    def local_settings(self) -> dict[str, str]:
        """Settings that each transaction must make for itself."""
        return {"search_path": self.search_path} if self.pooler and self.schema else {}


def _escape_option(value: str) -> str:
    return re.sub(r"([\s\\])", r"\\\1", value)


def configure(connection: Connection[Any]) -> None:
    """Register the vector type, where the extension is installed."""
    info = TypeInfo.fetch(connection, "vector")
    if info is not None:
        _vectors.register(connection, info)


async def aconfigure(connection: AsyncConnection[Any]) -> None:
    """Register the vector type, where the extension is installed."""
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

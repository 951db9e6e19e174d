"""The two drivers: an operation run on a pooled connection, synchronously or asynchronously.

The classes are twins on purpose: each method is the other's with ``await``. Whatever can be said
once stands in ``_connection`` (how connections are made) and ``_retry`` (what is tried again).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout
from tenacity import AsyncRetrying, Retrying

from a2rchi_pg import _connection, _retry
from a2rchi_pg._connection import AsyncPooledConnection, ConnectionSettings, PooledConnection
from a2rchi_pg._telemetry import span
from a2rchi_pg.errors import CommitUnknown, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Self

    from a2rchi_pg._op import Op

T = TypeVar("T")

_SET_LOCAL = sql.SQL("SELECT set_config(%(name)s, %(value)s, true)")
# What stands alone must not fail at its commit, as a serializable transaction may.
_READ_COMMITTED = sql.SQL("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")


def drive(connection: psycopg.Connection[Any], op: Op[T]) -> T:
    """Run a started-afresh ``op`` on a connection, statement by statement."""
    steps, rows = iter(op), None
    try:
        while True:
            statement = steps.send(rows)  # type: ignore[arg-type]  # a generator starts with None
            with connection.cursor(binary=True, row_factory=statement.row_factory) as cursor:
                cursor.execute(statement.query, statement.params)
                rows = cursor.fetchall() if returns_rows(cursor) else []
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # it is the generator's own T


async def adrive(connection: psycopg.AsyncConnection[Any], op: Op[T]) -> T:
    """The asynchronous twin of :func:`drive`."""
    steps, rows = iter(op), None
    try:
        while True:
            statement = steps.send(rows)  # type: ignore[arg-type]  # a generator starts with None
            async with connection.cursor(binary=True, row_factory=statement.row_factory) as cursor:
                await cursor.execute(statement.query, statement.params)
                rows = await cursor.fetchall() if returns_rows(cursor) else []
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # it is the generator's own T


def returns_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """Whether there is anything to fetch; a cursor's ``description`` makes an object a column."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


class SyncPool:
    """Connections for threads, and the operations run on them."""

    def __init__(
        self, settings: ConnectionSettings, *, revive: Callable[[], float], **sizes: Any
    ) -> None:
        self._settings = settings
        self._revive = revive
        self._local = settings.local_settings
        self._kwargs = settings.kwargs | {"revive": revive}
        self._pool = ConnectionPool(
            settings.conninfo,
            connection_class=PooledConnection,
            kwargs=self._kwargs,
            configure=_connection.configure,
            check=_connection.check,
            open=False,
            **sizes,
        )

    def open(self) -> Self:
        """Open the pool, and reach the server once, so that a wrong DSN shows at once."""
        try:
            with self._connect():
                self._pool.open(wait=True, timeout=self._pool.timeout)
        except psycopg.Error as error:
            self._pool.close()
            raise self._settings.unreachable(error) from error
        return self

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def stats(self) -> dict[str, int]:
        """The pool's own counters."""
        return self._pool.get_stats()

    def run(self, op: Op[T]) -> T:
        """Run an operation in its own transaction, again where that is safe and may help."""
        with span(op.name):
            began = monotonic()
            try:
                return self._attempt(op)
            except PoolTimeout as error:
                if self._revive() < began:
                    raise translate(error) from error
                _retry.note(op, error, attempt=1)
            except psycopg.Error as error:
                if not _retry.is_retryable(error, op):
                    raise translate(error) from error
                _retry.note(op, error, attempt=1)
                if _retry.is_refused(error):
                    self._pool.drain()
                elif _retry.is_lost(error):
                    self._revive()
                    self._pool.check()
            try:
                result = cast("T", Retrying(**_retry.policy(op))(self._attempt, op))
            except psycopg.Error as error:
                raise translate(error) from error
            return result

    def _attempt(self, op: Op[T]) -> T:
        if op.autocommit:
            with self._connect() as connection:
                return drive(connection, op)
        if op.read_only and not self._local:
            with self._pool.connection() as connection:
                return drive(connection, op)
        with self.unit(alone=op.alone) as connection:
            return drive(connection, op)

    def _connect(self) -> PooledConnection:
        """A connection that is not the pool's."""
        return PooledConnection.connect(self._settings.conninfo, **self._kwargs)

    @contextmanager
    def unit(self, *, alone: bool = False) -> Iterator[PooledConnection]:
        """A connection inside one transaction; says so when a lost commit is in doubt."""
        committing = False
        with self._pool.connection() as connection:
            try:
                with connection.transaction():
                    try:
                        if alone:
                            connection.execute(_READ_COMMITTED)
                        for name, value in self._local.items():
                            connection.execute(_SET_LOCAL, {"name": name, "value": value})
                        yield connection
                    except BaseException:
                        _connection.give_locks_back(connection)
                        raise
                    _connection.refuse_failed(connection)
                    committing = True
            except psycopg.Error as error:
                if committing and _retry.is_lost(error):
                    raise CommitUnknown from error
                raise


class AsyncPool:
    """Connections for one event loop, and the operations run on them."""

    def __init__(
        self, settings: ConnectionSettings, *, revive: Callable[[], float], **sizes: Any
    ) -> None:
        self._settings = settings
        self._revive = revive
        self._local = settings.local_settings
        self._kwargs = settings.kwargs | {"revive": revive}
        self._pool = AsyncConnectionPool(
            settings.conninfo,
            connection_class=AsyncPooledConnection,
            kwargs=self._kwargs,
            configure=_connection.aconfigure,
            check=_connection.acheck,
            open=False,
            **sizes,
        )

    async def open(self) -> Self:
        """Open the pool, and reach the server once, so that a wrong DSN shows at once."""
        try:
            async with await self._connect():
                await self._pool.open(wait=True, timeout=self._pool.timeout)
        except psycopg.Error as error:
            await self._pool.close()
            raise self._settings.unreachable(error) from error
        return self

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def run(self, op: Op[T]) -> T:
        """Run an operation in its own transaction, again where that is safe and may help."""
        with span(op.name):
            began = monotonic()
            try:
                return await self._attempt(op)
            except PoolTimeout as error:
                if await asyncio.to_thread(self._revive) < began:
                    raise translate(error) from error
                _retry.note(op, error, attempt=1)
            except psycopg.Error as error:
                if not _retry.is_retryable(error, op):
                    raise translate(error) from error
                _retry.note(op, error, attempt=1)
                if _retry.is_refused(error):
                    await self._pool.drain()
                elif _retry.is_lost(error):
                    await asyncio.to_thread(self._revive)
                    await self._pool.check()
            try:
                return await AsyncRetrying(**_retry.policy(op))(self._attempt, op)
            except psycopg.Error as error:
                raise translate(error) from error

    async def _attempt(self, op: Op[T]) -> T:
        if op.autocommit:
            async with await self._connect() as connection:
                return await adrive(connection, op)
        if op.read_only and not self._local:
            async with self._pool.connection() as connection:
                return await adrive(connection, op)
        async with self.unit(alone=op.alone) as connection:
            return await adrive(connection, op)

    async def _connect(self) -> AsyncPooledConnection:
        """A connection that is not the pool's."""
        return await AsyncPooledConnection.connect(self._settings.conninfo, **self._kwargs)

    @asynccontextmanager
    async def unit(self, *, alone: bool = False) -> AsyncIterator[AsyncPooledConnection]:
        """A connection inside one transaction; says so when a lost commit is in doubt."""
        committing = False
        async with self._pool.connection() as connection:
            try:
                async with connection.transaction():
                    try:
                        if alone:
                            await connection.execute(_READ_COMMITTED)
                        for name, value in self._local.items():
                            await connection.execute(_SET_LOCAL, {"name": name, "value": value})
                        yield connection
                    except BaseException:
                        await _connection.agive_locks_back(connection)
                        raise
                    _connection.refuse_failed(connection)
                    committing = True
            except psycopg.Error as error:
                if committing and _retry.is_lost(error):
                    raise CommitUnknown from error
                raise

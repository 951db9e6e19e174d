"""The two drivers: an operation run on a pooled connection, synchronously or asynchronously.

The classes are twins on purpose: each method is the other's with ``await``. Whatever can be said
once stands in ``_connection`` (how connections are made) and ``_retry`` (what is tried again).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool
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


def drive(connection: psycopg.Connection[Any], op: Op[T]) -> T:
    """Run a started-afresh ``op`` on a connection, statement by statement."""
    steps, rows = iter(op), None
    try:
        while True:
            statement = steps.send(rows)  # type: ignore[arg-type]  # a generator starts with None
            with connection.cursor(binary=True, row_factory=statement.row_factory) as cursor:
                cursor.execute(statement.query, statement.params)
                rows = cursor.fetchall() if cursor.description else []
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
                rows = await cursor.fetchall() if cursor.description else []
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # it is the generator's own T


class SyncPool:
    """Connections for threads, and the operations run on them."""

    def __init__(
        self, settings: ConnectionSettings, *, on_lost: Callable[[], None], **sizes: Any
    ) -> None:
        self._settings = settings
        self._on_lost = on_lost
        self._local = settings.local_settings
        self._pool = ConnectionPool(
            settings.conninfo,
            connection_class=PooledConnection,
            kwargs=settings.kwargs,
            configure=_connection.configure,
            check=_connection.check,
            open=False,
            **sizes,
        )

    def open(self) -> Self:
        """Open the pool, and reach the server once, so that a wrong DSN shows at once."""
        try:
            with psycopg.connect(self._settings.conninfo, **self._settings.kwargs):
                self._pool.open(wait=True, timeout=self._pool.timeout)
        except psycopg.Error as error:
            self._pool.close()
            raise translate(error) from error
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
            try:
                return self._attempt(op)
            except psycopg.Error as error:
                if not _retry.is_retryable(error, op):
                    raise translate(error) from error
                _retry.note(op, error, attempt=1)
                if _retry.is_lost(error):
                    self._on_lost()
                    self._pool.check()
            try:
                result = cast("T", Retrying(**_retry.policy(op))(self._attempt, op))
            except psycopg.Error as error:
                raise translate(error) from error
            return result

    def _attempt(self, op: Op[T]) -> T:
        if op.autocommit:
            with psycopg.connect(self._settings.conninfo, **self._settings.kwargs) as connection:
                return drive(connection, op)
        if op.read_only and not self._local:
            with self._pool.connection() as connection:
                return drive(connection, op)
        with self.unit() as connection:
            return drive(connection, op)

    @contextmanager
    def unit(self) -> Iterator[PooledConnection]:
        """A connection inside one transaction; says so when a lost commit is in doubt."""
        committing = False
        with self._pool.connection() as connection:
            try:
                with connection.transaction():
                    for name, value in self._local.items():
                        connection.execute(_SET_LOCAL, {"name": name, "value": value})
                    yield connection
                    _connection.refuse_failed(connection)
                    committing = True
            except BaseException as error:
                # Closed, not reused: rolled back under pg_textsearch 0.6, a backend never again
                # hears a cancellation or a time-out.
                connection.close()
                if committing and isinstance(error, psycopg.Error) and _retry.is_lost(error):
                    raise CommitUnknown from error
                raise


class AsyncPool:
    """Connections for one event loop, and the operations run on them."""

    def __init__(
        self, settings: ConnectionSettings, *, on_lost: Callable[[], None], **sizes: Any
    ) -> None:
        self._settings = settings
        self._on_lost = on_lost
        self._local = settings.local_settings
        self._pool = AsyncConnectionPool(
            settings.conninfo,
            connection_class=AsyncPooledConnection,
            kwargs=settings.kwargs,
            configure=_connection.aconfigure,
            check=_connection.acheck,
            open=False,
            **sizes,
        )

    async def open(self) -> Self:
        """Open the pool, and reach the server once, so that a wrong DSN shows at once."""
        try:
            async with await psycopg.AsyncConnection.connect(
                self._settings.conninfo, **self._settings.kwargs
            ):
                await self._pool.open(wait=True, timeout=self._pool.timeout)
        except psycopg.Error as error:
            await self._pool.close()
            raise translate(error) from error
        return self

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def run(self, op: Op[T]) -> T:
        """Run an operation in its own transaction, again where that is safe and may help."""
        with span(op.name):
            try:
                return await self._attempt(op)
            except psycopg.Error as error:
                if not _retry.is_retryable(error, op):
                    raise translate(error) from error
                _retry.note(op, error, attempt=1)
                if _retry.is_lost(error):
                    await asyncio.to_thread(self._on_lost)
                    await self._pool.check()
            try:
                return await AsyncRetrying(**_retry.policy(op))(self._attempt, op)
            except psycopg.Error as error:
                raise translate(error) from error

    async def _attempt(self, op: Op[T]) -> T:
        if op.autocommit:
            async with await psycopg.AsyncConnection.connect(
                self._settings.conninfo, **self._settings.kwargs
            ) as connection:
                return await adrive(connection, op)
        if op.read_only and not self._local:
            async with self._pool.connection() as connection:
                return await adrive(connection, op)
        async with self.unit() as connection:
            return await adrive(connection, op)

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[AsyncPooledConnection]:
        """A connection inside one transaction; says so when a lost commit is in doubt."""
        committing = False
        async with self._pool.connection() as connection:
            try:
                async with connection.transaction():
                    for name, value in self._local.items():
                        await connection.execute(_SET_LOCAL, {"name": name, "value": value})
                    yield connection
                    _connection.refuse_failed(connection)
                    committing = True
            except BaseException as error:
                await connection.close()
                if committing and isinstance(error, psycopg.Error) and _retry.is_lost(error):
                    raise CommitUnknown from error
                raise

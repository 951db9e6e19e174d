"""The database: where it is, when it is open, and how operations reach it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from a2rchi_pg import _schema
from a2rchi_pg._connection import ConnectionSettings
from a2rchi_pg._op import Op, Steps, fetch_tuples, write
from a2rchi_pg._pool import AsyncPool, SyncPool, adrive, drive
from a2rchi_pg.errors import InvalidInput, NotInTransaction, NotOpen, translate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike
    from types import TracebackType
    from typing import Self

    from a2rchi_pg.embedded import EmbeddedPostgres

T = TypeVar("T")
PoolT = TypeVar("PoolT", SyncPool, AsyncPool)

DSN_VARIABLE = "A2RCHI_PG_DSN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What :meth:`Database.health` found.

    Attributes:
        server_version: For example ``"17.9"``.
        extensions: Version by name, of the extensions installed in this database.
        read_only: The server is a standby, or refuses writes.
    """

    server_version: str
    extensions: dict[str, str]
    read_only: bool


class Database:
    """A PostgreSQL 17 database, reached through a pool of connections.

    Creating one does no I/O. ``with Database(dsn) as database`` opens it for use from threads,
    ``async with`` for native use from an event loop as well; used without either it opens itself
    on first use. Every ``x()`` has an ``ax()``; outside ``async with`` the latter runs in a thread.

    Args:
        dsn: A libpq connection string; None reads ``A2RCHI_PG_DSN``, then libpq's own ``PG*``.
        schema: The schema that holds the tables; None leaves ``search_path`` to the server.
        min_size: Connections kept open.
        max_size: Connections at most.
        timeout: Seconds to wait for a free connection, or for a new one, before ``Unavailable``.
        prepare_threshold: Executions after which a statement is prepared; None never prepares.
        pooler: True behind a pooler in transaction mode (PgBouncer, Supavisor): neither prepared
            statements nor session state are used.
        read_dsn: A replica for operations that only read.
        application_name: What ``pg_stat_activity`` shows.
        check_schema: Compare the schema's ledger with this version of the package on opening.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        schema: str | None = None,
        min_size: int = 1,
        max_size: int = 10,
        timeout: float = 30.0,
        prepare_threshold: int | None = 5,
        pooler: bool = False,
        read_dsn: str | None = None,
        application_name: str = "a2rchi_pg",
        check_schema: bool = True,
    ) -> None:
        if not 0 <= min_size <= max_size or max_size < 1:
            raise InvalidInput(
                "pool sizes must satisfy 0 <= min_size <= max_size and max_size >= 1; "
                f"got min_size={min_size}, max_size={max_size}"
            )

        def settings(dsn: str) -> ConnectionSettings:
            return ConnectionSettings(
                dsn=dsn,
                schema=schema,
                pooler=pooler,
                prepare_threshold=prepare_threshold,
                application_name=application_name,
                timeout=timeout,
            )

        self._settings = settings(os.environ.get(DSN_VARIABLE, "") if dsn is None else dsn)
        self._read_settings = None if read_dsn is None else settings(read_dsn)
        self._sizes = {"min_size": min_size, "max_size": max_size, "timeout": timeout}
        self._check_schema = check_schema
        self._lock = threading.RLock()
        self._closed = False
        self._pools: list[SyncPool] | None = None  # the primary and, where there is one, a replica
        self._apools: list[AsyncPool] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: EmbeddedPostgres | None = None

    @classmethod
    def embedded(cls, path: str | PathLike[str], **kwargs: Any) -> Self:
        """A database on an embedded server, started or joined now, its schema brought up to date.

        Args:
            path: Directory of the server's data; made if it isn't there.
            **kwargs: As for the constructor, except ``dsn``.

        Raises:
            EmbeddedError: If the server can't be started.
            MigrationError: If the schema can't be brought up to date.
        """
        from a2rchi_pg.embedded import EmbeddedPostgres  # noqa: PLC0415 - only who asks pays

        with ExitStack() as stack:
            server = stack.enter_context(EmbeddedPostgres(path))
            _schema.migrate(server.dsn, schema=kwargs.get("schema"))
            database = cls(server.dsn, **kwargs)
            database._server = server
            stack.pop_all()
        return database

    def __repr__(self) -> str:
        parts = conninfo_to_dict(self._settings.dsn)
        shown = " ".join(
            f"{key}={parts[key]}" for key in ("host", "port", "dbname") if key in parts
        )
        return f"<Database {shown or 'from the environment'}>"

    def open(self) -> Self:
        """Open the pool and check the schema; does nothing where it is open.

        Raises:
            Unavailable: If the server can't be reached.
            SchemaOutOfDate: If the schema doesn't fit this version; names the command to run.
        """
        with self._lock:
            if self._pools is None:
                with ExitStack() as stack:
                    pools = []
                    for settings in self._all_settings():
                        pools.append(SyncPool(settings, on_lost=self._revive, **self._sizes).open())
                        stack.callback(pools[-1].close)
                    if self._check_schema:
                        pools[0].run(_schema.check(self._settings))
                    stack.pop_all()
                self._pools, self._closed = pools, False
        return self

    def close(self) -> None:
        """Close the pool, and leave the embedded server if there is one."""
        with self._lock:
            pools, self._pools, self._closed = self._pools, None, True
            server, self._server = self._server, None
        for pool in pools or ():
            pool.close()
        if server is not None:
            server.stop()

    async def aopen(self) -> Self:
        """Open a pool that belongs to the running event loop, and check the schema.

        Raises:
            Unavailable: If the server can't be reached.
            SchemaOutOfDate: If the schema doesn't fit this version; names the command to run.
        """
        if self._apools is None or self._orphaned():
            async with AsyncExitStack() as stack:
                pools = []
                for settings in self._all_settings():
                    pools.append(
                        await AsyncPool(settings, on_lost=self._revive, **self._sizes).open()
                    )
                    stack.push_async_callback(pools[-1].close)
                if self._check_schema:
                    await pools[0].run(_schema.check(self._settings))
                stack.pop_all()
            self._apools, self._loop = pools, asyncio.get_running_loop()
            self._closed = False
        return self

    async def aclose(self) -> None:
        """Close the running event loop's pool and everything :meth:`close` closes."""
        own = self._apools if self._loop is asyncio.get_running_loop() else None
        if own is not None or self._orphaned():
            self._apools = self._loop = None
        for pool in own or ():
            await pool.close()
        await asyncio.to_thread(self.close)

    def _orphaned(self) -> bool:
        """Whether the pool's event loop ended before the pool was closed, which it can't be now."""
        return self._loop is not None and self._loop.is_closed()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await self.aopen()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    def run(self, op: Op[T]) -> T:
        """Run one operation: one transaction, or one bare statement where it only reads.

        A transaction that certainly did not happen (serialization failure, deadlock, connection
        lost before its commit was sent) is tried again a few times.

        Raises:
            DatabaseError: What the server said, translated.
        """
        return _pick(self._opened(), op).run(op)

    async def arun(self, op: Op[T]) -> T:
        """Run one operation on the event loop's pool, or in a thread where there is none."""
        pools = self._apools
        if pools is None or self._loop is not asyncio.get_running_loop():
            return await asyncio.to_thread(self.run, op)
        return await _pick(pools, op).run(op)

    def _revive(self) -> None:
        """Start the embedded server again if it crashed; nobody else would."""
        if self._server is not None:
            self._server.ensure()

    def transaction(self) -> Transaction:
        """Several operations in one transaction: ``with`` or ``async with`` it, then ``run``."""
        return Transaction(self)

    def health(self) -> Health:
        """Reach the server and say what is there.

        Raises:
            Unavailable: If it can't be reached.
        """
        return self.run(_health())

    async def ahealth(self) -> Health:
        """The asynchronous twin of :meth:`health`."""
        return await self.arun(_health())

    def pool_stats(self) -> dict[str, int]:
        """psycopg_pool's counters for the threads' pool."""
        return self._opened()[0].stats()

    def _all_settings(self) -> list[ConnectionSettings]:
        return [each for each in (self._settings, self._read_settings) if each is not None]

    def _opened(self) -> list[SyncPool]:
        if (pools := self._pools) is not None:
            return pools
        with self._lock:
            if self._closed:
                raise NotOpen(
                    "this database was closed: open() it, or use it inside its with block"
                )
            self.open()
            return self._pools  # type: ignore[return-value]  # open() just set it


class Transaction:
    """One transaction for several operations, usable wherever a ``Database`` is.

    It commits when its block ends and rolls back when the block raises; nothing in it is retried.
    A failed operation leaves it unusable, as PostgreSQL does; caught or not, it is rolled back, and
    the end of the block says so.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.Connection[Any] | None = None
        self._aconnection: psycopg.AsyncConnection[Any] | None = None
        self._stack = ExitStack()
        self._astack = AsyncExitStack()

    def __enter__(self) -> Self:
        pool = self._database._opened()[0]  # noqa: SLF001 - a transaction is part of its database
        with _translated():
            self._connection = self._stack.enter_context(pool.unit())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._connection = None
        with _translated():
            self._stack.__exit__(kind, error, tb)

    async def __aenter__(self) -> Self:
        pools = self._database._apools  # noqa: SLF001 - a transaction is part of its database
        if pools is None:
            raise NotOpen("an async transaction needs its database open: async with database")
        with _translated():
            self._aconnection = await self._astack.enter_async_context(pools[0].unit())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._aconnection = None
        with _translated():
            await self._astack.__aexit__(kind, error, tb)

    def run(self, op: Op[T]) -> T:
        """Run one operation inside this transaction."""
        if self._connection is None:
            raise NotOpen("use run() inside 'with database.transaction()'")
        _refuse_alone(op)
        with _translated():
            return drive(self._connection, op)

    async def arun(self, op: Op[T]) -> T:
        """Run one operation in this transaction; in a thread where ``with`` opened it."""
        if self._aconnection is None:
            return await asyncio.to_thread(self.run, op)
        _refuse_alone(op)
        with _translated():
            return await adrive(self._aconnection, op)


def _refuse_alone(op: Op[Any]) -> None:
    if op.alone:
        raise NotInTransaction(
            "dropping and rebuilding are transactions of their own and no part of a larger one "
            f"({op.name}): call it on the Database, outside 'with database.transaction()'"
        )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def _pick(pools: list[PoolT], op: Op[Any]) -> PoolT:
    return pools[-1] if op.read_only else pools[0]


@write
def _health() -> Steps[Health]:
    """Writes nothing, but is to reach the primary, which reads may not."""
    (row,) = yield from fetch_tuples(
        """
        SELECT current_setting('server_version'),
               (SELECT coalesce(jsonb_object_agg(extname, extversion), '{}') FROM pg_extension),
               pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean
        """
    )
    return Health(server_version=row[0].split()[0], extensions=row[1], read_only=row[2])

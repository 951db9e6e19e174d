"""The database: where it is, when it is open, and how operations reach it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from a2rchi_pg import _dsn, _schema
from a2rchi_pg._arguments import MAX_INTEGER, flag, whole
from a2rchi_pg._connection import ConnectionSettings
from a2rchi_pg._op import Op, Steps, fetch_tuples, write
from a2rchi_pg._pool import AsyncPool, SyncPool
from a2rchi_pg._transaction import Transaction
from a2rchi_pg.errors import InvalidInput, NotOpen

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType
    from typing import Self

    from a2rchi_pg.embedded import EmbeddedPostgres

T = TypeVar("T")
PoolT = TypeVar("PoolT", SyncPool, AsyncPool)

DSN_VARIABLE = _dsn.VARIABLE


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
    A forked child opens connections of its own; a transaction under way stays its parent's.

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
        _check_dsn_type(dsn=dsn)
        _check_dsn_type(read_dsn=read_dsn)
        whole(min_size, "min_size", 0, whole(max_size, "max_size", 1, MAX_INTEGER))
        flag(check_schema, "check_schema")

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
        self._revived_at = -inf
        _databases.add(self)

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
            database = cls(server.dsn, **kwargs)
            database._server = server
            _schema.migrate(server.dsn, schema=kwargs.get("schema"))
            stack.pop_all()
        return database

    def __repr__(self) -> str:
        return f"<Database {_dsn.shown(self._settings.dsn) or 'from the environment'}>"

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
                        pools.append(SyncPool(settings, revive=self._revive, **self._sizes).open())
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
                        await AsyncPool(settings, revive=self._revive, **self._sizes).open()
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

    def _revive(self) -> float:
        """Start the embedded server again if it crashed; when it last did, by monotonic()."""
        server = self._server
        if server is not None and server.ensure():
            self._revived_at = monotonic()
        return self._revived_at

    def _start_anew(self) -> None:
        """In a forked child: open pools of its own when they are needed."""
        _of_parents.append((self._pools, self._apools, self._loop))
        self._pools = self._apools = self._loop = None
        # The former may be held by a thread that only the parent has.
        self._lock = threading.RLock()

    def transaction(self) -> Transaction:
        """Several operations in one transaction: ``with`` or ``async with`` it, then ``run``."""
        return Transaction(
            open_pool=lambda: self._opened()[0],
            loop_pool=lambda: self._apools[0] if self._apools else None,
        )

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


def _start_all_anew() -> None:
    for database in list(_databases):
        database._start_anew()  # noqa: SLF001 - of this very module


_databases: WeakSet[Database] = WeakSet()
# Kept, because a pool that is deleted waits for threads and locks that only the parent has.
_of_parents: list[object] = []
os.register_at_fork(after_in_child=_start_all_anew)


def _check_dsn_type(**dsn: object) -> None:
    ((name, value),) = dsn.items()
    if not isinstance(value, str | None):
        raise InvalidInput(
            f"{name} must be a string or None, got {type(value).__name__} (a folder's path is for "
            "Database.embedded)"
        )


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

"""Several operations in one transaction."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from a2rchi_pg._pool import AsyncPool, SyncPool, adrive, drive
from a2rchi_pg.errors import NotInTransaction, NotOpen, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from a2rchi_pg._op import Op

T = TypeVar("T")


class Transaction:
    """One transaction for several operations, usable wherever a ``Database`` is.

    It commits when its block ends and rolls back when the block raises; nothing in it is retried.
    A failed operation leaves it unusable, as PostgreSQL does; caught or not, it is rolled back, and
    the end of the block says so.
    """

    def __init__(
        self,
        *,
        open_pool: Callable[[], SyncPool],
        loop_pool: Callable[[], AsyncPool | None],
    ) -> None:
        self._open_pool = open_pool
        self._loop_pool = loop_pool
        self._connection: psycopg.Connection[Any] | None = None
        self._aconnection: psycopg.AsyncConnection[Any] | None = None
        self._stack = ExitStack()
        self._astack = AsyncExitStack()

    def __enter__(self) -> Self:
        pool = self._open_pool()
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
        pool = self._loop_pool()
        if pool is None:
            raise NotOpen("an async transaction needs its database open: async with database")
        with _translated():
            self._aconnection = await self._astack.enter_async_context(pool.unit())
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

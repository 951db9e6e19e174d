"""Database work described as generators, run by whoever holds a connection.

The protocol: an operation *yields* a :class:`Statement` and is *sent* the rows the server
answered with; what it *returns* is the operation's result. The generator holds all the logic and
does no I/O, so one text serves the synchronous driver, the asynchronous one and a test that plays
the server. ::

    @read
    def get_collection(name: str) -> Steps[Collection | None]:
        return (yield from fetch_one("SELECT … WHERE name = %(name)s", Collection, name=name))

    database.run(get_collection("default"))            # or: await database.arun(…)

An :class:`Op` can be started any number of times, which is what makes a transaction retryable.
One operation is one transaction; an operation that is part of a larger one is delegated to with
``yield from``. The exception is :func:`maintenance`, for the few commands that no transaction
takes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import wraps
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    LiteralString,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
)

from psycopg import sql
from psycopg.rows import class_row, tuple_row

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from psycopg.rows import BaseRowFactory

# What a statement's text may be; psycopg's own Query also admits template strings.
Query: TypeAlias = LiteralString | bytes | sql.SQL | sql.Composed

_INDENTED = re.compile(r"\s*\n\s*")

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement with its bound parameters, and how its rows are made."""

    query: Query
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    row_factory: BaseRowFactory[Any] = tuple_row


Steps: TypeAlias = "Generator[Statement, list[Any], T]"


class Op(Generic[T_co]):
    """A unit of database work that can be started afresh: iterating it begins a new run.

    Attributes:
        name: The operation's name, for logs and traces.
        read_only: One statement that writes nothing: needs no transaction, may run on a replica
            and may always be retried.
        retry_conflicts: A unique violation means that a concurrent writer of the same keys won
            the race, so the whole transaction is worth another try.
        alone: No part of a larger transaction: what it drops must not come back. Run at READ
            COMMITTED whatever the server's default, so that its commit can't fail.
        autocommit: Each statement is a transaction of its own, on a connection of the operation's
            own, and none is ever tried again.
    """

    __slots__ = ("_start", "alone", "autocommit", "name", "read_only", "retry_conflicts")

    def __init__(
        self,
        start: Callable[[], Steps[T_co]],
        *,
        name: str,
        read_only: bool,
        retry_conflicts: bool = False,
        alone: bool = False,
        autocommit: bool = False,
    ) -> None:
        self._start = start
        self.name = name
        self.read_only = read_only
        self.retry_conflicts = retry_conflicts
        self.alone = alone or autocommit
        self.autocommit = autocommit

    def __iter__(self) -> Steps[T_co]:
        return self._start()

    def __repr__(self) -> str:
        return f"<Op {self.name}>"


class Runner(Protocol):
    """What repositories and stores work through: a ``Database`` or a ``Transaction``."""

    def run(self, op: Op[T]) -> T:
        """Run ``op`` and return its result."""
        ...

    async def arun(self, op: Op[T]) -> T:
        """Run ``op`` without blocking the event loop and return its result."""
        ...


def read(steps: Callable[P, Steps[T]]) -> Callable[P, Op[T]]:
    """Make a generator function an operation of exactly one statement that writes nothing."""
    return _operation(steps, read_only=True)


def write(steps: Callable[P, Steps[T]]) -> Callable[P, Op[T]]:
    """Make a generator function an operation that runs in a transaction of its own."""
    return _operation(steps, read_only=False)


def upsert(steps: Callable[P, Steps[T]]) -> Callable[P, Op[T]]:
    """Like :func:`write`, tried again when a concurrent upsert of the same keys came first."""
    return _operation(steps, read_only=False, retry_conflicts=True)


def drop(steps: Callable[P, Steps[T]]) -> Callable[P, Op[T]]:
    """Like :func:`write`, for what drops a table or an index: refused in a larger transaction.

    A rolled-back drop of a BM25 index leaves pg_textsearch 0.6 without the rows in its memory, and
    the next search of another session crashes the server. Nothing that can fail may follow it.
    """
    return _operation(steps, read_only=False, alone=True)


def maintenance(steps: Callable[P, Steps[T]]) -> Callable[P, Op[T]]:
    """Make a generator function an operation of commands that can't run in a transaction.

    ``REINDEX … CONCURRENTLY`` is one. They are sent one after the other and each stands at once: an
    operation that fails midway leaves what came before, and is not tried again. It has a connection
    to itself, closed afterwards, so hours of work keep none from the pool and a ``SET`` ends there.
    Names must be qualified: behind a pooler there is no search_path but the server's.
    """
    return _operation(steps, read_only=False, autocommit=True)


def _operation(
    steps: Callable[P, Steps[T]],
    *,
    read_only: bool,
    retry_conflicts: bool = False,
    alone: bool = False,
    autocommit: bool = False,
) -> Callable[P, Op[T]]:
    @wraps(steps)
    def describe(*args: P.args, **kwargs: P.kwargs) -> Op[T]:
        return Op(
            lambda: steps(*args, **kwargs),
            name=steps.__name__,
            read_only=read_only,
            retry_conflicts=retry_conflicts,
            alone=alone,
            autocommit=autocommit,
        )

    return describe


def fetch(query: Query, into: type[T], /, **params: Any) -> Steps[list[T]]:
    """Yield a query; its rows, each as ``into`` by column name."""
    return (yield Statement(query=query, params=params, row_factory=class_row(into)))


def fetch_one(query: Query, into: type[T], /, **params: Any) -> Steps[T | None]:
    """Yield a query; its first row as ``into``, or None."""
    rows = yield from fetch(query, into, **params)
    return rows[0] if rows else None


def fetch_value(query: Query, /, **params: Any) -> Steps[Any]:
    """Yield a query; the first column of its first row, or None."""
    rows = yield Statement(query=query, params=params)
    return rows[0][0] if rows else None


def fetch_tuples(query: Query, /, **params: Any) -> Steps[list[tuple[Any, ...]]]:
    """Yield a query; its rows as plain tuples, the cheapest form."""
    return (yield Statement(query=query, params=params))


def execute(query: Query, /, **params: Any) -> Steps[None]:
    """Yield a statement whose rows don't matter."""
    yield Statement(query=query, params=params)


def identifier(*names: str) -> sql.Identifier:
    """A name, qualified where there are several, for a statement: psycopg looks for % in it too."""
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def own_sql(text: str) -> sql.SQL:
    """Text that this package composed itself, as SQL; never anything a host gave.

    It loses its indentation: psycopg reads a text of more than 4,096 bytes anew each time.
    """
    return sql.SQL(_INDENTED.sub("\n", text))  # pyright: ignore[reportArgumentType]  # ours

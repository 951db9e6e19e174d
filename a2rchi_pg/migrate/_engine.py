"""Run, and roll back: one way for every source and every target.

A batch is read while no connection is held, then stored in one transaction with the checkpoint and
a fingerprint of each row. Nothing is overwritten, so a batch that is read twice is stored once, and
taking a run back is deleting what it wrote.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from a2rchi_pg._arguments import shown
from a2rchi_pg._op import execute, fetch_value, write
from a2rchi_pg.errors import DatabaseError, MigrationError
from a2rchi_pg.migrate import _rows, _runs
from a2rchi_pg.migrate._reading import PATIENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from a2rchi_pg._op import Steps
    from a2rchi_pg.database import Database, Health
    from a2rchi_pg.migrate._runs import Run
    from a2rchi_pg.migrate._source import Row, Source, Target

T = TypeVar("T")
# Told the rows done and all there are, once before the first batch and then after each.
Progress: TypeAlias = "Callable[[int, int], None]"
IN_ROWS = ("22", "23", "53200", "54")  # what an SQLSTATE begins with where it lies in the rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack:
    """What a rollback did: rows it removed, and those changed or in use since, which stay."""

    removed: int
    stays: list[str]
    dropped: bool


def run(
    database: Database,
    source: Source[T],
    target: Target[T],
    *,
    run_id: str | None = None,
    batch_size: int = 1000,
    restart: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Bring every row of the source into the target, from where an unfinished run stopped.

    Args:
        database: The database of the target.
        source: What is read.
        target: Where it goes.
        run_id: The run's name, which a rollback needs; None makes one.
        batch_size: Rows a transaction holds.
        restart: Read from the beginning; what is in already stays.
        progress: Called before the first batch and after each with the rows read, those of an
            interrupted run included, and all there are.

    Raises:
        InvalidInput: If a run can't be called that.
        MigrationError: If another run is under way on this database.
    """
    name = _runs.checked_name(new_id() if run_id is None else run_id)
    total = source.survey().rows
    check(database, target)
    with _alone(database):
        made = not target.exists(database)
        begun = database.run(
            _runs.begin(
                name,
                source.kind,
                source.location,
                target.name,
                made_target=made,
                restart=restart,
            )
        )
        target.prepare(database)
        after = begun.checkpoint
        tell = teller(progress, database.run(_rows.counted(begun.run_id, after)), total)
        for rows in read_batches(source, after, batch_size):
            _store(database, begun.run_id, target, rows, after)
            after = rows[-1].key
            tell(len(rows))
        target.finish(database)
        database.run(_runs.complete(begun.run_id))
    return _runs.found(database.run(_runs.get_run(begun.run_id)), begun.run_id)


def _store(
    database: Database, run_id: str, target: Target[T], rows: Sequence[Row[T]], after: str | None
) -> None:
    try:
        database.run(_rows.store(run_id, target, rows, after))
    except DatabaseError as error:
        if not (error.sqlstate or "").startswith(IN_ROWS):
            raise
        first, last = shown(rows[0].key), shown(rows[-1].key)
        raise MigrationError(
            f"{error} (one of the rows from {first} to {last}, or all together: a smaller "
            "--batch-size may do, or tell which one)"
        ) from error


def read_batches(source: Source[T], after: str | None, size: int) -> Iterator[Sequence[Row[T]]]:
    """A source's batches; of two rows with one key the ledger would lose one, and not say so."""
    for rows in source.batches(after, size):
        for row in rows:
            if after is not None and row.key <= after:
                raise MigrationError(
                    f"{source.location} has two rows called {shown(row.key)}, or gives them in no "
                    "order: each needs a key of its own"
                )
            after = row.key
        yield rows


def rollback(
    database: Database,
    target: Target[Any],
    run_id: str,
    *,
    batch_size: int = 1000,
    progress: Progress | None = None,
) -> RolledBack:
    """Take back what a run wrote and nothing else; it can be stopped and called again."""
    run = _runs.found(database.run(_runs.get_run(run_id)), run_id)
    with _alone(database):
        database.run(_runs.rewind(run_id))
        removed, stays, after = 0, list[str](), None
        dropped = False
        written = database.run(_rows.outcomes(run_id)).get("written", 0)
        tell = teller(progress, 0, written)
        if target.exists(database):
            while True:
                undone = database.run(_rows.undo(run_id, target, after, batch_size))
                if undone.last is None:
                    break
                removed, after = removed + undone.removed, undone.last
                stays += undone.kept
                tell(undone.rows)
            dropped = run.made_target and not stays and target.drop(database)
        if not stays:
            database.run(_runs.close(run_id))
    return RolledBack(removed=removed, stays=stays, dropped=dropped)


def teller(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    """Says what there is to be said at the beginning, and after so many rows more."""

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    tell(0)
    return tell


def check(database: Database, target: Target[Any]) -> Health:
    """How the target is; raises where rows couldn't be stored."""
    health = database.health()
    if health.read_only:
        raise MigrationError("the target takes no writes: it is a standby, or set to read only")
    target.check(database)
    return health


def new_id() -> str:
    """A name for a run that was given none."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Hold the lock of data migrations, in a transaction that does nothing else.

    The lock keeps two operators apart; should its connection be lost, the checkpoint still lets
    only one process store a batch.
    """
    with database.transaction() as transaction:
        if not transaction.run(_lock()):
            raise MigrationError("another migration of data is under way on this database")
        yield


@write
def _lock() -> Steps[bool]:
    yield from execute(PATIENT)
    key = "SELECT pg_try_advisory_xact_lock(hashtext('a2rchi_pg migration of data'))"
    return bool((yield from fetch_value(key)))

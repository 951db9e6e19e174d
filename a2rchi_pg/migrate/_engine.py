"""Run, verify, roll back: one way for every source and every target.

A batch is read while no connection is held, then stored in one transaction with the checkpoint and
a fingerprint of each row. Nothing is overwritten, so a batch that is read twice is stored once, and
taking a run back is deleting what it wrote.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from a2rchi_pg._op import execute, fetch_value, write
from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate import _rows, _runs
from a2rchi_pg.migrate._strangers import Strangers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from a2rchi_pg._op import Steps
    from a2rchi_pg.database import Database, Health
    from a2rchi_pg.migrate._runs import Run
    from a2rchi_pg.migrate._source import Row, Source, Target

T = TypeVar("T")
# Told the rows done and all there are, once before the first batch and then after each.
Progress: TypeAlias = "Callable[[int, int], None]"
EXAMPLES = 20


@dataclass(slots=True, kw_only=True)
class Differences:
    """What ``verify`` found; each list names the first twenty rows, each count has them all.

    Attributes:
        checked: Rows of the source that were compared.
        counts: How many rows are ``missing`` from the target, ``different`` in it, ``misplaced``
            (linked to another document), ``extra`` (in the target, where no run brought them),
            ``new`` in the source since the run, or ``gone`` from it.
    """

    checked: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, checked: int, found: dict[str, list[str]]) -> None:
        """Count a batch."""
        self.checked += checked
        for kind, keys in found.items():
            if keys:
                self.counts[kind] = self.counts.get(kind, 0) + len(keys)
                known = self.examples.setdefault(kind, [])
                known += keys[: EXAMPLES - len(known)]


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
        tell = _teller(progress, database.run(_rows.counted(begun.run_id, after)), total)
        for rows in source.batches(after, batch_size):
            database.run(_rows.store(begun.run_id, target, rows, after))
            after = rows[-1].key
            tell(len(rows))
        target.finish(database)
        database.run(_runs.complete(begun.run_id))
    return _runs.found(database.run(_runs.get_run(begun.run_id)), begun.run_id)


def verify(
    database: Database,
    source: Source[T],
    target: Target[T],
    run_id: str,
    *,
    batch_size: int = 1000,
    progress: Progress | None = None,
) -> Differences:
    """Read both sides again, side by side, and name what differs."""
    _checked(database, source, run_id)
    if not target.exists(database):
        raise MigrationError(f"{target.name} isn't there")
    differences = Differences()
    tell = _teller(progress, 0, source.survey().rows)
    low: str | None = None
    with database.transaction() as transaction:
        strangers = Strangers(transaction, run_id, target)
        for rows in chain(source.batches(None, batch_size), [()]):  # the last: what comes after all
            high = rows[-1].key if rows else None
            differences.add(len(rows), transaction.run(_compare(run_id, target, rows, low, high)))
            known = {row.key for row in rows}
            for key in strangers.upto(high):
                if key not in known:
                    differences.add(0, {"extra": [key]})
            low = high
            tell(len(rows))
    return differences


@write
def _compare(
    run_id: str,
    target: Target[Any],
    rows: Sequence[Row[Any]],
    low: str | None,
    high: str | None,
) -> Steps[dict[str, list[str]]]:
    keys = [row.key for row in rows]
    good = [row for row in rows if row.problem is None]
    there = yield from target.digests([row.key for row in good])
    recorded = yield from _rows.recorded(run_id, keys)
    lost = {key for key, outcome in recorded.items() if outcome != "skipped"} - there.keys()
    misplaced = yield from target.misplaced(good)
    return {
        "new": [key for key in keys if key not in recorded],
        "missing": [row.key for row in good if row.key in lost],
        "different": [row.key for row in good if there.get(row.key, row.digest) != row.digest],
        "misplaced": misplaced,
        "gone": (yield from _rows.unseen(run_id, keys, low, high)),
    }


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
        removed, stays, after = 0, list[str](), None
        dropped = False
        written = database.run(_rows.outcomes(run_id)).get("written", 0)
        tell = _teller(progress, 0, written)
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


def _checked(database: Database, source: Source[Any], run_id: str) -> Run:
    run = _runs.found(database.run(_runs.get_run(run_id)), run_id)
    if (run.source, run.location) != (source.kind, source.location):
        raise MigrationError(f"run {run_id} is of {run.source} {run.location}, not of this source")
    return run


def _teller(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
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
    yield from execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    key = "SELECT pg_try_advisory_xact_lock(hashtext('a2rchi_pg migration of data'))"
    return bool((yield from fetch_value(key)))

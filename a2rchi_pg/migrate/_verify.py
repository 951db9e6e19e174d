"""Verify: both sides are read again, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from a2rchi_pg._op import write
from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate import _rows, _runs
from a2rchi_pg.migrate._engine import read_batches, teller
from a2rchi_pg.migrate._strangers import Strangers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._op import Steps
    from a2rchi_pg.database import Database
    from a2rchi_pg.migrate._engine import Progress
    from a2rchi_pg.migrate._source import Row, Source, Target

T = TypeVar("T")
EXAMPLES = 20


@dataclass(slots=True, kw_only=True)
class Differences:
    """What ``verify`` found; each list names the first twenty rows, each count has them all.

    Attributes:
        checked: Rows of the source that were compared.
        counts: How many rows are ``missing`` from the target, ``different`` in it, ``misplaced``
            (of another document, or elsewhere in it), ``extra`` (in the target, where no run
            brought them), ``new`` in the source since the run (or skipped by it, and now another
            one would bring them), or ``gone`` from it.
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
    _check_run(database, source, target, run_id)
    if not target.exists(database):
        raise MigrationError(f"{target.name} isn't there")
    differences = Differences()
    tell = teller(progress, 0, source.survey().rows)
    low: str | None = None
    with database.transaction() as transaction:
        strangers = Strangers(transaction, run_id, target)
        after_all: list[Sequence[Row[T]]] = [()]
        for rows in chain(read_batches(source, None, batch_size), after_all):
            high = rows[-1].key if rows else None
            differences.add(len(rows), transaction.run(_compare(run_id, target, rows, low, high)))
            known = {row.key for row in rows}
            for key in strangers.upto(high):
                if key not in known:
                    differences.add(0, {"extra": [key]})
            low = high
            tell(len(rows))
    return differences


def _check_run(database: Database, source: Source[Any], target: Target[Any], run_id: str) -> None:
    run = _runs.found(database.run(_runs.get_run(run_id)), run_id)
    if (run.source, run.location, run.target) != (source.kind, source.location, target.name):
        raise MigrationError(
            f"run {run_id} is of {run.source} {run.location} into {run.target}, not of this "
            f"source into {target.name}"
        )


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
    came = {key for key, outcome in recorded.items() if outcome != "skipped"}
    left = [row for row in good if row.key not in came and row.key not in there]
    refused = (yield from target.refused(left)) if left else {}
    fit = {row.key for row in left if row.key not in refused}
    misplaced = yield from target.misplaced(good)
    return {
        "new": [key for key in keys if key not in recorded or key in fit],
        "missing": [row.key for row in good if row.key in came and row.key not in there],
        # A row that can't be stored as the source has it now isn't the one that came.
        "different": [
            row.key
            for row in rows
            if (row.key in came if row.problem else there.get(row.key, row.digest) != row.digest)
        ],
        "misplaced": misplaced,
        "gone": (yield from _rows.unseen(run_id, keys, low, high)),
    }

"""What a run would do, by a look at both sides."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from a2rchi_pg._op import read
from a2rchi_pg.migrate._engine import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._op import Steps
    from a2rchi_pg.database import Database
    from a2rchi_pg.migrate._source import Row, Source, Target

T = TypeVar("T")

INDEXED = 2.5  # times its bytes: 10,000 chunks of 2.4 kB, vectors included, took 50 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do.

    Attributes:
        server: The target's version, and those of its extensions.
        sampled: Rows that were read and checked, of ``rows``.
        present: How many of these the target has already, and would keep.
        conflicts: How many of those have other content there.
        problems: Why rows of the sample can't be stored, and how many.
        seconds: How long reading all would take at the sample's speed.
        megabytes: About how much disk the target will take for all, with indexes and ledger.
    """

    source: str
    location: str
    target: str
    target_exists: bool
    server: str
    rows: int
    sampled: int
    present: int
    conflicts: int
    seconds: float
    megabytes: float
    facts: dict[str, str]
    problems: dict[str, int]


def plan(database: Database, source: Source[T], target: Target[T], *, batch_size: int) -> Plan:
    """Look at both sides and at a first batch; nothing is written."""
    survey = source.survey()
    health = check(database, target)
    exists = target.exists(database)
    started = time.monotonic()
    sample = next(source.batches(None, batch_size), [])
    took = time.monotonic() - started
    good = {row.key: row.digest for row in sample if row.problem is None}
    there = database.run(_stored(target, list(good))) if exists else {}
    versions = {"PostgreSQL": health.server_version, **health.extensions}
    return Plan(
        source=source.kind,
        location=source.location,
        target=target.name,
        target_exists=exists,
        server=", ".join(f"{name} {version}" for name, version in versions.items()),
        rows=survey.rows,
        sampled=len(sample),
        present=len(there),
        conflicts=sum(good[key] != digest for key, digest in there.items()),
        seconds=took / max(len(sample), 1) * survey.rows,
        megabytes=INDEXED * _size(sample) / max(len(sample), 1) * survey.rows / 2**20,
        facts=survey.facts,
        problems=dict(Counter(row.problem for row in sample if row.problem is not None)),
    )


def _size(rows: Sequence[Row[T]]) -> int:
    """How many bytes the rows take, more or less."""
    return sum(len(pickle.dumps(row.value)) for row in rows if row.problem is None)


@read
def _stored(target: Target[Any], keys: Sequence[str]) -> Steps[dict[str, bytes]]:
    return (yield from target.digests(keys))

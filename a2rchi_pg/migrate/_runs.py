"""The ledger of migrations: runs, their checkpoints, and what became of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from a2rchi_pg._op import execute, fetch, fetch_one, fetch_tuples, fetch_value, read, write
from a2rchi_pg.errors import MigrationError, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from a2rchi_pg._op import Steps
    from a2rchi_pg.migrate._source import Row, Target

Status: TypeAlias = Literal["running", "completed", "rolled_back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One migration of one source into one target.

    Attributes:
        run_id: Its name.
        source: The kind of source.
        location: Where the source is, without secrets.
        target: What the rows go into.
        made_target: Whether the run made its target.
        checkpoint: The last key that was read; None before the first batch.
    """

    run_id: str
    source: str
    location: str
    target: str
    status: Status
    made_target: bool
    checkpoint: str | None
    started_at: datetime
    updated_at: datetime
    completed_at: datetime | None


@read
def get_run(run_id: str) -> Steps[Run | None]:
    """The run of that id, or None."""
    return (
        yield from fetch_one(
            "SELECT * FROM migration_runs WHERE run_id = %(run_id)s", Run, run_id=run_id
        )
    )


@read
def list_runs() -> Steps[list[Run]]:
    """Every run, the latest first."""
    return (yield from fetch("SELECT * FROM migration_runs ORDER BY started_at DESC, run_id", Run))


@read
def named(name: str) -> Steps[list[Run]]:
    """The run of that id, or those that one command made under that name, in their order."""
    query = """
        SELECT * FROM migration_runs
        WHERE run_id = %(name)s OR run_id = %(name)s || '-' || source
        ORDER BY started_at, run_id
    """
    runs = yield from fetch(query, Run, name=name)
    return [run for run in runs if run.run_id == name] or runs or [found(None, name)]


@write
def begin(
    run_id: str, source: str, location: str, target: str, *, made_target: bool, restart: bool
) -> Steps[Run]:
    """A new run, or the unfinished one of the same source and target."""
    run = yield from fetch_one(
        """
        SELECT * FROM migration_runs
        WHERE run_id = %(run_id)s OR (source, location, target, status)
            = (%(source)s, %(location)s, %(target)s, 'running')
        ORDER BY run_id = %(run_id)s DESC LIMIT 1 FOR UPDATE
        """,
        Run,
        run_id=run_id,
        source=source,
        location=location,
        target=target,
    )
    if run is None:
        query = """
            INSERT INTO migration_runs (run_id, source, location, target, made_target)
            VALUES (%(run_id)s, %(source)s, %(location)s, %(target)s, %(made_target)s)
            RETURNING *
        """
        made = yield from fetch(
            query,
            Run,
            run_id=run_id,
            source=source,
            location=location,
            target=target,
            made_target=made_target,
        )
        return made[0]
    if (run.source, run.location, run.target) != (source, location, target):
        raise MigrationError(
            f"run {run.run_id} is of {run.source} {run.location} into {run.target}: "
            "choose another --run-id"
        )
    if run.status == "rolled_back":
        raise MigrationError(f"run {run.run_id} was rolled back: choose another --run-id")
    # A finished run that is asked for again reads everything again: there may be new rows.
    afresh = restart or run.status == "completed"
    query = """
        UPDATE migration_runs
        SET status = 'running', completed_at = NULL, updated_at = now(),
            checkpoint = CASE WHEN %(afresh)s THEN NULL ELSE checkpoint END
        WHERE run_id = %(run_id)s RETURNING *
    """
    return (yield from fetch(query, Run, run_id=run.run_id, afresh=afresh))[0]


@write
def store(
    run_id: str, target: Target[Any], rows: Sequence[Row[Any]], after: str | None
) -> Steps[None]:
    """One batch, what became of it, and the checkpoint: all of it or nothing."""
    yield from _advance(run_id, after, rows[-1].key)
    sound = [row for row in rows if row.problem is None]
    problems = {row.key: row.problem for row in rows if row.problem is not None}
    problems |= yield from target.refused(sound)
    good = [row for row in sound if row.key not in problems]
    written = yield from target.insert(good)
    there = yield from target.digests([row.key for row in good if row.key not in written])
    yield from execute(
        """
        INSERT INTO migration_rows AS m (run_id, key, outcome, digest, note)
        SELECT %(run_id)s, * FROM unnest(
            %(keys)s::text[], %(outcomes)s::text[], %(digests)s::bytea[], %(notes)s::text[])
        ON CONFLICT (run_id, key) DO UPDATE
        SET outcome = excluded.outcome, digest = excluded.digest, note = excluded.note
        WHERE m.outcome <> 'written' OR excluded.outcome = 'written'
        """,
        run_id=run_id,
        keys=[row.key for row in rows],
        outcomes=[_outcome(row, problems, written, there) for row in rows],
        digests=[None if row.key in problems else row.digest for row in rows],
        notes=[problems.get(row.key) or "; ".join(row.notes) or None for row in rows],
    )


def _outcome(
    row: Row[Any], problems: dict[str, str], written: set[str], there: dict[str, bytes]
) -> str:
    if row.key in problems:
        return "skipped"
    if row.key in written:
        return "written"
    return "kept" if there.get(row.key) == row.digest else "conflict"


def _advance(run_id: str, after: str | None, upto: str) -> Steps[None]:
    """Move the checkpoint, if it is where this process left it."""
    query = """
        UPDATE migration_runs SET checkpoint = %(upto)s, updated_at = now()
        WHERE run_id = %(run_id)s AND status = 'running'
            AND checkpoint IS NOT DISTINCT FROM %(after)s::text
        RETURNING true
    """
    if not (yield from fetch_value(query, run_id=run_id, after=after, upto=upto)):
        raise MigrationError(f"run {run_id} is being continued by another process")


@write
def complete(run_id: str) -> Steps[None]:
    """Everything was read."""
    yield from execute(
        "UPDATE migration_runs SET status = 'completed', completed_at = now(), updated_at = now() "
        "WHERE run_id = %(run_id)s",
        run_id=run_id,
    )


@read
def outcomes(run_id: str) -> Steps[dict[str, int]]:
    """How many rows came to what."""
    query = "SELECT outcome, count(*) FROM migration_rows WHERE run_id = %(run_id)s GROUP BY 1"
    return dict((yield from fetch_tuples(query, run_id=run_id)))


@read
def notes(run_id: str) -> Steps[list[tuple[str, str, int, str]]]:
    """Outcome, note, how many rows have it, and the first of them."""
    query = """
        SELECT outcome, coalesce(note, 'another row has this key'), count(*), min(key)
        FROM migration_rows
        WHERE run_id = %(run_id)s AND (note IS NOT NULL OR outcome = 'conflict')
        GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
    """
    return (yield from fetch_tuples(query, run_id=run_id))


@read
def checksum(run_id: str) -> Steps[str]:
    """One fingerprint of all that was copied, the same for the same rows whatever the batches."""
    query = """
        SELECT encode(sha256(coalesce(string_agg(digest, '' ORDER BY key), '')), 'hex')
        FROM migration_rows WHERE run_id = %(run_id)s AND outcome IN ('written', 'kept')
    """
    return str((yield from fetch_value(query, run_id=run_id)))


def recorded(run_id: str, keys: Sequence[str]) -> Steps[dict[str, str]]:
    """What became of those of the keys that the run has read."""
    query = """
        SELECT key, outcome FROM migration_rows
        WHERE run_id = %(run_id)s AND key = ANY(%(keys)s::text[])
    """
    return dict((yield from fetch_tuples(query, run_id=run_id, keys=list(keys))))


def unseen(run_id: str, keys: Sequence[str], low: str | None, high: str | None) -> Steps[list[str]]:
    """Keys after ``low`` up to ``high`` that the run read and the source doesn't have now."""
    query = """
        SELECT key FROM migration_rows
        WHERE run_id = %(run_id)s AND NOT key = ANY(%(keys)s::text[])
            AND (%(low)s::text IS NULL OR key > %(low)s COLLATE "C")
            AND (%(high)s::text IS NULL OR key <= %(high)s COLLATE "C")
        ORDER BY key
    """
    found = yield from fetch_tuples(query, run_id=run_id, keys=list(keys), low=low, high=high)
    return [key for (key,) in found]


@write
def undo(run_id: str, target: Target[Any], after: str | None, size: int) -> Steps[Undone]:
    """Take back the next rows of a run, those that are still as it wrote them."""
    query = """
        SELECT key, digest FROM migration_rows
        WHERE run_id = %(run_id)s AND outcome = 'written'
            AND (%(after)s::text IS NULL OR key > %(after)s COLLATE "C")
        ORDER BY key LIMIT %(size)s
    """
    rows = dict((yield from fetch_tuples(query, run_id=run_id, after=after, size=size)))
    there = yield from target.digests(list(rows))
    same = [key for key, digest in there.items() if digest == bytes(rows[key])]
    gone = yield from target.delete(same)
    kept = sorted(there.keys() - gone)
    yield from execute(
        "DELETE FROM migration_rows WHERE run_id = %(run_id)s AND key = ANY(%(keys)s::text[])",
        run_id=run_id,
        keys=sorted(rows.keys() - set(kept)),
    )
    return Undone(last=max(rows, default=None), removed=len(gone), kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """A batch that was taken back: its last key, and what was changed since and so stays."""

    last: str | None
    removed: int
    kept: list[str]


@write
def close(run_id: str) -> Steps[None]:
    """The run was taken back."""
    yield from execute(
        "UPDATE migration_runs SET status = 'rolled_back', updated_at = now() "
        "WHERE run_id = %(run_id)s",
        run_id=run_id,
    )


def found(run: Run | None, run_id: str) -> Run:
    """The run, or an error that says there is none."""
    if run is None:
        raise NotFound(f"there is no run {run_id!r}: `migrate report` lists them")
    return run

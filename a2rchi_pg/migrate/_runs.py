"""The ledger of migrations: runs and their checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from a2rchi_pg._arguments import shown
from a2rchi_pg._content import clean_text
from a2rchi_pg._op import execute, fetch, fetch_one, fetch_value, read, write
from a2rchi_pg.errors import InvalidInput, MigrationError, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._op import Steps

MAX_NAME_BYTES = 200
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


def checked_name(run_id: str) -> str:
    """A name that a run may have.

    Raises:
        InvalidInput: If it is none of 1 to 200 bytes that PostgreSQL can store.
    """
    if (
        not 0 < len(run_id.encode(errors="replace")) <= MAX_NAME_BYTES
        or clean_text(run_id) != run_id
    ):
        raise InvalidInput(
            f"a run's name has 1 to {MAX_NAME_BYTES} bytes, without NUL; got {shown(run_id)}"
        )
    return run_id


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


def advance(run_id: str, after: str | None, upto: str) -> Steps[None]:
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
def rewind(run_id: str) -> Steps[None]:
    """Forget how far a run came: what it wrote up to there is being taken back."""
    yield from execute(
        "UPDATE migration_runs SET checkpoint = NULL WHERE run_id = %(run_id)s", run_id=run_id
    )


@write
def complete(run_id: str) -> Steps[None]:
    """Everything was read."""
    yield from execute(
        "UPDATE migration_runs SET status = 'completed', completed_at = now(), updated_at = now() "
        "WHERE run_id = %(run_id)s",
        run_id=run_id,
    )


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

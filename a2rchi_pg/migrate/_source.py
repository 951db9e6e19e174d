"""What the engine asks of a source and of what its rows go into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg import sql

    from a2rchi_pg._maintenance import IndexProgress
    from a2rchi_pg._op import Runner, Steps

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Generic[T]):
    """One row of a source.

    Attributes:
        key: What it is called on both sides, unique in the source.
        digest: SHA-256 of everything that is copied; empty where ``problem`` says why it can't be.
        value: What is stored.
        problem: Why it can't be stored, or None.
        notes: What was changed to store it.
    """

    key: str
    digest: bytes = b""
    value: T | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a source says about itself before anything is read.

    Attributes:
        rows: How many rows it has.
        facts: Whatever else there is to know, for a plan.
    """

    rows: int
    facts: dict[str, str] = field(default_factory=dict)


class Source(Protocol[T]):
    """A store that is read, never written to and never made.

    ``batches`` gives the rows whose keys come after ``after``, in the order of the keys' code
    points (PostgreSQL's ``COLLATE "C"``), so that a key is all that a checkpoint has to hold.
    """

    @property
    def kind(self) -> str:
        """The name that ``--source`` gives it."""
        ...

    @property
    def location(self) -> str:
        """Where it is, without secrets."""
        ...

    def survey(self) -> Survey:
        """Count it and look at a row; raises MigrationError where it can't be read."""
        ...

    def batches(self, after: str | None, size: int) -> Iterator[Sequence[Row[T]]]:
        """Its rows, at most ``size`` at a time."""
        ...


class Target(Protocol[T]):
    """Where rows go: a collection, or a table. ``Steps`` run inside the batch's transaction.

    What has a body here is what a plain table does; whoever inherits from this has it.
    """

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def check(self, runner: Runner) -> None:
        """Raise where the rows wouldn't fit what is there."""
        del runner

    def exists(self, runner: Runner) -> bool:
        """Whether what the rows go into is there."""
        del runner
        return True

    def prepare(self, runner: Runner) -> None:
        """Make what the rows go into, where it is missing."""
        del runner

    def refused(self, rows: Sequence[Row[T]]) -> Steps[dict[str, str]]:
        """Why rows have no place here, sound as they are: what they belong to is missing."""
        del rows
        yield from ()
        return {}

    def insert(self, rows: Sequence[Row[T]]) -> Steps[set[str]]:
        """Add the rows whose keys are free; the keys that were. Nothing is ever overwritten."""
        ...

    def digests(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """What is stored under these keys, digested as the source's rows are."""
        ...

    def misplaced(self, rows: Sequence[Row[T]]) -> Steps[list[str]]:
        """The keys of those that are stored but belong elsewhere."""
        del rows
        yield from ()
        return []

    def keys(self) -> sql.Composable:
        """A query of the keys of all rows that are there, as a column ``key``."""
        ...

    def delete(self, keys: Sequence[str]) -> Steps[set[str]]:
        """Delete what nothing else refers to; the keys that are gone."""
        ...

    def finish(self, runner: Runner) -> None:
        """Build what is better built after a load."""
        del runner

    def building(self, runner: Runner) -> IndexProgress | None:
        """How far the index is that ``finish`` builds now; None where it builds none."""
        del runner
        return None

    def drop(self, runner: Runner) -> bool:
        """Undo ``prepare``, unless there is anything left; whether it did."""
        del runner
        return False

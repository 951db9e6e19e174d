"""What a run came to, for someone to sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from a2rchi_pg.migrate import _rows, _runs

if TYPE_CHECKING:
    from a2rchi_pg.database import Database
    from a2rchi_pg.migrate._runs import Run

LONGEST = 200  # characters of a key or a reason that are shown to people


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run and what became of its rows.

    Attributes:
        outcomes: How many rows were written, kept, in conflict and skipped.
        notes: Outcome, reason, number of rows and the first of them.
        checksum: One fingerprint of all that was copied.
    """

    run: Run
    outcomes: dict[str, int]
    notes: list[tuple[str, str, int, str]]
    checksum: str

    def markdown(self) -> str:
        """The report as a page."""
        run = self.run
        ended = run.completed_at or run.updated_at
        lines = [
            f"# Migration {run.run_id}",
            "",
            f"- from: {run.source} {run.location}",
            f"- to: {run.target}",
            f"- status: {run.status}",
            f"- started: {run.started_at:%Y-%m-%d %H:%M:%S %Z}, took {ended - run.started_at}",
            f"- checksum: {self.checksum}",
            "",
            "| outcome | rows |",
            "|---|---:|",
            *(f"| {outcome} | {rows:,} |" for outcome, rows in sorted(self.outcomes.items())),
        ]
        if self.notes:
            lines += ["", "| outcome | reason | rows | first |", "|---|---|---:|---|"]
            lines += [
                f"| {o} | {_cell(why)} | {n:,} | {_cell(key)} |" for o, why, n, key in self.notes
            ]
        return "\n".join(lines) + "\n"


def report(database: Database, run_id: str) -> Report:
    """What became of every row of a run."""
    return Report(
        run=_runs.found(database.run(_runs.get_run(run_id)), run_id),
        outcomes=database.run(_rows.outcomes(run_id)),
        notes=database.run(_rows.notes(run_id)),
        checksum=database.run(_rows.checksum(run_id)),
    )


def _cell(text: str) -> str:
    return shortened(text).replace("|", "\\|").replace("\n", " ")


def shortened(text: str) -> str:
    """A text as a line has room for it: sources have keys of any length."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

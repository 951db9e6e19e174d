"""How far a command has come, for whoever waits for it."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg.migrate._engine import Progress

WIDTH = 30  # of the bar
PAUSE = 10.0  # seconds between lines, where there is no terminal


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Says it on stderr: a bar on a terminal, else a line now and then."""
    terminal = sys.stderr.isatty()
    started = said = time.monotonic()
    first: int | None = None

    def show(done: int, total: int) -> None:
        nonlocal first, said
        first = done if first is None else first  # what an interrupted run did took no time now
        now = time.monotonic()
        if not terminal and now - said < PAUSE:
            return
        said = now
        text = (
            f"{what}: {done:,} of {total:,} rows{_pace(done - first, total - done, now - started)}"
        )
        if terminal:
            filled = round(WIDTH * min(done / max(total, 1), 1))
            sys.stderr.write(f"\r\x1b[K[{'#' * filled:<{WIDTH}}] {text}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    try:
        yield show
    finally:
        if terminal and first is not None:
            sys.stderr.write("\n")


def _pace(done: int, left: int, seconds: float) -> str:
    if done <= 0:
        return ""
    rate = done / max(seconds, 1e-3)
    return f", {rate:,.0f} a second, {timedelta(seconds=round(max(left, 0) / rate))} left"

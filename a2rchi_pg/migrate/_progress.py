"""How far a command has come, for whoever waits for it.

By hand, as rich and tqdm come with extras only: moving in must not depend on one.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeAlias

from a2rchi_pg.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from a2rchi_pg._maintenance import IndexProgress
    from a2rchi_pg.migrate._engine import Progress

Build: TypeAlias = "Callable[[], IndexProgress | None]"

WIDTH = 30  # of the bar
LOOK = 1.0  # seconds between looks at a build
PAUSE = 10.0  # seconds between lines, where there is no terminal

logger = logging.getLogger("a2rchi_pg.migrate")


@contextmanager
def progress(what: str, build: Build | None = None) -> Iterator[Progress]:
    """Says it on stderr: a bar on a terminal, else a line now and then.

    Args:
        what: What is told of.
        build: Looks how far the index is that is being built, if one is; on a thread of its own.
    """
    bar = _Bar(what)
    try:
        with _watched(build, bar):
            yield bar.rows
    finally:
        bar.end()


@contextmanager
def _watched(build: Build | None, bar: _Bar) -> Iterator[None]:
    if build is None:
        yield
        return
    ended = Event()
    watcher = Thread(target=_watch, args=(build, bar, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(build: Build, bar: _Bar, ended: Event) -> None:
    while not ended.wait(LOOK):
        try:
            index = build()
        except DatabaseError as error:  # what only watches stops nothing
            logger.warning("how far the indexes are can't be seen: %s", error)
            return
        if index is not None:
            bar.index(index)


class _Bar:
    def __init__(self, what: str) -> None:
        self._what = what
        self._terminal = sys.stderr.isatty()
        self._started = self._said = time.monotonic()
        self._first: int | None = None
        self._rows = (0.0, "")

    def rows(self, done: int, total: int) -> None:
        if self._first is None:
            self._first = done  # what an interrupted run did took no time now
        pace = _pace(done - self._first, total - done, time.monotonic() - self._started)
        self._rows = (done / max(total, 1), f"{done:,} of {total:,} rows{pace}")
        self._say(*self._rows)

    def index(self, index: IndexProgress) -> None:
        phase = index.phase.removeprefix("building index: ")
        counted = f", {index.done:,} of {index.total:,} {index.unit}" if index.total else ""
        self._say((index.percent or 0) / 100, f"building indexes, {phase}{counted}")

    def end(self) -> None:
        """Leave the rows on the screen, whatever came after them."""
        if self._terminal and self._first is not None:
            self._say(*self._rows)
            sys.stderr.write("\n")

    def _say(self, share: float, text: str) -> None:
        if self._terminal:
            filled = "#" * round(WIDTH * min(share, 1))
            sys.stderr.write(f"\r\x1b[K[{filled:<{WIDTH}}] {self._what}: {text}")
        elif time.monotonic() - self._said >= PAUSE:
            self._said = time.monotonic()
            sys.stderr.write(f"{self._what}: {text}\n")
        sys.stderr.flush()


def _pace(done: int, left: int, seconds: float) -> str:
    if done <= 0:
        return ""
    rate = done / max(seconds, 1e-3)
    return f", {rate:,.0f} a second, {timedelta(seconds=round(max(left, 0) / rate))} left"

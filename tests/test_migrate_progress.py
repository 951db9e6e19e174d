"""What someone sees who waits for a migration."""

from __future__ import annotations

import io
import itertools
import logging
import re
import sys
from functools import partial
from threading import Event

import numpy as np
import pytest

from a2rchi_pg import CollectionSpec, Database
from a2rchi_pg._maintenance import IndexProgress
from a2rchi_pg.errors import DatabaseError
from a2rchi_pg.migrate import ChunkTarget, Survey, _progress, run
from a2rchi_pg.migrate._chunks import chunk_row
from a2rchi_pg.migrate._progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_fills_with_its_pace(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("documents") as show:
        show(100, 400)
        show(400, 400)
    first, second, last = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first == f"[{'#' * 8:<30}] documents: 100 of 400 rows"
    assert second.startswith(f"[{'#' * 30}] documents: 400 of 400 rows, ")
    assert second.endswith(" a second, 0:00:00 left")
    assert last == second + "\n"


def test_the_rows_of_an_interrupted_run_are_no_part_of_the_pace(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    now = iter([0.0, 1.0, 11.0])
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(now))
    with progress("documents") as show:
        show(90_000, 100_000)
        show(91_000, 100_000)
    assert "91,000 of 100,000 rows, 91 a second, 0:01:39 left" in terminal.getvalue()


@pytest.mark.parametrize("total", [0, 5])
def test_an_error_begins_a_line_of_its_own(monkeypatch, total):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with pytest.raises(OSError, match="gone"), progress("documents") as show:
        show(0, total)
        raise OSError("gone")
    assert terminal.getvalue().endswith(f"documents: 0 of {total} rows\n")


def test_elsewhere_a_line_now_and_then(monkeypatch, capsys):
    with progress("documents") as show:
        show(0, 10)
        show(5, 10)
        monkeypatch.setattr(_progress, "PAUSE", 0.0)
        show(10, 10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch("documents: 10 of 10 rows, [0-9,]+ a second, 0:00:00 left", lines[0])


def index(phase: str, done: int, total: int) -> IndexProgress:
    return IndexProgress(
        index=None, command="CREATE INDEX", phase=phase, done=done, total=total, unit="blocks"
    )


def test_after_the_rows_the_bar_is_of_the_index_that_is_built(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(_progress, "LOOK", 0.001)
    looks = [None, index("initializing", 0, 0), index("building index: loading tuples", 30, 120)]
    told, seen = Event(), Event()

    def look() -> IndexProgress | None:
        assert told.wait(60)
        if looks:
            return looks.pop(0)
        seen.set()  # and what came before was told of
        return None

    with progress("collection", look) as show:
        show(9, 9)
        told.set()
        assert seen.wait(60)
    rows, first, second, last = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first == f"[{'':<30}] collection: building indexes, initializing"
    assert second == (
        f"[{'#' * 8:<30}] collection: building indexes, loading tuples, 30 of 120 blocks"
    )
    assert last == rows + "\n"


def test_what_only_watches_stops_nothing(monkeypatch, capsys, caplog):
    monkeypatch.setattr(_progress, "LOOK", 0.001)
    caplog.set_level(logging.WARNING, "a2rchi_pg.migrate")
    asked = Event()

    def look() -> None:
        asked.set()
        raise DatabaseError("no connection is free")

    with progress("collection", look):
        assert asked.wait(60)
    assert "no connection is free" in caplog.text
    assert capsys.readouterr().err == ""


class Chunks:
    kind, location = "chunks", "/nowhere"

    def survey(self):
        return Survey(rows=2000)

    def batches(self, _after, size):
        vectors = np.random.default_rng(1).normal(size=(2000, 32)).astype(np.float32)
        rows = [chunk_row(f"{n:04}", "a few words", {}, vectors[n], 32) for n in range(2000)]
        return (rows[at : at + size] for at in range(0, len(rows), size))


@pytest.mark.owner  # another role's progress is hidden
@pytest.mark.servers("embedded")
def test_a_real_build_is_seen(dsn, monkeypatch, capsys):
    monkeypatch.setattr(_progress, "LOOK", 0.001)
    monkeypatch.setattr(_progress, "PAUSE", 0.0)
    said = ""
    for name in itertools.count():
        if re.search("building indexes, loading tuples, [0-9,]+ of", said):
            break  # a busy machine may miss one build
        target = ChunkTarget(CollectionSpec(name=str(name), m=32, ef_construction=256), 32)
        with Database(dsn) as database, progress("c", partial(target.building, database)) as show:
            run(database, Chunks(), target, run_id=str(name), progress=show)
        said = capsys.readouterr().err

"""What someone sees who waits for a migration."""

from __future__ import annotations

import io
import re
import sys

import pytest

from a2rchi_pg.migrate import _progress
from a2rchi_pg.migrate._progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_fills_with_its_pace(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress("documents") as show:
        show(100, 400)
        show(400, 400)
    first, second = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first == f"[{'#' * 8:<30}] documents: 100 of 400 rows"
    assert second.startswith(f"[{'#' * 30}] documents: 400 of 400 rows, ")
    assert second.endswith(" a second, 0:00:00 left\n")


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

"""The command line of migrations, run in this process, and a database to migrate from."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import pytest

from a2rchi_pg.migrate.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Shown: TypeAlias = "tuple[int, str, str]"
READING = ("plan", "run", "verify")


@pytest.fixture
def command_line(dsn: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., Shown]:
    """Runs a command: exit code, output, errors. Those that read are told where the source is."""

    def run(command: str, *more: str, source: Sequence[str] = ()) -> Shown:
        target = () if command == "configs" else ("--target", dsn)
        given = source if command in READING else ()
        code = main([command, *target, *given, *more])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def source(empty_dsn: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database to migrate from, named by the environment."""
    monkeypatch.setenv("A2RCHI_PG_SOURCE_DSN", empty_dsn)
    return empty_dsn

"""A Chroma server as a source: read whole, and an error of one line where it can't be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.database_support import admin
from tests.migration_support import NAME, ChromaServer, contents, fill_chroma, persistent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

chromadb = pytest.importorskip("chromadb", reason="reads Chroma, an extra")

pytestmark = [
    pytest.mark.servers("embedded"),
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Chroma's client leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def folder(tmp_path) -> Path:
    fill_chroma(persistent(tmp_path / "made"), 1200)
    return tmp_path / "made"


@pytest.fixture
def served(folder) -> Iterator[ChromaServer]:
    with ChromaServer(folder) as started:
        yield started


@pytest.fixture
def migrate(command_line):
    def run(command: str, *where: str, name: str = NAME, run_id: str = "one"):
        source = ("--source", "chroma", *where, "--from-collection", name)
        return command_line(command, "--run-id", run_id, "--json", source=source)

    return run


def test_a_server_gives_what_its_directory_does(migrate, dsn, served, folder):
    at = ("--host", "127.0.0.1", "--port", str(served.port))
    made = json.loads(migrate("run", *at)[1])[0]
    assert made["outcomes"] == {"written": 1200}
    assert migrate("verify", *at)[0] == 0
    first = contents(dsn)
    served.kill()
    again = json.loads(migrate("run", "--path", str(folder), run_id="two")[1])[0]
    assert (again["outcomes"], again["checksum"]) == ({"kept": 1200}, made["checksum"])
    assert contents(dsn) == first


def test_what_a_server_lacks_or_its_absence_is_an_error_of_one_line(migrate, dsn, served):
    before = contents(dsn)
    at = ("--host", "127.0.0.1", "--port", str(served.port))
    for source, name in (
        (at, "typo"),
        ((*at, "--tenant", "typo"), NAME),
        ((*at, "--database", "typo"), NAME),
        (("--host", "127.0.0.1", "--port", "1"), NAME),
    ):
        code, _, errors = migrate("run", *source, name=name)
        assert (code, errors.count("\n")) == (1, 1), errors
    assert contents(dsn) == before
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]

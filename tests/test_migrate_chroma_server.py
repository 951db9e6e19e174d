"""A Chroma server as a source: read whole, and an error of one line where it can't be."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from a2rchi_pg.migrate.__main__ import main
from tests.database_support import admin, wait_until
from tests.migration_support import NAME, contents, fill_chroma, persistent

chromadb = pytest.importorskip("chromadb", reason="reads Chroma, an extra")

pytestmark = [
    pytest.mark.servers("embedded"),
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Chroma's client leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PROGRAM = Path(sys.executable).with_name("chroma")


@pytest.fixture
def folder(tmp_path) -> Path:
    fill_chroma(persistent(tmp_path / "made"), 1200)
    return tmp_path / "made"


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def chroma_server(folder):
    """A server on the folder's data: its process and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PROGRAM, "run", "--host", "127.0.0.1", "--port", str(port), "--path", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), 110)
        yield process, port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def migrate(dsn: str, capsys):
    def run(command: str, *source: str, name: str = NAME, run_id: str = "one"):
        given = ("--source", "chroma", *source, "--from-collection", name) if source else ()
        code = main([command, "--target", dsn, *given, "--run-id", run_id, "--json"])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_server_gives_what_its_directory_does(migrate, dsn, chroma_server, folder):
    at = ("--host", "127.0.0.1", "--port", str(chroma_server[1]))
    made = json.loads(migrate("run", *at)[1])[0]
    assert made["outcomes"] == {"written": 1200}
    assert migrate("verify", *at)[0] == 0
    first = contents(dsn)
    chroma_server[0].kill()
    chroma_server[0].wait()
    again = json.loads(migrate("run", "--path", str(folder), run_id="two")[1])[0]
    assert (again["outcomes"], again["checksum"]) == ({"kept": 1200}, made["checksum"])
    assert contents(dsn) == first


def test_what_a_server_lacks_or_its_absence_is_an_error_of_one_line(migrate, dsn, chroma_server):
    before = contents(dsn)
    at = ("--host", "127.0.0.1", "--port", str(chroma_server[1]))
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

"""Killed at thirty random points, migrations go on to the same end, and go back without trace.

At each point the target is copied: the copy is rolled back, the target goes on.
"""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from a2rchi_pg import EmbeddedPostgres, _schema
from a2rchi_pg.migrate.__main__ import main
from tests.catalogs_support import choose, fill_sqlite, fill_table, page
from tests.database_support import admin, backends, wait_until
from tests.embedded_support import SMALL, is_alive, kill_server, postmaster_pid
from tests.langchain_support import fill_old
from tests.migration_support import NAME, ChromaServer, contents, fill_chroma, persistent
from tests.origin_support import fill_v1, fill_v2
from tests.plugins.servers import Server, new_database, passable_folder
from tests.plugins.trees import tree
from tests.strikes_support import killed_commands, struck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

chromadb = pytest.importorskip("chromadb", reason="reads Chroma, an extra")

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("faults"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Chroma's client leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NUMBERS = count()


def server(running: EmbeddedPostgres) -> Server:
    return Server(
        name="own", dsn=running.dsn, log=None, has_bm25=True, has_trgm=False, has_pgcrypto=False
    )


@contextmanager
def started(name: str) -> Iterator[EmbeddedPostgres]:
    with (
        passable_folder() as folder,
        EmbeddedPostgres(folder / "pg", binaries=tree(name), settings=SMALL) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def target() -> Iterator[EmbeddedPostgres]:
    """A server to migrate to, which can be killed."""
    with started("embedded") as running:
        yield running


@pytest.fixture(scope="module")
def old() -> Iterator[EmbeddedPostgres]:
    """A server to migrate from, which can be killed; with pgcrypto."""
    with started("full") as running:
        yield running


@pytest.fixture(scope="module")
def template(target: EmbeddedPostgres) -> Iterator[str]:
    with new_database(server(target), "made") as dsn:
        _schema.migrate(dsn)
        admin(dsn, "INSERT INTO documents (resource_hash, display_name) VALUES ('mine', 'mine')")
        yield dsn


@pytest.fixture(scope="module")
def killed_command() -> Iterator[Callable[..., int]]:
    with killed_commands() as run:
        yield run


@dataclass(frozen=True, kw_only=True)
class Old:
    """What is read: where it is, and what takes it away and brings it back."""

    options: list[str]
    kill: Callable[[], object] = lambda: None
    revive: Callable[[], object] = lambda: None


@pytest.fixture
def sources(tmp_path: Path, old: EmbeddedPostgres) -> Iterator[Callable[[str], Old]]:
    """Makes a source of a kind."""
    with ExitStack() as stack:

        def database(fill: Callable[..., object], **more: Any) -> str:
            dsn = stack.enter_context(new_database(server(old), f"old_{next(NUMBERS)}"))
            fill(dsn, **more)
            return dsn

        def table(kind: str, fill: Callable[..., object], *options: str, **more: Any) -> Old:
            dsn = database(fill, **more)
            options = ("--source", kind, "--source-dsn", dsn, *options)
            return Old(options=[*options], kill=lambda: stop_at_once(old), revive=old.ensure)

        def chroma() -> Old:
            fill_chroma(persistent(tmp_path), 120)
            served = stack.enter_context(ChromaServer(tmp_path))
            options = ["--source", "chroma", "--host", "127.0.0.1", "--port", str(served.port)]
            options += ["--from-collection", NAME]
            return Old(options=options, kill=served.kill, revive=served.start)

        def all_of_it() -> Old:
            fill_chroma(persistent(tmp_path / "vstore"), 80)
            file = fill_sqlite(tmp_path, [page(n) for n in range(30)])
            choose(file, [("7", f"{n:012x}", 0) for n in range(20)])
            options = ["--source", "all", "--path", str(tmp_path), "--from-collection", NAME]
            return Old(options=[*options, "--source-dsn", database(fill_v1)])

        def catalog() -> Old:
            fill_sqlite(tmp_path, [page(n) for n in range(100)])
            return Old(options=["--source", "catalog", "--path", str(tmp_path)])

        made = {
            "catalog": catalog,
            "table": lambda: table("catalog", fill_table, rows=[page(n) for n in range(100)]),
            "chroma": chroma,
            "postgres": lambda: table("postgres", fill_v2),
            "langchain": lambda: table("langchain-postgres", fill_old, "--from-collection", "docs"),
            "all": all_of_it,
        }
        yield lambda kind: made[kind]()


def stop_at_once(running: EmbeddedPostgres) -> None:
    """What ``pg_ctl stop -m immediate`` does."""
    pid = postmaster_pid(running.path)
    os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not is_alive(pid))


def kill_and_start(running: EmbeddedPostgres) -> None:
    kill_server(running)
    assert running.ensure()


class Scene:
    """A source, databases to bring it to, and what an uninterrupted run comes to."""

    def __init__(
        self, source: Old, server: Server, template: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.source, self._capsys, self._server = source, capsys, server
        self._template, self.before = template, contents(template)
        with self.database() as dsn, struck() as trips:
            assert self.run(dsn) == 0
            self.trips = len(trips)
            self.whole = self.results(dsn)

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """A target nothing was brought to, or a copy of one."""
        name = conninfo_to_dict(template or self._template)["dbname"]
        with new_database(self._server, f"target_{next(NUMBERS)}", str(name)) as dsn:
            yield dsn

    def command(self, word: str, dsn: str) -> list[str]:
        more = {"run": self.source.options, "verify": self.source.options, "rollback": ["--yes"]}
        size = [] if word == "report" else ["--batch-size", "7"]
        return [word, "--target", dsn, "--run-id", "one", *more.get(word, ["--json"]), *size]

    def run(self, dsn: str) -> int:
        return main(self.command("run", dsn))

    def results(self, dsn: str) -> list[Any]:
        """What became of the rows of each run, what was copied, and how both sides compare."""
        self._capsys.readouterr()
        assert main(self.command("report", dsn)) == 0
        reports = json.loads(self._capsys.readouterr().out)
        assert main([*self.command("verify", dsn), "--json"]) in (0, 4)
        compared = json.loads(self._capsys.readouterr().out)
        return [
            (each["run"]["source"], each["outcomes"], each["checksum"], differences)
            for each, differences in zip(reports, compared, strict=True)
        ]

    def check(self, dsn: str) -> None:
        """Taken back, an unfinished run leaves nothing; else it comes to its end."""
        with self.database(dsn) as copy:
            main(self.command("rollback", copy))
            assert contents(copy) == self.before
        assert self.run(dsn) == 0
        assert self.results(dsn) == self.whole


@pytest.fixture
def scene(kind, sources, target, template, capsys) -> Scene:
    return Scene(sources(kind), server(target), template, capsys)


def points(scene: Scene, times: int, *, share: float = 1.0) -> Iterator[tuple[int, bool]]:
    """Random round trips of a run, and whether to strike after them."""
    chance = random.Random(" ".join(scene.source.options[:2]))
    for _ in range(times):
        yield chance.randrange(1, int(scene.trips * share)), chance.random() < 0.5


@pytest.mark.parametrize(
    ("kind", "times"),
    [("catalog", 3), ("chroma", 3), ("postgres", 3), ("langchain", 2), ("all", 3)],
)
def test_m12_killed_it_ends_as_if_it_never_was_and_goes_back_without_trace(
    scene, times, killed_command
):
    for at, late in points(scene, times):
        with scene.database() as dsn:
            assert killed_command(scene.command("run", dsn), at, late) == -signal.SIGKILL
            wait_until(lambda dsn=dsn: backends(dsn) == [], 60)
            scene.check(dsn)


@pytest.mark.parametrize(
    ("kind", "times"), [("catalog", 2), ("chroma", 2), ("postgres", 2), ("all", 1)]
)
def test_m12_it_does_so_where_the_server_of_the_target_is_killed(scene, times, target):
    for at, late in points(scene, times):
        with scene.database() as dsn:
            with struck(lambda: kill_and_start(target), at, late=late):
                scene.run(dsn)  # which may have come through: a lost connection is made again
            scene.check(dsn)


@pytest.mark.parametrize(
    ("kind", "times"), [("table", 2), ("chroma", 2), ("postgres", 3), ("langchain", 2)]
)
def test_m12_it_does_so_where_the_server_of_the_source_is_killed(scene, times, capsys):
    # A source that is gone is missed while there is something to be read.
    for at, late in points(scene, times, share=0.5):
        with scene.database() as dsn:
            capsys.readouterr()
            with struck(scene.source.kill, at, late=late):
                assert scene.run(dsn) == 1
            assert capsys.readouterr().err.count("\n") == 1
            scene.source.revive()
            scene.check(dsn)


@pytest.mark.parametrize("kind", ["all"])
def test_a_rollback_that_is_killed_goes_on(scene, killed_command):
    with scene.database() as dsn:
        assert scene.run(dsn) == 0
        with scene.database(dsn) as copy, struck() as trips:
            assert main(scene.command("rollback", copy)) == 0
        for at, late in points(scene, 3, share=len(trips) / scene.trips):
            with scene.database(dsn) as copy:
                command = scene.command("rollback", copy)
                assert killed_command(command, at, late) == -signal.SIGKILL
                assert main(command) == 0
                assert contents(copy) == scene.before

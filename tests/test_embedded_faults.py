"""The embedded server when things are killed, left behind, or happen at the same time.

Every wait has a deadline, so a server that hangs or lives on for ever is a failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from a2rchi_pg.embedded import _process
from a2rchi_pg.embedded._binaries import find_binaries
from a2rchi_pg.embedded._locks import is_free, open_private
from a2rchi_pg.errors import EmbeddedError
from tests.embedded_support import (
    BARE,
    SMALL,
    Client,
    copy_cluster,
    embedded,
    folder,
    is_alive,
    kill,
    postmaster_pid,
    query,
    wait_until,
    watcher_pids,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("faults")]
NEEDLE = "SELECT id FROM notes ORDER BY content <@> to_bm25query('needle', 'notes_bm25') LIMIT 3"


@pytest.fixture(scope="module")
def indexed() -> Iterator[Path]:
    """A stopped server with a bm25 index, made once; tests get copies."""
    with folder() as parent:
        with embedded(parent / "pg") as server:
            make_index(server.dsn)
        yield parent / "pg"


@pytest.fixture
def path(indexed: Path) -> Iterator[Path]:
    with folder() as parent:
        target = copy_cluster(indexed, parent / "pg")
        yield target
        wait_until(lambda: is_free(target / "lock" / "server"))
        wait_until(lambda: not watcher_pids(target))


def make_index(dsn: str) -> None:
    query(dsn, "CREATE EXTENSION pg_textsearch")
    query(dsn, "CREATE TABLE notes (id int PRIMARY KEY, content text)")
    query(
        dsn,
        "CREATE INDEX notes_bm25 ON notes USING bm25 (content) WITH (text_config = 'english')",
    )
    query(dsn, "INSERT INTO notes SELECT i, 'hay number ' || i FROM generate_series(1, 300) i")


def assert_index_works(dsn: str, *known: int) -> None:
    """Reading finds what was committed, and writing does not hang."""
    assert sorted(row[0] for row in query(dsn, NEEDLE)) == sorted(known)
    query(dsn, "INSERT INTO notes VALUES (-1, 'a needle of now')")
    assert sorted(row[0] for row in query(dsn, NEEDLE)) == sorted((*known, -1))
    query(dsn, "DELETE FROM notes WHERE id = -1")


def test_a_clean_restart_finds_what_was_inserted_since_the_index_was_built(path: Path):
    everything = "SELECT id FROM notes ORDER BY content <@> to_bm25query('hay', 'notes_bm25')"
    for expected in (301, 302):
        with embedded(path) as server:
            assert not server.unclean_start
            query(server.dsn, "INSERT INTO notes VALUES (%s, 'hay needle')", expected)
        with embedded(path) as server:
            assert len(query(server.dsn, f"{everything} LIMIT 999")) == expected
            assert len(query(server.dsn, NEEDLE)) == expected - 300


# Damaged indexes


def files(path: Path, *relations: str) -> list[Path]:
    with embedded(path) as server:
        found = [query(server.dsn, f"SELECT pg_relation_filepath('{name}')") for name in relations]
    return [path / "data" / str(rows[0][0]) for rows in found]


def damage(file: Path, block: bytes) -> None:
    """Put something else where the first block was."""
    with file.open("r+b") as data:
        data.write(block)


@pytest.mark.parametrize("block", [bytes(8192), b"random".ljust(8192, b"\xa5"), None])
def test_a_damaged_bm25_index_is_rebuilt(path: Path, block: bytes | None):
    (index,) = files(path, "notes_bm25")
    if block is None:
        index.unlink()
    else:
        damage(index, block)
    with embedded(path) as server:
        assert_index_works(server.dsn)
        assert len(query(server.dsn, NEEDLE.replace("needle'", "hay'").replace("3", "999"))) == 300


@pytest.mark.parametrize("crashed", [True, False])
def test_an_index_that_can_not_be_rebuilt_keeps_nobody_from_the_rest(
    path: Path, caplog: pytest.LogCaptureFixture, crashed: bool
):
    with embedded(path) as server:
        query(server.dsn, "CREATE DATABASE other")
        other = server.dsn.replace("/a2rchi?", "/other?")
        make_index(other)
        query(other, "CHECKPOINT")
    index, table = files(path, "notes_bm25", "notes")
    if crashed:
        crash(path)
    whole = table.read_bytes()[:8192]
    for file in (index, table):
        damage(file, bytes([0xA5]) * 8192)
    with embedded(path):
        assert_index_works(other)
    assert 'a2rchi: can\'t rebuild the bm25 index "public"."notes_bm25": invalid' in caplog.text
    assert (path / "repair").exists() == crashed
    damage(table, whole)
    caplog.clear()
    with embedded(path) as server:
        assert_index_works(server.dsn)
    assert "can't rebuild" not in caplog.text
    assert not (path / "repair").exists()


@pytest.mark.parametrize("crashed", [True, False])
def test_what_an_interrupted_rebuild_left_on_our_tables_is_dropped(path: Path, crashed: bool):
    names = "SELECT relname FROM pg_class WHERE relname ~ '_cc' ORDER BY 1"
    with embedded(path) as server:
        for schema in ("ours", "theirs"):
            query(server.dsn, f"CREATE SCHEMA {schema}")
            chunks = f"{schema}.document_chunks"
            query(
                server.dsn, f"CREATE TABLE {chunks} (id int, content text) PARTITION BY LIST (id)"
            )
            query(server.dsn, f"CREATE TABLE {chunks}_1 PARTITION OF {chunks} FOR VALUES IN (1)")
            query(server.dsn, f"INSERT INTO {chunks} VALUES (1, 'a needle')")
            query(
                server.dsn,
                f"CREATE INDEX {schema} ON {chunks}_1 USING bm25 (content) "
                "WITH (text_config = 'english')",
            )
            interrupt_a_rebuild(server.dsn, f"{schema}.{schema}", f"{chunks}_1")
        query(server.dsn, "CREATE TABLE ours.collections (id int)")
        assert query(server.dsn, names) == [("ours_ccnew",), ("theirs_ccnew",)]
    if crashed:
        crash(path)
    with embedded(path) as server:
        assert query(server.dsn, names) == [("theirs_ccnew",)]
        ranked = (
            "SELECT id FROM ours.document_chunks_1 ORDER BY content <@> to_bm25query('needle', "
        )
        assert query(server.dsn, f"{ranked} 'ours.ours') LIMIT 3") == [(1,)]


def interrupt_a_rebuild(dsn: str, index: str, table: str) -> None:
    """Let an online rebuild wait for a reader of an old state, and give it up."""
    with psycopg.connect(dsn) as reader, psycopg.connect(dsn, autocommit=True) as builder:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute(f"SELECT count(*) FROM {table}")  # type: ignore[arg-type]
        builder.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(f"REINDEX INDEX CONCURRENTLY {index}")  # type: ignore[arg-type]


# At the same time


def test_processes_that_start_at_once_get_one_new_server():
    with folder() as parent:
        clients = [Client(parent / "pg") for _ in range(4)]
        joined = [client.joined() for client in clients]
        assert len({server["pid"] for server in joined}) == 1
        pid, dsn = joined[0]["pid"], joined[0]["dsn"]
        for client in clients[:-1]:
            client.leave()
            assert query(dsn, "SELECT 1") == [(1,)]
        assert len(watcher_pids(parent / "pg")) == 1
        clients[-1].leave()
        assert not is_alive(pid)
        wait_until(lambda: not watcher_pids(parent / "pg"))


def test_coming_and_going_never_meets_a_dead_server(path: Path):
    failures: list[BaseException] = []

    def come_and_go() -> None:
        try:
            for _ in range(6):
                with embedded(path) as server:
                    assert query(server.dsn, "SELECT 1") == [(1,)]
        except BaseException as error:  # noqa: BLE001 -- handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_start_that_never_ends_is_given_up_in_time(path: Path):
    lock = open_private(path / "lock" / "start")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(EmbeddedError, match=r"still starting or stopping .* after 0.3 s"):
            embedded(path, start_timeout=0.3).start()
    finally:
        os.close(lock)


# Killed


def test_a_killed_client_takes_its_server_along(path: Path):
    client = Client(path)
    server = client.joined()
    query(server["dsn"], "INSERT INTO notes VALUES (1001, 'needle')")
    client.kill()
    wait_until(lambda: not is_alive(server["pid"]))
    with embedded(path) as again:
        assert not again.unclean_start
        assert_index_works(again.dsn, 1001)


def test_a_killed_client_leaves_the_server_to_the_others(path: Path):
    with embedded(path) as server:
        client = Client(path)
        pid = client.joined()["pid"]
        client.kill()
        time.sleep(0.3)
        assert is_alive(pid)
        assert query(server.dsn, "SELECT 1") == [(1,)]


def test_after_the_postmaster_was_killed_bm25_indexes_are_repaired_in_every_database(path: Path):
    with embedded(path) as server:
        query(server.dsn, "CREATE DATABASE other")
        other = server.dsn.replace("/a2rchi?", "/other?")
        make_index(other)
        for dsn in (server.dsn, other):
            query(dsn, "INSERT INTO notes VALUES (1001, 'needle'), (1002, 'needle')")
        kill(postmaster_pid(path))
        with pytest.raises(psycopg.OperationalError):
            query(server.dsn, "SELECT 1")

        with embedded(path) as again:
            assert again.unclean_start
            assert again.dsn == server.dsn
            assert_index_works(server.dsn, 1001, 1002)
            assert_index_works(other, 1001, 1002)
        assert query(server.dsn, "SELECT 1") == [(1,)]
    assert not (path / "repair").exists()


def test_a_killed_backend_can_not_bring_a_broken_index_back(path: Path):
    with embedded(path) as server:
        assert not server.ensure()
        pid = postmaster_pid(path)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("INSERT INTO notes VALUES (1001, 'needle')")
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid))
        assert server.ensure()
        assert server.unclean_start
        assert_index_works(server.dsn, 1001)


def test_everything_killed(path: Path):
    client = Client(path)
    server = client.joined()
    query(server["dsn"], "INSERT INTO notes VALUES (1001, 'needle')")
    for pid in (*watcher_pids(path), client.pid, server["pid"]):
        os.kill(pid, signal.SIGKILL)
    client.kill()
    with embedded(path) as again:
        assert again.unclean_start
        assert_index_works(again.dsn, 1001)


def test_a_killed_watcher_is_replaced_by_the_next_client(path: Path):
    with embedded(path) as server:
        (watcher,) = watcher_pids(path)
        kill(watcher)
        assert query(server.dsn, "SELECT 1") == [(1,)]
        client = Client(path)
        pid = client.joined()["pid"]
        assert len(watcher_pids(path)) == 1
    client.kill()
    wait_until(lambda: not is_alive(pid))


def test_a_server_that_lost_client_and_watcher_is_joined_and_stopped(path: Path):
    client = Client(path)
    pid = client.joined()["pid"]
    kill(watcher_pids(path)[0])
    client.kill()
    with embedded(path):
        assert postmaster_pid(path) == pid
    assert not is_alive(pid)


def test_without_a_watcher_the_last_client_out_stops_the_server(path: Path):
    with embedded(path):
        client = Client(path)
        pid = client.joined()["pid"]
        kill(watcher_pids(path)[0])
        client.kill()
        assert not watcher_pids(path)
    assert not is_alive(pid)
    with embedded(path) as again:
        assert not again.unclean_start
        assert len(watcher_pids(path)) == 1


def test_a_client_may_be_killed_at_any_moment_of_a_repairing_start(path: Path):
    with embedded(path) as server:
        query(server.dsn, "INSERT INTO notes VALUES (1001, 'needle')")
        kill(postmaster_pid(path))
    starting = "import sys; from a2rchi_pg.embedded import EmbeddedPostgres as E\n"
    starting += f"print(flush=True); E(sys.argv[1], settings={SMALL!r}).start(); sys.stdin.read()"
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
        with subprocess.Popen(
            [sys.executable, "-c", BARE + starting, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as client:
            assert client.stdout is not None
            client.stdout.readline()
            time.sleep(delay)
            client.kill()
        wait_until(lambda: is_free(path / "lock" / "server"))
    with embedded(path) as server:
        assert_index_works(server.dsn, 1001)


def test_an_initdb_that_was_interrupted_is_begun_anew():
    with folder() as parent:
        client = Client(parent / "pg")
        wait_until((parent / "pg" / "data.new" / "PG_VERSION").exists)
        client.kill()
        assert not (parent / "pg" / "data").exists()
        with embedded(parent / "pg") as server:
            assert query(server.dsn, "SELECT 1") == [(1,)]
        assert not (parent / "pg" / "data.new").exists()


def test_children_that_outlive_a_killed_postmaster_are_ended(path: Path):
    with embedded(path) as server:
        endless = "SELECT count(*) FROM generate_series(1, 1000) a, generate_series(1, 10000000) b"
        with contextlib.closing(psycopg.connect(server.dsn, autocommit=True)) as connection:
            child = connection.info.backend_pid
            connection.pgconn.send_query(endless.encode())
            wait_until(lambda: "active" in str(activity(server.dsn, child)))
            kill(postmaster_pid(path))
            assert is_alive(child)
            assert server.ensure()
            assert not is_alive(child)
        assert_index_works(server.dsn)


def activity(dsn: str, pid: int) -> list[tuple[object, ...]]:
    return query(dsn, "SELECT state FROM pg_stat_activity WHERE pid = %s", pid)


def test_a_server_that_does_not_react_is_ended_by_force(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    for number in (signal.SIGINT, signal.SIGQUIT):
        monkeypatch.setitem(_process._PATIENCE, number, 0.2)
    server = embedded(path).start()
    pid = postmaster_pid(path)
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not is_alive(pid)
    with embedded(path) as again:
        assert again.unclean_start
        assert_index_works(again.dsn)


# Left behind


def crash(path: Path) -> list[str]:
    """Kill a server with its client; return the lines of the postmaster.pid it left."""
    client = Client(path)
    pid = client.joined()["pid"]
    for watcher in watcher_pids(path):
        kill(watcher)
    kill(pid)
    client.kill()
    wait_until(lambda: is_free(path / "lock" / "server"))
    return (path / "data" / "postmaster.pid").read_text().splitlines()


def pretend(path: Path, lines: list[str], pid: int) -> None:
    (path / "data" / "postmaster.pid").write_text("\n".join([str(pid), *lines[1:]]) + "\n")
    sockets = Path(lines[4])
    (sockets / ".s.PGSQL.5432.lock").write_text("\n".join([str(pid), *lines[1:]]) + "\n")


def test_a_pid_that_went_to_another_process_is_not_the_server(path: Path):
    lines = crash(path)
    with subprocess.Popen(["sleep", "60"], cwd=path / "data") as other:
        pretend(path, lines, other.pid)
        with embedded(path) as server:
            assert query(server.dsn, "SELECT 1") == [(1,)]
        assert other.poll() is None
        other.kill()


def test_our_own_pid_in_the_pid_file_is_not_the_server(path: Path):
    pretend(path, crash(path), os.getpid())
    with embedded(path) as server:
        assert query(server.dsn, "SELECT 1") == [(1,)]


def test_a_zombie_is_not_the_server(path: Path):
    lines = crash(path)
    with subprocess.Popen(["true"]) as zombie:
        wait_until(lambda: not is_alive(zombie.pid))
        pretend(path, lines, zombie.pid)
        with embedded(path) as server:
            assert query(server.dsn, "SELECT 1") == [(1,)]


def test_the_directory_of_a_running_server_may_be_copied(path: Path):
    with embedded(path) as server, folder() as parent:
        copy_cluster(path, parent / "copy")
        with embedded(parent / "copy") as copy:
            assert copy.unclean_start
            assert postmaster_pid(parent / "copy") != postmaster_pid(path)
            assert_index_works(copy.dsn)
        assert_index_works(server.dsn)


def test_a_server_started_by_something_else_is_not_touched(path: Path):
    with embedded(path):
        pass
    with foreign_server(path) as pid:
        with pytest.raises(EmbeddedError, match=rf"started by something else \(pid {pid}\)"):
            embedded(path).start()
        assert is_alive(pid)


@contextlib.contextmanager
def foreign_server(path: Path) -> Iterator[int]:
    owner = (path / "data").stat()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    command = [find_binaries(None).program("postgres"), "-D", path / "data", "-k", ""]
    with subprocess.Popen(
        [*command, "-c", "listen_addresses=127.0.0.1", "-p", "45871"],
        stderr=subprocess.DEVNULL,
        **as_owner,
    ) as process:
        wait_until((path / "data" / "postmaster.pid").exists)
        yield process.pid
        process.send_signal(signal.SIGINT)


def test_an_empty_pid_file_is_no_obstacle(path: Path):
    crash(path)
    (path / "data" / "postmaster.pid").write_text("")
    with embedded(path) as server:
        assert_index_works(server.dsn)


def test_a_directory_removed_under_its_server_hurts_nobody(
    path: Path, indexed: Path, caplog: pytest.LogCaptureFixture
):
    server = embedded(path).start()
    pid = postmaster_pid(path)
    shutil.rmtree(path)
    server.stop()
    assert "was removed while its server ran" in caplog.text
    kill(pid)  # it would notice by itself within a minute
    copy_cluster(indexed, path)
    with embedded(path) as again:
        assert query(again.dsn, "SELECT 1") == [(1,)]

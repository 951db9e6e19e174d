"""The data directory: made whole or not at all, configured anew at each start."""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg.embedded._binaries import MAJOR
from a2rchi_pg.embedded._config import INCLUDED
from a2rchi_pg.embedded._locks import save, sync_directory
from a2rchi_pg.embedded._process import (
    NAME_PREFIX,
    PROC,
    command_line,
    exists,
    read_pidfile,
    recorded_pid,
)
from a2rchi_pg.embedded._spawn import claimed, environment
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from a2rchi_pg.embedded._account import Account
    from a2rchi_pg.embedded._binaries import Binaries
    from a2rchi_pg.embedded._locks import Layout

SUPERUSER = "a2rchi"
_SHUT_DOWN = (1, 2)  # DBState in catalog/pg_control.h: on its own, or as a standby
# A file system's own, what keeps a folder in git, and the locks that a first client begins with.
_NO_OBSTACLE = frozenset({"lost+found", ".gitignore", ".gitkeep", "lock"})
_SHELL = re.compile(r'[$`"\\\r\n]')
_PLAIN = re.compile(r"/[\w/.+@~-]{1,500}", re.ASCII)
_log = logging.getLogger("a2rchi_pg.embedded")


def ensure_cluster(layout: Layout, binaries: Binaries, account: Account) -> None:
    """Create the data directory unless it is there and of the right version."""
    version_file = layout.data / "PG_VERSION"
    if not version_file.exists():
        _initialize(layout, binaries, account)
    elif (found := version_file.read_text().strip()) != str(MAJOR):
        raise EmbeddedError(
            f"{layout.data} was made by PostgreSQL {found} and this is {MAJOR}; dump it with "
            f"PostgreSQL {found} and restore it into a new directory, or use pg_upgrade"
        )


def refuse_foreign(layout: Layout) -> None:
    """Leave alone what is there and was not made by this package. Nothing was written yet."""
    if layout.root.exists() and not layout.root.is_dir():
        raise EmbeddedError(f"{layout.root} is not a directory")
    if (layout.root / "PG_VERSION").exists():
        raise EmbeddedError(
            f"{layout.root} is itself a PostgreSQL data directory; give the directory that is to "
            "hold it, with the data in its subdirectory 'data'"
        )
    data = layout.data
    if data.exists() and not (data / "PG_VERSION").exists() and any(data.iterdir()):
        raise EmbeddedError(f"{data} exists and is not a PostgreSQL data directory")
    if data.exists() or layout.lock("start").exists() or not layout.root.exists():
        return
    foreign = {entry.name for entry in layout.root.iterdir()} - _NO_OBSTACLE
    if foreign:
        raise EmbeddedError(
            f"{layout.root} holds other things ({_some(foreign)}) and no server; give a directory "
            "that is empty or does not exist yet"
        )


def _some(names: set[str]) -> str:
    shown = [repr(name) for name in sorted(names)[:3]]
    return ", ".join([*shown, "…"] if len(names) > len(shown) else shown)


def _initialize(layout: Layout, binaries: Binaries, account: Account) -> None:
    _refuse_unquotable(binaries.program("initdb"))
    staging = layout.root / "data.new"
    if staging.exists():
        _log.warning("removing %s, which an interrupted start left behind", staging)
        shutil.rmtree(staging)
    staging.mkdir(mode=0o700)
    account.own(staging)
    with claimed(layout) as fd:  # initdb may outlive us; nothing starts here until it is gone
        _initdb(staging, binaries, account, fd)
    conf = staging / "postgresql.conf"
    write_private(conf, conf.read_text(encoding="utf-8") + f"\ninclude '{INCLUDED}'\n", account)
    save(layout.stamp, binaries.fingerprint())
    staging.rename(layout.data)
    # Were the renaming lost in a power failure, a next start would take it for half an initdb.
    sync_directory(layout.root)
    _log.info("created a PostgreSQL cluster in %s", layout.data)


def _refuse_unquotable(program: Path) -> None:
    """Initdb hands its own path to a shell, in double quotes, and to SQL as UTF-8."""
    try:
        name = os.fsencode(program).decode()
    except UnicodeDecodeError:
        raise EmbeddedError(
            f"a new server can't be made by {str(program)!r}, a path that is not UTF-8; install "
            "elsewhere"
        ) from None
    if found := sorted(set(_SHELL.findall(name))):
        raise EmbeddedError(
            f"a new server can't be made by {name!r}: initdb hands its path to a shell that takes "
            f"{' '.join(map(repr, found))} for its own; install into a directory without such "
            "characters, or give `binaries=` in one"
        )


def _initdb(staging: Path, binaries: Binaries, account: Account, keep_open: int) -> None:
    command = [
        str(binaries.program("initdb")),
        *("-D", data_argument(staging, account), "-U", SUPERUSER, "-A", "peer", "-E", "UTF8"),
        # The builtin provider with this libc locale folds case alike whatever LANG says.
        *("--locale-provider=builtin", "--locale=C.UTF-8", "--data-checksums"),
    ]
    try:
        subprocess.run(  # noqa: S603 -- no shell, and every argument is ours
            command,
            check=True,
            cwd=staging,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            pass_fds=(keep_open,),
            **account.run_as(),
        )
    except subprocess.CalledProcessError as error:
        said = error.stdout.decode(errors="replace").strip()
        raise EmbeddedError(f"initdb failed in {staging}:\n{said}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"can't run initdb as {account.name}: {error}") from error


def data_argument(directory: Path, account: Account) -> str:
    """How to name the data directory to a server that is started inside of it.

    ``/proc/self/cwd`` needs no walk through directories that the account may not enter (a
    clone below /root), and no quoting, encoding or length limit of PostgreSQL's applies.
    """
    if not PROC or (_PLAIN.fullmatch(str(directory)) and account.reaches(directory)):
        return str(directory)
    return "/proc/self/cwd"


def was_unclean(data: Path) -> bool:
    """Whether the last server on this directory ended without a shutdown checkpoint."""
    control = data / "global" / "pg_control"
    header = control.read_bytes()[:20]
    if len(header) < 20:  # noqa: PLR2004 -- what is read below
        raise EmbeddedError(f"{control} is damaged; restore {data} from a backup")
    (state,) = struct.unpack_from("=i", header, 16)
    return state not in _SHUT_DOWN


def forget_stale_pid(data: Path) -> None:
    """Remove a ``postmaster.pid`` that is broken, or whose pid went to another process.

    A pid that no process has is left to PostgreSQL, which then also checks shared memory.
    """
    pid = recorded_pid(data)
    if pid is None and not read_pidfile(data):
        (data / "postmaster.pid").unlink(missing_ok=True)
    if pid is None or not exists(pid):
        return
    if _may_serve(pid, data):
        raise EmbeddedError(f"a PostgreSQL started by something else (pid {pid}) serves {data}")
    _log.warning("%s: pid %d is not its server; removing the stale postmaster.pid", data, pid)
    (data / "postmaster.pid").unlink()


def _may_serve(pid: int, data: Path) -> bool:
    """Whether a process could be a server of this directory that we did not start."""
    words = command_line(pid)
    if "postgres" not in words.partition("\0")[0] or NAME_PREFIX in words:
        return False
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:  # it can't be looked at: better an error than two servers on one directory
        return True


def write_private(path: Path, text: str, account: Account) -> None:
    """Replace a file in one step; never through a link that is already there."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    account.own(scratch)
    scratch.rename(path)

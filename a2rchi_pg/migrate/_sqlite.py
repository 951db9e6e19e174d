"""SQLite files, read and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate._files import is_file, readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WAIT = 2.0  # seconds for another program to let go of the file


def read_sqlite(file: Path, query: str, parameters: Iterable[Any] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a query; the file is never made, and needs to be readable only.

    Raises:
        MigrationError: If it isn't there or can't be read: locked, damaged, no database.
    """
    if not is_file(file):
        raise MigrationError(f"there is no file {file}")
    with readable(file):
        uri = f"file:{quote(str(file.resolve()))}?{_mode(file)}"
    try:
        with closing(sqlite3.connect(uri, timeout=WAIT, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            connection.text_factory = _text
            for row in connection.execute(query, tuple(parameters)):
                yield dict(row)
    except sqlite3.Error as error:
        raise MigrationError(f"{file} can't be read: {error}") from error


def _mode(file: Path) -> str:
    """How to open a file so that nothing is made beside it.

    In WAL mode even a reader makes ``-wal`` and ``-shm``; where there are none, nobody writes.
    """
    with file.open("rb") as opened:
        is_wal = opened.read(20)[18:] == b"\2\2"
    nobody = not Path(f"{file}-wal").exists()
    return "immutable=1" if is_wal and nobody else "mode=ro"


def check_table(file: Path, table: str, columns: Iterable[str], what: str) -> None:
    """Raise unless the file is sound and has a table with these columns."""
    ((damage,),) = (row.values() for row in read_sqlite(file, "PRAGMA quick_check(1)"))
    if damage != "ok":
        raise MigrationError(f"{file} is damaged: {' '.join(damage.split())}")
    found = read_sqlite(file, "SELECT name FROM pragma_table_info(?)", [table])
    if missing := set(columns) - {row["name"] for row in found}:
        tables = read_sqlite(file, "SELECT name FROM sqlite_schema WHERE type = 'table'")
        there = ", ".join(sorted(row["name"] for row in tables)) or "none"
        raise MigrationError(
            f"{file} is no {what}: it has no {table}.{min(missing)}; its tables are: {there}"
        )


def has_table(file: Path, table: str) -> bool:
    """Whether the file has a table of that name."""
    return any(read_sqlite(file, "SELECT 1 FROM sqlite_schema WHERE name = ?", [table]))


def _text(value: bytes) -> str:
    """What isn't UTF-8 becomes something that is found and replaced before it is stored."""
    return value.decode("utf-8", "surrogateescape")

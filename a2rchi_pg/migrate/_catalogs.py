"""The catalogs that A2rchi has had: in SQLite, in PostgreSQL, two indexes, a folder with lists."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate._files import readable
from a2rchi_pg.migrate._sqlite import check_table, read_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from a2rchi_pg.migrate._reading import OtherDatabase

COLUMNS = ("resource_hash", "path", "extra_json")
SQLITE, INDEX, SIDECARS = "catalog.sqlite", "index.yaml", "metadata_index.yaml"
LISTS = ("sources.yml", "tickets.yml", "manual_file_hashes.yaml")
# Which kind of source a folder of the oldest catalogs holds; one not named here is its own word.
FOLDERS = {"websites": "web", "manual_websites": "web", "manual_uploads": "local_files"}
FOLDERS |= {"tickets": "ticket", "jira": "jira", "redmine": "redmine"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a catalog says of a document; ``problem`` where that is nothing to store."""

    about: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problem: str | None = None


class Catalog(Protocol):
    """A catalog of documents by their hashes."""

    form: str
    location: str

    def hashes(self) -> list[str]:
        """All of them, in no order."""
        ...

    def entries(self, hashes: Sequence[str]) -> list[Entry]:
        """What it says of these, in their order."""
        ...


def open_catalog(path: str | Path) -> Catalog:
    """The catalog in a file or folder; where a folder has several, the one of the latest system.

    Raises:
        MigrationError: If there is none, or it can't be read.
    """
    given = Path(path)
    with readable(given):
        if given.is_file():
            return SqliteCatalog(given)
        if not given.is_dir():
            raise MigrationError(f"there is no file or folder {given}")
        if (given / SQLITE).exists():
            return SqliteCatalog(given / SQLITE)
        if (given / INDEX).exists():
            return IndexCatalog(given)
        if any((given / name).exists() for name in LISTS):
            return FolderCatalog(given)
    looked = ", ".join((SQLITE, INDEX, *LISTS))
    raise MigrationError(f"{given} holds no catalog: looked for {looked}")


class SqliteCatalog:
    """``catalog.sqlite`` of 2026: the table ``resources``."""

    form = "SQLite"

    def __init__(self, file: Path) -> None:
        check_table(file, "resources", COLUMNS, "catalog")
        self.location = str(file.resolve())
        self._file = file
        self._rowids: dict[str, int] = {}
        self._repeated: set[str] = set()

    def hashes(self) -> list[str]:
        # A key may be NULL in SQLite, in any number of rows, and a TEXT column hold anything.
        query = """
            SELECT rowid AS at, coalesce(CAST(resource_hash AS text), '') AS hash FROM resources
            ORDER BY rowid
        """
        self._rowids, self._repeated = {}, set()
        for row in read_sqlite(self._file, query):
            name = row["hash"]
            if name in self._rowids:
                name = f"{name} (row {row['at']})"
                self._repeated.add(name)
            self._rowids[name] = row["at"]
        return list(self._rowids)

    def entries(self, hashes: Sequence[str]) -> list[Entry]:
        query = (
            "SELECT rowid AS at, * FROM resources WHERE rowid IN (SELECT value FROM json_each(?))"
        )
        rowids = [self._rowids[each] for each in hashes]
        rows = read_sqlite(self._file, query, [json.dumps(rowids)])
        found = {row.pop("at"): row for row in rows}
        if found.keys() != set(rowids):
            raise MigrationError(f"{self._file} was changed while it was read: run it again")
        return [
            Entry(problem="its resource_hash is another row's as well, or missing")
            if each in self._repeated
            else resource(found[self._rowids[each]])
            for each in hashes
        ]


class TableCatalog:
    """The table ``resources`` in PostgreSQL, of v1.4.0."""

    form = "PostgreSQL"

    def __init__(self, database: OtherDatabase) -> None:
        query = """
            SELECT attname FROM pg_attribute
            WHERE attrelid = to_regclass('resources') AND attnum > 0 AND NOT attisdropped
        """
        with database.reading() as reader:
            found = {row["attname"] for row in reader.fetch(query)}
        if missing := set(COLUMNS) - found:
            raise MigrationError(
                f"{database.location} holds no catalog: it has no resources.{min(missing)}"
            )
        self.location = database.location
        self._database = database

    def hashes(self) -> list[str]:
        with self._database.reading() as reader:
            rows = reader.fetch("SELECT resource_hash FROM resources")
        return [row["resource_hash"] for row in rows]

    def entries(self, hashes: Sequence[str]) -> list[Entry]:
        query = "SELECT * FROM resources WHERE resource_hash = ANY(%(hashes)s)"
        with self._database.reading() as reader:
            rows = reader.fetch(query, hashes=list(hashes))
        found = {row["resource_hash"]: row for row in rows}
        if len(found) != len(hashes):
            raise MigrationError(f"{self.location} was changed while it was read: run it again")
        return [resource(found[each]) for each in hashes]


def resource(row: dict[str, Any]) -> Entry:
    """A row of ``resources``: its columns, and the rest that it keeps as JSON."""
    row = {
        name: value for name, value in row.items() if name not in ("resource_hash", "extra_text")
    }
    text = row.pop("extra_json", None) or "{}"
    odd: list[str] = []  # NaN and Infinity, which are no JSON, though Python writes them

    def kept(word: str) -> str:
        odd.append(word)
        return word

    try:
        extra = json.loads(text, parse_constant=kept)
    except (TypeError, ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        return Entry(about=row | {"extra_json": str(text)}, notes=("extra_json is kept as text",))
    return Entry(
        about=row | {key: value for key, value in extra.items() if row.get(key) is None},
        notes=(f"{odd[0]} in extra_json is kept as text",) if odd else (),
    )


class IndexCatalog:
    """``index.yaml``, ``metadata_index.yaml`` and a ``….meta.yaml`` beside each file, of 2025."""

    form = "YAML index"

    def __init__(self, folder: Path) -> None:
        self.location = str(folder.resolve())
        self._folder = folder
        self._paths = _yaml(folder / INDEX)
        self._sidecars = _yaml(folder / SIDECARS) if (folder / SIDECARS).exists() else {}

    def hashes(self) -> list[str]:
        return list(self._paths | self._sidecars)

    def entries(self, hashes: Sequence[str]) -> list[Entry]:
        return [self._entry(each) for each in hashes]

    def _entry(self, hash_: str) -> Entry:
        path = self._paths.get(hash_)
        if not isinstance(path, str):
            return Entry(problem=f"{INDEX} has no path of it")
        sidecar = self._sidecars.get(hash_)
        if not isinstance(sidecar, str):
            return Entry(about={"path": path}, notes=(f"{SIDECARS} doesn't have it",))
        try:
            about = _yaml(self._folder / sidecar)
        except MigrationError:
            return Entry(about={"path": path}, notes=("its metadata file can't be read",))
        return Entry(about=about | {"path": path})


class FolderCatalog:
    """The folder of the first versions: files named by their hashes, and lists of URLs."""

    form = "folder with lists"

    def __init__(self, folder: Path) -> None:
        self.location = str(folder.resolve())
        self._folder = folder
        self._urls, self._tickets, self._names = (
            _yaml(folder / name) if (folder / name).exists() else {} for name in LISTS
        )
        self._files = dict(self._found())

    def hashes(self) -> list[str]:
        return list(self._files | self._urls)

    def entries(self, hashes: Sequence[str]) -> list[Entry]:
        try:
            return [self._entry(each) for each in hashes]
        except OSError as error:
            raise MigrationError(f"{self._folder} was changed while it was read") from error

    def _found(self) -> Iterator[tuple[str, Path]]:
        """Files by their stem; others with the same one by their folder and name."""
        seen = set[str]()
        with readable(self._folder):
            for file in self._all_files():
                path = file.relative_to(self._folder).as_posix()
                yield (path if file.stem in seen else file.stem), file
                seen.add(file.stem)

    def _all_files(self) -> Iterator[Path]:
        """What isn't hidden in its folders; ``glob`` would pass over those that are closed."""
        for folder in _seen(self._folder):
            if folder.is_dir() and folder.name != "vstore":
                yield from (file for file in _seen(folder) if file.is_file())

    def _entry(self, hash_: str) -> Entry:
        file = self._files.get(hash_)
        if file is None:
            return Entry(problem=f"{LISTS[0]} has it, but no folder has its file")
        if file.stem != hash_:
            return Entry(problem=f"another file is called {file.stem} as well")
        ticket = self._tickets.get(file.name, {})
        about = ticket if isinstance(ticket, dict) else {"ticket": ticket}
        known = {"url": self._urls.get(hash_), "display_name": self._names.get(file.name)}
        return Entry(
            about={"display_name": file.name}
            | {str(key): value for key, value in about.items()}
            | {key: value for key, value in known.items() if value is not None}
            | {
                "path": file.relative_to(self._folder).as_posix(),
                "source_type": FOLDERS.get(file.parent.name, file.parent.name),
                "suffix": file.suffix,
                "size_bytes": file.stat().st_size,
            }
        )


def _seen(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if not each.name.startswith("."))


def _yaml(file: Path) -> dict[str, Any]:
    """A mapping from a YAML file."""
    import yaml  # noqa: PLC0415 - slow to import

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with readable(file):
            text = file.read_text(encoding="utf-8")
        found = yaml.load(text, loader)  # noqa: S506 - a safe one
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # of the 40th of May
        first = str(error).partition("\n")[0]
        raise MigrationError(f"{file} can't be read: {first}") from error
    if not isinstance(found, dict | None):
        raise MigrationError(f"{file} is no catalog: it holds no mapping")
    if _is_larger(found, len(text) + 1):
        raise MigrationError(f"{file} is no catalog: its aliases grow without end")
    return {str(key): value for key, value in (found or {}).items()}


def _is_larger(value: object, most: int) -> bool:
    """Whether it holds more values than that: as many as characters take aliases of aliases."""
    waiting, seen = [value], 0
    while waiting and seen <= most:
        seen += 1
        each = waiting.pop()
        waiting += (
            each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        )
    return seen > most

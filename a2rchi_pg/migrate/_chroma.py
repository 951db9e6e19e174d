"""A collection of ChromaDB, in a directory or on a server, as a source."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate._chunks import chunk_row
from a2rchi_pg.migrate._files import is_file
from a2rchi_pg.migrate._hashes import renamed, written
from a2rchi_pg.migrate._source import Survey
from a2rchi_pg.migrate._sqlite import read_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from a2rchi_pg.collections import Metric
    from a2rchi_pg.migrate._chunks import Chunk
    from a2rchi_pg.migrate._source import Row

PAGE = 10_000  # of ids; a statement of SQLite takes some 32,000
METRICS: dict[str, Metric] = {"l2": "l2", "cosine": "cosine", "ip": "inner_product"}
INSTALL = "reading Chroma takes its package: pip install 'a2rchi_pg[chroma]'"


class ChromaSource:
    """One collection of a Chroma database.

    Records are read by id, in the order of their ids, all of which are held in memory (about 100
    bytes each). Nothing is created or upgraded: a path, a collection or a server that isn't there
    is an error, and so is a directory that the installed package would have to upgrade.

    Args:
        client: A client of the ``chromadb`` package.
        collection: The collection's name.
        location: Where it is, without secrets.
    """

    kind = "chroma"

    def __init__(self, client: Any, collection: str, location: str) -> None:
        self._client = client
        self.location = f"{location}#{collection}"
        with _errors(self.location):
            names = sorted(each.name for each in client.list_collections())
            if collection not in names:
                there = ", ".join(names) or "none"
                raise MigrationError(
                    f"{location} has no collection {collection!r}; there are: {there}"
                )
            self._collection = client.get_collection(collection, embedding_function=None)
            self._first = self._collection.get(limit=1, include=["embeddings"])
        if not self._first["ids"]:
            raise MigrationError(f"{self.location} is empty: there is nothing to migrate")

    @classmethod
    def directory(cls, path: str | Path, collection: str) -> ChromaSource:
        """A collection in a directory that a ``PersistentClient`` or a server has written."""
        folder = Path(path)
        _check_directory(folder)
        return cls(_open(folder), collection, str(folder.resolve()))

    @classmethod
    def server(
        cls,
        host: str,
        port: int = 8000,
        *,
        collection: str,
        tenant: str = "default_tenant",
        database: str = "default_database",
        token: str | None = None,
        ssl: bool = False,
    ) -> ChromaSource:
        """A collection on a Chroma server."""
        chromadb = _package()
        location = f"{_without_secrets(host, ssl=ssl)}:{port}/{tenant}/{database}"
        with _errors(location):
            client = chromadb.HttpClient(
                host,
                port,
                ssl=ssl,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                settings=chromadb.Settings(anonymized_telemetry=False),
                tenant=tenant,
                database=database,
            )
        return cls(client, collection, location)

    @property
    def dimensions(self) -> int:
        """The length of its vectors, by the first of them."""
        return len(self._first["embeddings"][0])

    @property
    def metric(self) -> Metric:
        """How it measures distances; Chroma's own default is l2."""
        metadata = self._collection.metadata or {}
        configured = self._collection.configuration_json.get("hnsw") or {}
        return METRICS[metadata.get("hnsw:space") or configured.get("space") or "l2"]

    def survey(self) -> Survey:
        """Count the records, and say how long and how compared the vectors are."""
        with _errors(self.location):
            rows = self._collection.count()
        return Survey(rows=rows, facts={"dimensions": str(self.dimensions), "metric": self.metric})

    def batches(self, after: str | None, size: int) -> Iterator[Sequence[Row[Chunk]]]:
        """The records after an id."""
        names = renamed(self._ids(), written)
        wanted = [key for key in names if after is None or key > after]
        for start in range(0, len(wanted), size):
            ids = [names[key] for key in wanted[start : start + size]]
            pages = (ids[at : at + PAGE] for at in range(0, len(ids), PAGE))
            rows = [row for page in pages for row in self._rows(page)]
            yield sorted(rows, key=lambda row: row.key)

    def _rows(self, ids: list[str]) -> list[Row[Chunk]]:
        with _errors(self.location):
            got = self._collection.get(ids=ids, include=["documents", "metadatas", "embeddings"])
        if len(got["ids"]) != len(ids):
            raise MigrationError(f"{self.location} was changed while it was read: run it again")
        columns = zip(
            got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True
        )
        rows = (chunk_row(*record, dimensions=self.dimensions) for record in columns)
        return [replace(row, key=written(row.key)) for row in rows]

    def _ids(self) -> set[str]:
        """Every id; what is read by offset is only names, and a count tells if one was missed."""
        ids: set[str] = set()
        with _errors(self.location):
            for offset in range(0, (total := self._collection.count()), PAGE):
                ids.update(self._collection.get(limit=PAGE, offset=offset, include=[])["ids"])
        if len(ids) != total:
            raise MigrationError(f"{self.location} was changed while it was read: run it again")
        return ids


def _without_secrets(host: str, *, ssl: bool) -> str:
    """A host, which may be a URL with a user and password in it, as it may be shown."""
    scheme, _, rest = host.rpartition("://")
    return f"{scheme or ('https' if ssl else 'http')}://{rest.rpartition('@')[2]}"


def _package() -> Any:
    try:
        import chromadb  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MigrationError(INSTALL) from error
    return chromadb


def _check_directory(folder: Path) -> None:
    """Raise unless opening ``folder`` with the installed package changes nothing in it."""
    file = folder / "chroma.sqlite3"
    if not is_file(file):
        raise MigrationError(f"{folder} is no Chroma directory: it has no chroma.sqlite3")
    applied = _schema_of(file)
    shipped = _shipped()
    if newer := sorted(applied - shipped):
        raise MigrationError(
            f"{folder} was written by a newer Chroma ({'/'.join(newer[0])}): upgrade chromadb here"
        )
    if shipped - applied:
        raise MigrationError(
            f"{folder} was written by an older Chroma, and opening it would upgrade it for good: "
            "copy the directory and give the copy after opening it with chromadb.PersistentClient, "
            "or run the server that wrote it and give its host"
        )


def _shipped() -> set[tuple[str, str]]:
    """What a new directory has: the package's list of files lacks those of its Rust half."""
    with tempfile.TemporaryDirectory(prefix="a2rchi-pg-chroma-") as folder:
        _open(Path(folder))
        return _schema_of(Path(folder, "chroma.sqlite3"))


def _schema_of(file: Path) -> set[tuple[str, str]]:
    rows = read_sqlite(file, "SELECT dir, filename FROM migrations")
    return {(row["dir"], row["filename"]) for row in rows}


def _open(folder: Path) -> Any:
    chromadb = _package()
    settings = chromadb.Settings(anonymized_telemetry=False)
    with _errors(str(folder)):
        return chromadb.PersistentClient(str(folder), settings)


@contextmanager
def _errors(location: str) -> Iterator[None]:
    """Chroma's errors as ours: its client raises what its server, httpx or Rust raised."""
    from chromadb.errors import ChromaError  # noqa: PLC0415 - an extra
    from httpx import HTTPError  # noqa: PLC0415 - comes with it

    try:
        yield
    except (ChromaError, HTTPError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise MigrationError(f"Chroma at {location}: {first}") from error

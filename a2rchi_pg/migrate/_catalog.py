"""An older catalog of documents as a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg.migrate._catalogs import TableCatalog, open_catalog
from a2rchi_pg.migrate._documents import document_row
from a2rchi_pg.migrate._hashes import renamed, todays_hash
from a2rchi_pg.migrate._source import Row, Survey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from a2rchi_pg._documents import DocumentSpec
    from a2rchi_pg.migrate._catalogs import Catalog, Entry
    from a2rchi_pg.migrate._reading import OtherDatabase


class CatalogSource:
    """The documents of an older catalog.

    All hashes are held in memory, and of YAML catalogs the indexes too; what is known of documents
    a batch at a time.

    Args:
        catalog: Where they are.
    """

    kind = "catalog"

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.location = catalog.location

    @classmethod
    def open(cls, path: str | Path) -> CatalogSource:
        """The catalog in a file (``catalog.sqlite``), or in the folder that was ``DATA_PATH``."""
        return cls(open_catalog(path))

    @classmethod
    def table(cls, database: OtherDatabase) -> CatalogSource:
        """The catalog in the PostgreSQL of v1.4.0."""
        return cls(TableCatalog(database))

    def survey(self) -> Survey:
        """Count the documents."""
        return Survey(rows=len(self._catalog.hashes()), facts={"format": self._catalog.form})

    def batches(self, after: str | None, size: int) -> Iterator[Sequence[Row[DocumentSpec]]]:
        """The documents after a hash, in the order of what they are called today."""
        names = renamed(self._catalog.hashes(), todays_hash)
        wanted = [key for key in names if after is None or key > after]
        for start in range(0, len(wanted), size):
            keys = wanted[start : start + size]
            entries = self._catalog.entries([names[key] for key in keys])
            yield [_row(key, names[key], entry) for key, entry in zip(keys, entries, strict=True)]


def _row(key: str, original: str, entry: Entry) -> Row[DocumentSpec]:
    if entry.problem is not None:
        return Row(key=key, problem=entry.problem)
    if key != (today := todays_hash(original)):
        return Row(key=key, problem=f"it is {today} today, which another one of the source is")
    return document_row(key, original, entry.about, entry.notes)

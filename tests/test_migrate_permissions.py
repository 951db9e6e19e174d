"""What the system won't let a migration read is an error of one line, never an empty success."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate import CatalogSource, ChromaSource, SelectionSource
from tests.catalogs_support import choose, fill_index, fill_sqlite, page, write_yaml
from tests.migration_support import NAME, fill_chroma, persistent
from tests.plugins.servers import passable_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NOBODY = 65534


@contextmanager
def as_anyone() -> Iterator[None]:
    """As an account that permissions hold for, which they don't for root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable_folder() as path:
        made = path / "source"
        made.mkdir()
        yield made
        for each in [made, *made.rglob("*")]:
            each.chmod(0o755)


def chroma(folder: Path) -> None:
    pytest.importorskip("chromadb", reason="reads Chroma, an extra")
    fill_chroma(persistent(folder), 10)


def sqlite(folder: Path) -> None:
    choose(fill_sqlite(folder, [page(1)]), [("1", "x", 1)])


def index(folder: Path) -> None:
    fill_index(folder, {"abc": {"display_name": "x"}})


def lists(folder: Path) -> None:
    (folder / "websites").mkdir()
    (folder / "websites" / "1.html").write_text("x")
    write_yaml(folder / "sources.yml", {"1": "https://x"})


def catalog(folder: Path) -> CatalogSource:
    return CatalogSource.open(folder)


@pytest.mark.parametrize(
    ("fill", "opened", "closed"),
    [
        (sqlite, catalog, "catalog.sqlite"),
        (sqlite, catalog, ""),
        (sqlite, SelectionSource.open, "catalog.sqlite"),
        (sqlite, SelectionSource.open, ""),
        (index, catalog, "index.yaml"),
        (lists, catalog, "sources.yml"),
        (lists, catalog, "websites"),
        (chroma, lambda folder: ChromaSource.directory(folder, NAME), "chroma.sqlite3"),
        (chroma, lambda folder: ChromaSource.directory(folder, NAME), ""),
    ],
)
def test_a_file_or_folder_that_is_closed_is_named(folder, fill, opened, closed):
    fill(folder)
    with as_anyone():
        assert (folder / closed).exists()
    (folder / closed).chmod(0)
    with as_anyone(), pytest.raises(MigrationError, match="can't be read: Permission denied"):
        opened(folder)
    (folder / closed).chmod(0o755)
    assert opened(folder).survey().rows >= 1

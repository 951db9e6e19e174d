"""The example host application on a test's own database, with a small folder in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Database, PostgresVectorStore
from examples.assistant.app import create_app
from examples.assistant.library import COLLECTION, ingested

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fastapi import FastAPI

    from a2rchi_pg import IngestReport, KeyRing
    from examples.assistant.answering import Answerer

FILES = {
    "jobs.md": "# Jobs\n\nA failed job is retried three times before it is given up.\n\n"
    "Jobs are queued in the order of their priority.",
    "old-jobs.md": "# Jobs of the old system\n\nIn the old system a failed job is retried once, "
    "and nobody is told about it.",
    "quota.txt": "Error E1042 says that the quota of a user is used up for today.",
    "pears.html": "<h1>Pears</h1><p>Pears ripen in September and are kept in a cool cellar.</p>",
}
QUESTION = "How often is a failed job retried?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few files, of which two answer the question."""
    (home := tmp_path / "docs").mkdir()
    for name, text in FILES.items():
        (home / name).write_text(text)
    return home


def ingest(dsn: str, folder: Path) -> IngestReport:
    with Database(dsn) as database:
        return ingested(database, folder, folder.parent, progress=lambda *_: None)[1]


def assistant(dsn: str, folder: Path, ring: KeyRing, answerers: Sequence[Answerer] = ()) -> FastAPI:
    """The application, its folder ingested."""
    with Database(dsn) as database:
        model, _ = ingested(database, folder, folder.parent, progress=lambda *_: None)
    store = PostgresVectorStore(model, database=Database(dsn), collection=COLLECTION)
    return create_app(store, secret="s" * 40, keyring=ring, answerers=answerers)

"""Catalogs to migrate from, as the old systems wrote them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import yaml

if TYPE_CHECKING:
    from pathlib import Path

RESOURCES = """
    CREATE TABLE IF NOT EXISTS resources (
        resource_hash TEXT PRIMARY KEY, path TEXT NOT NULL, display_name TEXT NOT NULL,
        source_type TEXT NOT NULL, url TEXT, ticket_id TEXT, suffix TEXT, size_bytes INTEGER,
        original_path TEXT, base_path TEXT, relative_path TEXT, created_at TEXT, modified_at TEXT,
        ingested_at TEXT, extra_json TEXT NOT NULL)
"""
SELECTIONS = """
    CREATE TABLE IF NOT EXISTS chat_document_selections (
        conversation_id TEXT NOT NULL, document_hash TEXT NOT NULL,
        enabled INTEGER NOT NULL DEFAULT 1, updated_at TEXT NOT NULL,
        PRIMARY KEY (conversation_id, document_hash))
"""


def page(number: int, **more: Any) -> dict[str, Any]:
    """A web page as its collector recorded it; the hashes of ``fill_chroma``."""
    return {
        "resource_hash": f"{number:012x}",
        "path": f"websites/{number:012x}.html",
        "display_name": f"Page {number}",
        "source_type": "links",
        "url": f"https://example.org/{number}",
        "suffix": ".html",
        "size_bytes": 1000 + number,
        "created_at": "2024-05-01T12:00:00.000+0200",
        "ingested_at": "2026-01-20T08:30:00",
        "extra_json": json.dumps({"project": "naïve", "depth": "2"}),
        **more,
    }


def fill_sqlite(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "catalog.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(RESOURCES)
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO resources ({', '.join(row)}) VALUES ({marks})", list(row.values())
            )
    return file


def fill_table(dsn: str, rows: list[dict[str, Any]]) -> None:
    """The catalog that stood in PostgreSQL for a while."""
    with psycopg.connect(dsn) as connection:
        connection.execute(RESOURCES.replace("extra_json", "file_name TEXT, extra_json"))
        for row in rows:
            marks = ", ".join(["%s"] * len(row))
            insert = f"INSERT INTO resources ({', '.join(row)}) VALUES ({marks})"
            connection.execute(insert, list(row.values()))


def choose(file: Path, rows: list[tuple[str, str, int]]) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(SELECTIONS)
        connection.executemany(
            "INSERT INTO chat_document_selections VALUES (?, ?, ?, '2026-01-27T10:00:00')", rows
        )


def fill_index(folder: Path, documents: dict[str, dict[str, Any]]) -> None:
    """``index.yaml`` with a metadata file beside each document."""
    paths, sidecars = {}, {}
    for hash_, about in documents.items():
        paths[hash_] = f"websites/{hash_}.html"
        sidecars[hash_] = f"websites/{hash_}.html.meta.yaml"
        write_yaml(folder / sidecars[hash_], about)
    write_yaml(folder / "index.yaml", paths)
    write_yaml(folder / "metadata_index.yaml", sidecars)


def write_yaml(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(value))

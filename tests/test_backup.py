"""A database dumped and restored elsewhere answers as before, indexes and ledger included."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg._schema import status
from tests.plugins.stores import WordModel
from tests.plugins.trees import tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.owner]
HANDBOOK = CollectionSpec(name="handbook", fields={"year": "int"})


def answers(store: PostgresVectorStore) -> list[object]:
    recent = {"year": {"$gte": 20}}
    return [
        store.bm25_search("word5 number", k=5),
        store.hybrid_search("about word7", k=5, filter=recent),
        store.count(recent),
    ]


def test_a_restored_database_answers_as_before(dsn: str, empty_dsn: str, tmp_path: Path):
    with Database(dsn) as database:
        store = PostgresVectorStore(WordModel(), database=database, collection=HANDBOOK)
        store.add_texts(
            [f"number {n} about word{n % 97}" for n in range(500)],
            [{"year": n % 30} for n in range(500)],
            ids=[str(n) for n in range(500)],
        )
        before = answers(store)
    programs, file = tree("embedded") / "bin", tmp_path / "rag.dump"
    subprocess.run([programs / "pg_dump", "-Fc", "-d", dsn, "-f", file], check=True)
    restore = [programs / "pg_restore", "--exit-on-error", "-d", empty_dsn, file]
    subprocess.run(restore, check=True)
    with Database(empty_dsn) as database:
        store = PostgresVectorStore(WordModel(), database=database, collection=HANDBOOK)
        assert answers(store) == before
        store.add_texts(["something new"])
        assert len(store.bm25_search("new")) == 1
        assert all(index.valid for index in Collections(database).stats("handbook").indexes)
    assert all(applied is not None for _, applied in status(empty_dsn))

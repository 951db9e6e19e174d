"""A database dumped and restored elsewhere answers as before, indexes and ledger included."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg._schema import status
from tests.database_support import admin
from tests.plugins.servers import new_database
from tests.plugins.stores import WordModel, ids
from tests.plugins.trees import tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugins.servers import Server, Servers

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.owner]
PROGRAMS = tree("embedded") / "bin"
HANDBOOK = CollectionSpec(name="handbook", fields={"year": "int"})


def answers(store: PostgresVectorStore) -> list[object]:
    recent = {"year": {"$gte": 20}}
    return [
        store.bm25_search("word5 number", k=5),
        store.hybrid_search("about word7", k=5, filter=recent),
        store.count(recent),
    ]


def filled(database: Database) -> PostgresVectorStore:
    store = PostgresVectorStore(WordModel(), database=database, collection=HANDBOOK)
    store.add_texts(
        [f"number {n} about word{n % 97}" for n in range(500)],
        [{"year": n % 30} for n in range(500)],
        ids=[str(n) for n in range(500)],
    )
    return store


def moved(dsn: str, to: str, file: Path, *options: str) -> int:
    """Dump a database and restore it elsewhere; pg_restore's return code."""
    subprocess.run([PROGRAMS / "pg_dump", "-Fc", "-d", dsn, "-f", file], check=True)
    restore = [PROGRAMS / "pg_restore", *options, "-d", to, file]
    return subprocess.run(restore, check=False).returncode


@pytest.mark.servers("embedded", "plain")
def test_a_restored_database_answers_as_before(dsn: str, empty_dsn: str, tmp_path: Path):
    with Database(dsn) as database:
        before = answers(filled(database))
    assert moved(dsn, empty_dsn, tmp_path / "rag.dump", "--exit-on-error") == 0
    with Database(empty_dsn) as database:
        store = PostgresVectorStore(WordModel(), database=database, collection=HANDBOOK)
        assert answers(store) == before
        store.add_texts(["something new"])
        assert len(store.bm25_search("new")) == 1
        assert all(index.valid for index in Collections(database).stats("handbook").indexes)
    assert all(applied is not None for _, applied in status(empty_dsn))


@pytest.mark.servers("embedded", "plain")
def test_a_database_moves_between_servers_with_and_without_pg_textsearch(
    server: Server, servers: Servers, dsn: str, tmp_path: Path
):
    with Database(dsn) as database:
        before = best(filled(database))
    there = servers.get("plain" if server.has_bm25 else "embedded")
    with new_database(there, f"{servers.prefix}_moved") as new_dsn:
        # Without the extension there is none, and no index of it: that much pg_restore can't do.
        assert (moved(dsn, new_dsn, tmp_path / "rag.dump") == 0) is there.has_bm25
        admin(new_dsn, "SELECT adopt_extensions()")
        with Database(new_dsn) as database:
            collections = Collections(database)
            store = PostgresVectorStore(WordModel(), database=database, collection=HANDBOOK)
            assert len(store.bm25_search("word5 number", k=5)) == 5
            assert len(collections.build_indexes("handbook")) == 1
            handbook = collections.get("handbook")
            assert handbook
            assert handbook.lexical == ("bm25" if there.has_bm25 else "words")
            store = PostgresVectorStore(WordModel(), database=database, collection=HANDBOOK)
            assert best(store) == before
            store.add_texts(["something new"], ids=["new"])
            assert len(store.bm25_search("new")) == 1
        kept = admin(new_dsn, "SELECT words IS NOT NULL FROM document_chunks WHERE id = 'new'")
        assert kept == [(not there.has_bm25,)]


def best(store: PostgresVectorStore) -> list[set[str | None]]:
    """What is found by words that nothing else holds, in whatever order."""
    recent = {"year": {"$gte": 20}}
    return [
        set(ids(store.bm25_search("word5 number", k=6))),
        set(ids(store.hybrid_search("about word7", k=2, filter=recent))),
    ]

"""Managers that are killed at random moments leave nothing that the next run doesn't mend."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg.ingest import VectorStoreManager
from tests.database_support import rows, wait_until
from tests.plugins.stores import WordModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.timeout(120), pytest.mark.servers("full")]

HERE = Path(__file__).parent.parent
KILLS = 10

# Imports once, and forks a manager that is killed for each line of seconds.
KILLING = """
import os, signal, sys, time
from a2rchi_pg import CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg.ingest import VectorStoreManager
from tests.plugins.stores import WordModel
class Slow(WordModel):
    def embed_documents(self, texts):
        time.sleep(0.01)
        return super().embed_documents(texts)
def manage():
    with Database(sys.argv[1]) as database:
        spec = CollectionSpec(name="killed", embedding_model="words")
        store = PostgresVectorStore(Slow(), database=database, collection=spec)
        manager = VectorStoreManager(store, workers=2, lease=0.3, batch_size=8)
        while True:
            manager.update_vectorstore()
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        try:
            manage()
        finally:
            os._exit(1)
    time.sleep(float(line))
    os.kill(pid, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
DOCUMENTS = """
    SELECT d.relative_path, i.status, i.error, i.chunk_count, i.leased_by,
           i.content_fingerprint = d.content_hash, i.embedding_fingerprint
    FROM indexed_documents i JOIN documents d ON d.id = i.document_id
        JOIN collections c ON c.id = i.collection_id
    WHERE c.name = %(collection)s ORDER BY d.relative_path
"""
CHUNKS = """
    SELECT d.relative_path, k.chunk_index, k.id, k.start_char, k.end_char, k.content,
           k.metadata, k.embedding::text
    FROM document_chunks k JOIN documents d ON d.id = k.document_id
        JOIN collections c ON c.id = k.collection_id
    WHERE c.name = %(collection)s ORDER BY 1, 2
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Documents that were written for people."""
    made = tmp_path / "tree"
    for pattern in ("*.md", "docs/**/*.md", "a2rchi_pg/sql/*", "examples/**/*.yaml"):
        for path in HERE.glob(pattern):
            target = made / path.relative_to(HERE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return made


@pytest.fixture
def killed(dsn: str) -> Iterator[Callable[[float], int]]:
    """Runs a manager for so many seconds, and returns what it ended with."""
    command = [sys.executable, "-c", KILLING, dsn]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=HERE) as child:

        def kill_after(seconds: float) -> int:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{seconds}\n")
            child.stdin.flush()
            return int(child.stdout.readline())

        yield kill_after


def manager(database: Database, collection: str) -> VectorStoreManager:
    spec = CollectionSpec(name=collection, embedding_model="words")
    store = PostgresVectorStore(WordModel(), database=database, collection=spec)
    return VectorStoreManager(store, workers=2)


def state(database: Database, collection: str) -> list[tuple[Any, ...]]:
    return [
        *database.run(rows(DOCUMENTS, collection=collection)),
        *database.run(rows(CHUNKS, collection=collection)),
    ]


def test_g3_killed_ten_times_it_ends_as_if_it_never_was(
    database: Database, tree: Path, killed: Callable[[float], int]
):
    chance = Random(4)
    interrupted = manager(database, "killed")
    for _ in range(KILLS):
        files = sorted(path for path in tree.rglob("*") if path.is_file())
        for path in chance.sample(files, 5):
            path.write_text(path.read_text() + f"\n\nMore of it: {chance.random()}\n")
        chance.choice(files).unlink()
        interrupted.add_folder(tree)
        assert killed(chance.uniform(0.05, 0.6)) == -9
    wait_until(lambda: interrupted.update_vectorstore().waiting == 0)
    assert manager(database, "whole").update_vectorstore().failed == {}
    assert len(state(database, "whole")) > 100
    assert state(database, "killed") == state(database, "whole")

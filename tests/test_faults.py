"""Kill -9 in the middle of an add: of the client, of the server, of both.

What was committed is whole, what was not is absent, and everything works afterwards, all within
deadlines. The servers are durable as they come.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import Database, EmbeddedPostgres, PostgresVectorStore
from tests.database_support import Scattered, admin, wait_until

pytestmark = [pytest.mark.timeout(120), pytest.mark.xdist_group("faults")]
SMALL = {"shared_buffers": "64MB", "max_connections": 20}
BATCH, BATCHES = 100, 80
# One word is in all of them, so that a lexical search finds every row there is.
CLIENT = """\
import sys
from a2rchi_pg import Database, PostgresVectorStore
from tests.database_support import Scattered

dsn, kind = sys.argv[1:]
ids = [f"{number // 100:04d}-{number % 100:02d}" for number in range(8000)]
texts = [f"whale {id_}" for id_ in ids]
if kind == "stream":
    texts, ids = (text for text in texts), iter(ids)
with Database(dsn) as database:
    store = PostgresVectorStore(Scattered(), database=database)
    store.count()
    print("adding", flush=True)
    store.add_texts(texts, ids=ids, batch_size=100)
"""


class Scene:
    """A server with some rows, and a client process that is adding more."""

    def __init__(self, path: Path, kind: str) -> None:
        self.server = EmbeddedPostgres(path, settings=SMALL, start_timeout=60).start()
        with Database.embedded(path) as database:
            PostgresVectorStore(Scattered(), database=database).add_texts(
                ["whale before"], ids=["before"]
            )
        self.client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, self.server.dsn, kind],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.client.stdout is not None
        assert self.client.stdout.readline() == "adding\n"
        with psycopg.connect(self.server.dsn, autocommit=True) as watching:
            size = "SELECT pg_relation_size('document_chunks_1')"
            wait_until(lambda: watching.execute(size).fetchone()[0] > 400_000)
        assert self.client.poll() is None, "the client was done before it could be killed"

    def kill(self, *victims: str) -> None:
        postmaster = int((self.server.path / "data/postmaster.pid").read_text().split()[0])
        pids = {"client": self.client.pid, "server": postmaster}
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)
        if "server" in victims:
            self.server.stop()
            self.server.start()
            assert self.server.unclean_start
        self.client.wait()
        left = "SELECT FROM pg_stat_activity WHERE application_name = 'a2rchi_pg'"
        wait_until(lambda: admin(self.server.dsn, left) == [])

    def close(self) -> None:
        if self.client.poll() is None:
            self.client.kill()
        assert self.client.stdout is not None
        self.client.stdout.close()
        self.client.wait(10)
        self.server.stop()


@pytest.fixture
def scene(server_path: Path, kind: str):
    made = Scene(server_path, kind)
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["list", "stream"])
@pytest.mark.parametrize("victims", [["client"], ["server"], ["client", "server"]], ids="+".join)
def test_after_kill_9_in_the_middle_of_an_add(scene: Scene, kind: str, victims: list[str]):
    scene.kill(*victims)
    dsn = make_conninfo(scene.server.dsn, options="-c statement_timeout=20s")
    there = [id_ for (id_,) in admin(dsn, "SELECT id FROM document_chunks ORDER BY id")]
    assert there[-1] == "before"
    batches = Counter(id_.split("-")[0] for id_ in there[:-1])
    assert set(batches.values()) <= {BATCH}
    assert sorted(batches) == [f"{number:04d}" for number in range(len(batches))]
    if scene.client.returncode == 0:  # it waited for the server and did its work
        assert victims == ["server"]
        assert len(batches) == BATCHES
    elif kind == "list":
        assert len(batches) == 0
    else:
        assert 0 < len(batches) < BATCHES
    with Database(dsn) as database:
        store = PostgresVectorStore(Scattered(), database=database)
        assert_found(store, there)
        store.add_texts(["whale after"], ids=["after"])
        assert_found(store, [*there, "after"])
        store.delete(["after"])
        assert_found(store, there)


def assert_found(store: PostgresVectorStore, ids: list[str]) -> None:
    assert store.count() == len(ids)
    matching = [document.id for document, _ in store.bm25_search("whale", k=len(ids) + 5)]
    assert sorted(matching, key=str) == sorted(ids, key=str)
    for id_ in {ids[0], ids[len(ids) // 2], *ids[-2:]}:
        text = f"whale {id_}"
        assert store.similarity_search(text, k=1)[0].id == id_
        assert id_ in {document.id for document, _ in store.hybrid_search(text, k=10)}

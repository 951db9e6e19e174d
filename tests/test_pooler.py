"""Behind a real PgBouncer in transaction mode, which knows nothing of prepared statements."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg._schema import migrate
from a2rchi_pg.doctor import examine
from tests.database_support import Letters, admin, commands, value, wait_until
from tests.plugins.servers import EXTERNAL, passable_folder
from tests.plugins.trees import one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.servers("embedded", "plain"),
    pytest.mark.timeout(300),  # it may have to be installed
    pytest.mark.skipif(bool(EXTERNAL), reason="this pooler has no password for a foreign server"),
]
CONFIGURATION = """\
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
ignore_startup_parameters = extra_float_digits,options
logfile = {folder}/log
pidfile = {folder}/pid
user = {account}
"""


@pytest.fixture(scope="session")
def pgbouncer() -> str:
    """The program, installed where it is missing and may be."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/bin"
    with one_at_a_time():
        if not shutil.which("pgbouncer", path=path) and os.geteuid() == 0:
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            for arguments in (["update"], ["install", "-y", "pgbouncer"]):
                command = ["apt-get", "-q", *arguments]
                subprocess.run(command, timeout=600, check=True, env=environment)
    return shutil.which("pgbouncer", path=path) or pytest.fail("pgbouncer is missing: install it")


@contextmanager
def pooled(program: str, dsn: str, size: int) -> Iterator[str]:
    """A pooler before the server; the DSN that goes through it."""
    parts = conninfo_to_dict(dsn)
    account = "nobody" if os.geteuid() == 0 else ""
    with passable_folder() as folder:
        file = folder / "pgbouncer.ini"
        text = CONFIGURATION.format(
            host=parts["host"],
            port=parts["port"],
            user=parts["user"],
            folder=folder,
            size=size,
            account=account,
        )
        file.write_text(text if account else text.replace("user = \n", ""))
        file.chmod(0o644)
        if account:
            shutil.chown(folder, account)
        process = subprocess.Popen([program, "-q", str(file)], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(folder / ".s.PGSQL.6432"))
            yield make_conninfo(dsn, host=str(folder), port=6432)
        finally:
            process.terminate()
            process.wait(10)


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture(params=[1, 2], ids=["one connection", "two connections"])
def through(pgbouncer: str, dsn: str, request: pytest.FixtureRequest) -> Iterator[str]:
    with pooled(pgbouncer, dsn, request.param) as pooled_dsn:
        yield pooled_dsn


def work(database: Database, name: str) -> None:
    """Add and search again and again, as one thread among several."""
    store = PostgresVectorStore(Letters(), database=database, collection=name)
    for turn in range(8):
        ids = [f"{turn}-{position}" for position in range(3)]
        store.add_texts([f"{name} fox {turn} {position}" for position in range(3)], ids=ids)
        assert store.count() == 3 * (turn + 1)
        found = store.hybrid_search(f"{name} fox", k=3)
        assert len(found) == 3
        assert all(document.page_content.startswith(name) for document, _ in found)
        assert len(store.similarity_search(name, k=40)) == 3 * (turn + 1)
        assert len(store.bm25_search("fox", k=40)) == 3 * (turn + 1)
        assert [document.id for document in store.get_by_ids(ids)] == ids


def together(database: Database) -> None:
    """Each thread with a collection of its own, and all of them on few server connections."""
    names = ["amber", "birch", "cedar", "delta"]
    with ThreadPoolExecutor(len(names)) as threads:
        for done in [threads.submit(work, database, name) for name in names]:
            done.result(80)


def test_it_is_a_transaction_pooler_without_prepared_statements(pgbouncer: str, dsn: str):
    """What the mode is for: two clients' prepared statements meet in one session."""
    with (
        pooled(pgbouncer, dsn, 1) as through,
        psycopg.connect(through, autocommit=True, prepare_threshold=0) as one,
        psycopg.connect(through, autocommit=True, prepare_threshold=0) as other,
    ):
        one.execute("SELECT 1")
        with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
            other.execute("SELECT 2")


def test_threads_share_the_poolers_connections(through: str):
    with Database(through, pooler=True, max_size=4) as database:
        together(database)


def test_a_schema_is_found_in_every_transaction(pgbouncer: str, empty_dsn: str):
    for schema in ("one", "two"):
        migrate(empty_dsn, schema=schema)
    with (
        pooled(pgbouncer, empty_dsn, 1) as through,
        Database(through, pooler=True, schema="one", max_size=4) as one,
        Database(through, pooler=True, schema="two", max_size=4) as two,
    ):
        for database in (one, two):
            together(database)
        assert one.run(value("SELECT count(*) FROM collections")) == 4
        PostgresVectorStore(Letters(), database=two, collection="fifth").add_texts(["x"])
        assert one.run(value("SELECT count(*) FROM collections")) == 4
        assert two.run(value("SELECT count(*) FROM collections")) == 5


def test_nothing_is_left_behind_on_the_servers_session(pgbouncer: str, empty_dsn: str):
    migrate(empty_dsn, schema="one")
    with pooled(pgbouncer, empty_dsn, 1) as through:
        with Database(through, pooler=True, schema="one") as database:
            work(database, "amber")
        left, fresh = (session(each) for each in (through, empty_dsn))
    assert left == fresh


def session(dsn: str) -> list[tuple[str, ...]]:
    """Settings and prepared statements of whatever session answers."""
    names = ("search_path", "hnsw.ef_search", "hnsw.iterative_scan", "statement_timeout")
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("LOAD 'vector'")
        found = [connection.execute(f"SHOW {name}").fetchone() for name in names]
        found.append(connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone())
    return found


async def test_an_event_loop_works_through_it_too(through: str):
    async with Database(through, pooler=True, max_size=4) as database:
        store = PostgresVectorStore(Letters(), database=database)
        await store.aadd_texts(["a red fox", "a blue whale"])
        async with database.transaction() as transaction:
            await transaction.arun(commands("SELECT 1", "SELECT 2"))
        for _ in range(10):
            assert (await store.ahybrid_search("whale", k=1))[0][0].page_content == "a blue whale"


def test_a_pooler_that_lost_its_server_connection_is_no_error(through: str, dsn: str):
    with Database(through, pooler=True) as database:
        pid = database.run(value("SELECT pg_backend_pid()"))
        admin(dsn, "SELECT pg_terminate_backend(%s, 5000)", pid)
        assert database.run(value("SELECT 1")) == 1
        assert Path(str(conninfo_to_dict(through)["host"])).is_dir()


def test_the_doctor_sees_a_pooler_that_nobody_told_of(through: str, dsn: str):
    def found(dsn: str, **options: bool) -> bool:
        with Database(dsn, prepare_threshold=None, **options) as database:
            return "pooler" in {finding.check for finding in examine(database)}

    assert (found(dsn), found(through), found(through, pooler=True)) == (False, True, False)

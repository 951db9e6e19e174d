"""Opening and closing a database, and the connections of its pool."""

from __future__ import annotations

import inspect
import json
import os
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from a2rchi_pg import _connection
from a2rchi_pg.database import DSN_VARIABLE, Database, Health
from a2rchi_pg.embedded import EmbeddedPostgres
from a2rchi_pg.errors import InvalidInput, NotOpen, Unavailable
from tests.database_support import admin, backends, commands, terminate, value, wait_until

if TYPE_CHECKING:
    from tests.plugins.servers import Server

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(60)]
WRONG = "hunter2"
FOR_EVER = 3600.0  # seconds: a test that waits for so long is ended, as failed, before


# Opening and closing


def test_creating_one_reaches_for_nothing():
    assert "nowhere" in repr(Database("host=/nowhere dbname=nothing"))


def test_opens_itself_on_first_use(dsn: str):
    database = Database(dsn)
    assert backends(dsn) == []
    try:
        assert database.run(value("SELECT 1")) == 1
    finally:
        database.close()
    wait_until(lambda: backends(dsn) == [])


def test_is_not_open_after_it_was_closed_and_can_be_opened_again(dsn: str):
    database = Database(dsn)
    with database:
        database.run(value("SELECT 1"))
    with pytest.raises(NotOpen, match=r"open\(\) it"):
        database.run(value("SELECT 1"))
    with database:
        assert database.run(value("SELECT 2")) == 2
    database.close()
    database.close()


def test_a_closed_database_that_was_never_opened_stays_closed(dsn: str):
    database = Database(dsn)
    database.close()
    with pytest.raises(NotOpen):
        database.run(value("SELECT 1"))


def test_opening_twice_keeps_the_pool(dsn: str):
    with Database(dsn) as database:
        first = database.run(value("SELECT pg_backend_pid()"))
        assert database.open() is database
        assert database.run(value("SELECT pg_backend_pid()")) == first


async def test_in_an_event_loop_it_is_opened_and_closed_too(dsn: str):
    database = Database(dsn)
    for _ in range(2):
        async with database:
            assert await database.arun(value("SELECT 1")) == 1
        with pytest.raises(NotOpen):
            await database.arun(value("SELECT 1"))
    wait_until(lambda: backends(dsn) == [])


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        ("dsn", 5),
        ("dsn", Path("data/pg")),
        ("read_dsn", b"host=x"),
        ("min_size", "1"),
        ("min_size", -1),
        ("min_size", 11),
        ("max_size", 0),
        ("max_size", None),
        ("max_size", 2.0),
        ("timeout", None),
        ("timeout", 0),
        ("timeout", -1.5),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", "30"),
        ("schema", ""),
        ("schema", 5),
        ("schema", "a\0b"),
        ("schema", "ä" * 32),
        ("schema", "\ud800"),
        ("prepare_threshold", -1),
        ("prepare_threshold", True),
        ("pooler", "false"),
        ("application_name", None),
        ("application_name", "a\0b"),
        ("check_schema", 1),
    ],
)
def test_a_wrong_argument_is_refused_by_name(argument: str, wrong: object):
    arguments: dict[str, object] = {"dsn": "", argument: wrong}
    with pytest.raises(InvalidInput, match=rf"^{argument} must be .*, got "):
        Database(**arguments)  # type: ignore[arg-type]  # which is the point


def test_an_embedded_server_is_not_prepared_for_wrong_arguments(server_path):
    with pytest.raises(InvalidInput, match="max_size"):
        Database.embedded(server_path, max_size=0, schema="rag")
    with EmbeddedPostgres(server_path) as server:
        assert admin(server.dsn, "SELECT nspname FROM pg_namespace WHERE nspname = 'rag'") == []


# Where it is


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "1"},
        {"host": "/nowhere"},
        {"host": "127.0.0.1", "port": "1"},
        {"dbname": "nothing"},
        {"user": "nobody_at_all"},
    ],
    ids=str,
)
@pytest.mark.parametrize("check_schema", [True, False])
def test_a_wrong_dsn_shows_at_once(server: Server, wrong, check_schema):
    dsn = make_conninfo(server.dsn, **wrong)
    database = Database(dsn, check_schema=check_schema, timeout=FOR_EVER)
    with pytest.raises(Unavailable):
        database.open()


async def test_a_wrong_dsn_shows_at_once_in_an_event_loop(server: Server):
    with pytest.raises(Unavailable):
        await Database(make_conninfo(server.dsn, port=1), timeout=FOR_EVER).aopen()


def test_a_wrong_password_shows_at_once_and_is_not_repeated(server_path):
    with EmbeddedPostgres(server_path, tcp=True) as server:
        assert server.tcp_dsn is not None
        with Database(server.tcp_dsn, check_schema=False) as database:
            assert database.health().server_version == server.version
        wrong = Database(make_conninfo(server.tcp_dsn, password=WRONG), timeout=FOR_EVER)
        with pytest.raises(Unavailable, match="password authentication failed") as caught:
            wrong.open()
    assert WRONG not in str(caught.value)
    assert WRONG not in repr(wrong)


def test_a_server_that_never_answers_is_given_up_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = Database(f"host=127.0.0.1 port={port} user=x dbname=x", timeout=2)
        with pytest.raises(Unavailable):
            database.open()


@pytest.mark.parametrize("dsn", ["postgres:hunter2@host", "host=x passwort=hunter2", "hunter2"])
def test_what_is_no_dsn_is_refused_without_being_repeated(dsn: str):
    with pytest.raises(InvalidInput, match="connection string") as caught:
        Database(dsn)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_dsn_comes_from_the_environment(dsn: str, monkeypatch):
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    with Database() as database:
        name = database.run(value("SELECT current_database()"))
    assert name == conninfo_to_dict(dsn)["dbname"]


def test_else_libpq_reads_its_own_variables(dsn: str, monkeypatch):
    monkeypatch.delenv(DSN_VARIABLE, raising=False)
    parts = conninfo_to_dict(dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    for key, variable in names.items():
        monkeypatch.setenv(variable, str(parts[key]))
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    with Database() as database:
        assert database.run(value("SELECT current_database()")) == parts["dbname"]
        assert database.run(value("SHOW work_mem")) == "5MB"


def test_options_of_the_dsn_are_kept(dsn: str):
    with Database(make_conninfo(dsn, options="-c work_mem=5MB")) as database:
        assert database.run(value("SHOW work_mem")) == "5MB"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_text_travels_as_utf_8_whatever_others_say(dsn: str, encoding: str):
    name = conninfo_to_dict(dsn)["dbname"]
    admin(dsn, f"ALTER DATABASE {name} SET client_encoding = {encoding}")
    odd = make_conninfo(dsn, client_encoding=encoding, options=f"-c client_encoding={encoding}")
    async with Database(odd) as database:
        for run in (database.run, database.arun):
            text = run(value("SELECT upper(%(text)s)", text="na€ve"))
            assert (text if isinstance(text, str) else await text) == "NA€VE"


async def test_any_json_is_read_as_json_loads_does(database: Database):
    written = """ {"a": [1, 1.5, -2e-3, 12345678901234567890123, true, null, {}, []],
        "ключ \\u0001": "na€ve \\"\\n\\ud83d\\ude00", "": " "} """
    for text in (written, "null", "0", '" x "', "[]", "1" * 400):
        for run in (database.run, database.arun):
            read = run(value("SELECT %(text)s::jsonb", text=text))
            read = await read if inspect.isawaitable(read) else read
            assert read == json.loads(text)
            assert type(read) is type(json.loads(text))


# The pool


def test_an_exhausted_pool_is_unavailable_after_the_timeout(dsn: str):
    with Database(dsn, max_size=2, timeout=2) as database, ExitStack() as held:
        for _ in range(2):
            held.enter_context(database.transaction())
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no connection became free"):
            database.run(value("SELECT 1"))
        assert time.monotonic() - began >= 2
        held.close()
        assert database.run(value("SELECT 1")) == 1


async def test_an_exhausted_pool_of_a_loop_is_unavailable_after_the_timeout(dsn: str):
    async with Database(dsn, max_size=1, timeout=2) as database:
        async with database.transaction():
            with pytest.raises(Unavailable, match="no connection became free"):
                await database.arun(value("SELECT 1"))
        assert await database.arun(value("SELECT 1")) == 1


def test_many_threads_share_few_connections(dsn: str):
    results = []
    with Database(dsn, max_size=3) as database:

        def work():
            results.append(database.run(value("SELECT pg_backend_pid() FROM pg_sleep(0.02)")))

        threads = [threading.Thread(target=work) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 24
        assert len(set(results)) <= 3
        assert database.pool_stats().get("requests_errors", 0) == 0


def test_one_thread_alone_needs_one_connection_and_never_waits(dsn: str):
    with Database(dsn) as database:
        for _ in range(300):
            database.run(value("SELECT 1"))
        stats = database.pool_stats()
    assert stats["connections_num"] == 1
    assert "requests_queued" not in stats


@pytest.mark.parametrize("idle_seconds", [0.0, 3600.0], ids=["checked", "not checked"])
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_connections_that_died_while_idle_are_not_noticed(
    dsn: str, monkeypatch, idle_seconds, write
):
    monkeypatch.setattr(_connection, "IDLE_SECONDS", idle_seconds)
    with Database(dsn, min_size=3) as database:
        before = backends(dsn)
        assert len(before) == 3
        terminate(dsn, before)
        database.run(commands("SELECT 1") if write else value("SELECT 1"))
        assert database.run(value("SELECT pg_backend_pid()")) not in before


async def test_connections_of_a_loop_that_died_while_idle_are_not_noticed(dsn: str):
    async with Database(dsn, min_size=3) as database:
        terminate(dsn, backends(dsn))
        assert await database.arun(value("SELECT 1")) == 1
        await database.arun(commands("SELECT 1"))


# What it says of itself


def test_health_says_what_is_there(database: Database, server: Server):
    health = database.health()
    assert health == Health(
        server_version=health.server_version, extensions=health.extensions, read_only=False
    )
    assert health.server_version.startswith("17.")
    assert {"vector", "plpgsql"} <= set(health.extensions)
    assert all(health.extensions.values())


async def test_health_is_there_for_an_event_loop(dsn: str):
    async with Database(dsn) as database:
        assert (await database.ahealth()) == database.health()


def test_health_sees_a_server_that_refuses_writes(dsn: str):
    name = conninfo_to_dict(dsn)["dbname"]
    admin(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with Database(dsn) as database:
        assert database.health().read_only


@pytest.mark.parametrize("name", ["a2rchi_pg", "my rag's app"])
def test_the_application_is_visible_to_the_server(dsn: str, name: str):
    with Database(dsn, application_name=name):
        assert len(backends(dsn, name)) >= 1


@pytest.mark.parametrize(("threshold", "prepared"), [(2, True), (None, False)])
def test_statements_are_prepared_where_that_is_wanted(dsn: str, threshold, prepared):
    with Database(dsn, prepare_threshold=threshold, max_size=1) as database:
        for _ in range(4):
            database.run(value("SELECT 'often'"))
        found = database.run(
            value("SELECT count(*) FROM pg_prepared_statements WHERE statement ~ '''often'''")
        )
    assert found == prepared


def test_the_password_in_a_dsn_is_not_shown():
    shown = repr(Database(f"postgresql://me:hunter2@{os.uname().nodename}:5433/rag"))
    assert "hunter2" not in shown
    assert "rag" in shown

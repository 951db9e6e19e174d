"""Applying the migrations: to nothing, to a part, to what should not be touched."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys

import pytest

from a2rchi_pg import Database, _schema
from a2rchi_pg._schema import Migration, migrate, migrations, status
from a2rchi_pg.errors import MigrationError, SchemaOutOfDate, Unavailable
from tests.database_support import admin, value
from tests.schema_support import FILES, catalog, is_empty, ledger, sql_files

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(60)]


def names(found) -> list[str]:
    return [migration.name for migration in found]


@pytest.mark.servers("embedded", "full", "plain")
def test_every_server_takes_the_whole_schema(empty_dsn: str):
    assert names(migrate(empty_dsn)) == FILES
    assert [name for _, name, _ in ledger(empty_dsn)] == FILES
    with Database(empty_dsn) as database:
        assert database.run(value("SELECT count(*) FROM collections")) == 0


def test_the_files_shipped_are_those_of_the_folder_numbered_without_gaps():
    assert [file.name for file in sql_files()] == FILES
    assert [migration.number for migration in migrations()] == list(range(1, len(FILES) + 1))


def test_the_ledger_of_another_program_is_none_of_ours(empty_dsn: str):
    """Rails, golang-migrate and others have a table of that name."""
    admin(empty_dsn, "CREATE TABLE schema_migrations (version varchar PRIMARY KEY)")
    for does in (migrate, status, lambda dsn: Database(dsn).open()):
        with pytest.raises(MigrationError, match=r"another program's: .* a schema of its own"):
            does(empty_dsn)
    assert names(migrate(empty_dsn, schema="rag")) == FILES
    with Database(empty_dsn, schema="rag") as database:
        assert database.run(value("SELECT count(*) FROM collections")) == 0


def test_a_second_time_there_is_nothing_to_do(dsn: str):
    before = catalog(dsn)
    assert migrate(dsn) == []
    assert catalog(dsn) == before


@pytest.mark.owner
@pytest.mark.parametrize("number", range(1, len(FILES)))
def test_a_part_is_completed_to_the_same_whole(dsn: str, empty_dsn: str, number: int):
    assert names(migrate(empty_dsn, to=number)) == FILES[:number]
    assert names(migrate(empty_dsn)) == FILES[number:]
    assert catalog(empty_dsn) == catalog(dsn)


def test_a_number_that_is_not_shipped_is_refused(empty_dsn: str):
    with pytest.raises(MigrationError, match=f"no migration 99; the last is {len(FILES)}"):
        migrate(empty_dsn, to=99)
    assert is_empty(empty_dsn)


@pytest.mark.parametrize("schema", [None, "rag"])
def test_a_dry_run_says_what_would_be_done_and_does_none_of_it(empty_dsn: str, schema):
    assert names(migrate(empty_dsn, schema=schema, dry_run=True)) == FILES
    assert names(migrate(empty_dsn, schema=schema, dry_run=True, to=2)) == FILES[:2]
    assert is_empty(empty_dsn)
    assert admin(empty_dsn, "SELECT FROM pg_namespace WHERE nspname = 'rag'") == []


def test_the_ledger_holds_the_files_sha256(dsn: str):
    expected = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sql_files()]
    assert [checksum for *_, checksum in ledger(dsn)] == expected


def test_a_file_edited_after_it_was_applied_is_refused(dsn: str):
    admin(dsn, "UPDATE schema_migrations SET checksum = repeat('0', 64) WHERE number = 2")
    admin(dsn, "DELETE FROM schema_migrations WHERE number > 2")
    before = catalog(dsn)
    for attempt in (migrate, status, lambda dsn: migrate(dsn, dry_run=True)):
        with pytest.raises(MigrationError, match=f"{FILES[1]} was edited"):
            attempt(dsn)
    assert catalog(dsn) == before


def test_a_newer_database_is_refused(dsn: str):
    admin(dsn, "INSERT INTO schema_migrations (number, name) VALUES (9999, '9999_future.sql')")
    with pytest.raises(MigrationError, match=r"9999_future\.sql.*upgrade the package"):
        migrate(dsn)
    with pytest.raises(SchemaOutOfDate, match=r"newer.*9999.*upgrade the package"):
        Database(dsn).open()


async def test_a_newer_database_is_refused_in_an_event_loop(dsn: str):
    admin(dsn, "INSERT INTO schema_migrations (number, name) VALUES (9999, '9999_future.sql')")
    with pytest.raises(SchemaOutOfDate, match="newer"):
        await Database(dsn).aopen()


def test_a_host_may_open_what_doesnt_fit(empty_dsn: str):
    with Database(empty_dsn, check_schema=False) as database:
        assert database.run(value("SELECT 1")) == 1


@pytest.mark.parametrize(("schema", "done"), [(None, 0), ("rag", 2), ("the host's", 0)])
def test_the_command_that_an_old_schema_names_mends_it(empty_dsn: str, schema, done: int):
    if done:
        migrate(empty_dsn, schema=schema, to=done)
    with pytest.raises(SchemaOutOfDate) as caught:
        Database(empty_dsn, schema=schema).open()
    missing = ", ".join(name[:4] for name in FILES[done:])
    assert f"lacks schema migrations {missing}: run" in str(caught.value)
    _, command, _ = str(caught.value).split("`")
    program, *arguments = shlex.split(command)
    assert program == "python"
    subprocess.run([sys.executable, *arguments], check=True, timeout=120, capture_output=True)
    Database(empty_dsn, schema=schema).open().close()


def test_the_command_repeats_no_password(empty_dsn: str):
    with pytest.raises(SchemaOutOfDate) as caught:
        Database(f"{empty_dsn} password=hunter2").open()
    assert "hunter2" not in str(caught.value)
    assert "python -m a2rchi_pg.migrate schema" in str(caught.value)


@pytest.mark.parametrize("error", ["SELECT 1 / 0", "SELECT hunter2 hunter2 hunter2"])
def test_a_file_that_fails_leaves_nothing_of_itself(empty_dsn: str, monkeypatch, error: str):
    broken = Migration(
        number=3,
        name="0003_broken.sql",
        content=f"CREATE TABLE half (id integer); {error}; CREATE TABLE whole ();".encode(),
    )
    whole = migrations()
    monkeypatch.setattr(_schema, "migrations", lambda: (*whole[:2], broken))
    with pytest.raises(MigrationError, match=r"0003_broken\.sql") as caught:
        migrate(empty_dsn)
    assert "hunter2" not in str(caught.value)
    assert [name for _, name, _ in ledger(empty_dsn)] == FILES[:2]
    assert "half" not in {name for _, name, *_ in catalog(empty_dsn)}
    monkeypatch.setattr(_schema, "migrations", lambda: whole)
    assert names(migrate(empty_dsn)) == FILES[2:]


def test_a_connection_lost_in_a_file_leaves_nothing_of_it(empty_dsn: str, monkeypatch):
    dying = Migration(
        number=2,
        name="0002_dying.sql",
        content=b"CREATE TABLE half (); SELECT pg_terminate_backend(pg_backend_pid());",
    )
    whole = migrations()
    monkeypatch.setattr(_schema, "migrations", lambda: (whole[0], dying))
    with pytest.raises((MigrationError, Unavailable)):
        migrate(empty_dsn)
    monkeypatch.setattr(_schema, "migrations", lambda: whole)
    assert names(migrate(empty_dsn)) == FILES[1:]
    assert "half" not in {name for _, name, *_ in catalog(empty_dsn)}


def test_the_server_must_be_17(empty_dsn: str, monkeypatch):
    monkeypatch.setattr(_schema, "MINIMUM_SERVER", 180000)
    with pytest.raises(MigrationError, match=r"PostgreSQL .* is needed, the server is 17\.\d+"):
        migrate(empty_dsn)
    assert is_empty(empty_dsn)

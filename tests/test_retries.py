"""Transactions that failed without having happened are tried again, and no others are."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from math import inf

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from a2rchi_pg import _retry
from a2rchi_pg._op import drop, execute, fetch_value, read, upsert, write
from a2rchi_pg.database import Database
from a2rchi_pg.errors import CommitUnknown, Conflict, DatabaseError, Unavailable
from tests.database_support import admin, backends, terminate, value
from tests.wire import wire

pytestmark = [pytest.mark.owner, pytest.mark.servers("embedded"), pytest.mark.timeout(60)]
COUNTER = "CREATE TABLE counter (id integer PRIMARY KEY, n integer NOT NULL)"
ADD = "UPDATE counter SET n = n + 1 WHERE id = 1"


@pytest.fixture
def counter(dsn: str) -> str:
    """A database with two counters that stand at 0."""
    admin(dsn, COUNTER)
    admin(dsn, "INSERT INTO counter VALUES (1, 0), (2, 0)")
    return dsn


@pytest_asyncio.fixture(params=["threads", "event loop"])
async def database(counter: str, request: pytest.FixtureRequest):
    """Opened for threads, where arun() is run() in one of them, or for an event loop."""
    database = Database(counter, min_size=2, timeout=10)
    if request.param == "event loop":
        async with database:
            yield database
    else:
        with database:
            yield database


def count(dsn: str, counter: int = 1) -> int:
    return admin(dsn, "SELECT n FROM counter WHERE id = %s", counter)[0][0]


@pytest.mark.parametrize("others", [1, 6])
async def test_a_serialization_failure_is_tried_again(
    database: Database, counter: str, others: int
):
    attempts = []

    @write
    def add_to_what_was_read():
        yield from execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        seen = yield from fetch_value("SELECT n FROM counter WHERE id = 1")
        attempts.append(seen)
        if len(attempts) <= others:
            admin(counter, ADD)
        yield from execute("UPDATE counter SET n = %(n)s WHERE id = 1", n=seen + 10)

    await database.arun(add_to_what_was_read())
    assert attempts == [*range(others + 1)]
    assert count(counter) == others + 10


async def test_of_two_in_a_deadlock_both_come_through(database: Database, counter: str):
    attempts = []
    # Each says that it holds its first row, and waits until the other says so.
    meet = """
        DO $$ BEGIN
            PERFORM pg_advisory_xact_lock_shared(1);
            WHILE (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  ) < 2 LOOP PERFORM pg_sleep(0.01); END LOOP;
        END $$
    """

    @write
    def both(first: int, second: int):
        attempts.append(first)
        yield from execute("SET LOCAL deadlock_timeout = '50ms'")
        yield from execute("UPDATE counter SET n = n + 1 WHERE id = %(id)s", id=first)
        if attempts.count(first) == 1:
            yield from execute(meet)
        yield from execute("UPDATE counter SET n = n + 1 WHERE id = %(id)s", id=second)

    await asyncio.gather(database.arun(both(1, 2)), database.arun(both(2, 1)))
    # The loser, tried again at once, may meet the winner a second time.
    assert len(attempts) >= 3
    assert (count(counter, 1), count(counter, 2)) == (2, 2)


@pytest.mark.parametrize("statement", [0, 1, 2])
async def test_a_connection_lost_before_commit_is_tried_again(
    database: Database, counter: str, statement
):
    attempts = []

    @write
    def add():
        pid = yield from fetch_value("SELECT pg_backend_pid()")
        attempts.append(pid)
        for position in range(3):
            if position == statement and len(attempts) == 1:
                terminate(counter, [pid])
            yield from execute(ADD)

    await database.arun(add())
    assert len(attempts) == 2
    assert count(counter) == 3


async def test_a_read_on_a_lost_connection_is_tried_again(database: Database, counter: str):
    killed = "pg_terminate_backend(pg_backend_pid())"
    admin(counter, "CREATE SEQUENCE attempts")
    query = f"SELECT CASE WHEN nextval('attempts') = 1 THEN {killed}::text ELSE 'alive' END"
    assert await database.arun(value(query)) == "alive"


async def test_every_connection_lost_at_once_is_no_error(database: Database, counter: str):
    terminate(counter, backends(counter))
    assert await asyncio.gather(*(database.arun(value("SELECT 1")) for _ in range(8))) == [1] * 8


async def test_a_commit_that_killed_its_connection_is_in_doubt(database: Database, counter: str):
    admin(
        counter,
        """CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$""",
    )
    admin(
        counter,
        """CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON counter DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION die()""",
    )
    attempts = []
    with pytest.raises(CommitUnknown, match="may or may not"):
        await database.arun(add_once(attempts))
    assert len(attempts) == 1
    assert count(counter) == 0
    assert await database.arun(value("SELECT 1")) == 1


@write
def add_once(attempts: list[int]):
    attempts.append(1)
    yield from execute(ADD)


@pytest.mark.parametrize("opened", ["threads", "event loop"])
async def test_a_commit_whose_answer_was_lost_is_not_done_twice(counter: str, opened):
    attempts = []
    with wire(counter) as cable:
        database = Database(cable.dsn)
        await (database.aopen() if opened == "event loop" else asyncio.to_thread(database.open))
        try:
            cable.cut_at = b"COMMIT"
            with pytest.raises(Unavailable, match="may or may not"):
                await database.arun(add_once(attempts))
            cable.cut_at = None
            assert await database.arun(value("SELECT n FROM counter WHERE id = 1")) == 1
        finally:
            await database.aclose()
    assert len(attempts) == 1
    assert count(counter) == 1


async def test_a_unique_violation_is_an_answer(database: Database, counter: str):
    attempts = []

    @write
    def take():
        attempts.append(1)
        yield from execute("INSERT INTO counter VALUES (1, 5)")

    with pytest.raises(Conflict) as caught:
        await database.arun(take())
    assert caught.value.sqlstate == "23505"
    assert len(attempts) == 1


async def test_but_not_where_the_operation_would_find_the_row_now(database: Database, counter: str):
    attempts = []

    @upsert
    def put():
        attempts.append(1)
        there = yield from fetch_value("SELECT n FROM counter WHERE id = 3")
        if there is None:
            if len(attempts) == 1:
                admin(counter, "INSERT INTO counter VALUES (3, 7)")
            yield from execute("INSERT INTO counter VALUES (3, 1)")

    await database.arun(put())
    assert len(attempts) == 2
    assert count(counter, 3) == 7


async def test_other_errors_are_not_tried_again(database: Database):
    attempts = []

    @write
    def divide():
        attempts.append(1)
        yield from execute("SELECT 1 / 0")

    with pytest.raises(DatabaseError):
        await database.arun(divide())
    assert len(attempts) == 1


async def test_an_error_of_the_operations_own_rolls_back_and_rises(database, counter: str):
    @write
    def change_its_mind():
        yield from execute(ADD)
        raise LookupError("no")

    with pytest.raises(LookupError):
        await database.arun(change_its_mind())
    assert count(counter) == 0
    assert await database.arun(value("SELECT n FROM counter WHERE id = 1")) == 0


async def test_patience_has_an_end(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_retry, "CONFLICT_SECONDS", inf)
    attempts = []

    @write
    def always():
        attempts.append(1)
        yield from execute("DO $$ BEGIN RAISE serialization_failure; END $$")

    with pytest.raises(Conflict):
        await database.arun(always())
    assert len(attempts) == _retry.CONFLICT_ATTEMPTS


async def test_a_slow_operation_conflicts_no_more_often_than_others_fail(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(_retry, "CONFLICT_SECONDS", 0.0)
    attempts = []

    @write
    def always():
        attempts.append(1)
        yield from execute("DO $$ BEGIN RAISE deadlock_detected; END $$")

    with pytest.raises(Conflict):
        await database.arun(always())
    assert len(attempts) == _retry.ATTEMPTS


async def test_a_drop_stands_at_read_committed(counter: str):
    """A serializable transaction may fail at its commit, which a drop must not."""
    name = conninfo_to_dict(counter)["dbname"]
    admin(counter, f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")

    def level():
        return (yield from fetch_value("SHOW transaction_isolation"))

    async with Database(counter, max_size=1) as database:
        for way in (database.run, database.arun):
            for kind, expected in ((drop, "read committed"), (write, "serializable")):
                found = way(kind(level)())
                assert (found if isinstance(found, str) else await found) == expected


async def test_a_demoted_server_is_left_for_a_new_connection(counter: str):
    """As after a failover: old sessions refuse writes, new ones don't."""
    database_name = sql.Identifier(str(conninfo_to_dict(counter)["dbname"]))
    with closing(psycopg.connect(counter, autocommit=True)) as other:
        other.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(
                database_name
            )
        )
        with Database(counter, min_size=2) as database:
            other.execute(
                sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(
                    database_name
                )
            )
            attempts = []
            await database.arun(add_once(attempts))
            assert len(attempts) > 1
    assert count(counter) == 1


async def test_a_server_that_stays_read_only_is_asked_twice(counter: str):
    name = conninfo_to_dict(counter)["dbname"]
    admin(counter, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with Database(counter, min_size=2) as database:
        for run in (asyncio.to_thread, lambda run, op: database.arun(op)):
            attempts: list[int] = []
            with pytest.raises(Unavailable, match=r"read-only.*standby") as caught:
                await run(database.run, add_once(attempts))
            assert caught.value.sqlstate == "25006"
            assert len(attempts) == 2


async def test_each_retry_leaves_a_structured_record(database: Database, caplog):
    attempts = []

    @read
    def stumble():
        attempts.append(1)
        if len(attempts) < 3:
            yield from execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
        return (yield from fetch_value("SELECT 'done'"))

    with caplog.at_level(logging.WARNING, logger="a2rchi_pg.database"):
        assert await database.arun(stumble()) == "done"
    records = [record for record in caplog.records if record.name == "a2rchi_pg.database"]
    seen = [(record.op, record.attempt, record.sqlstate) for record in records]
    assert seen == [("stumble", 1, "40001"), ("stumble", 2, "40001")]
    assert all("trying again" in record.getMessage() for record in records)

"""Several operations in one transaction, from threads and from an event loop."""

# ruff: noqa: SIM117, TRY301 - what raises here is the end of a block, and blocks nest

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from a2rchi_pg import Collections, CollectionSpec, PostgresVectorStore
from a2rchi_pg._op import execute, write
from a2rchi_pg.database import Database
from a2rchi_pg.errors import (
    CommitUnknown,
    Conflict,
    DatabaseError,
    InvalidValue,
    NotOpen,
    SchemaOutOfDate,
)
from tests.database_support import (
    ENDLESS,
    Letters,
    admin,
    backends,
    commands,
    running,
    terminate,
    value,
    wait_until,
)
from tests.wire import wire

pytestmark = [pytest.mark.owner, pytest.mark.servers("embedded"), pytest.mark.timeout(60)]
COUNT = "SELECT count(*) FROM t"


@pytest.fixture
def table(dsn: str) -> str:
    """A database with an empty table."""
    admin(dsn, "CREATE TABLE t (id integer PRIMARY KEY)")
    return dsn


@write
def insert(id_: int):
    yield from execute("INSERT INTO t VALUES (%(id)s)", id=id_)


def test_commits_at_the_end_of_its_block_and_not_before(table: str):
    with Database(table) as database, database.transaction() as transaction:
        transaction.run(insert(1))
        transaction.run(insert(2))
        assert transaction.run(value(COUNT)) == 2
        assert admin(table, COUNT) == [(0,)]
    assert admin(table, COUNT) == [(2,)]


async def test_commits_at_the_end_of_its_block_in_an_event_loop(table: str):
    async with Database(table) as database:
        async with database.transaction() as transaction:
            await transaction.arun(insert(1))
            assert await transaction.arun(value(COUNT)) == 1
            assert await database.arun(value(COUNT)) == 0
        assert await database.arun(value(COUNT)) == 1


def test_rolls_back_when_its_block_raises(table: str):
    with Database(table) as database:
        with pytest.raises(LookupError), database.transaction() as transaction:
            transaction.run(insert(1))
            raise LookupError
        assert database.run(value(COUNT)) == 0


async def test_rolls_back_when_its_block_raises_in_an_event_loop(table: str):
    async with Database(table) as database:
        with pytest.raises(LookupError):
            async with database.transaction() as transaction:
                await transaction.arun(insert(1))
                raise LookupError
        assert await database.arun(value(COUNT)) == 0


def test_is_over_after_a_failed_operation(table: str):
    with Database(table) as database:
        with pytest.raises(DatabaseError, match="aborted"), database.transaction() as transaction:
            transaction.run(insert(1))
            with pytest.raises(Conflict):
                transaction.run(insert(1))
            transaction.run(insert(2))
        assert database.run(value(COUNT)) == 0


def test_a_failure_that_was_caught_is_not_committed_in_silence(table: str):
    with Database(table) as database:
        with pytest.raises(DatabaseError, match="rolled back"):
            with database.transaction() as transaction:
                transaction.run(insert(1))
                with pytest.raises(Conflict):
                    transaction.run(insert(1))
        assert database.run(value(COUNT)) == 0


def test_nothing_in_it_is_tried_again(table: str):
    attempts = []

    @write
    def fail():
        attempts.append(1)
        yield from execute("DO $$ BEGIN RAISE serialization_failure; END $$")

    with Database(table) as database:
        with pytest.raises(Conflict), database.transaction() as transaction:
            transaction.run(fail())
    assert len(attempts) == 1


def test_a_lost_connection_rolls_back_and_leaves_the_pool_usable(table: str):
    with Database(table, max_size=2) as database:
        with pytest.raises(DatabaseError), database.transaction() as transaction:
            transaction.run(insert(1))
            terminate(table, [transaction.run(value("SELECT pg_backend_pid()"))])
            transaction.run(insert(2))
        assert database.run(value(COUNT)) == 0


async def test_a_commit_without_an_answer_is_said_to_be_in_doubt(table: str):
    with wire(table) as cable:
        with Database(cable.dsn) as database:
            cable.cut_at = b"COMMIT"
            with pytest.raises(CommitUnknown), database.transaction() as transaction:
                transaction.run(insert(1))
        cable.cut_at = None
        async with Database(cable.dsn) as database:
            cable.cut_at = b"COMMIT"
            with pytest.raises(CommitUnknown):
                async with database.transaction() as transaction:
                    await transaction.arun(insert(2))
    assert admin(table, COUNT) == [(2,)]


def test_a_constraint_checked_at_commit_is_reported_as_ours(table: str):
    admin(table, "ALTER TABLE t ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED")
    admin(table, "ALTER TABLE t DROP CONSTRAINT t_pkey")
    with Database(table) as database, pytest.raises(Conflict):
        with database.transaction() as transaction:
            transaction.run(insert(1))
            transaction.run(insert(1))
    assert admin(table, COUNT) == [(0,)]


def test_is_of_no_use_outside_its_block(table: str):
    with Database(table) as database:
        transaction = database.transaction()
        with pytest.raises(NotOpen, match="inside"):
            transaction.run(insert(1))
        with transaction:
            transaction.run(insert(1))
        with pytest.raises(NotOpen, match="inside"):
            transaction.run(insert(2))


async def test_an_asynchronous_one_needs_its_database_open(table: str):
    with Database(table) as database, pytest.raises(NotOpen, match="async with"):
        async with database.transaction():
            pass


async def test_from_a_with_block_its_arun_works_in_a_thread(table: str):
    with Database(table) as database, database.transaction() as transaction:
        await transaction.arun(insert(1))
        assert await transaction.arun(value(COUNT)) == 1
    assert admin(table, COUNT) == [(1,)]


def test_two_at_once_have_a_connection_each(table: str):
    with Database(table) as database:
        with database.transaction() as one, database.transaction() as other:
            one.run(insert(1))
            other.run(insert(2))
            pids = {t.run(value("SELECT pg_backend_pid()")) for t in (one, other)}
            assert len(pids) == 2
        assert database.run(value(COUNT)) == 2


# As what a store or a repository works through


def test_a_store_in_it_writes_together_with_the_host(table: str):
    with Database(table) as database:
        with database.transaction() as transaction:
            store = PostgresVectorStore(Letters(), database=transaction, collection="notes")
            ids = store.add_texts(["a red fox", "a blue whale"])
            transaction.run(insert(1))
            assert [d.id for d in store.similarity_search("a red fox", k=1)] == ids[:1]
            assert Collections(database).get("notes") is None
        outside = PostgresVectorStore(Letters(), database=database, collection="notes")
        assert outside.count() == 2


def test_and_leaves_nothing_when_the_host_fails(table: str):
    with Database(table) as database:
        Collections(database).create(CollectionSpec(name="notes"), 26)
        with pytest.raises(InvalidValue), database.transaction() as transaction:
            store = PostgresVectorStore(Letters(), database=transaction, collection="notes")
            store.add_texts(["a red fox"])
            transaction.run(commands("SELECT 1 / 0"))
        outside = PostgresVectorStore(Letters(), database=database, collection="notes")
        assert outside.count() == 0


async def test_a_store_works_in_an_asynchronous_one(table: str):
    async with Database(table) as database:
        for text, fails in (("kept", False), ("dropped", True)):
            try:
                async with database.transaction() as transaction:
                    store = PostgresVectorStore(Letters(), database=transaction)
                    await store.aadd_texts([text])
                    if fails:
                        raise LookupError
            except LookupError:
                pass
        outside = PostgresVectorStore(Letters(), database=database)
        found = await outside.asimilarity_search("kept", k=5)
    assert [document.page_content for document in found] == ["kept"]


async def test_a_cancelled_one_rolls_back(table: str):
    async with Database(table, max_size=1) as database:

        async def work():
            async with database.transaction() as transaction:
                await transaction.arun(insert(1))
                await transaction.arun(value(ENDLESS))

        task = asyncio.create_task(work())
        await asyncio.to_thread(wait_until, lambda: running(table, ENDLESS) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await database.arun(value(COUNT)) == 0
    wait_until(lambda: backends(table) == [])


# What a rolled back one leaves behind


@pytest_asyncio.fixture(params=["threads", "event loop"])
async def single(table: str, request: pytest.FixtureRequest):
    """A database with one connection, opened in either way, and a collection in it."""
    with Database(table) as database:
        Collections(database).create(CollectionSpec(name="notes"), 26)
    database = Database(table, max_size=1)
    if request.param == "event loop":
        async with database:
            yield database
    else:
        with database:
            yield database


async def test_a_connection_survives_a_rollback_and_hears_a_time_out(single: Database, caplog):
    before = await single.arun(value("SELECT pg_backend_pid()"))
    with pytest.raises(LookupError):
        if single._apools is None:
            with single.transaction() as transaction:
                notes = PostgresVectorStore(Letters(), database=transaction, collection="notes")
                notes.add_texts(["a red fox"])
                raise LookupError
        async with single.transaction() as transaction:
            notes = PostgresVectorStore(Letters(), database=transaction, collection="notes")
            await notes.aadd_texts(["a red fox"])
            raise LookupError
    with pytest.raises(DatabaseError) as caught:
        await single.arun(commands("SET LOCAL statement_timeout = '50ms'", "SELECT pg_sleep(3)"))
    assert caught.value.sqlstate == "57014"
    assert await single.arun(value("SELECT pg_backend_pid()")) == before
    notes = PostgresVectorStore(Letters(), database=single, collection="notes")
    await notes.aadd_texts(["a blue fox"])
    assert [d.page_content for d, _ in await notes.abm25_search("fox")] == ["a blue fox"]
    assert caplog.records == []


async def test_an_ordinary_error_is_no_reason_to_warn(single: Database, empty_dsn: str, caplog):
    @write
    def change_its_mind():
        yield from execute("INSERT INTO t VALUES (1)")
        raise LookupError

    for op, error in (
        (commands("SELECT 1 / 0"), InvalidValue),
        (value("SELECT 1 / 0"), InvalidValue),
        (change_its_mind(), LookupError),
    ):
        with pytest.raises(error):
            await single.arun(op)
    with pytest.raises(SchemaOutOfDate):
        Database(empty_dsn).open()
    with pytest.raises(SchemaOutOfDate):
        await Database(empty_dsn).aopen()
    assert caplog.records == []

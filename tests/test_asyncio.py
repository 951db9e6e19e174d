"""Event loops: those that end too early, those that are not the pool's, and cancelled work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg.errors import NotOpen
from tests.database_support import (
    ENDLESS,
    WAIT,
    Letters,
    backends,
    commands,
    nobody_gets_on,
    running,
    value,
    wait_until,
    waiting,
)

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(60)]
PID = "SELECT pg_backend_pid()"
PROGRAM = """\
import asyncio, sys
from a2rchi_pg import Database, PostgresVectorStore
from tests.database_support import Letters, value

async def main():
    database = Database(sys.argv[1])
    store = PostgresVectorStore(Letters(), database=database)
{body}

{run}
print("done")
"""
LEFT_OPEN = {
    "opened by first use": "    await store.aadd_texts(['x'])",
    "opened for the loop": "    await database.aopen(); await store.aadd_texts(['x'])",
    "opened for both": "    await database.aopen(); database.open(); await store.aadd_texts(['x'])",
    "failed inside": """\
    await database.aopen()
    task = asyncio.create_task(database.arun(value("SELECT pg_sleep(30)")))
    await asyncio.sleep(0.2)""",
}
RUNS = {"once": "asyncio.run(main())", "twice": "asyncio.run(main()); asyncio.run(main())"}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("body", LEFT_OPEN.values(), ids=LEFT_OPEN)
def test_a_database_left_open_does_not_keep_the_process(dsn: str, body: str, run: str):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, run=run), dsn],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    wait_until(lambda: backends(dsn) == [])


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_pool_left_by_a_loop_that_ended_is_replaced(dsn: str):
    database = Database(dsn)

    async def leave_open():
        await database.aopen()
        return await database.arun(value("SELECT 1"))

    async def use():
        async with database:
            return await database.arun(value("SELECT 2"))

    assert asyncio.run(leave_open()) == 1
    assert asyncio.run(asyncio.wait_for(use(), 10)) == 2
    assert asyncio.run(asyncio.wait_for(use(), 10)) == 2


async def test_without_async_with_the_work_is_done_in_a_thread(dsn: str):
    with Database(dsn) as database:
        with nobody_gets_on(dsn):
            work = asyncio.create_task(database.arun(value(WAIT)))
            await asyncio.to_thread(wait_until, lambda: waiting(dsn) == 1)
        await work


async def test_another_loop_gets_the_threads_pool(dsn: str):
    async with Database(dsn, max_size=1) as database:
        mine = await database.arun(value(PID))

        async def elsewhere():
            return await database.arun(value(PID))

        theirs = await asyncio.to_thread(asyncio.run, elsewhere())
        assert theirs != mine
        assert await database.arun(value(PID)) == mine


async def test_another_loop_closes_no_pool_but_its_own(dsn: str):
    async with Database(dsn) as database:
        mine = await database.arun(value(PID))

        async def elsewhere():
            async with database:
                return await database.arun(value("SELECT 1"))

        assert await asyncio.to_thread(asyncio.run, asyncio.wait_for(elsewhere(), 10)) == 1
        assert await database.arun(value(PID)) == mine


async def test_threads_and_the_loop_use_it_at_once(dsn: str):
    async with Database(dsn) as database:
        store = PostgresVectorStore(Letters(), database=database)
        await asyncio.gather(
            *(store.aadd_texts([f"from the loop {n}"]) for n in range(5)),
            *(asyncio.to_thread(store.add_texts, [f"from a thread {n}"]) for n in range(5)),
        )
        assert await store.acount() == 10


async def test_queries_of_a_loop_run_side_by_side(dsn: str):
    async with Database(dsn, max_size=10, min_size=10) as database:
        before = threading.active_count()
        with nobody_gets_on(dsn):
            work = [asyncio.create_task(database.arun(value(WAIT))) for _ in range(10)]
            await asyncio.to_thread(wait_until, lambda: waiting(dsn) == 10)
            assert threading.active_count() < before + 10
        await asyncio.gather(*work)


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
async def test_a_cancelled_operation_leaves_the_pool_usable(dsn: str, write: bool):
    op = commands(ENDLESS) if write else value(ENDLESS)
    async with Database(dsn, max_size=2) as database:
        for _ in range(3):
            tasks = [asyncio.create_task(database.arun(op)) for _ in range(2)]
            await asyncio.to_thread(wait_until, lambda: running(dsn, ENDLESS) == 2)
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in done)
        assert (
            await asyncio.gather(*(database.arun(value("SELECT 1")) for _ in range(4))) == [1] * 4
        )


async def test_a_timeout_ends_the_query_on_the_server_too(dsn: str):
    async with Database(dsn) as database:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(database.arun(value(ENDLESS)), 0.3)
        await asyncio.to_thread(wait_until, lambda: running(dsn, ENDLESS) == 0)


async def test_after_closing_it_is_an_error_and_no_hang(dsn: str):
    async with Database(dsn, max_size=1) as database:
        await database.arun(value("SELECT 1"))
    with pytest.raises(NotOpen):
        await asyncio.wait_for(database.arun(value("SELECT 1")), 5)

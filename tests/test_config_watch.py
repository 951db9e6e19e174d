"""Other processes hear of a change: by NOTIFY on a direct connection, by asking behind a pooler."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import SYSTEM, ConfigRepository, Database
from a2rchi_pg.errors import InvalidInput
from tests.database_support import admin, backends, terminate, wait_until
from tests.plugins.servers import EXTERNAL
from tests.test_pooler import pgbouncer, pooled

if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["pgbouncer"]
pytestmark = pytest.mark.timeout(300)  # a pooler may have to be installed
Config = ConfigRepository["DynamicConfig"]

# Never, for a test: what is heard of all the same was not found by asking.
RARELY = "3600"
OTHER_PROCESS = """
import sys
from a2rchi_pg import ConfigRepository, Database

dsn, interval, pooler = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "pooler"
with Database(dsn, pooler=pooler) as database:
    config = ConfigRepository(database, cache_seconds=3600)
    static = lambda: config.get_static_config()

    def tell():
        found = static()
        print(config.get_dynamic_config().verbosity, found and found.deployment_name, flush=True)

    tell()
    config.watch(tell, interval=interval)
"""


@contextmanager
def another_process(dsn: str, interval: str, how: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", OTHER_PROCESS, dsn, interval, how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def listening(dsn: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
    return int(admin(dsn, query)[0][0])


def test_c9_another_process_hears_of_both_configurations_at_once(config: Config, common_dsn: str):
    with another_process(common_dsn, RARELY, "direct") as other:
        assert says(other) == "3 None"
        wait_until(lambda: listening(common_dsn))
        config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
        assert says(other) == "1 None"
        config.load_static_config({"deployment_name": "here", "embedding_model": "m"})
        assert says(other) == "1 here"


@pytest.mark.servers("embedded", "plain")
@pytest.mark.skipif(bool(EXTERNAL), reason="this pooler has no password for a foreign server")
def test_behind_a_pooler_it_is_found_by_asking(config: Config, common_dsn: str, pgbouncer: str):
    with (
        pooled(pgbouncer, common_dsn, 2) as through,
        another_process(through, "0.2", "pooler") as other,
    ):
        assert says(other) == "3 None"
        config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
        assert says(other) == "1 None"
        assert listening(common_dsn) == 0


@contextmanager
def watched(database: Database, **how) -> Iterator[list[int]]:
    """The verbosities that a thread of this process was told of."""
    told: list[int] = []
    over = threading.Event()
    config = ConfigRepository(database, cache_seconds=3600)
    thread = threading.Thread(
        target=config.watch,
        args=(lambda: told.append(config.get_dynamic_config().verbosity),),
        kwargs={"until": over.is_set, **how},
    )
    thread.start()
    try:
        yield told
    finally:
        over.set()
        config.update_dynamic_config({"verbosity": 5}, updated_by=SYSTEM)  # wakes who listens
        thread.join()


def test_a_direct_way_past_the_pooler_is_listened_on(config: Config, common_dsn: str):
    with (
        Database(common_dsn, pooler=True) as database,
        watched(database, interval=float(RARELY), direct_dsn=common_dsn) as told,
    ):
        wait_until(lambda: listening(common_dsn))
        config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
        wait_until(lambda: told == [1])


def test_a_connection_that_was_lost_is_made_again(config: Config, common_dsn: str):
    with (
        Database(common_dsn, application_name="the watcher") as database,
        watched(database, interval=0.2) as told,
    ):
        wait_until(lambda: listening(common_dsn))
        terminate(common_dsn, backends(common_dsn, "the watcher"))
        config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
        wait_until(lambda: told == [1])
        wait_until(lambda: listening(common_dsn))


async def test_an_event_loop_watches_until_it_is_cancelled(config: Config, common_dsn: str):
    told: asyncio.Queue[int] = asyncio.Queue()
    async with Database(common_dsn) as database:
        mine = ConfigRepository(database, cache_seconds=3600)

        async def tell() -> None:
            await told.put((await mine.aget_dynamic_config()).verbosity)

        watching = asyncio.create_task(mine.awatch(tell, interval=3600))
        async with asyncio.timeout(60):
            await asyncio.to_thread(wait_until, lambda: listening(common_dsn))
            await asyncio.to_thread(
                config.update_dynamic_config, {"verbosity": 1}, updated_by=SYSTEM
            )
            assert await told.get() == 1
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
    assert listening(common_dsn) == 0


def test_what_a_callback_raises_is_not_swallowed(config: Config, fresh: Database):
    def fail() -> None:
        raise ZeroDivisionError

    def change() -> bool:
        config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
        return False

    with pytest.raises(ZeroDivisionError):
        ConfigRepository(fresh).watch(fail, interval=0.1, until=change)


def test_a_transaction_can_not_be_watched_from(fresh: Database):
    with (
        fresh.transaction() as transaction,
        pytest.raises(InvalidInput, match="Database"),
    ):
        ConfigRepository(transaction).watch(lambda: None)


@pytest.mark.parametrize("interval", [0, -1, float("nan"), "1", None])
def test_watching_takes_an_interval(config: Config, interval: Any):
    with pytest.raises(InvalidInput, match=r"interval must be a number of at least 0\.01"):
        config.watch(lambda: None, interval=interval)


def test_what_changed_between_reading_and_watching_is_told(config: Config, common_dsn: str):
    with Database(common_dsn, pooler=True) as database:
        reader = ConfigRepository(database, cache_seconds=3600)
        before = reader.get_dynamic_config().verbosity
        config.update_dynamic_config({"verbosity": before + 1}, updated_by=SYSTEM)
        told: list[int] = []
        reader.watch(
            lambda: told.append(reader.get_dynamic_config().verbosity),
            interval=0.01,
            until=lambda: bool(told),
        )
        assert told == [before + 1]

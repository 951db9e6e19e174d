"""A forked child has a pool of its own and leaves its parent's connections alone."""

from __future__ import annotations

import json
import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import Database, NotOpen, Unavailable
from a2rchi_pg.embedded._process import find_postmaster
from tests.database_support import admin, backends, commands, value, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.servers("embedded"),
    pytest.mark.timeout(90),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]
PID = "SELECT pg_backend_pid()"


class Child:
    """Does some work in a forked process; ``result`` is what it returned, or its error's name."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                answer = work()
            except BaseException as error:  # noqa: BLE001 - the parent sees it
                answer = repr(error)
            with suppress(BaseException):
                os.write(writer, json.dumps(answer).encode())
            os._exit(0)
        os.close(writer)

    def result(self) -> Any:
        ready, _, _ = select.select([self._reader], [], [], 30)
        if not ready:
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        with os.fdopen(self._reader, "rb") as reader:
            assert ready, "the child hangs"
            return json.loads(reader.read())


def test_children_and_parent_do_not_share_connections(dsn: str):
    with Database(dsn, min_size=2) as database:
        parents = backends(dsn)

        def work() -> list[int]:
            pids = {database.run(value(PID)) for _ in range(20)}
            for number in range(50):
                assert database.run(value("SELECT %(n)s::int", n=number)) == number
            database.close()
            with suppress(NotOpen):
                database.run(value(PID))
                return []
            return sorted(pids)

        children = [Child(work) for _ in range(3)]
        for number in range(200):
            assert database.run(value("SELECT %(n)s::int", n=number)) == number
        theirs = [child.result() for child in children]
        assert all(isinstance(pids, list) and pids for pids in theirs), theirs
        assert not {pid for pids in theirs for pid in pids} & set(parents)
        assert set(parents) <= set(backends(dsn))
        assert database.run(value(PID)) in parents


@pytest.mark.owner
def test_a_transaction_stays_its_parents(dsn: str):
    admin(dsn, "CREATE TABLE t (id integer)")
    with Database(dsn) as database:
        with database.transaction() as transaction:
            transaction.run(commands("INSERT INTO t VALUES (1)"))

            def work() -> str:
                answer = "ran"
                try:
                    transaction.run(value(PID))
                except Unavailable:
                    answer = "unavailable"
                with suppress(Unavailable):
                    transaction.__exit__(None, None, None)
                return answer

            assert Child(work).result() == "unavailable"
            transaction.run(commands("INSERT INTO t VALUES (2)"))
        assert database.run(value("SELECT count(*) FROM t")) == 2


async def test_an_event_loops_connections_stay_its_parents(dsn: str):
    async with Database(dsn) as database:
        mine = await database.arun(value(PID))
        theirs = Child(lambda: database.run(value(PID))).result()
        assert isinstance(theirs, int)
        assert theirs != mine
        assert await database.arun(value(PID)) == mine


def test_an_embedded_server_stays_while_the_parent_has_it(server_path: Path):
    with Database.embedded(server_path) as database:
        database.run(value(PID))

        def work() -> int:
            pid = database.run(value(PID))
            database.close()
            return pid

        assert isinstance(Child(work).result(), int)
        assert isinstance(database.run(value(PID)), int)
    wait_until(lambda: find_postmaster(server_path / "data") is None)

"""A database whose embedded server was killed starts it again, whatever is left of its pool."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Database, EmbeddedError
from a2rchi_pg.embedded._process import find_postmaster
from tests.database_support import commands, value, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(90)


def kill_server(path: Path) -> None:
    postmaster = find_postmaster(path / "data")
    assert postmaster is not None
    os.kill(postmaster.pid, signal.SIGKILL)
    wait_until(lambda: find_postmaster(path / "data") is None)


def test_a_server_lost_while_the_pool_is_empty_is_started_again(server_path: Path):
    with Database.embedded(server_path, min_size=0, check_schema=False) as database:
        kill_server(server_path)
        database.run(commands("CREATE TABLE t (id integer)"))
        assert database.run(value("SELECT count(*) FROM t")) == 0


async def test_a_server_lost_while_a_loops_pool_is_empty_is_started_again(server_path: Path):
    async with Database.embedded(server_path, min_size=0, check_schema=False) as database:
        kill_server(server_path)
        assert await database.arun(value("SELECT 1")) == 1


def test_one_that_cant_be_started_says_so_and_is_tried_at_the_next_call(server_path: Path):
    with Database.embedded(server_path, min_size=0, timeout=2, check_schema=False) as database:
        version = server_path / "data/PG_VERSION"
        right = version.read_text()
        kill_server(server_path)
        version.write_text("9")
        with pytest.raises(EmbeddedError, match="PostgreSQL 9"):
            database.run(value("SELECT 1"))
        version.write_text(right)
        assert database.run(value("SELECT 1")) == 1

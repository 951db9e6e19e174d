"""A server older than what the package needs, where the machine has one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.database_support import admin, wait_until
from tests.plugins.servers import passable_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

OLD = sorted(Path("/usr/lib/postgresql").glob("1[0-6]/bin/initdb"))


@pytest.fixture
def old_server() -> Iterator[str]:
    """PostgreSQL before 17, as Debian packages it; `MINIMUM_SERVER` has a test without it too."""
    if not OLD or os.geteuid() != 0:
        pytest.skip("no PostgreSQL before 17 in /usr/lib/postgresql, or not root to run it")
    binaries, account = OLD[-1].parent, pwd.getpwnam("nobody")
    with passable_folder() as folder:
        shutil.chown(folder, "nobody")
        as_nobody = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        initdb = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run(initdb, check=True, timeout=60, **as_nobody, **quiet)
        command = [binaries / "postgres", "-D", folder / "data", "-k", folder, "-h", "", "-F"]
        process = subprocess.Popen(command, **as_nobody, **quiet)
        try:
            dsn = f"host={folder} user=postgres dbname=postgres"
            wait_until(lambda: answers(dsn))
            yield dsn
        finally:
            process.terminate()
            process.wait(20)


def answers(dsn: str) -> bool:
    try:
        return admin(dsn, "SELECT 1") == [(1,)]
    except psycopg.OperationalError:
        return False

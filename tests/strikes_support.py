"""Blows in the midst of a migration, at a chosen round trip to its target, not by the clock."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from a2rchi_pg._connection import PooledConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Imports once, and forks a command for each line: it kills itself where the line says.
FORKING = """
import json, os, signal, sys
from contextlib import suppress
from a2rchi_pg.migrate.__main__ import main
from tests.strikes_support import struck
with suppress(ImportError):
    import chromadb
for line in sys.stdin:
    arguments, at, late = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        with struck(lambda: os.kill(os.getpid(), signal.SIGKILL), at, late=late):
            os._exit(main(arguments))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@contextmanager
def struck(
    blow: Callable[[], object] = lambda: None, at: int = 0, *, late: bool = False
) -> Iterator[list[int]]:
    """Strike at the round trip of that number: while it is on its way or, ``late``, after it.

    Commits are round trips as statements are. Yields the numbers of those that were made.
    """
    made: list[int] = []
    wait = PooledConnection.wait

    def counting(self: PooledConnection, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():  # the pool's own work
            return wait(self, *args, **kwargs)
        made.append(number := len(made) + 1)
        if number == at and not late:
            blow()
        result = wait(self, *args, **kwargs)
        if number == at and late:
            blow()
        return result

    with patch.object(PooledConnection, "wait", counting):
        yield made


@contextmanager
def killed_commands() -> Iterator[Callable[[Sequence[str], int, bool], int]]:
    """Runs a command in a process that kills itself at a round trip; gives what it ended with."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", FORKING]
    where = Path(__file__).parent.parent
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=where) as process:

        def run(arguments: Sequence[str], at: int, late: bool) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps([list(arguments), at, late]), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield run

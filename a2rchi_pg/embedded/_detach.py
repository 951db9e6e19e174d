"""Run by its path, as a program: leave the caller, then become postgres or the watcher.

The caller waits for the first process only, which ends at once; what goes on belongs to no
client, so no client leaves a zombie or takes it along with a Ctrl-C. Nothing is imported
that a start would have to wait for.
"""

from __future__ import annotations

import os
import sys
import types
from os.path import dirname


def main() -> None:
    """Leave the caller's session, then play the role that is asked for."""
    role, *arguments = sys.argv[1:]
    if os.fork():
        os._exit(0)
    os.setsid()
    if role == "serve":
        _serve(*arguments)
    else:
        _watch(*arguments)


def _serve(uid: str, gid: str, directory: str, *command: str) -> None:
    # Entered before the account changes: the server's account may not be able to walk there.
    os.chdir(directory)
    if int(uid) != os.geteuid():
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    os.execv(command[0], command)  # noqa: S606 -- no shell is the point


def _watch(root: str, watch: str) -> None:
    # Bare packages stand in for the real ones, whose __init__ would keep LangChain in memory.
    here = dirname(__file__)  # noqa: PTH120 -- pathlib costs a start 15 ms
    for name, path in (("a2rchi_pg", dirname(here)), ("a2rchi_pg.embedded", here)):  # noqa: PTH120 -- same
        sys.modules[name] = package = types.ModuleType(name)
        package.__path__ = [path]
    from a2rchi_pg.embedded._watch import watch_until_unused  # noqa: PLC0415 -- needs the above

    watch_until_unused(root, int(watch))


if __name__ == "__main__":
    main()

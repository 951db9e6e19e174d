"""``python -m a2rchi_pg.embedded``: the embedded server for shells and other programs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg.embedded import EmbeddedPostgres
from a2rchi_pg.embedded._client import stop_if_last
from a2rchi_pg.embedded._locks import Layout, is_free, save
from a2rchi_pg.embedded._process import find_postmaster
from a2rchi_pg.embedded._status import inspect
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_STOPPED = 3
_EXIT_CODES = """\
exit codes:
  0  done; for status and dsn: it runs (or, for status, is starting)
  1  it failed, and one line on stderr says why
  2  the command line can't be understood
  3  status, dsn: it does not run
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    chosen = parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = chosen.command
    try:
        return command(chosen)
    except (EmbeddedError, OSError) as error:
        print(f"error: {' | '.join(str(error).splitlines())}", file=sys.stderr)  # noqa: T201 -- a command line speaks
        return 1


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    main = argparse.ArgumentParser(
        prog="python -m a2rchi_pg.embedded",
        description="Start, stop and look at the PostgreSQL that lives in a directory.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main.add_subparsers(required=True, metavar="COMMAND")
    start = _add(commands, "start", _start, "start it, keep it running until stop, print its DSN")
    start.add_argument("--tcp", action="store_true", help="listen on 127.0.0.1 too; print that DSN")
    start.add_argument("--binaries", help="a PostgreSQL 17 installation directory")
    start.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", type=_setting)
    start.add_argument("--timeout", type=float, default=300.0, help="seconds (default %(default)s)")
    _add(commands, "stop", _stop, "stop keeping it: it ends now, or with its last client")
    _add(commands, "status", _status, "say whether it runs, for whom, and where")
    _add(commands, "dsn", _dsn, "print the DSN of the running server")
    return main


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=command)
    parser.add_argument("path", metavar="PATH", type=_layout, help="the server's directory")
    return parser


def _layout(path: str) -> Layout:
    return Layout(Path(os.path.realpath(path)))


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _start(chosen: argparse.Namespace) -> int:
    layout: Layout = chosen.path
    with EmbeddedPostgres(
        layout.root,
        binaries=chosen.binaries,
        settings=dict(chosen.set),
        tcp=chosen.tcp,
        start_timeout=chosen.timeout,
    ) as server:
        running = find_postmaster(layout.data)
        if running is None:
            raise EmbeddedError(f"the server of {layout.root} ended as soon as it had started")
        save(layout.keep, running.run_id)
        _say((chosen.tcp and server.tcp_dsn) or server.dsn)
    return 0


def _stop(chosen: argparse.Namespace) -> int:
    layout: Layout = chosen.path
    if is_free(layout.lock("server")):
        return _say("not running")
    layout.keep.unlink(missing_ok=True)
    stop_if_last(layout)
    if is_free(layout.lock("server")):
        return _say("stopped")
    left = inspect(layout)
    count = "some" if left is None or left.clients is None else left.clients
    return _say(f"still used by {count} client(s); it ends when they leave")


def _status(chosen: argparse.Namespace) -> int:
    status = inspect(chosen.path)
    if status is None:
        _say("stopped")
        return _STOPPED
    clients = "unknown" if status.clients is None else status.clients
    _say("running" if status.ready else "starting")
    _say(f"pid      {status.pid}")
    _say(f"version  {status.version}")
    _say(f"clients  {clients}{' (and kept until stop)' if status.kept else ''}")
    return _say(f"dsn      {status.dsn}")


def _dsn(chosen: argparse.Namespace) -> int:
    status = inspect(chosen.path)
    if status is None or not status.ready:
        print("error: not running", file=sys.stderr)  # noqa: T201 -- a command line speaks
        return _STOPPED
    return _say(status.dsn)


def _say(text: str) -> int:
    print(text)  # noqa: T201 -- a command line speaks
    return 0


if __name__ == "__main__":
    sys.exit(main())

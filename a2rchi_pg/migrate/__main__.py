"""``python -m a2rchi_pg.migrate``: the command line.

Exit codes: 0 done (``status``: up to date; ``verify``: no differences), 1 an error (on stderr),
2 wrong usage, 3 ``status`` found migrations to apply, 4 ``verify`` found differences or
``rollback`` left rows that were changed since, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from a2rchi_pg import _schema
from a2rchi_pg.database import DSN_VARIABLE
from a2rchi_pg.errors import A2rchiError
from a2rchi_pg.migrate import _data
from a2rchi_pg.migrate._output import say, say_json

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, PENDING, STOPPED = 0, 1, 3, 130


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    main = argparse.ArgumentParser(prog="python -m a2rchi_pg.migrate", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)
    schema = commands.add_parser("schema", help="apply the schema migrations that are missing")
    schema.add_argument("--dry-run", action="store_true", help="only say what would be applied")
    schema.add_argument("--to", type=int, metavar="N", help="stop after migration N")
    status = commands.add_parser("status", help="list the migrations and which are applied")
    for command in (schema, status, *_data.add_commands(commands)):
        command.add_argument(
            "--target",
            metavar="DSN",
            default=os.environ.get(DSN_VARIABLE, ""),
            help=f"the database (default: ${DSN_VARIABLE}, then libpq's PG* variables)",
        )
        command.add_argument("--schema", metavar="NAME", help="the schema that holds the tables")
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="write JSON")
    return main


def _apply(arguments: argparse.Namespace) -> int:
    applied = _schema.migrate(
        arguments.target, schema=arguments.schema, to=arguments.to, dry_run=arguments.dry_run
    )
    if arguments.json:
        say_json([{"number": each.number, "name": each.name} for each in applied])
        return DONE
    verb = "would apply" if arguments.dry_run else "applied"
    for migration in applied:
        say(f"{verb} {migration.name}")
    if not applied:
        say("the schema is up to date")
    return DONE


def _status(arguments: argparse.Namespace) -> int:
    rows = [_state(*row) for row in _schema.status(arguments.target, schema=arguments.schema)]
    if arguments.json:
        say_json(rows)
    else:
        for row in rows:
            say(f"{row['state']}  {row['name']}{' (by hand)' if row['by_hand'] else ''}")
    return PENDING if any(row["state"] == "pending" for row in rows) else DONE


def _state(migration: _schema.Migration, applied: _schema.Applied | None) -> dict[str, Any]:
    return {
        "number": migration.number,
        "name": migration.name,
        "state": "pending" if applied is None else "applied",
        "by_hand": applied is not None and applied.checksum is None,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parser().parse_args(argv)
    try:
        match arguments.command:
            case "schema":
                return _apply(arguments)
            case "status":
                return _status(arguments)
            case _:
                return _data.execute(arguments)
    except A2rchiError as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write(
            "stopped: what was stored stays, and the same command goes on from there\n"
        )
        return STOPPED


if __name__ == "__main__":
    sys.exit(main())

"""``python -m a2rchi_pg.keys``: make an encryption key, rotate to it, see what is on which.

Keys come from ``BYOK_ENCRYPTION_KEY`` (or ``…_FILE``), newest first. To change the key,
``generate`` one, put it in front of the old, restart the application with both, ``rotate``, and
take the old away once ``status`` no longer shows it. Exit codes: 0 done, 1 an error (on stderr),
2 wrong usage, 3 some keys can't be decrypted (``rotate``) or are not on the newest (``status``).
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from a2rchi_pg._local_key import generate_key
from a2rchi_pg._rotation import DEFAULT_BATCH
from a2rchi_pg.database import DSN_VARIABLE, Database
from a2rchi_pg.errors import A2rchiError
from a2rchi_pg.keyring import KeyRing
from a2rchi_pg.users import UserRepository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._rotation import Rotation

DONE, FAILED, LEFT = 0, 1, 3


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    main = argparse.ArgumentParser(
        prog="python -m a2rchi_pg.keys",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = main.add_subparsers(dest="command", required=True)
    commands.add_parser("generate", help="print a new key")
    rotate = commands.add_parser("rotate", help="bring every stored key onto the newest one")
    rotate.add_argument("--dry-run", action="store_true", help="write nothing")
    rotate.add_argument("--batch-size", type=int, default=DEFAULT_BATCH, metavar="N")
    status = commands.add_parser("status", help="how many stored keys are on which")
    for command in (rotate, status):
        command.add_argument("--pgcrypto", action="store_true", help="the format that is written")
        command.add_argument(
            "--target",
            metavar="DSN",
            default=os.environ.get(DSN_VARIABLE, ""),
            help=f"the database (default: ${DSN_VARIABLE}, then libpq's PG* variables)",
        )
        command.add_argument("--schema", metavar="NAME", help="the schema that holds the tables")
    return main


def _rotate(users: UserRepository, arguments: argparse.Namespace) -> int:
    verb = "would rotate" if arguments.dry_run else "rotated"

    def say(done: Rotation) -> None:
        _say(f"{verb} {done.rotated} of {done.total}")

    done = users.rotate_api_keys(
        batch_size=arguments.batch_size, dry_run=arguments.dry_run, progress=say
    )
    for user_id, provider in done.failed:
        _say(f"can't be decrypted: user {user_id!r}, {provider}")
    if done.total == 0:
        _say("every key is on the newest one")
    return LEFT if done.failed else DONE


def _status(users: UserRepository, ring: KeyRing) -> int:
    rows = users.api_key_status()
    for row in rows:
        known = "" if row.key_id is None or row.key_id in ring.ids else "  (not in the ring)"
        _say(f"{row.keys:8}  {row.format:8}  {row.key_id or '-'}{known}")
    return DONE if all((row.format, row.key_id) == ring.current for row in rows) else LEFT


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = parser().parse_args(argv)
    if arguments.command == "generate":
        _say(generate_key())
        return DONE
    try:
        ring = KeyRing.from_env(write_format="pgcrypto" if arguments.pgcrypto else "aesgcm")
        with Database(arguments.target, schema=arguments.schema) as database:
            users = UserRepository(database, ring)
            if arguments.command == "rotate":
                return _rotate(users, arguments)
            return _status(users, ring)
    except A2rchiError as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED


if __name__ == "__main__":
    sys.exit(main())

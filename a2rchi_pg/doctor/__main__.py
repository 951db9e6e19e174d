"""``python -m a2rchi_pg.doctor``: what is wrong with a database, and the command that mends it.

Exit codes: 0 nothing is wrong (notes don't count), 1 the database can't be examined (on stderr),
2 wrong usage, 3 there are warnings, 4 there are errors. The key ring is read from
BYOK_ENCRYPTION_KEY, as everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from a2rchi_pg._arguments import number, whole
from a2rchi_pg.database import DSN_VARIABLE, Database
from a2rchi_pg.doctor._examination import SAMPLE, TARGET, examine
from a2rchi_pg.errors import A2rchiError
from a2rchi_pg.keyring import KEY_VARIABLE, KeyRing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg.doctor._finding import Finding

HEALTHY, FAILED, WARNINGS, ERRORS = 0, 1, 3, 4
_MAX_SAMPLE = 10_000


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    main = argparse.ArgumentParser(
        prog="python -m a2rchi_pg.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument(
        "--target",
        metavar="DSN",
        default=os.environ.get(DSN_VARIABLE, ""),
        help=f"the database (default: ${DSN_VARIABLE}, then libpq's PG* variables)",
    )
    main.add_argument("--schema", metavar="NAME", help="the schema that holds the tables")
    main.add_argument("--pooler", action="store_true", help="the DSN leads to a pooler")
    main.add_argument("--json", action="store_true", help="print the findings as JSON")
    main.add_argument(
        "--sample", type=int, default=SAMPLE, metavar="N", help="chunks to search for"
    )
    main.add_argument(
        "--recall", type=float, default=TARGET, metavar="R", help="the least accepted"
    )
    return main


def main(argv: Sequence[str] | None = None) -> int:
    """Examine one database and return the exit code."""
    arguments = parser().parse_args(argv)
    try:
        sample = whole(arguments.sample, "sample", 1, _MAX_SAMPLE)
        target = number(arguments.recall, "recall", 0, 1)
        with Database(
            arguments.target,
            schema=arguments.schema,
            pooler=arguments.pooler,
            prepare_threshold=None,
            check_schema=False,
            application_name="a2rchi_pg doctor",
        ) as database:
            found = examine(
                database,
                keyring=_keyring(),
                sample=sample,
                target_recall=target,
            )
    except A2rchiError as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    sys.stdout.write(_as_json(found) if arguments.json else _as_text(found))
    worst = {finding.severity for finding in found}
    return ERRORS if "error" in worst else WARNINGS if "warning" in worst else HEALTHY


def _keyring() -> KeyRing | None:
    names = (KEY_VARIABLE, f"{KEY_VARIABLE}_FILE")
    return KeyRing.from_env() if any(os.environ.get(name) for name in names) else None


def _as_json(found: Sequence[Finding]) -> str:
    return json.dumps({"findings": [asdict(finding) for finding in found]}, indent=2) + "\n"


def _as_text(found: Sequence[Finding]) -> str:
    if not found:
        return "nothing is wrong\n"
    return "".join(
        f"{finding.severity}: {finding.problem}\n"
        f"    seen: {finding.evidence}\n"
        f"    mend: {finding.remedy}\n"
        for finding in found
    )


if __name__ == "__main__":
    sys.exit(main())

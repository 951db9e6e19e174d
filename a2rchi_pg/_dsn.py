"""A DSN: told from what is none, and shown without its secrets.

A password that was not percent-encoded does not stay where it belongs: libpq takes parts of it for
the host, the port or the database, and names those in its errors. So a DSN that may have come apart
like that is refused here, and none of these messages repeats any of it.
"""

from __future__ import annotations

import os
import re

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from a2rchi_pg.errors import InvalidInput

VARIABLE = "A2RCHI_PG_DSN"
_EXAMPLE = "postgresql://user:password@host:5432/dbname"
_ENCODE = "write @ as %40, / as %2F and : as %3A in a user name or password"
_PASSWORD = b"*"  # libpq's mark for an option that is not to be displayed


def check(dsn: str) -> None:
    """Refuse what libpq can't read, or would read otherwise than it was meant.

    Raises:
        InvalidInput: Says what is expected, and where it can tell, what to write instead.
    """
    if re.match(r"\w+\+\w+://", dsn):
        raise InvalidInput(
            f"the DSN is a SQLAlchemy URL; without its driver it is a libpq URI: {_EXAMPLE}"
        )
    if dsn.strip() and not re.search(r"=|@|://", dsn):
        raise InvalidInput(
            f"the DSN is not a libpq connection string or URI, such as {_EXAMPLE}; if it is a "
            "folder, use Database.embedded(path)"
        )
    parts = _parse(dsn)
    if not re.fullmatch(r"[\d,\s]*", str(parts.get("port", "")), re.ASCII):
        raise InvalidInput(f"the DSN's port is not a number; {_ENCODE}, as in {_EXAMPLE}")
    # User and password end, for libpq, at the first @, unless there is a / before it.
    uri = re.match(r"postgres(?:ql)?://(?:[^@/]*@)?([^?]*)", dsn)
    if uri and "@" in uri[1]:
        raise InvalidInput(f"the DSN has an @ too many; {_ENCODE}, as in {_EXAMPLE}")
    host, dbname = str(parts.get("host", "")), str(parts.get("dbname", ""))
    if "://" in host + dbname or any("@" in each[1:] for each in host.split(",")):
        raise InvalidInput(f"the DSN has a URI inside its host or dbname; as a whole: {_EXAMPLE}")


def is_missing(dsn: str) -> bool:
    """Whether neither the DSN nor libpq's environment says where the server is."""
    return not dsn.strip() and not any(map(os.environ.get, ("PGHOST", "PGHOSTADDR", "PGSERVICE")))


def shown(dsn: str) -> str:
    """Where a checked DSN leads."""
    parts = conninfo_to_dict(dsn)
    return " ".join(f"{key}={parts[key]}" for key in ("host", "port", "dbname") if key in parts)


def has_secret(dsn: str) -> bool:
    """Whether a checked DSN holds anything that is not to be displayed."""
    options = Conninfo.parse(dsn.encode())
    return any(option.val is not None and option.dispchar == _PASSWORD for option in options)


def _parse(dsn: str) -> dict[str, object]:
    try:
        if "\0" not in dsn:  # where libpq would stop reading
            return dict(conninfo_to_dict(dsn))
    except (ProgrammingError, UnicodeError):  # their texts repeat the DSN's
        pass
    raise InvalidInput(
        f"the DSN is not a libpq connection string or URI, such as {_EXAMPLE}"
    ) from None

"""The roles of sql/roles.sql, made in a test's database."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

ROLE = os.environ.get("A2RCHI_PG_TEST_ROLE")
ROLES = Path(__file__).parent.parent / "sql" / "roles.sql"


def make_roles(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(ROLES.read_bytes())


def as_role(dsn: str, role: str) -> str:
    """The DSN that acts as a role."""
    given = conninfo_to_dict(dsn).get("options") or ""
    return make_conninfo(dsn, options=f"{given} -c role={role}".strip())


def acting(dsn: str) -> str:
    """The DSN as the role that the tests are to act as."""
    return as_role(dsn, ROLE) if ROLE else dsn


def as_owner(dsn: str) -> str:
    """The DSN as who made the database, whoever the tests act as."""
    given = str(conninfo_to_dict(dsn).get("options") or "")
    return make_conninfo(dsn, options=given.replace(f"-c role={ROLE}", "").strip())

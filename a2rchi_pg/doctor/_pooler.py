"""Whether a pooler stands between, which a ``Database`` has to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from a2rchi_pg.doctor._finding import Finding
from a2rchi_pg.errors import translate

if TYPE_CHECKING:
    from a2rchi_pg._connection import ConnectionSettings


def pooler(settings: ConnectionSettings) -> list[Finding]:
    """A pooler that ``Database`` wasn't told about.

    Not an operation: what tells it is how the connection itself was made.
    """
    if settings.pooler:
        return []
    try:
        with psycopg.connect(settings.conninfo, **settings.kwargs) as connection:
            greeted = connection.info.backend_pid
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    if row == (greeted,):
        return []
    return [
        Finding(
            check="pooler",
            severity="warning",
            problem="a pooler stands before the server; if its pool_mode is transaction, prepared "
            "statements give wrong results",
            evidence=f"greeted by process {greeted}, answered by {row[0] if row else 'none'}",
            remedy="Database(…, pooler=True), and --pooler here",
        )
    ]

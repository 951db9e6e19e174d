"""Another PostgreSQL, of whatever version, that is read and never written to."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from a2rchi_pg._connection import ConnectionSettings
from a2rchi_pg.errors import MigrationError, translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from a2rchi_pg._op import Query

DSN_VARIABLE = "A2RCHI_PG_SOURCE_DSN"
# Lets a transaction last as long as the other side needs; versions lack one or the other.
PATIENT = """
    SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN
        ('idle_in_transaction_session_timeout', 'statement_timeout', 'transaction_timeout')
"""


class Reader:
    """One moment of a database: all that is read through it is as it was then."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    def fetch(self, query: Query, **params: Any) -> list[dict[str, Any]]:
        """All rows of a query."""
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, params, binary=True).fetchall()

    def value(self, query: Query, **params: Any) -> Any:
        """The one value of a query of one row."""
        (row,) = self.fetch(query, **params)
        (value,) = row.values()
        return value

    def stream(self, query: Query, size: int, **params: Any) -> Iterator[list[dict[str, Any]]]:
        """The rows of a query, which stay on the server but for ``size`` of them."""
        with self._connection.cursor(name="rows", row_factory=dict_row) as cursor:
            cursor.execute(query, params, binary=True)
            while rows := cursor.fetchmany(size):
                yield rows


class OtherDatabase:
    """Where a source is.

    Args:
        dsn: A libpq connection string or URI; a user who may only read is enough.

    Raises:
        InvalidInput: If that is no DSN.
        MigrationError: If it can't be reached.
    """

    def __init__(self, dsn: str) -> None:
        if not dsn.strip():
            raise MigrationError(f"say where the source is: --source-dsn, or ${DSN_VARIABLE}")
        self._settings = ConnectionSettings(
            dsn=dsn,
            schema=None,
            pooler=False,
            prepare_threshold=None,
            application_name="a2rchi_pg migrate",
            timeout=10,
        )
        self.location = "the source"
        with self._connected() as connection:
            info = connection.info
            self.location = f"host={info.host} port={info.port} dbname={info.dbname}"
            self.version = info.server_version // 10_000

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A moment of it to read, in a transaction that can't write.

        Raises:
            MigrationError: If it can't be read, or the connection is lost.
        """
        with self._connected() as connection:
            connection.execute(PATIENT)
            # Rows that a policy hides would be left behind, and nobody told: an error instead.
            connection.execute("SET LOCAL row_security = off")
            yield Reader(connection)

    @contextmanager
    def _connected(self) -> Iterator[Connection[Any]]:
        try:
            kwargs = self._settings.kwargs | {"autocommit": False}
            with closing(psycopg.connect(self._settings.conninfo, **kwargs)) as connection:
                connection.read_only = True
                connection.isolation_level = IsolationLevel.REPEATABLE_READ
                yield connection
        except psycopg.Error as error:
            raise MigrationError(f"{self.location}: {translate(error)}") from error
        except UnicodeDecodeError as error:
            raise MigrationError(f"{self.location} holds text that isn't UTF-8") from error

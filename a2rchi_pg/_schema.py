"""The schema: numbered SQL files, a ledger of those applied, and the one who applies them.

A file is applied in one transaction with its ledger row. The files are plain SQL and write their
own ledger rows, so that ``psql -v ON_ERROR_STOP=1 -f`` in order gives the same schema; only the
checksum is ours to add.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg import sql

from a2rchi_pg import _dsn
from a2rchi_pg._connection import ConnectionSettings
from a2rchi_pg._op import Steps, fetch, fetch_value, write
from a2rchi_pg._pool import drive
from a2rchi_pg.errors import MigrationError, SchemaOutOfDate, translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Connection: TypeAlias = "psycopg.Connection[Any]"

logger = logging.getLogger("a2rchi_pg.schema")

LOCK_KEY = 0x61327263_68695067  # "a2rchiPg": one migrator at a time in a database
LOCK_TIMEOUT = 120.0  # seconds
MINIMUM_SERVER = 170000
_NAME = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file of ``sql/``."""

    number: int
    name: str
    content: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One row of the ledger."""

    number: int
    name: str
    checksum: str | None


@cache
def migrations() -> tuple[Migration, ...]:
    """The files this version of the package ships, in order."""
    found = [
        Migration(number=int(match[1]), name=entry.name, content=entry.read_bytes())
        for entry in files("a2rchi_pg").joinpath("sql").iterdir()
        if (match := _NAME.fullmatch(entry.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


@write
def check(settings: ConnectionSettings) -> Steps[None]:
    """Compare the ledger with the shipped files; two statements, hence a transaction.

    Raises:
        SchemaOutOfDate: If files are missing from the database, or it holds newer ones.
    """
    numbers = {row.number for row in (yield from read_ledger(settings.schema))}
    shipped = {migration.number for migration in migrations()}
    if newer := sorted(numbers - shipped):
        raise SchemaOutOfDate(
            f"the database's schema is newer than this version of a2rchi_pg (migration "
            f"{newer[-1]:04d}): upgrade the package"
        )
    if missing := sorted(shipped - numbers):
        names = ", ".join(f"{number:04d}" for number in missing)
        raise SchemaOutOfDate(
            f"the database lacks schema migrations {names}: run `{command(settings)}`"
        )


def command(settings: ConnectionSettings) -> str:
    """What brings the schema up to date; a DSN with a secret in it is left to the environment."""
    words = ["python -m a2rchi_pg.migrate schema"]
    if settings.dsn and not _dsn.has_secret(settings.dsn):
        words += ["--target", shlex.quote(settings.dsn)]
    if settings.schema is not None:
        words += ["--schema", shlex.quote(settings.schema)]
    return " ".join(words)


def read_ledger(schema: str | None) -> Steps[list[Applied]]:
    """The ledger's rows; with a schema that schema's own, not the next one's on the search_path.

    Raises:
        MigrationError: If the table of that name is another program's: several call theirs so.
    """
    is_ours = yield from fetch_value(
        """
        SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = found AND attname = 'checksum')
        FROM to_regclass(
            coalesce(quote_ident(%(schema)s::text) || '.', '') || 'schema_migrations') AS found
        WHERE found IS NOT NULL
        """,
        schema=schema,
    )
    if is_ours is None:
        return []
    if not is_ours:
        raise MigrationError(
            "the table schema_migrations is another program's: give this one a schema of its own, "
            "by --schema NAME or Database(…, schema=NAME)"
        )
    return (
        yield from fetch(
            "SELECT number, name, checksum FROM schema_migrations ORDER BY number", Applied
        )
    )


@write
def _read_ledger(schema: str | None) -> Steps[list[Applied]]:
    return (yield from read_ledger(schema))


def status(dsn: str, *, schema: str | None = None) -> list[tuple[Migration, Applied | None]]:
    """Each shipped migration with its ledger row, where it has one.

    Raises:
        MigrationError: If the ledger names a file that isn't shipped or was edited since.
        Unavailable: If the server can't be reached.
    """
    with _connected(dsn, schema) as connection:
        applied = _verified(drive(connection, _read_ledger(schema)))
        return [(migration, applied.get(migration.number)) for migration in migrations()]


def migrate(
    dsn: str, *, schema: str | None = None, to: int | None = None, dry_run: bool = False
) -> list[Migration]:
    """Apply the migrations that the database lacks, each in its own transaction.

    Args:
        dsn: A direct connection, not one through a transaction pooler: the lock that keeps other
            migrators out belongs to the session.
        schema: The schema to hold the tables, made where it is missing.
        to: Stop after this number.
        dry_run: Change nothing, only say what would be applied.

    Returns:
        What was (or would be) applied, in order.

    Raises:
        MigrationError: If the server is too old, an extension is missing, a file was edited after
            it was applied, the database is newer, or another migrator doesn't finish in time.
    """
    if to is not None and to not in {migration.number for migration in migrations()}:
        raise MigrationError(f"there is no migration {to}; the last is {migrations()[-1].number}")
    with _connected(dsn, schema) as connection:
        _check_server(connection)
        if dry_run:
            return _pending(connection, schema, to)
        with _alone(connection):
            if schema is not None:
                _ensure_schema(connection, schema)
            pending = _pending(connection, schema, to)
            for migration in pending:
                _apply(connection, migration)
            return pending


def _ensure_schema(connection: Connection, schema: str) -> None:
    """Looked up first: CREATE SCHEMA IF NOT EXISTS wants the right to create even where it is."""
    found = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema])
    if found.fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


def _pending(connection: Connection, schema: str | None, to: int | None) -> list[Migration]:
    applied = _verified(drive(connection, _read_ledger(schema)))
    return [
        migration
        for migration in migrations()
        if migration.number not in applied and (to is None or migration.number <= to)
    ]


def _verified(rows: Sequence[Applied]) -> dict[int, Applied]:
    shipped = {migration.number: migration for migration in migrations()}
    for row in rows:
        known = shipped.get(row.number)
        if known is None:
            raise MigrationError(
                f"the database holds migration {row.name}, which this version of a2rchi_pg does "
                "not ship: upgrade the package"
            )
        if row.checksum is not None and row.checksum != known.checksum:
            raise MigrationError(
                f"{row.name} was edited after it was applied (its SHA-256 differs from the "
                "ledger's): restore the file, and put changes into a new one"
            )
    return {row.number: row for row in rows}


def _apply(connection: Connection, migration: Migration) -> None:
    logger.info("applying %s", migration.name, extra={"migration": migration.name})
    try:
        with connection.transaction():
            connection.execute(migration.content)
            connection.execute(
                "UPDATE schema_migrations SET checksum = %(checksum)s WHERE number = %(number)s",
                {"checksum": migration.checksum, "number": migration.number},
            )
    except psycopg.Error as error:
        raise MigrationError(f"{migration.name} failed: {translate(error)}") from error


def _check_server(connection: Connection) -> None:
    version = connection.info.server_version
    if version < MINIMUM_SERVER:
        raise MigrationError(
            f"PostgreSQL 17 or later is needed, the server is {version // 10000}.{version % 10000}"
        )
    extensions = connection.execute(
        """
        SELECT name, installed_version IS NOT NULL FROM pg_available_extensions
        WHERE name IN ('vector', 'pg_textsearch') ORDER BY name DESC
        """
    ).fetchall()
    missing = [name for name, installed in extensions if not installed]
    if "vector" not in dict(extensions):
        raise MigrationError(
            "the server has no pgvector: install it, on Debian and Ubuntu with "
            "`apt-get install postgresql-17-pgvector`"
        )
    may_create = connection.execute(
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if "vector" in missing and may_create == (False,):
        command = " ".join(f"CREATE EXTENSION {name};" for name in missing)
        raise MigrationError(
            "extension vector is not installed in this database and only a superuser can do it: "
            f"as one, run `{command}` there"
        )


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold the migrators' lock.

    Polled, not waited for: a session waiting inside the lock call holds a snapshot, on which a
    CREATE INDEX CONCURRENTLY of the holder would wait in turn.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    while connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise MigrationError(f"another migrator has held the lock for {LOCK_TIMEOUT:.0f} s")
        time.sleep(0.1)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])


@contextmanager
def _connected(dsn: str, schema: str | None) -> Iterator[Connection]:
    settings = ConnectionSettings(
        dsn=dsn,
        schema=schema,
        pooler=False,
        prepare_threshold=None,
        application_name="a2rchi_pg migrate",
    )
    try:
        with psycopg.connect(settings.conninfo, **settings.kwargs) as connection:
            yield connection
    except psycopg.Error as error:
        raise translate(error) from error

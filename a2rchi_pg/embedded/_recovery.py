"""What a database needs before anyone uses it: after a crash, an upgrade, or any restart.

pg_textsearch before 1.3 does not survive a restart by itself. What was inserted since an index
was built is in its memtable, and

- after a crash, reads fail and the next INSERT hangs for good;
- after a clean stop, the index has forgotten how many rows it holds, and searches miss rows;
  spilling the memtable before does not help, it makes rows come twice.

REINDEX mends both, and an index that is damaged too. What an interrupted REINDEX CONCURRENTLY left
is dropped before: rebuilt, it would be a second bm25 index on its table, one too many for searches.
Newer libraries want the extension's SQL brought up to them, and an index written before 1.3 read
anew.

An index that can't be rebuilt keeps nobody from the rest: the log says so, and searches do without.

After a crash or an upgrade this is done on a server that listens under another port number in
the private socket directory, so that a client which merely reconnects can't come in between.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from a2rchi_pg.embedded._binaries import CRASH_SAFE, version_tuple
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import LiteralString

    from a2rchi_pg.embedded._binaries import Binaries
    from a2rchi_pg.embedded._launch import Connection
    from a2rchi_pg.embedded._locks import Layout

REPAIR_PORT = 1
# A role or database may carry settings that would stop the work.
_UNHINDERED = "-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off"
_log = logging.getLogger("a2rchi_pg.embedded")

_DATABASES: LiteralString = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname"
_INSTALLED: LiteralString = """
    SELECT e.extname, e.extversion, a.default_version,
           EXISTS (SELECT FROM pg_extension_update_paths(e.extname) p
                   WHERE p.source = e.extversion AND p.target = a.default_version
                     AND p.path IS NOT NULL)::text
    FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
    WHERE e.extname IN ('vector', 'pg_textsearch')
"""
# pg_search defines an access method of the same name; only pg_textsearch's is meant.
_BM25_INDEXES: LiteralString = """
    SELECT n.nspname, c.relname
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_depend d ON d.classid = 'pg_am'::regclass AND d.objid = c.relam
                    AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid
    WHERE e.extname = 'pg_textsearch' AND c.relkind = 'i' AND c.relpersistence <> 't'
    ORDER BY 1, 2
"""
_SUMMARY: LiteralString = "SELECT bm25_summarize_index(%s)"
# Of our own tables only: somebody else's leftovers are theirs to drop.
_LEFTOVERS: LiteralString = """
    SELECT n.nspname, c.relname
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_inherits h ON h.inhrelid = i.indrelid
    JOIN pg_class p ON p.oid = h.inhparent
    WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$' AND p.relname = 'document_chunks'
          AND to_regclass(format('%I.collections', p.relnamespace::regnamespace)) IS NOT NULL
    ORDER BY 1, 2
"""


def repair_needed(layout: Layout, binaries: Binaries, *, unclean: bool) -> bool:
    """Whether the next start has to look into every database first."""
    crashed = unclean and not binaries.crash_safe()
    return crashed or layout.repair.exists() or _upgraded(layout, binaries)


def _upgraded(layout: Layout, binaries: Binaries) -> bool:
    return not layout.stamp.exists() or layout.stamp.read_text() != binaries.fingerprint()


def repair(maintenance: Connection, *, crashed: bool) -> bool:
    """Update the extensions and rebuild the bm25 indexes that need it, in every database.

    Returns:
        Whether that is complete; what can't be rebuilt is in the log.
    """
    with _explained("the repair after a crash or an upgrade failed"):
        complete = [
            _repair_database(connection, name, crashed=crashed)
            for name, connection in _databases(maintenance)
        ]
    return all(complete)


def refresh(maintenance: Connection) -> None:
    """After a clean restart: rebuild the bm25 indexes that had rows in their memtable."""
    with _explained("rebuilding the bm25 indexes after a restart failed"):
        for name, connection in _databases(maintenance):
            _drop_leftovers(connection, name)
            for index in connection.execute(_BM25_INDEXES).fetchall():
                if _has_memtable(connection, name, index):
                    _reindex(connection, name, index)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise EmbeddedError(f"{what}: {error}") from error


def _databases(maintenance: Connection) -> Iterator[tuple[str, Connection]]:
    for (name,) in maintenance.execute(_DATABASES).fetchall():
        with psycopg.connect(
            maintenance.info.dsn, dbname=name, options=_UNHINDERED, autocommit=True
        ) as connection:
            yield name, connection


def _repair_database(connection: Connection, database: str, *, crashed: bool) -> bool:
    _drop_leftovers(connection, database)
    rebuilt: list[bool] = []
    for name, installed, available, has_path in connection.execute(_INSTALLED).fetchall():
        updated = installed != available and has_path == "true"
        if updated:
            _log.info("%s: updating %s from %s to %s", database, name, installed, available)
            update = sql.SQL("ALTER EXTENSION {} UPDATE").format(sql.Identifier(name))
            connection.execute(update)
        elif installed != available:
            _log.warning("%s: no way from %s %s to %s", database, name, installed, available)
        fragile = name == "pg_textsearch" and version_tuple(installed) < CRASH_SAFE
        if fragile and (crashed or updated):
            indexes = connection.execute(_BM25_INDEXES).fetchall()
            rebuilt += [_reindex(connection, database, index) for index in indexes]
    return all(rebuilt)


def _has_memtable(connection: Connection, database: str, index: tuple[str, ...]) -> bool:
    name = sql.Identifier(*index).as_string()
    try:
        (summary,) = connection.execute(_SUMMARY, (name,)).fetchone() or ("",)
    except psycopg.DatabaseError as error:
        if connection.broken:
            raise
        _log.warning("%s: the bm25 index %s can't be read: %s", database, name, error)
        return True
    found = re.search(r"Recovery Pages:.*?docids: (\d+)", summary, re.DOTALL)
    return found is None or found.group(1) != "0"


def _drop_leftovers(connection: Connection, database: str) -> None:
    for index in connection.execute(_LEFTOVERS).fetchall():
        name = sql.Identifier(*index)
        _log.info("%s: dropping %s, left by a rebuild", database, name.as_string())
        # One by one and committed at once: pg_textsearch 0.6 survives no drop that is rolled back.
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(name))


def _reindex(connection: Connection, database: str, index: tuple[str, ...]) -> bool:
    name = sql.Identifier(*index)
    _log.info("%s: rebuilding the bm25 index %s", database, name.as_string())
    try:
        connection.execute(sql.SQL("REINDEX INDEX {}").format(name))
    except psycopg.DatabaseError as error:
        if connection.broken:
            raise
        _log.error("%s: can't rebuild the bm25 index %s: %s", database, name.as_string(), error)
        return False
    return True

"""What a database needs before anyone connects: after a crash, and after an upgrade.

pg_textsearch before 1.3 loses its memtable in a crash: reads then fail and the next INSERT
hangs for good. REINDEX, done before any INSERT, restores everything. Newer libraries want the
extension's SQL brought up to them, and an index written before 1.3 read anew.

Both are done on a server that listens under another port number in the private socket
directory, so that a client which merely reconnects can't come in between.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from a2rchi_pg.embedded._binaries import CRASH_SAFE, version_tuple
from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
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


def repair_needed(layout: Layout, binaries: Binaries, *, unclean: bool) -> bool:
    """Whether the next start has to look into every database first."""
    crashed = unclean and not binaries.crash_safe()
    return crashed or layout.repair.exists() or _upgraded(layout, binaries)


def _upgraded(layout: Layout, binaries: Binaries) -> bool:
    return not layout.stamp.exists() or layout.stamp.read_text() != binaries.fingerprint()


def repair(maintenance: Connection, *, crashed: bool) -> None:
    """Update the extensions and rebuild the bm25 indexes that need it, in every database."""
    dsn = maintenance.info.dsn
    try:
        for (name,) in maintenance.execute(_DATABASES).fetchall():
            with psycopg.connect(
                dsn, dbname=name, options=_UNHINDERED, autocommit=True
            ) as connection:
                _repair_database(connection, name, crashed=crashed)
    except psycopg.Error as error:
        raise EmbeddedError(f"the repair after a crash or an upgrade failed: {error}") from error


def _repair_database(connection: Connection, database: str, *, crashed: bool) -> None:
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
            _reindex(connection, database)


def _reindex(connection: Connection, database: str) -> None:
    for schema, index in connection.execute(_BM25_INDEXES).fetchall():
        _log.warning("%s: rebuilding the bm25 index %s.%s", database, schema, index)
        rebuild = sql.SQL("REINDEX INDEX {}").format(sql.Identifier(schema, index))
        connection.execute(rebuild)

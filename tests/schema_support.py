"""What a schema consists of, as the catalog tells it."""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import make_conninfo

from a2rchi_pg import _schema
from tests.database_support import admin

FILES = [migration.name for migration in _schema.migrations()]
_OBJECTS = """
    WITH here AS (SELECT %s::regnamespace AS schema)
    SELECT 'relation', relname, relkind::text, reloptions::text, relacl::text,
           obj_description(c.oid, 'pg_class'), pg_get_partkeydef(c.oid)
    FROM pg_class c, here WHERE relnamespace = schema AND relkind IN ('r', 'p', 'v', 'S')
    UNION ALL
    SELECT 'column', relname || '.' || attname, format_type(atttypid, atttypmod),
           concat_ws(' ', attnum, attnotnull, attidentity, attstorage),
           attstattarget::text, col_description(attrelid, attnum),
           pg_get_expr(adbin, adrelid)
    FROM here, pg_attribute a JOIN pg_class c ON c.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = schema AND attnum > 0
    UNION ALL
    SELECT 'constraint', conrelid::regclass || '.' || conname, contype::text,
           pg_get_constraintdef(oid), convalidated::text, obj_description(oid, 'pg_constraint'), ''
    FROM pg_constraint, here WHERE connamespace = schema
    UNION ALL
    SELECT 'index', relname, pg_get_indexdef(indexrelid), indisvalid::text, '',
           obj_description(indexrelid, 'pg_class'), reloptions::text
    FROM here, pg_index JOIN pg_class ON oid = indexrelid WHERE relnamespace = schema
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, prosrc,
           concat_ws(' ', prosecdef, provolatile, prorettype::regtype), proacl::text,
           obj_description(p.oid, 'pg_proc'), proconfig::text
    FROM pg_proc p, here WHERE pronamespace = schema
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
    UNION ALL
    SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(t.oid), '', '', '', ''
    FROM here, pg_trigger t JOIN pg_class c ON c.oid = tgrelid
    WHERE relnamespace = schema AND NOT tgisinternal
    UNION ALL
    SELECT 'extension', extname, extnamespace::regnamespace::text, extversion, '', '', ''
    FROM pg_extension
    ORDER BY 1, 2, 3, 4
"""


def catalog(dsn: str, schema: str = "public") -> list[tuple[str | None, ...]]:
    """Every table, column, constraint, index, function and extension, with what is set on it."""
    here = make_conninfo(dsn, options=f"-c search_path={schema},public")
    return admin(here, _OBJECTS, schema)


def ledger(dsn: str) -> list[tuple[int, str, str | None]]:
    return admin(dsn, "SELECT number, name, checksum FROM schema_migrations ORDER BY number")


def is_empty(dsn: str) -> bool:
    """Whether nothing has ever been made in the database."""
    return not any(kind in {"relation", "function"} for kind, *_ in catalog(dsn))


def sql_files() -> list[Path]:
    folder = Path(__file__).parent.parent / "sql"
    return sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))

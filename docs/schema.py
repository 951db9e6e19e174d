"""Writes docs/schema.md, the reference of the schema, from a database's own comments.

``make schema-docs`` does so on a server that comes and goes; a test holds the page to the schema.
"""

from __future__ import annotations

import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import namedtuple_row

from a2rchi_pg import _schema
from a2rchi_pg.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = Path(__file__).with_suffix(".md")
HEAD = """\
# The schema

Written by `make schema-docs` from the database's own comments, which psql shows too. What there is
to know about the files themselves is in [sql/README.md](../sql/README.md). Where a type has a
question mark, the column may be NULL.
"""
RELATIONS = """
    SELECT c.relname AS relation, c.relkind = 'v' AS is_view,
           obj_description(c.oid, 'pg_class') AS said,
           a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS needed,
           col_description(c.oid, a.attnum) AS meaning,
           ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                 WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f')
                 ORDER BY k.contype DESC, k.conname) AS keys
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = current_schema::regnamespace AND c.relkind IN ('r', 'p', 'v')
        AND NOT c.relispartition
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = c.oid AND deptype = 'e')
    ORDER BY is_view, c.relname COLLATE "C", a.attnum
"""
FUNCTIONS = """
    SELECT p.proname AS name, pg_get_function_arguments(p.oid) AS arguments,
           pg_get_function_result(p.oid) AS result, p.prosecdef AS as_owner,
           obj_description(p.oid, 'pg_proc') AS said
    FROM pg_proc p
    WHERE p.pronamespace = current_schema::regnamespace AND p.prorettype <> 'trigger'::regtype
        AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
    ORDER BY p.proname COLLATE "C"
"""


def page(dsn: str) -> str:
    """The reference of the schema that a database has."""
    with psycopg.connect(dsn, row_factory=namedtuple_row) as connection:
        columns = connection.execute(RELATIONS).fetchall()
        functions = connection.execute(FUNCTIONS).fetchall()
    parts = [HEAD]
    for is_view, several in groupby(columns, lambda column: column.is_view):
        parts.append(f"## {'Views' if is_view else 'Tables'}\n")
        for _, described in groupby(several, lambda column: column.relation):
            parts.append("\n".join(_relation(list(described))))
    parts += ["## Functions\n", "\n".join(_functions(functions))]
    return "\n".join(parts)


def _relation(columns: list[Any]) -> Iterator[str]:
    first = columns[0]
    yield f"### {first.relation}\n\n{first.said}\n"
    if first.is_view:
        yield f"{', '.join(f'`{column.name}`' for column in columns)}\n"
        return
    yield "| column | type | |\n|---|---|---|"
    for column in columns:
        optional = "" if column.needed else "?"
        yield _row(f"`{column.name}`", f"{column.type}{optional}", column.meaning)
    yield ""
    yield from (f"- `{key}`" for key in first.keys)
    yield ""


def _functions(functions: Iterable[Any]) -> Iterator[str]:
    yield "| function | returns | |\n|---|---|---|"
    for each in functions:
        said = f"{each.said}{' Runs as its owner.' if each.as_owner else ''}"
        yield _row(f"`{each.name}({each.arguments})`", each.result, said)
    yield ""


def _row(name: str, type_: str, said: str | None) -> str:
    short = type_.replace("timestamp with time zone", "timestamptz")
    return f"| {name} | {short} | {(said or '').replace('|', chr(92) + '|')} |".replace(
        "|  |", "| |"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "pg") as server:
            _schema.migrate(server.dsn)
            PAGE.write_text(page(server.dsn))

"""Tables brought over as they are: one source and one target for all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from a2rchi_pg._op import Runner, Steps, execute, fetch_tuples, write
from a2rchi_pg.errors import InvalidInput, NotFound
from a2rchi_pg.migrate._digest import canonical, digest
from a2rchi_pg.migrate._numbers import key_of_number
from a2rchi_pg.migrate._rows import brought
from a2rchi_pg.migrate._source import Row, Survey, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from a2rchi_pg.migrate._reading import OtherDatabase
    from a2rchi_pg.migrate._table import Table

Values: TypeAlias = "dict[str, Any]"
# A row as it is stored, and what was changed for that; raises InvalidInput where it can't be.
Mapper: TypeAlias = "Callable[[Values], tuple[Values, list[str]]]"


class TableSource:
    """The rows of a query on another database.

    Args:
        kind: What a run's name ends with.
        database: Where they are read.
        table: The table of ours that they are for; the query's columns of its key have its names.
        query: What is read, without an order.
        stored: Makes of a row what is stored.
        facts: Whatever a plan is to say.
    """

    def __init__(
        self,
        kind: str,
        database: OtherDatabase,
        table: Table,
        query: sql.Composable,
        stored: Mapper,
        *,
        facts: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self.kind = kind
        self.location = database.location
        self._database, self._table, self._query = database, table, query
        self._stored, self._facts = stored, facts

    def survey(self) -> Survey:
        """Count the rows."""
        with self._database.reading() as reader:
            rows = reader.value(sql.SQL("SELECT count(*) FROM ({}) AS t").format(self._query))
        return Survey(rows=rows, facts=self._facts())

    def batches(self, after: str | None, size: int) -> Iterator[Sequence[Row[Values]]]:
        """The rows after a key, all as they were when the first was read."""
        key = self._table.key_of("t")
        query = sql.SQL("""
            SELECT {key} AS "key of row", t.* FROM ({rows}) AS t
            WHERE %(after)s::text IS NULL OR {key} > %(after)s
            ORDER BY {first}, 1
        """).format(
            key=key, rows=self._query, first=self._table.first if self._table.sorts else key
        )
        with self._database.reading() as reader:
            for rows in reader.stream(query, size, after=after):
                yield [self._row(row.pop("key of row"), row) for row in rows]

    def _row(self, key: str, row: Values) -> Row[Values]:
        try:
            values, notes = self._stored(row)
        except InvalidInput as error:
            return Row(key=key, problem=str(error))
        plain = {name: _plain(values[name]) for name in values}
        return Row(key=key, digest=_digest(self._table, plain), value=plain, notes=tuple(notes))


class TableTarget(Target[Values]):
    """A table of ours.

    Args:
        table: The table.
        location: Where its rows come from; a rollback needs none.
    """

    def __init__(self, table: Table, location: str = "") -> None:
        self._table, self._location = table, location

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"table {self._table.name}"

    def refused(self, rows: Sequence[Row[Values]]) -> Steps[dict[str, str]]:
        """Rows whose parents aren't here, or are others of that number."""
        problems = dict[str, str]()
        for column, parent in {**self._table.references, **self._table.parents}.items():
            wanted = {row.key: row.value[column] for row in rows if row.value is not None}
            ids = sorted({each for each in wanted.values() if each is not None})
            there = yield from _there(parent, ids)
            problem = f"its {column} is not here"
            if column in self._table.parents:
                there &= yield from self._brought(parent, ids)
                problem = f"its {column} is none that came from this source"
            for key, value in wanted.items():
                if value is not None and value not in there:
                    problems.setdefault(key, problem)
        return problems

    def _brought(self, parent: Table, ids: Sequence[int]) -> Steps[set[Any]]:
        """Those of the ids that this source brought: another row of that number is no parent."""
        names = {key_of_number(each): each for each in ids}
        found = yield from brought(self._location, f"table {parent.name}", names)
        return {names[key] for key in found}

    def insert(self, rows: Sequence[Row[Values]]) -> Steps[set[str]]:
        """Add the rows whose keys are free."""
        table = self._table
        names = [*table.columns, *table.derived]
        same = sql.SQL(" AND ").join(
            sql.SQL("t.{0} = given.{0}").format(sql.Identifier(name)) for name in table.key
        )
        query = sql.SQL("""
            INSERT INTO {table} AS t ({columns}) OVERRIDING SYSTEM VALUE
            SELECT {columns} FROM jsonb_populate_recordset(NULL::{table}, %(rows)s) AS given
            WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE {same})
            ON CONFLICT DO NOTHING
            RETURNING {key}
        """).format(
            table=sql.Identifier(table.name),
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
            same=same,
            key=table.key_of("t"),
        )
        found = yield from fetch_tuples(query, rows=Jsonb([row.value for row in rows]))
        return {key for (key,) in found}

    def digests(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The fingerprints of the rows with these keys."""
        names = self._table.columns
        columns = sql.SQL(", ").join(sql.Identifier("t", name) for name in names)
        query = sql.SQL("SELECT {key}, {columns} FROM {table} AS t WHERE {these}").format(
            key=self._table.key_of("t"), columns=columns, **self._these(keys)
        )
        digests = dict[str, bytes]()
        for key, *row in (yield from fetch_tuples(query, keys=list(keys))):
            plain = {name: _plain(value) for name, value in zip(names, row, strict=True)}
            here = _digest(self._table, plain)
            # What came is one row; where a table lets another have its key, they are none alike.
            digests[key] = digest(digests[key], here) if key in digests else here
        return digests

    def keys(self) -> sql.Composable:
        """A query of every row's key."""
        return sql.SQL("SELECT {} AS key FROM {} AS t").format(
            self._table.key_of("t"), sql.Identifier(self._table.name)
        )

    def delete(self, keys: Sequence[str]) -> Steps[set[str]]:
        """Delete rows that no row of any table refers to.

        They are locked before that is asked: what begins to refer to them meanwhile waits.
        """
        these = self._these(keys)
        lock = sql.SQL("SELECT FROM {table} AS t WHERE {these} FOR UPDATE").format(**these)
        yield from execute(lock, keys=list(keys))
        referring = yield from fetch_tuples(_REFERRING, table=self._table.name)
        free = [
            sql.SQL("NOT EXISTS (SELECT FROM {} AS r WHERE r.{} = t.{})").format(
                sql.Identifier(*relation), sql.Identifier(column), sql.Identifier(referred)
            )
            for *relation, column, referred in referring
        ]
        query = sql.SQL("DELETE FROM {table} AS t WHERE {these} AND {free} RETURNING {key}")
        found = yield from fetch_tuples(
            query.format(
                **these,
                free=sql.SQL(" AND ").join([*free, sql.SQL("true")]),
                key=self._table.key_of("t"),
            ),
            keys=list(keys),
        )
        return {key for (key,) in found}

    def finish(self, runner: Runner) -> None:
        """Let the table's sequence go on after the numbers that came."""
        if self._table.numbered is not None:
            runner.run(_advance(self._table.name, self._table.numbered, self._table.below))

    def _these(self, keys: Sequence[str]) -> dict[str, sql.Composable]:
        these = sql.SQL("{} AND {} IN (SELECT unnest(%(keys)s::text[]))").format(
            self._table.within(min(keys, default=None), max(keys, default=None)),
            self._table.key_of("t"),
        )
        return {"table": sql.Identifier(self._table.name), "these": these}


def _there(parent: Table, ids: Sequence[Any]) -> Steps[set[Any]]:
    """Those of the ids that have a row."""
    (name,) = parent.key
    query = sql.SQL("SELECT {id} FROM {table} WHERE {id} = ANY(%(ids)s)").format(
        id=sql.Identifier(name), table=sql.Identifier(parent.name)
    )
    return {value for (value,) in (yield from fetch_tuples(query, ids=list(ids)))}


_REFERRING = """
    SELECT n.nspname, c.relname, a.attname, b.attname
    FROM pg_constraint AS f JOIN pg_class AS c ON c.oid = f.conrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1]
    JOIN pg_attribute AS b ON b.attrelid = f.confrelid AND b.attnum = f.confkey[1]
    WHERE f.contype = 'f' AND f.confrelid = to_regclass(quote_ident(%(table)s))
        AND f.conparentid = 0
    ORDER BY 1, 2, 3
"""


@write
def _advance(table: str, column: str, below: int) -> Steps[None]:
    query = sql.SQL("""
        SELECT setval(s.name, t.last) FROM (SELECT pg_get_serial_sequence(
            quote_ident(%(table)s), %(column)s)::regclass AS name) AS s,
            (SELECT max({column}) AS last FROM {table} WHERE {column} < %(below)s) AS t
        WHERE t.last > coalesce(pg_sequence_last_value(s.name), 0)
    """).format(column=sql.Identifier(column), table=sql.Identifier(table))
    yield from execute(query, table=table, column=column, below=below)


def target_named(name: str, tables: Mapping[str, Table]) -> TableTarget:
    """The target that a recorded run wrote to."""
    if name not in tables:
        raise NotFound(f"this version knows no table {name!r} that rows are migrated into")
    return TableTarget(tables[name])


def _digest(table: Table, values: Values) -> bytes:
    return digest(canonical({name: values[name] for name in table.columns}))


def _plain(value: Any) -> Any:
    """A value as JSON has it, the same for what was read on either side."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case UUID():
            return str(value)
        case bytes() | memoryview():
            return f"\\x{bytes(value).hex()}"
        case _:
            return value

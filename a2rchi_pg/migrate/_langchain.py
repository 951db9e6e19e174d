"""A collection of langchain-postgres, of either generation, as a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._op import own_sql
from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate._chunks import chunk_row
from a2rchi_pg.migrate._source import Survey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from a2rchi_pg.collections import Metric
    from a2rchi_pg.migrate._chunks import Chunk
    from a2rchi_pg.migrate._reading import OtherDatabase, Reader
    from a2rchi_pg.migrate._source import Row

_WORDS: dict[str, Metric] = {"cosine": "cosine", "l2": "l2", "ip": "inner_product"}
# By the operator class of an index; long vectors are indexed as halfvec.
METRICS: dict[str, Metric] = {
    f"{kind}_{word}_ops": metric
    for kind in ("vector", "halfvec")
    for word, metric in _WORDS.items()
}
OLD = "langchain_pg_embedding"
NEW_COLUMNS = ("langchain_id", "content", "embedding")
METADATA = "langchain_metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where a collection's rows are.

    Attributes:
        row: The column that names a row in its table, and that column's type.
        id: What the row is called; where that may be another row's name too, the row's own.
    """

    table: sql.Identifier
    row: tuple[str, str]
    id: sql.Composable
    content: str
    metadata: sql.Composable
    condition: sql.Composable
    more: Sequence[str] = ()

    def names(self) -> sql.Composed:
        query = "SELECT e.{row}::text AS row, {id} AS id FROM {table} AS e WHERE {condition}"
        return self._composed(query)

    def rows(self) -> sql.Composed:
        query = """
            SELECT e.{row}::text AS row, e.{content} AS content, {metadata} AS metadata,
                (SELECT to_jsonb(m) FROM (SELECT {more}) AS m) AS more,
                e.embedding::real[] AS vector
            FROM {table} AS e WHERE {condition}
        """
        return self._composed(query)

    def _composed(self, query: Any) -> sql.Composed:
        return sql.SQL(query).format(
            table=self.table,
            row=sql.Identifier(self.row[0]),
            id=self.id,
            content=sql.Identifier(self.content),
            metadata=self.metadata,
            more=sql.SQL(", ").join(sql.Identifier("e", name) for name in self.more),
            condition=self.condition,
        )


class LangchainSource:
    """One collection of langchain-postgres.

    The old generation keeps all collections in ``langchain_pg_embedding``; the new one has a table
    for each, whose columns must have their default names. Columns of its own become metadata.

    Args:
        database: Where it is.
        collection: A collection of the old generation or else a table of the new one; always a
            table where its schema is named, as in ``public.docs``.
        metric: How its vectors are compared. None takes it from their index and, where there is
            none, cosine: the library keeps it nowhere else, and cosine is its default.

    Raises:
        MigrationError: If there is no such collection, or it has no vectors.
    """

    kind = "langchain-postgres"

    def __init__(
        self, database: OtherDatabase, collection: str, *, metric: Metric | None = None
    ) -> None:
        self._database = database
        self.location = f"{database.location}#{collection}"
        with database.reading() as reader:
            layout = _old(reader, collection) or _new(reader, collection, database.location)
            self._layout, self._params = layout, {"name": collection}
            query = sql.SQL("SELECT vector FROM ({}) AS t WHERE vector IS NOT NULL LIMIT 1")
            first = reader.fetch(query.format(layout.rows()), **self._params)
            self.metric: Metric = metric or _metric(reader, layout.table) or "cosine"
        if not first:
            raise MigrationError(f"{self.location} has no vectors: there is nothing to migrate")
        self.dimensions = len(first[0]["vector"])

    def survey(self) -> Survey:
        """Count the rows, and say how long and how compared the vectors are."""
        query = sql.SQL("SELECT count(*) AS rows, count(DISTINCT id) AS ids FROM ({}) AS t")
        with self._database.reading() as reader:
            (found,) = reader.fetch(query.format(self._layout.names()), **self._params)
        if found["ids"] != (rows := found["rows"]):  # a view has no key
            raise MigrationError(
                f"{self.location} has {rows:,} rows and {found['ids']:,} different ids: give a "
                "view in which every row has an id of its own"
            )
        table = self._layout.table.as_string(None)
        facts = {"table": table, "dimensions": str(self.dimensions), "metric": self.metric}
        return Survey(rows=rows, facts=facts)

    def batches(self, after: str | None, size: int) -> Iterator[Sequence[Row[Chunk]]]:
        """The rows after an id. The server sorts the ids alone; vectors come batch by batch."""
        names = sql.SQL("""
            SELECT row, id FROM ({}) AS t
            WHERE %(after)s::text IS NULL OR id COLLATE "C" > %(after)s ORDER BY id COLLATE "C"
        """).format(self._layout.names())
        column, its_type = self._layout.row
        rows = sql.SQL("{} AND e.{} = ANY(%(rows)s::{}[])").format(
            self._layout.rows(),
            sql.Identifier(column),
            own_sql(its_type),
        )
        with self._database.reading() as reader:
            for batch in reader.stream(names, size, **self._params, after=after):
                wanted = [each["row"] for each in batch]
                found = reader.fetch(rows, **self._params, rows=wanted)
                by_row = {each["row"]: each for each in found}
                yield [self._row(each["id"], by_row[each["row"]]) for each in batch]

    def _row(self, key: str, found: dict[str, Any]) -> Row[Chunk]:
        metadata = found["metadata"]
        if found["more"] and isinstance(metadata, dict | None):
            metadata = {**(metadata or {}), **found["more"]}
        return chunk_row(key, found["content"], metadata, found["vector"], self.dimensions)


def _old(reader: Reader, collection: str) -> _Layout | None:
    """A collection of the old generation, or of its forerunner in langchain-community."""
    columns = _columns(reader, sql.Identifier(OLD))
    query = "SELECT count(*) FROM langchain_pg_collection WHERE name = %(name)s"
    if not columns or not reader.value(query, name=collection):
        return None
    custom = sql.SQL(
        "CASE WHEN count(*) OVER (PARTITION BY e.custom_id) = 1 "
        "THEN coalesce(e.custom_id, e.uuid::text) ELSE e.uuid::text END"
    )
    row = "id" if "id" in columns else "uuid"
    return _Layout(
        table=sql.Identifier(OLD),
        row=(row, columns[row]),
        id=sql.SQL("e.id::text") if row == "id" else custom,
        content="document",
        metadata=sql.SQL("e.cmetadata"),
        condition=sql.SQL(
            "e.collection_id IN (SELECT uuid FROM langchain_pg_collection WHERE name = %(name)s)"
        ),
    )


def _new(reader: Reader, collection: str, location: str) -> _Layout:
    """A table of the new generation."""
    table = sql.Identifier(*collection.split("."))
    columns = _columns(reader, table)
    if not columns:
        raise MigrationError(
            f"{location} has neither a collection nor a table {collection!r}; {_names(reader)}"
        )
    if missing := [name for name in NEW_COLUMNS if name not in columns]:
        raise MigrationError(
            f"table {collection!r} has no column {', '.join(missing)}: name a view of it whose "
            f"columns are called {', '.join(NEW_COLUMNS)} and, for JSON, {METADATA}"
        )
    own = [
        name
        for name, its_type in columns.items()
        if name not in (*NEW_COLUMNS, METADATA) and its_type != "tsvector"
    ]
    return _Layout(
        table=table,
        row=("langchain_id", columns["langchain_id"]),
        id=sql.SQL("e.langchain_id::text"),
        content="content",
        condition=sql.SQL("true"),
        metadata=sql.Identifier("e", METADATA) if METADATA in columns else sql.SQL("NULL::json"),
        more=own,
    )


def _columns(reader: Reader, table: sql.Identifier) -> dict[str, str]:
    """The columns of a table and their types; none where there is no such table."""
    query = """
        SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
        WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
    """
    found = reader.fetch(query, table=table.as_string(None))
    return {each["name"]: each["type"] for each in found}


def _names(reader: Reader) -> str:
    """What there is, for who has mistyped it."""
    query = """
        SELECT a.attrelid::regclass::text AS name FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm')
        WHERE a.attname = 'langchain_id' ORDER BY 1
    """
    names = [each["name"] for each in reader.fetch(query)]
    if _columns(reader, sql.Identifier(OLD)):
        query = "SELECT name FROM langchain_pg_collection ORDER BY 1"
        names = [each["name"] for each in reader.fetch(query)] + names
    return f"there are: {', '.join(names) or 'none'}"


def _metric(reader: Reader, table: sql.Identifier) -> Metric | None:
    """How the indexes of a table's vectors compare them, where they agree."""
    query = """
        SELECT DISTINCT o.opcname AS name FROM pg_index AS i JOIN pg_opclass AS o
            ON o.oid = ANY (i.indclass)
        WHERE i.indrelid = to_regclass(%(table)s) AND o.opcname = ANY (%(known)s)
    """
    found = reader.fetch(query, table=table.as_string(None), known=list(METRICS))
    metrics: set[Metric] = {METRICS[each["name"]] for each in found}
    return metrics.pop() if len(metrics) == 1 else None

"""The floor: bare psycopg with the best form known of each statement."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import psycopg
from _common import EF_SEARCH, K, database
from _sides import Side
from floor import Bare
from psycopg import sql
from psycopg.types import TypeInfo
from psycopg.types.json import Jsonb

from a2rchi_pg import Collections
from a2rchi_pg._vectors import register

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AsyncExitStack

    from _data import Dataset, Question
    from _sides import AsyncSearch, Model, Ours, Search


class FloorLoad(Side):
    """COPY into a bare table with its key, then the same indexes as ours."""

    name, base = "floor", "floor_load"

    def create(self) -> None:
        self.dsn = database(self.dsn, self.database_name)
        self.connection = psycopg.connect(self.dsn, autocommit=True)
        self.stack.callback(self.connection.close)
        info = TypeInfo.fetch(self.connection, "vector")
        assert info is not None
        register(self.connection, info)
        self.connection.execute(
            "CREATE TABLE chunks (id text PRIMARY KEY, content text, metadata jsonb,"
            " embedding vector(384))"
        )

    def load(self, data: Dataset) -> None:
        statement = "COPY chunks (id, content, metadata, embedding) FROM STDIN (FORMAT binary)"
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(["text", "text", "jsonb", "vector"])
            for batch in data.batches(self.batch):
                columns = (batch.ids, batch.texts, map(Jsonb, batch.metadatas), batch.vectors)
                for row in zip(*columns, strict=True):
                    copy.write_row(row)

    def index(self) -> None:
        for statement in (
            "CREATE INDEX ON chunks USING hnsw (embedding vector_cosine_ops)",
            "CREATE INDEX ON chunks USING bm25 (content) WITH (text_config = 'english')",
            "CREATE INDEX ON chunks USING gin (metadata jsonb_path_ops)",
        ):
            self.connection.execute(statement)  # type: ignore[arg-type]  # each is a literal


class Floor(Side):
    """Bare psycopg on the table that this package filled."""

    name = "floor"

    def __init__(self, ours: Ours, model: Model) -> None:
        super().__init__(ours.dsn, model)
        collection = Collections(ours.database).get("bench")
        assert collection is not None
        self.collection = collection
        self.bare = self._opened()
        self.filtering = self.stack.enter_context(filtering(self.dsn))

    def _opened(self) -> Bare:
        bare = Bare(self.dsn, self.collection)
        self.stack.callback(bare.close)
        return bare

    def searches(self) -> dict[str, Search]:
        return {f"ef_search {EF_SEARCH}": self.workers(1)[0]}

    def workers(self, count: int) -> list[Search]:
        def search(bare: Bare) -> Search:
            return lambda question: _first(bare.dense_search("", question.vector))

        return [search(self._opened()) for _ in range(count)]

    def words(self) -> dict[str, Search]:
        return {"pg_textsearch": lambda q: _first(self.bare.bm25_search(q.text, None))}

    def hybrids(self) -> dict[str, Search]:
        return {
            "rrf, one statement": lambda q: _first(self.bare.hybrid_one(q.text, q.vector)),
            "rrf, three": lambda q: _first(self.bare.hybrid_three(q.text, q.vector)),
        }

    def filtered(self, flag: str) -> dict[str, Search]:
        names = {"partition": sql.Identifier(self.collection.partition)}
        wanted, count = sql.Literal(json.dumps({flag: 1})), sql.Literal(K)

        def search(template: str) -> Search:
            query = sql.SQL(template).format(wanted=wanted, count=count, **names).as_bytes(None)  # type: ignore[arg-type]
            return lambda question: self._rows(query, question)

        return {"HNSW, relaxed, ef_search 400": search(_INDEXED), "exact": search(_EXACT)}

    def _rows(self, query: bytes, question: Question) -> list[str]:
        with self.filtering.cursor(binary=True) as cursor:
            return _first(cursor.execute(query, (question.vector,)).fetchall())

    async def coroutine(self, stack: AsyncExitStack) -> AsyncSearch:
        free: asyncio.Queue[Any] = asyncio.Queue()
        for _ in range(8):
            connection = await psycopg.AsyncConnection.connect(
                self.dsn,
                autocommit=True,
                prepare_threshold=0,
                options=f"-c hnsw.ef_search={EF_SEARCH}",
            )
            stack.push_async_callback(connection.close)
            info = await TypeInfo.fetch(connection, "vector")
            assert info is not None
            register(connection, info)
            free.put_nowait(connection)
        statement = self.bare._dense_sql  # noqa: SLF001 - of the neighbouring module

        async def search(question: Question) -> Any:
            connection = await free.get()
            try:
                async with connection.cursor(binary=True) as cursor:
                    await cursor.execute(statement, (question.vector,))
                    return await cursor.fetchall()
            finally:
                free.put_nowait(connection)

        return search


def filtering(dsn: str) -> psycopg.Connection[Any]:
    """A connection on which an index scan goes on until enough rows met the filter."""
    options = "-c hnsw.iterative_scan=relaxed_order -c hnsw.ef_search=400"
    connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0, options=options)
    info = TypeInfo.fetch(connection, "vector")
    assert info is not None
    register(connection, info)
    return connection


def _first(rows: Sequence[Sequence[Any]]) -> list[str]:
    return [row[0] for row in rows]


_INDEXED = """
    WITH near AS MATERIALIZED (
        SELECT id, content, metadata, embedding::vector(384) <=> %b AS distance
        FROM {partition} WHERE metadata @> {wanted} ORDER BY distance LIMIT {count})
    SELECT * FROM near ORDER BY distance + 0
"""
_EXACT = """
    WITH eligible AS MATERIALIZED (
        SELECT id, content, metadata, embedding FROM {partition} WHERE metadata @> {wanted})
    SELECT id, content, metadata, embedding <=> %b AS distance
    FROM eligible ORDER BY distance LIMIT {count}
"""

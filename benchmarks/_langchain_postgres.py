"""langchain-postgres, new and old, driven the fastest way its documentation shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from _common import CANDIDATES, EF_SEARCH, K, address, database, settle
from _data import DIM, FLAGS
from _sides import Side, ids
from sqlalchemy import URL

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from _data import Dataset
    from _sides import AsyncSearch, Search

EQUAL = f"ef_search {EF_SEARCH}"
POOL = 8


class PostgresPeer(Side):
    """A store that reaches the same server through SQLAlchemy."""

    def create(self) -> None:
        self.dsn = database(self.dsn, self.database_name)
        self.make()

    def make(self) -> None:
        raise NotImplementedError

    def url(self, driver: str) -> URL:
        parts = address(self.dsn)
        query = {key: parts[key] for key in ("host", "port") if key in parts}
        return URL.create(
            f"postgresql+{driver}",
            username=parts.get("user"),
            database=parts["dbname"],
            query=query,
        )

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]  # names are ours

    def settle(self) -> None:
        settle(self.dsn)


class LangchainPostgres(PostgresPeer):
    """langchain-postgres: ``PGVectorStore``, flags in typed columns with an index each."""

    name, base = "langchain-postgres", "v2"

    def make(self) -> None:
        from langchain_postgres import Column, PGEngine  # noqa: PLC0415 - only where installed

        self.engine = PGEngine.from_connection_string(self.url("asyncpg"), pool_size=POOL)
        self.engine.init_vectorstore_table(
            "bench",
            DIM,
            id_column=Column("langchain_id", "TEXT", nullable=False),
            metadata_columns=[Column(flag, "INTEGER") for flag in FLAGS],
            hybrid_search_config=self._hybrid(""),
        )
        self.plain, self.equal = self._store(self.engine, None), self._store(self.engine, EF_SEARCH)

    @staticmethod
    def _hybrid(words: str) -> Any:
        """A configuration for one query: one that is used twice keeps the first one's words."""
        from langchain_postgres.v2.hybrid_search_config import (  # noqa: PLC0415
            HybridSearchConfig,
            reciprocal_rank_fusion,
        )

        return HybridSearchConfig(
            tsv_column="content_tsv",
            fts_query=words,
            fusion_function=reciprocal_rank_fusion,
            primary_top_k=CANDIDATES,
            secondary_top_k=CANDIDATES,
        )

    def _options(self, ef_search: int | None, **more: Any) -> dict[str, Any]:
        from langchain_postgres.v2.indexes import HNSWQueryOptions  # noqa: PLC0415

        options = HNSWQueryOptions(ef_search=ef_search) if ef_search else None
        return {"metadata_columns": list(FLAGS), "index_query_options": options, **more}

    def _store(self, engine: Any, ef_search: int | None, **more: Any) -> Any:
        from langchain_postgres import PGVectorStore  # noqa: PLC0415

        return PGVectorStore.create_sync(
            engine, self.model, "bench", **self._options(ef_search, **more)
        )

    def load(self, data: Dataset) -> None:
        store = self._store(self.engine, None, hybrid_search_config=self._hybrid(""))
        for batch in data.batches(self.batch):
            store.add_embeddings(batch.texts, batch.vectors.tolist(), batch.metadatas, batch.ids)

    def index(self) -> None:
        from langchain_postgres.v2.indexes import HNSWIndex  # noqa: PLC0415

        self.plain.apply_vector_index(HNSWIndex(m=16, ef_construction=64))
        hybrid = self._store(self.engine, None, hybrid_search_config=self._hybrid(""))
        hybrid.apply_hybrid_search_index()
        self.run(*(f"CREATE INDEX ON bench ({flag})" for flag in FLAGS))

    def searches(self) -> dict[str, Search]:
        return {
            EQUAL: lambda q: ids(self.equal.similarity_search_by_vector(q.numbers, K)),
            "as it comes": lambda q: ids(self.plain.similarity_search_by_vector(q.numbers, K)),
        }

    def filtered(self, flag: str) -> dict[str, Search]:
        search, wanted = self.equal.similarity_search_by_vector, {flag: 1}
        return {EQUAL: lambda q: ids(search(q.numbers, K, filter=wanted))}

    def hybrids(self) -> dict[str, Search]:
        def search(q: Any) -> list[str]:
            hits = self.equal.similarity_search(
                q.text, K, hybrid_search_config=self._hybrid(q.text)
            )
            return ids(hits)

        return {"rrf": search}

    async def coroutine(self, stack: AsyncExitStack) -> AsyncSearch:
        from langchain_postgres import PGEngine, PGVectorStore  # noqa: PLC0415
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

        pool = create_async_engine(self.url("asyncpg"), pool_size=POOL)
        stack.push_async_callback(pool.dispose)
        engine = PGEngine.from_engine(pool)
        store = await PGVectorStore.create(engine, self.model, "bench", **self._options(EF_SEARCH))
        return lambda q: store.asimilarity_search_by_vector(q.numbers, K)


class LegacyPGVector(PostgresPeer):
    """langchain-postgres: the older ``PGVector``, with the HNSW index its users make by hand."""

    name, base = "langchain-postgres, legacy", "legacy"

    def make(self) -> None:
        self.plain, self.equal = self._store(None), self._store(EF_SEARCH)

    def _store(self, ef_search: int | None, **more: Any) -> Any:
        from langchain_postgres import PGVector  # noqa: PLC0415

        arguments: dict[str, Any] = {"pool_size": POOL}
        if ef_search:
            arguments["connect_args"] = {"options": f"-c hnsw.ef_search={ef_search}"}
        url = self.url("psycopg").render_as_string(hide_password=False)
        return PGVector(
            self.model,
            connection=url,
            embedding_length=DIM,
            engine_args=arguments,
            create_extension=False,
            **more,
        )

    def load(self, data: Dataset) -> None:
        for batch in data.batches(self.batch):
            columns = (batch.texts, batch.vectors.tolist(), batch.metadatas, batch.ids)
            self.plain.add_embeddings(*columns)

    def index(self) -> None:
        self.run("CREATE INDEX ON langchain_pg_embedding USING hnsw (embedding vector_cosine_ops)")

    def searches(self) -> dict[str, Search]:
        return {
            EQUAL: lambda q: ids(self.equal.similarity_search_by_vector(q.numbers, K)),
            "as it comes": lambda q: ids(self.plain.similarity_search_by_vector(q.numbers, K)),
        }

    def filtered(self, flag: str) -> dict[str, Search]:
        search, wanted = self.equal.similarity_search_by_vector, {flag: 1}
        return {EQUAL: lambda q: ids(search(q.numbers, K, filter=wanted))}

    async def coroutine(self, stack: AsyncExitStack) -> AsyncSearch:
        store = self._store(EF_SEARCH, async_mode=True)
        stack.push_async_callback(store._async_engine.dispose)  # noqa: SLF001 - it has no close
        return lambda q: store.asimilarity_search_by_vector(q.numbers, K)

"""The other stores, each driven the fastest way its documentation shows."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from _common import CANDIDATES, EF_SEARCH, K
from _data import DIM
from _langchain_postgres import EQUAL, POOL, LangchainPostgres, LegacyPGVector, PostgresPeer
from _sides import Side, Unsupported, ids

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from _data import Dataset
    from _sides import AsyncSearch, Search


class PgvecTextsearch(PostgresPeer):
    """langchain-pgvec-textsearch: BM25 by pg_textsearch. Its async methods, on one loop.

    Its sync methods run the loop of the main thread, which is what happens here too.
    """

    name, base = "langchain-pgvec-textsearch", "pgvec"

    def make(self) -> None:
        from langchain_pgvec_textsearch import PGVecTextSearchEngine  # noqa: PLC0415
        from langchain_postgres import Column  # noqa: PLC0415

        self.loop = asyncio.new_event_loop()
        self.stack.callback(self.loop.close)
        make = PGVecTextSearchEngine.from_connection_string_async
        self.engine = make(self.url("asyncpg"), pool_size=POOL)
        self.stack.callback(lambda: self.run_async(self.engine.close()))
        self.run_async(
            self.engine.ainit_hybrid_vectorstore_table(
                "bench", DIM, id_column=Column("langchain_id", "TEXT", nullable=False)
            )
        )

    def run_async(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def _store(self, engine: Any, **options: Any) -> Any:
        from langchain_pgvec_textsearch import HybridSearchConfig, PGVecTextSearchStore  # noqa: PLC0415

        chosen = {
            "text_config": "english",
            "dense_top_k": CANDIDATES,
            "sparse_top_k": CANDIDATES,
            **options,
        }
        return await PGVecTextSearchStore.create(
            engine, self.model, "bench", hybrid_search_config=HybridSearchConfig(**chosen)
        )

    def _search(self, filter_: Any = None, **options: Any) -> Search:
        store = self.run_async(self._store(self.engine, **options))
        return lambda q: ids(
            self.run_async(store.asimilarity_search_by_vector(q.numbers, K, filter=filter_))
        )

    def load(self, data: Dataset) -> None:
        store = self.run_async(self._store(self.engine))
        for batch in data.batches(self.batch):
            columns = (batch.texts, batch.vectors.tolist(), batch.metadatas, batch.ids)
            self.run_async(store.aadd_embeddings(*columns))

    def index(self) -> None:
        from langchain_pgvec_textsearch import BM25Index, HNSWIndex  # noqa: PLC0415

        store = self.run_async(self._store(self.engine))
        self.run_async(store.aapply_vector_index(HNSWIndex(name="idx_bench_hnsw")))
        bm25 = BM25Index(name="idx_bench_bm25", text_config="english")
        self.run_async(store.aapply_bm25_index(bm25))

    def searches(self) -> dict[str, Search]:
        return {EQUAL: self._search(ef_search=EF_SEARCH), "as it comes": self._search()}

    def filtered(self, flag: str) -> dict[str, Search]:
        from langchain_pgvec_textsearch import (  # noqa: PLC0415
            FilterOperator,
            IterativeScanMode,
            MetadataFilter,
        )

        wanted = MetadataFilter(key=flag, value=1, operator=FilterOperator.EQ)
        relaxed = IterativeScanMode.RELAXED_ORDER
        return {
            f"{EQUAL}, iterative": self._search(
                wanted, ef_search=EF_SEARCH, iterative_scan=relaxed
            ),
            EQUAL: self._search(wanted, ef_search=EF_SEARCH),
        }

    def words(self) -> dict[str, Search]:
        return {"as it comes": self._by_text(enable_dense=False)}

    def hybrids(self) -> dict[str, Search]:
        return {"rrf": self._by_text(ef_search=EF_SEARCH)}

    def _by_text(self, **options: Any) -> Search:
        store = self.run_async(self._store(self.engine, **options))
        return lambda q: ids(self.run_async(store.asimilarity_search(q.text, K)))

    def workers(self, count: int) -> list[Search]:
        if count > 1:
            raise Unsupported("sync methods work in the main thread only")
        return super().workers(count)

    async def coroutine(self, stack: AsyncExitStack) -> AsyncSearch:
        from langchain_pgvec_textsearch import PGVecTextSearchEngine  # noqa: PLC0415

        make = PGVecTextSearchEngine.from_connection_string_async
        engine = make(self.url("asyncpg"), pool_size=POOL)
        stack.push_async_callback(engine.close)
        store = await self._store(engine, ef_search=EF_SEARCH)
        return lambda q: store.asimilarity_search_by_vector(q.numbers, K)


class Chroma(Side):
    """langchain-chroma with a persistent client, cosine, its own defaults otherwise."""

    name = "langchain-chroma"

    def create(self) -> None:
        import chromadb  # noqa: PLC0415 - only where installed
        from langchain_chroma import Chroma as Store  # noqa: PLC0415

        directory = Path(mkdtemp(prefix="bench-chroma-"))
        self.stack.callback(shutil.rmtree, directory, ignore_errors=True)
        settings = chromadb.Settings(anonymized_telemetry=False)
        client = chromadb.PersistentClient(str(directory), settings=settings)
        self.batch = client.get_max_batch_size()
        self.store = Store(
            "bench",
            self.model,
            client=client,
            collection_configuration={"hnsw": {"space": "cosine", "ef_search": EF_SEARCH}},
        )

    def load(self, data: Dataset) -> None:
        for batch in data.batches(self.batch):
            self.model.given = batch.vectors
            self.store.add_texts(batch.texts, batch.metadatas, batch.ids)

    def searches(self) -> dict[str, Search]:
        return {EQUAL: lambda q: ids(self.store.similarity_search_by_vector(q.numbers, K))}

    def filtered(self, flag: str) -> dict[str, Search]:
        search, wanted = self.store.similarity_search_by_vector, {flag: 1}
        return {EQUAL: lambda q: ids(search(q.numbers, K, filter=wanted))}

    def hybrids(self) -> dict[str, Search]:
        raise Unsupported("in its cloud only")

    async def coroutine(self, stack: AsyncExitStack) -> AsyncSearch:
        del stack
        return lambda q: self.store.asimilarity_search_by_vector(q.numbers, K)


PEERS: tuple[type[Side], ...] = (LangchainPostgres, LegacyPGVector, PgvecTextsearch, Chroma)

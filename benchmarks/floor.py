"""The store against the same statements in bare psycopg, side by side in one run.

    python benchmarks/floor.py                    20,000 chunks, about two minutes
    python benchmarks/floor.py --rows 100000      the real one
    python benchmarks/floor.py --json out.json    the figures for a program

Each query is run by both sides in turn, the one that begins alternating, so that a machine whose
speed drifts slows both alike. A ratio is the median over all queries of ours / bare.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from langchain_core.embeddings import Embeddings
from psycopg import sql
from psycopg.types import TypeInfo
from psycopg.types.json import Jsonb

from a2rchi_pg import (
    Collection,
    Collections,
    CollectionSpec,
    Database,
    EmbeddedPostgres,
    PostgresVectorStore,
)

# The floor speaks the package's own vector codec, the fastest there is: pgvector-python's takes
# an array of vectors one by one and would only flatter us.
from a2rchi_pg._vectors import VectorArray, register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

DIM, K, CANDIDATES, RRF_K, EF_SEARCH = 384, 10, 50, 60, 100
SEED_ROWS = 10_000  # what an add finds in the collection already


class GivenVectors(Embeddings):
    """A model that costs nothing, so that only the store is measured."""

    def __init__(self) -> None:
        self.by_text: dict[str, NDArray[np.float32]] = {}

    def embed_query(self, text: str) -> Any:
        """The vector given for this text."""
        return self.by_text[text]

    def embed_documents(self, texts: list[str]) -> Any:
        """The vectors given for these texts."""
        return [self.by_text[text] for text in texts]


# -- data: clustered vectors, and chunks of ~720 characters cut from Python's reference manual ----


class Data:
    """An endless supply of chunks and questions, the same in every run."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.words = " ".join(topics.values()).split()
        self.centres = np.random.default_rng(0).normal(size=(200, DIM))

    def text(self, spans: int, length: int) -> str:
        """Some passages of ``length`` words each."""
        starts = self.rng.integers(len(self.words) - length, size=spans)
        return " ".join(word for start in starts for word in self.words[start : start + length])

    def vectors(self, count: int) -> NDArray[np.float32]:
        """Unit vectors around 200 centres, ``(count, DIM)``."""
        chosen = self.centres[self.rng.integers(len(self.centres), size=count)]
        noisy = chosen + self.rng.normal(scale=1.2, size=(count, DIM))
        return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)

    def chunks(self, count: int, prefix: str) -> Chunks:
        """Chunks with ids ``prefix-0`` and so on."""
        return Chunks(
            ids=[f"{prefix}-{number}" for number in range(count)],
            texts=[self.text(int(spans), 14) for spans in self.rng.integers(5, 12, count)],
            metadatas=[{"number": number, "part": number % 100} for number in range(count)],
            vectors=self.vectors(count),
        )


@dataclass
class Chunks:
    """Columns of what is to be stored."""

    ids: list[str]
    texts: list[str]
    metadatas: list[dict[str, int]]
    vectors: NDArray[np.float32]


# -- bare psycopg -------------------------------------------------------------------------------


class Bare:
    """The best known form of each statement, prepared and binary, on connections kept open."""

    def __init__(self, dsn: str, collection: Collection) -> None:
        self.collection = collection
        # The planner does best for vectors with a generic plan and for BM25 with a custom one.
        self.dense = self._connect(dsn, "auto")
        self.lexical = self._connect(dsn, "force_custom_plan")
        self._dense_sql = self._sql(
            """
            SELECT id, content, metadata, embedding::vector({dim}) <=> %b AS distance
            FROM {table} ORDER BY distance LIMIT {k}
            """
        )
        self._bm25_sql = self._sql(
            """
            SELECT id, content, metadata, -bm25_get_current_score() FROM {table}
            ORDER BY content <@> to_bm25query(%b, {bm25}) LIMIT {k}
            """
        )
        self._dense_ids_sql = self._sql(
            "SELECT id FROM {table} ORDER BY embedding::vector({dim}) <=> %b LIMIT {candidates}"
        )
        self._bm25_ids_sql = self._sql(
            """
            SELECT id FROM {table}
            ORDER BY content <@> to_bm25query(%b, {bm25}) LIMIT {candidates}
            """
        )
        self._fetch_sql = self._sql(
            "SELECT id, content, metadata FROM {table} WHERE collection_id = {id} AND id = ANY(%b)"
        )
        self._hybrid_sql = self._sql(_HYBRID)
        self._insert_sql = self._sql(
            """
            INSERT INTO {table} (collection_id, id, content, metadata, embedding)
            SELECT {id}, * FROM unnest(%b::text[], %b::text[], %b::jsonb[], %b::vector[])
            """
        )
        self._copy_sql = self._sql(
            """
            COPY {table} (collection_id, id, content, metadata, embedding)
            FROM STDIN (FORMAT binary)
            """
        )

    def _connect(self, dsn: str, plans: str) -> psycopg.Connection[Any]:
        options = f"-c plan_cache_mode={plans} -c hnsw.ef_search={EF_SEARCH}"
        connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=0, options=options)
        info = TypeInfo.fetch(connection, "vector")
        assert info is not None
        register(connection, info)
        return connection

    def _sql(self, template: str) -> bytes:
        return (
            sql.SQL(template)  # type: ignore[arg-type]  # each is a literal of this file
            .format(
                table=sql.Identifier(self.collection.partition),
                bm25=sql.Literal(f"{self.collection.partition}_bm25"),
                id=sql.Literal(self.collection.id),
                dim=sql.Literal(DIM),
                k=sql.Literal(K),
                candidates=sql.Literal(CANDIDATES),
                rrf_k=sql.Literal(RRF_K),
            )
            .as_bytes(None)
        )

    def close(self) -> None:
        """Close both connections."""
        self.dense.close()
        self.lexical.close()

    def _fetch(self, connection: psycopg.Connection[Any], query: bytes, *params: Any) -> Any:
        with connection.cursor(binary=True) as cursor:
            return cursor.execute(query, params).fetchall()

    def dense_search(self, _: str, vector: Any) -> Any:
        """Id, content, metadata and distance of the nearest."""
        return self._fetch(self.dense, self._dense_sql, vector)

    def bm25_search(self, text: str, _: Any) -> Any:
        """Id, content, metadata and score of the best matches."""
        return self._fetch(self.lexical, self._bm25_sql, text)

    def hybrid_one(self, text: str, vector: Any) -> Any:
        """Both rankings fused in the best single statement found."""
        return self._fetch(self.lexical, self._hybrid_sql, vector, text)

    def hybrid_three(self, text: str, vector: Any) -> Any:
        """Two rankings of ids, fused here, and one fetch."""
        scores: dict[str, float] = {}
        for ranking in (
            self._fetch(self.dense, self._dense_ids_sql, vector),
            self._fetch(self.lexical, self._bm25_ids_sql, text),
        ):
            for rank, (id_,) in enumerate(ranking, 1):
                scores[id_] = scores.get(id_, 0) + 1 / (RRF_K + rank)
        best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:K]
        rows = self._fetch(self.dense, self._fetch_sql, [id_ for id_, _ in best])
        found = {row[0]: row for row in rows}
        return [(*found[id_], score) for id_, score in best]

    def insert(self, chunks: Chunks) -> None:
        """Store chunks that are known to be new: arrays, one statement."""
        metadatas = [json.dumps(metadata) for metadata in chunks.metadatas]
        vectors = VectorArray(chunks.vectors)
        with self.dense.cursor() as cursor:
            cursor.execute(self._insert_sql, (chunks.ids, chunks.texts, metadatas, vectors))

    def copy(self, chunks: Chunks) -> None:
        """Store chunks that are known to be new: COPY."""
        with self.dense.cursor() as cursor, cursor.copy(self._copy_sql) as copy:
            copy.set_types(["int4", "text", "text", "jsonb", "vector"])
            for id_, text, metadata, vector in zip(
                chunks.ids, chunks.texts, chunks.metadatas, chunks.vectors, strict=True
            ):
                copy.write_row((self.collection.id, id_, text, Jsonb(metadata), vector))


# Subqueries, not CTEs: pg_textsearch is slow inside a materialised one.
_HYBRID = """
SELECT id, content, metadata, score
FROM (
    SELECT id, coalesce(1.0::float8 / ({rrf_k} + dense.rank), 0)
             + coalesce(1.0::float8 / ({rrf_k} + lexical.rank), 0) AS score
    FROM (
        SELECT id, row_number() OVER () AS rank
        FROM (SELECT id FROM {table}
              ORDER BY embedding::vector({dim}) <=> %b LIMIT {candidates}) AS nearest
    ) AS dense
    FULL JOIN (
        SELECT id, row_number() OVER () AS rank
        FROM (SELECT id FROM {table}
              ORDER BY content <@> to_bm25query(%b, {bm25}) LIMIT {candidates}) AS matching
    ) AS lexical USING (id)
    ORDER BY score DESC, id LIMIT {k}
) AS fused
JOIN {table} AS chunk USING (id)
WHERE chunk.collection_id = {id}
ORDER BY score DESC, id
"""


# -- measuring ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Result:
    """One comparison: medians in milliseconds (of one search, or for one chunk added)."""

    what: str
    floor: str
    ours_ms: float
    bare_ms: float
    ratio: float
    same: float | None = None  # share of queries with the same ids; equal BM25 scores may differ


def timed(work: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Milliseconds taken, and the result."""
    start = perf_counter()
    result = work(*args)
    return (perf_counter() - start) * 1000, result


def in_turn(
    what: str,
    floor: str,
    sides: tuple[Callable[..., Any], Callable[..., Any]],
    cases: Iterable[tuple[Sequence[Any], Sequence[Any]]],
    per: int = 1,
) -> Result:
    """Run ours and bare on each case's arguments, the one that begins alternating."""
    ours, bare = sides
    times, same = [], []
    for number, (mine, theirs) in enumerate(cases):
        if number % 2:
            (bare_ms, rows), (ours_ms, hits) = timed(bare, *theirs), timed(ours, *mine)
        else:
            (ours_ms, hits), (bare_ms, rows) = timed(ours, *mine), timed(bare, *theirs)
        times.append((ours_ms / per, bare_ms / per))
        if rows is not None:
            same.append({document.id for document, _ in hits} == {row[0] for row in rows})
    return Result(
        what=what,
        floor=floor,
        ours_ms=median(ours for ours, _ in times),
        bare_ms=median(bare for _, bare in times),
        ratio=median(ours / bare for ours, bare in times),
        same=sum(same) / len(same) if same else None,
    )


def searches(
    store: PostgresVectorStore, model: GivenVectors, bare: Bare, count: int
) -> Iterator[Result]:
    """Compare every kind of search."""
    data = Data(seed=2)
    questions = [data.text(1, 3 + number % 6) for number in range(count)]
    model.by_text = dict(zip(questions, data.vectors(count), strict=True))
    cases = [(case, case) for case in model.by_text.items()]

    def dense(_: str, vector: Any) -> Any:
        return store.similarity_search_with_score_by_vector(vector, K)

    def bm25(text: str, _: Any) -> Any:
        return store.bm25_search(text, K)

    def hybrid(text: str, _: Any) -> Any:
        return store.hybrid_search(text, K, fusion="rrf", fetch_k=CANDIDATES)

    def default(text: str, _: Any) -> Any:
        return store.hybrid_search(text, K, fetch_k=CANDIDATES)

    def ranks_only(text: str, vector: Any) -> None:
        bare.hybrid_one(text, vector)  # ranks others first: not to be compared

    for what, floor, *sides in (
        ("dense", "one statement", dense, bare.dense_search),
        ("bm25", "one statement", bm25, bare.bm25_search),
        ("hybrid, rrf", "one statement", hybrid, bare.hybrid_one),
        ("hybrid, rrf", "three, fused in Python", hybrid, bare.hybrid_three),
        ("hybrid, calibrated", "one statement, rrf", default, ranks_only),
    ):
        in_turn(what, floor, (sides[0], sides[1]), cases[:30])  # warms caches, prepares statements
        result = in_turn(what, floor, (sides[0], sides[1]), cases)
        assert what != "dense" or result.same == 1, "faster by finding something else"
        yield result


async def awaited(store: PostgresVectorStore, dsn: str, count: int) -> Result:
    """Compare the asynchronous dense search with the synchronous one."""
    name, times = store.collection_name, []
    async with Database(dsn) as database:
        twin = PostgresVectorStore(GivenVectors(), database=database, collection=name)
        for number, vector in enumerate(Data(seed=4).vectors(count)):
            took: dict[str, float] = {}
            for side in ("async", "sync")[:: 1 if number % 2 else -1]:
                start = perf_counter()
                if side == "sync":
                    store.similarity_search_with_score_by_vector(vector, K)
                else:
                    await twin.asimilarity_search_with_score_by_vector(vector, K)
                took[side] = (perf_counter() - start) * 1000
            times.append((took["async"], took["sync"]))
    return Result(
        what="dense, async",
        floor="ours, sync",
        ours_ms=median(ours for ours, _ in times),
        bare_ms=median(sync for _, sync in times),
        ratio=median(ours / sync for ours, sync in times),
    )


def adds(database: Database, dsn: str, model: GivenVectors, batches: int) -> Iterator[Result]:
    """Compare adding batches to a collection, with a vector index and without."""
    size, data = 200, Data(seed=3)
    for index, live in (("hnsw", "hnsw, bm25, gin"), ("none", "bm25, gin")):
        spec = CollectionSpec(name=f"floor_add_{index}", index=index)
        filled(database, dsn, spec, SEED_ROWS)
        store = PostgresVectorStore(model, database=database, collection=spec)

        def ours(chunks: Chunks, store: PostgresVectorStore = store) -> None:
            store.add_embeddings(chunks.texts, chunks.vectors, chunks.metadatas, ids=chunks.ids)

        with bare_side(database, dsn, spec.name) as bare:
            for form, add in (("unnest", bare.insert), ("copy", bare.copy)):
                cases = [
                    tuple((data.chunks(size, f"{form}-{side}-{n}"),) for side in ("ours", "bare"))
                    for n in range(batches)
                ]
                yield in_turn(f"add {size}; {live}", f"binary {form}", (ours, add), cases, size)
        Collections(database).drop(spec.name)


# -- set-up -------------------------------------------------------------------------------------


def filled(database: Database, dsn: str, spec: CollectionSpec, rows: int) -> None:
    """Make a collection of that many chunks: loaded by COPY, indexed afterwards."""
    with loading(database, dsn, spec, rows):
        pass


@contextmanager
def loading(
    database: Database, dsn: str, spec: CollectionSpec, rows: int
) -> Iterator[tuple[psycopg.Connection[Any], sql.Identifier]]:
    """A collection that is loaded, and its table; it is indexed on leaving."""
    collections = Collections(database)
    collections.drop(spec.name)
    collection = collections.create(spec, DIM)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for suffix in ("embedding", "bm25"):
            name = sql.Identifier(f"{collection.partition}_{suffix}")
            connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(name))
        with bare_side(database, dsn, spec.name) as bare:
            data = Data(seed=1)
            for start in range(0, rows, 5_000):
                bare.copy(data.chunks(min(5_000, rows - start), f"doc-{start}"))
        table = sql.Identifier(collection.partition)
        yield connection, table
        collections.build_indexes(spec.name)
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table))


@contextmanager
def bare_side(database: Database, dsn: str, name: str) -> Iterator[Bare]:
    collection = Collections(database).get(name)
    assert collection is not None
    bare = Bare(dsn, collection)
    try:
        yield bare
    finally:
        bare.close()


def environment(database: Database, rows: int) -> dict[str, Any]:
    health = database.health()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ("a2rchi_pg", "psycopg", "langchain-core", "numpy")
    return {
        "rows": rows,
        "dimensions": DIM,
        "k": K,
        "cores": os.cpu_count(),
        "memory_gb": round(memory),
        "python": platform.python_version(),
        "postgres": health.server_version,
        **health.extensions,
        **{package: version(package) for package in packages},
    }


def show(facts: dict[str, Any], results: Sequence[Result]) -> None:
    print(", ".join(f"{key} {value}" for key, value in facts.items()), end="\n\n")
    print(f"{'':26}{'the floor':26}{'ours ms':>9}{'bare ms':>9}{'ratio':>7}{'same':>6}")
    for result in results:
        same = "" if result.same is None else f"{result.same:.0%}"
        print(
            f"{result.what:26}{result.floor:26}{result.ours_ms:9.3f}{result.bare_ms:9.3f}"
            f"{result.ratio:7.2f}{same:>6}"
        )


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="chunks in the collection")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--batches", type=int, default=10, help="of 200 chunks, per side")
    parser.add_argument("--only", choices=["search", "add"], help="half of it")
    parser.add_argument("--dsn", help="a server of yours; else an embedded one")
    parser.add_argument("--data", type=Path, default=Path(".cache/floor"), help="its directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


@contextmanager
def opened(dsn: str | None, data: Path) -> Iterator[tuple[Database, str]]:
    """The database to measure, and its DSN."""
    with ExitStack() as stack:
        if dsn is None:
            dsn = stack.enter_context(EmbeddedPostgres(data)).dsn
            database = stack.enter_context(Database.embedded(data))
        else:
            database = stack.enter_context(Database(dsn))
        yield database, dsn


def main() -> None:
    """Fill a collection where it isn't there yet, measure and report."""
    given, model, results = options(), GivenVectors(), list[Result]()
    with opened(given.dsn, given.data) as (database, dsn):
        if given.only != "add":
            spec = CollectionSpec(name=f"floor_{given.rows}")
            store = PostgresVectorStore(model, database=database, collection=spec)
            if store.count() != given.rows:
                filled(database, dsn, spec, given.rows)
            gc.freeze()
            with bare_side(database, dsn, spec.name) as bare:
                results += searches(store, model, bare, given.queries)
            results.append(asyncio.run(awaited(store, dsn, given.queries)))
        if given.only != "search":
            results += adds(database, dsn, model, given.batches)
        facts = environment(database, given.rows)
    show(facts, results)
    if given.json:
        found = {"environment": facts, "results": [asdict(result) for result in results]}
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

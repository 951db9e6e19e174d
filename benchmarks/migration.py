"""Bringing data over: rows a second as a ratio to bare COPY of the same rows, and memory.

    python benchmarks/migration.py                          10,000 and 100,000 rows, a few minutes
    python benchmarks/migration.py --rows 10000 --only catalog
    python benchmarks/migration.py --dsn postgresql://…     on a server of yours

Each run is a process of its own, whose memory is measured at its highest, and so is ``verify``
afterwards; another one only reads the source, so that what reading takes (Chroma holds its vectors
in memory) stands beside it. COPY then fills a table with the same columns and indexes by the rows
that arrived, in binary form.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg
from _common import database, drop_database
from _memory import resident
from psycopg import sql

from a2rchi_pg import CollectionSpec, Database, EmbeddedPostgres, _schema
from a2rchi_pg.migrate import (
    CatalogSource,
    ChromaSource,
    ChunkTarget,
    DocumentTarget,
    Source,
    Target,
    run,
    verify,
)

DIMENSIONS, NAME, BATCH = 384, "bench", 1000
WORDS = [f"word{n}" for n in range(17)]
TABLES = {"catalog": "SELECT 'documents'", "chroma": "SELECT chunk_partition(c) FROM collections c"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--only", choices=list(TABLES), nargs="+", default=list(TABLES))
    parser.add_argument("--dsn", help="a server of yours; a database is made and dropped there")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(*arguments.child)))
        return
    print(
        "                   rows/s   verify  reading     COPY time/COPY  peak MB   verify  reading"
    )
    with ExitStack() as stack:
        server = arguments.dsn
        if server is None:
            server = stack.enter_context(EmbeddedPostgres(Path(".cache/migration"))).dsn
        for kind in arguments.only:
            for rows in arguments.rows:
                measure(kind, rows, server)


def measure(kind: str, rows: int, server: str) -> None:
    dsn = database(server, "a2rchi_migration")
    _schema.migrate(dsn)
    with tempfile.TemporaryDirectory() as folder:
        fill(kind, folder, rows)
        reading = spawned("read", kind, folder, dsn)
        ours = spawned("run", kind, folder, dsn)
        again = spawned("verify", kind, folder, dsn)
    copied = copy(dsn, kind, rows)
    drop_database(server, "a2rchi_migration")
    print(
        f"{kind:8} {rows:7,} {rows / ours['seconds']:8,.0f} {rows / again['seconds']:8,.0f}"
        f" {rows / reading['seconds']:8,.0f} {rows / copied:8,.0f}"
        f" {ours['seconds'] / copied:9.1f} {ours['peak']:8.0f} {again['peak']:8.0f}"
        f" {reading['peak']:8.0f}"
    )


def fill(kind: str, folder: str, rows: int) -> None:
    """A source of so many rows, in a process of its own where its memory would stay."""
    if kind == "catalog":
        fill_catalog(folder, rows)
    else:
        spawned("fill", kind, folder, str(rows))


def fill_catalog(folder: str, rows: int) -> None:
    columns = (
        "resource_hash TEXT PRIMARY KEY, path TEXT, display_name TEXT, source_type TEXT, url TEXT, "
        "suffix TEXT, size_bytes INTEGER, ingested_at TEXT, extra_json TEXT"
    )
    with closing(sqlite3.connect(Path(folder, "catalog.sqlite"))) as connection, connection:
        connection.execute(f"CREATE TABLE resources ({columns})")
        connection.executemany(
            "INSERT INTO resources VALUES (?, ?, ?, 'links', ?, '.html', ?, '2026-01-20', ?)",
            (
                (f"{n:012x}", f"websites/{n:012x}.html", f"Page {n}", f"https://example.org/{n}", n,
                 json.dumps({"title": text(n), "depth": str(n % 7)}))
                for n in range(rows)
            ),
        )  # fmt: skip


def fill_chroma(folder: str, rows: int) -> None:
    import chromadb  # noqa: PLC0415 - an extra
    import numpy as np  # noqa: PLC0415

    client = chromadb.PersistentClient(folder, chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection(NAME, embedding_function=None)
    random = np.random.default_rng(1)
    for start in range(0, rows, BATCH):
        numbers = range(start, min(start + BATCH, rows))
        collection.add(
            ids=[f"{n // 10:012x}-{n % 10:06d}" for n in numbers],
            documents=[text(n) * 6 for n in numbers],
            metadatas=[
                {"resource_hash": f"{n // 10:012x}", "chunk_index": n % 10} for n in numbers
            ],
            embeddings=random.normal(size=(len(numbers), DIMENSIONS)).astype(np.float32),
        )


def text(number: int) -> str:
    return " ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 20)) + f" {number}. "


def spawned(task: str, kind: str, folder: str, more: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", task, kind, folder, more]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(task: str, kind: str, folder: str, more: str) -> dict[str, float]:
    """One task in this process: seconds until the last batch, and memory at its highest."""
    if task == "fill":
        fill_chroma(folder, int(more))
        return {}
    source, target = sides(kind, folder)
    began = perf_counter()
    if task == "read":
        for _ in source.batches(None, BATCH):
            pass
        return {"seconds": perf_counter() - began, "peak": resident("VmHWM")}
    if task == "verify":
        with Database(more, max_size=2) as target_database:
            found = verify(target_database, source, target, NAME, batch_size=BATCH)
            assert found.counts == {}
        return {"seconds": perf_counter() - began, "peak": resident("VmHWM")}
    batches: list[float] = []

    def stored(_done: int, _total: int) -> None:
        if not batches:
            make_floor(more, kind)
        batches.append(perf_counter() - began)

    with Database(more, max_size=2) as target_database:
        run(target_database, source, target, run_id=NAME, batch_size=BATCH, progress=stored)
    return {"seconds": batches[-1], "peak": resident("VmHWM")}


def sides(kind: str, folder: str) -> tuple[Source[Any], Target[Any]]:
    if kind == "catalog":
        return CatalogSource.open(folder), DocumentTarget()
    return ChromaSource.directory(folder, NAME), ChunkTarget(
        CollectionSpec(name=NAME, metric="l2", index="none"), DIMENSIONS
    )


def make_floor(dsn: str, kind: str) -> None:
    """A table as the target is while it is being filled: the same columns and indexes."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        ((name,),) = connection.execute(TABLES[kind].encode()).fetchall()
        connection.execute(
            sql.SQL("CREATE TABLE floor (LIKE {} INCLUDING ALL)").format(sql.Identifier(name))
        )


def copy(dsn: str, kind: str, rows: int) -> float:
    """Seconds that COPY takes for the rows that arrived."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        ((name,),) = connection.execute(TABLES[kind].encode()).fetchall()
        columns = connection.execute(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
            "WHERE attrelid = 'floor'::regclass AND attnum > 0 AND attgenerated = ''"
        ).fetchall()[0][0]
        chosen = sql.SQL(columns)
        out = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)")
        into = sql.SQL("COPY floor ({}) FROM STDIN (FORMAT binary)").format(chosen)
        with connection.cursor().copy(out.format(chosen, sql.Identifier(name))) as reading:
            data = [bytes(block) for block in reading]
        began = perf_counter()
        with connection.cursor().copy(into) as writing:
            blocks = iter(data)
            while some := b"".join(islice(blocks, 100)):
                writing.write(some)
        seconds = perf_counter() - began
        ((there,),) = connection.execute("SELECT count(*) FROM floor").fetchall()
        assert there == rows
        return seconds


if __name__ == "__main__":
    main()

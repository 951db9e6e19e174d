"""Collections of langchain-postgres, as the library itself makes their tables."""

from __future__ import annotations

import json
import uuid

import numpy as np
import psycopg

from tests.migration_support import DIMENSIONS

ROWS = 120
VECTORS = np.random.default_rng(5).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
IDS = [str(uuid.UUID(int=n * 7919)) for n in range(ROWS)]

OLD = """
    CREATE EXTENSION IF NOT EXISTS vector;
    CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE,
        cmetadata json);
    CREATE TABLE langchain_pg_embedding (id varchar PRIMARY KEY, collection_id uuid
        REFERENCES langchain_pg_collection ON DELETE CASCADE, embedding vector, document varchar,
        cmetadata jsonb);
"""
COMMUNITY = """
    CREATE EXTENSION IF NOT EXISTS vector;
    CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name varchar, cmetadata json);
    CREATE TABLE langchain_pg_embedding (uuid uuid PRIMARY KEY, collection_id uuid
        REFERENCES langchain_pg_collection ON DELETE CASCADE, embedding vector, document varchar,
        cmetadata json, custom_id varchar);
"""
NEW = """
    CREATE EXTENSION IF NOT EXISTS vector;
    CREATE TABLE "My docs" (langchain_id uuid PRIMARY KEY, content text NOT NULL,
        embedding vector(8) NOT NULL, content_tsv tsvector, "year" integer, day date,
        langchain_metadata json);
    CREATE INDEX ON "My docs" USING hnsw (embedding vector_l2_ops);
"""


def fill_old(source: str, ddl: str = OLD) -> None:
    """Collection ``docs``, and another one that must stay behind."""
    with psycopg.connect(source) as connection:
        connection.execute(ddl)
        docs, other = uuid.UUID(int=1), uuid.UUID(int=2)
        connection.execute(
            "INSERT INTO langchain_pg_collection VALUES (%s, 'docs'), (%s, 'other')", [docs, other]
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO langchain_pg_embedding (%s, collection_id, embedding, document, "
                "cmetadata) VALUES (%%s, %%s, %%s, %%s, %%s)" % ("id" if ddl is OLD else "uuid"),
                [
                    (
                        IDS[n],
                        other if n % 10 == 9 else docs,
                        json.dumps([float(x) for x in VECTORS[n]]),
                        f"text {n}",
                        json.dumps({"n": n, "part": n / 7, "tags": ["a", None]}),
                    )
                    for n in range(ROWS)
                ],
            )


def fill_new(source: str) -> None:
    with psycopg.connect(source) as connection:
        connection.execute(NEW)
        with connection.cursor() as cursor:
            cursor.executemany(
                'INSERT INTO "My docs" VALUES (%s, %s, %s, to_tsvector(%s), %s, %s, %s)',
                [
                    (
                        IDS[n],
                        f"text {n}",
                        json.dumps([float(x) for x in VECTORS[n]]),
                        f"text {n}",
                        2000 + n,
                        "2026-01-02",
                        f'{{"n": {n}, "text": "nul \\u0000 here"}}',
                    )
                    for n in range(ROWS)
                ],
            )

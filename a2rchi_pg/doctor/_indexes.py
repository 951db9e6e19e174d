"""Indexes: those that are missing, can't be used, or stand in a table full of dead rows."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from a2rchi_pg._op import Steps, fetch_tuples, write
from a2rchi_pg._schema import migrations
from a2rchi_pg.doctor._finding import Finding, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFINITION = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\w+)\s[^;]+;", re.MULTILINE)
_TRIGRAMS, _WORDS = "documents_trigrams", "documents_words"
_FEWEST_DEAD, _DEAD_SHARE = 1000, 0.2
_SMALL_INDEX = 4 * 2**20
_SWOLLEN = 4  # times what the chunks need: pages that vectors don't fill make up half of that


@cache
def _shipped() -> Mapping[str, str]:
    """Every index that the schema's files make by itself, with its definition."""
    return {
        match[1]: " ".join(match[0].split())
        for migration in migrations()
        for match in _DEFINITION.finditer(migration.content.decode())
    }


@write
def schema_indexes() -> Steps[list[Finding]]:
    """The indexes that the schema came with."""
    wanted = _shipped()
    rows = yield from fetch_tuples(
        """
        SELECT name, own_relation(name) IS NULL,
               EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm')
        FROM unnest(%(names)s::text[]) AS name
        """,
        names=[*wanted, _TRIGRAMS, _WORDS],
    )
    missing = {name for name, is_missing, _ in rows if is_missing}
    found = [_missing(name, wanted[name]) for name in wanted if name in missing]
    has_trigrams = rows[0][2]
    if _TRIGRAMS in missing and (has_trigrams or _WORDS in missing):
        lacking = _TRIGRAMS if has_trigrams else _WORDS
        found.append(_missing(lacking, "SELECT build_catalog_indexes();"))
    return found


def _missing(name: str, remedy: str) -> Finding:
    return Finding(
        check="index_missing",
        severity="warning",
        problem=f"the index {name} is missing: what it was for reads whole tables",
        evidence=f"there is no {name}",
        remedy=remedy,
    )


@write
def collection_indexes() -> Steps[list[Finding]]:
    """The vector and the lexical index of every collection."""
    rows = yield from fetch_tuples(
        """
        SELECT c.name, own_relation(chunk_partition(c)) IS NULL,
               index_kind <> 'none' AND own_relation(chunk_partition(c) || '_embedding') IS NULL
                   AND (index_kind = 'hnsw' OR reltuples >= 1000),
               own_relation(chunk_partition(c) || '_bm25') IS NULL
                   AND (bm25 OR own_relation(chunk_partition(c) || '_fts') IS NULL)
        FROM collections AS c
        CROSS JOIN (SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_textsearch'))
            AS extension (bm25)
        LEFT JOIN pg_class ON pg_class.oid = own_relation(chunk_partition(c))
        ORDER BY c.name
        """
    )
    found = list[Finding]()
    for name, no_table, no_vector, no_lexical in rows:
        if no_table:
            found.append(_without_table(name))
            continue
        lacks = [
            kind for kind, lacking in (("vector", no_vector), ("lexical", no_lexical)) if lacking
        ]
        if lacks:
            found.append(
                Finding(
                    check="collection_index_missing",
                    severity="warning",
                    problem=f"collection {name!r} has no {' and no '.join(lacks)} index: searches "
                    "read all of it",
                    evidence="it is not in pg_class",
                    remedy=f"SELECT build_collection_indexes({literal(name)});",
                )
            )
    return found


def _without_table(name: str) -> Finding:
    return Finding(
        check="collection_table_missing",
        severity="error",
        problem=f"collection {name!r} has no table: its chunks are lost",
        evidence="its partition of document_chunks is not in pg_class",
        remedy=f"restore it from a backup, or SELECT drop_collection({literal(name)});",
    )


@write
def invalid_indexes() -> Steps[list[Finding]]:
    """Indexes whose build was interrupted: they cost writers and serve nobody."""
    rows = yield from fetch_tuples(
        """
        SELECT nspname, i.relname, t.relname
        FROM pg_index
        JOIN pg_class AS i ON i.oid = indexrelid
        JOIN pg_class AS t ON t.oid = indrelid
        JOIN pg_namespace AS n ON n.oid = i.relnamespace
        WHERE NOT indisvalid
            AND n.oid = (SELECT relnamespace FROM pg_class WHERE oid = 'collections'::regclass)
            AND NOT EXISTS (
                SELECT FROM pg_stat_progress_create_index AS build
                WHERE index_relid = i.oid
                    -- Which one another role builds may be hidden; what it locks is not.
                    OR index_relid IS NULL AND EXISTS (
                        SELECT FROM pg_locks WHERE pid = build.pid AND relation = t.oid))
        ORDER BY i.relname
        """
    )
    return [
        Finding(
            check="index_invalid",
            severity="error",
            problem=f"the index {index} of {table} is INVALID: its build was interrupted",
            evidence="pg_index.indisvalid is false, and nobody builds it",
            remedy=(
                f"DROP INDEX CONCURRENTLY {identifier(schema, index)};"
                if re.search(r"_cc(new|old)\d*$", index)
                else f"REINDEX INDEX CONCURRENTLY {identifier(schema, index)};"
            ),
        )
        for schema, index, table in rows
    ]


@write
def dead_rows() -> Steps[list[Finding]]:
    """Tables with so many dead rows that their indexes are swollen and slow."""
    rows = yield from fetch_tuples(
        """
        SELECT schemaname, relname, n_dead_tup, n_live_tup, last_autovacuum
        FROM pg_stat_user_tables
        WHERE schemaname = (SELECT nspname FROM pg_class JOIN pg_namespace AS n
                            ON n.oid = relnamespace WHERE pg_class.oid = 'collections'::regclass)
            AND n_dead_tup > greatest(%(least)s::bigint, %(share)s::float * n_live_tup)
        ORDER BY relname
        """,
        least=_FEWEST_DEAD,
        share=_DEAD_SHARE,
    )
    return [
        Finding(
            check="bloat",
            severity="warning",
            problem=f"{table} is full of dead rows: its indexes are larger and slower than needed",
            evidence=f"{dead:,} dead and {live:,} live rows, last autovacuum: {last or 'never'}",
            remedy=f"VACUUM (ANALYZE) {identifier(schema, table)};",
        )
        for schema, table, dead, live, last in rows
    ]


@write
def swollen_indexes() -> Steps[list[Finding]]:
    """Vector indexes that kept the room of chunks deleted long ago, which no VACUUM gives back."""
    rows = yield from fetch_tuples(
        """
        SELECT name, size, rows, needed
        FROM (
            SELECT c.name, reltuples::bigint AS rows,
                   pg_relation_size(own_relation(chunk_partition(c) || '_embedding')) AS size,
                   (reltuples * (100 + dimensions / 8.0
                       * CASE element WHEN 'vector' THEN 32 WHEN 'halfvec' THEN 16 ELSE 1 END
                       + CASE index_kind WHEN 'hnsw' THEN 12 * m ELSE 0 END))::bigint AS needed
            FROM collections AS c
            JOIN pg_class ON pg_class.oid = own_relation(chunk_partition(c))
        ) AS index
        WHERE rows >= 0 AND size > greatest(%(least)s::bigint, %(times)s::integer * needed)
        ORDER BY name
        """,
        least=_SMALL_INDEX,
        times=_SWOLLEN,
    )
    return [
        Finding(
            check="index_bloat",
            severity="warning",
            problem=f"the vector index of collection {name!r} is full of what was deleted",
            evidence=f"it has {size:,} bytes, {stored:,} chunks need about {needed:,}",
            remedy=f"Collections(database).reindex({name!r})",
        )
        for name, size, stored, needed in rows
    ]

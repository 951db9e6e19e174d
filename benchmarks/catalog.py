"""A catalog of 20,000 documents: its pages against bare queries for the same rows.

    python benchmarks/catalog.py                  under a minute
    python benchmarks/catalog.py --documents 100000

Each page is asked of a repository and of bare psycopg in turn, the one that begins alternating. The
bare query reads the same rows from the same index, with each document's state, and makes tuples; it
does not count what is on all pages. A ratio is that of the 95th percentiles; the promise is 3 for
pages without a total. Exits with 1 where it is broken.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from _common import database, drop_database, percentile, timed

from a2rchi_pg import (
    CatalogRepository,
    Collections,
    CollectionSpec,
    Database,
    EmbeddedPostgres,
    _schema,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT, PROMISED, CHUNKS_PER_DOCUMENT = 50, 3.0, 10
DOCUMENTS = """
    INSERT INTO documents (resource_hash, display_name, source_type, url, git_repo, ticket_id,
        size_bytes, metadata, source_modified_at, ingested_at)
    SELECT md5(i::text), 'Document ' || i || ' about topic' || i % 977,
        (ARRAY['web', 'git', 'ticket', 'local_files'])[1 + i % 4],
        CASE i % 4 WHEN 0 THEN format('https://site%s.example/page/%s', i % 50, i) END,
        CASE i % 4 WHEN 1 THEN format('https://git.example/org/repo%s', i % 30) END,
        CASE i % 4 WHEN 2 THEN format('PROJ%s-%s', i % 20, i) END,
        i * 7 % 100000,
        jsonb_build_object('author', 'author' || i % 500, 'note', repeat('lorem ipsum ', 20)),
        now() - i * interval '1 minute', now()
    FROM generate_series(1, {documents}) AS i
"""
STATES = """
    INSERT INTO indexed_documents (collection_id, document_id, status, chunk_count, indexed_at)
    SELECT c.id, d.id, CASE WHEN d.id % 100 = 0 THEN 'failed' ELSE 'embedded' END, {chunks}, now()
    FROM documents AS d, collections AS c
"""
CHUNKS = """
    INSERT INTO document_chunks (collection_id, document_id, chunk_index, id, content, embedding)
    SELECT c.id, d.id, i, format('%s-%s', d.id, i), 'text', '[1,2]'
    FROM documents AS d, collections AS c, generate_series(0, {chunks} - 1) AS i
"""
BARE = """
    SELECT d.*, i.status, i.error, i.attempts, i.chunk_count, i.indexed_at
    FROM (SELECT * FROM documents WHERE {where} ORDER BY {order}{ties} LIMIT {limit}) AS d
    LEFT JOIN indexed_documents AS i ON i.document_id = d.id
"""


class Page(NamedTuple):
    """A page as the repository is asked for it, and its rows in SQL."""

    name: str
    view: dict[str, Any]
    where: str
    order: str = "lower(left(display_name, 200))"


LIVE = "deleted_at IS NULL"
PAGES = [
    Page("by name", {}, LIVE),
    Page(
        "by name, further on",
        {"after": '["name", false, "document 15 about topic15", 15]'},
        f"{LIVE} AND (lower(left(display_name, 200)), id) > ('document 15 about topic15', 15)",
    ),
    Page(
        "newest",
        {"sort": "modified"},
        LIVE,
        "coalesce(source_modified_at, source_created_at, ingested_at, created_at) DESC",
    ),
    Page("of a kind", {"source_type": "git"}, f"{LIVE} AND source_type = 'git'"),
    Page(
        "of a URL",
        {"filter": {"url": "https://site4.example/page/4"}},
        f"{LIVE} AND url = 'https://site4.example/page/4'",
    ),
]


def fill(dsn: str, documents: int) -> None:
    """Make the schema and its content, in SQL."""
    _schema.migrate(dsn)
    with Database(dsn) as opened:
        Collections(opened).create(CollectionSpec(name="c", index="none"), 2)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in (DOCUMENTS, STATES, CHUNKS):
            filled = statement.replace("{documents}", str(documents))
            connection.execute(filled.replace("{chunks}", str(CHUNKS_PER_DOCUMENT)))  # type: ignore[arg-type]
        connection.execute("VACUUM ANALYZE")


def measured(
    catalog: CatalogRepository, bare: psycopg.Connection[Any], page: Page, rounds: int, total: bool
) -> tuple[Sequence[float], Sequence[float]]:
    """Milliseconds of ours and of bare, in turn."""
    ties = ", id DESC" if page.order.endswith("DESC") else ", id"
    query = BARE.format(where=page.where, order=page.order, ties=ties, limit=LIMIT + 1)

    def ours() -> Any:
        return catalog.list(**page.view, limit=LIMIT, with_total=total)

    def floor() -> Any:
        return bare.execute(query).fetchall()  # type: ignore[arg-type]  # our own text

    times: tuple[list[float], list[float]] = ([], [])
    for number in range(-10, rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            ms, _ = timed((ours, floor)[side])
            if number >= 0:
                times[side].append(ms)
    return times


def main() -> None:
    """Fill, measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--dsn", help="a server of yours; else an embedded one")
    parser.add_argument("--data", type=Path, default=Path(".cache/catalog"), help="its directory")
    given, broken = parser.parse_args(), False
    with ExitStack() as stack:
        dsn = given.dsn or stack.enter_context(EmbeddedPostgres(given.data)).dsn
        own = database(dsn, "bench_catalog")
        stack.callback(drop_database, dsn, "bench_catalog")
        fill(own, given.documents)
        catalog = CatalogRepository(stack.enter_context(Database(own)))
        bare = stack.enter_context(psycopg.connect(own, autocommit=True, prepare_threshold=0))
        print(f"{'ms':34}{'ours p50':>9}{'p95':>8}{'bare p50':>10}{'p95':>8}{'p95 ratio':>11}")
        for page in PAGES:
            for total in (False, True):
                ours, floor = measured(catalog, bare, page, given.rounds, total)
                ours95, floor95 = percentile(ours, 95), percentile(floor, 95)
                broken |= not total and ours95 > PROMISED * floor95
                name = page.name + (", with its total" if total else "")
                print(
                    f"{name:34}{median(ours):9.2f}{ours95:8.2f}{median(floor):10.2f}"
                    f"{floor95:8.2f}{ours95 / floor95:11.2f}"
                )
    sys.exit(broken)


if __name__ == "__main__":
    main()

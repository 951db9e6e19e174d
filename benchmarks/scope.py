"""What it costs a search to pass over the documents that are off for a user.

    python benchmarks/scope.py                    20,000 chunks, about two minutes
    python benchmarks/scope.py --rows 100000      a larger one

Each question is asked twice in turn, with ``user_id`` and without, the one that begins alternating.
A ratio is the median over all questions of scoped / unscoped. Exits with 1 where one is over 2.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from floor import Data, GivenVectors, K, environment, in_turn, loading, opened
from psycopg import sql

from a2rchi_pg import CollectionSpec, Database, PostgresVectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from floor import Result

CHUNKS_PER_DOCUMENT = 10
SHARES = (0.001, 0.01, 0.1, 0.5)  # of the documents, off for a user
PROMISED = 2.0

DOCUMENTS = """
    INSERT INTO documents (resource_hash, display_name)
    SELECT 'scope-' || n, 'document ' || n FROM generate_series(1, %s) AS n
"""
BELONGING = """
    UPDATE {table} SET document_id = known.ids[1 + abs(hashtext(id)) % cardinality(known.ids)]
    FROM (SELECT array_agg(id) AS ids FROM documents) AS known
"""
CHOICES = """
    INSERT INTO user_document_selection (user_id, document_id, enabled)
    SELECT %(user)s, id, false FROM documents ORDER BY md5(id::text) LIMIT %(count)s
"""


def filled(database: Database, dsn: str, spec: CollectionSpec, rows: int) -> None:
    """A collection whose chunks belong to documents, and a user for each share of them."""
    documents = rows // CHUNKS_PER_DOCUMENT
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE documents, users CASCADE")  # chunks, too
        connection.execute(DOCUMENTS, [documents])
        for share in SHARES:
            connection.execute("INSERT INTO users (id) VALUES (%s)", [user(share)])
            count = max(1, round(share * documents))
            connection.execute(CHOICES, {"user": user(share), "count": count})
        connection.execute("VACUUM (ANALYZE) documents, user_document_selection")
    with loading(database, dsn, spec, rows) as (connection, table):
        connection.execute(sql.SQL(BELONGING).format(table=table))


def user(share: float) -> str:
    """Who has that share of the documents off."""
    return f"without {share:.1%}"


def compared(store: PostgresVectorStore, model: GivenVectors, count: int) -> Iterator[Result]:
    """Every kind of search, for every user, beside the same search for nobody."""
    data = Data(seed=2)
    questions = [data.text(1, 3 + number % 6) for number in range(count)]
    model.by_text = dict(zip(questions, data.vectors(count), strict=True))
    cases = [(case, case) for case in model.by_text.items()]

    def dense(_: str, vector: Any, **scope: str) -> Any:
        return store.similarity_search_with_score_by_vector(vector, K, **scope)

    def bm25(text: str, _: Any, **scope: str) -> Any:
        return store.bm25_search(text, K, **scope)

    def hybrid(text: str, _: Any, **scope: str) -> Any:
        return store.hybrid_search(text, K, **scope)

    for what, search in (("dense", dense), ("bm25", bm25), ("hybrid", hybrid)):
        for share in SHARES:
            sides = _sides(search, user(share), 0 if what == "bm25" else K)
            in_turn(what, user(share), sides, cases[:30])  # warms caches, prepares statements
            yield in_turn(what, user(share), sides, cases)


def _sides(
    search: Callable[..., Any], user_id: str, least: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A search for that user, who must find as many, and the same one for nobody."""

    def scoped(text: str, vector: Any) -> Any:
        found = search(text, vector, user_id=user_id)
        assert len(found) >= least, "as many as were asked for, whatever is off"
        return found

    def unscoped(text: str, vector: Any) -> None:
        search(text, vector)

    return scoped, unscoped


def main() -> None:
    """Fill a collection where it isn't there yet, measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="chunks in the collection")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--dsn", help="a database of its own on a server of yours; it is emptied")
    parser.add_argument("--data", type=Path, default=Path(".cache/scope"), help="or its directory")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given, model = parser.parse_args(), GivenVectors()
    with opened(given.dsn, given.data) as (database, dsn):
        spec = CollectionSpec(name=f"scope_{given.rows}")
        store = PostgresVectorStore(model, database=database, collection=spec)
        if store.count() != given.rows:
            filled(database, dsn, spec, given.rows)
        gc.freeze()
        results = list(compared(store, model, given.queries))
        facts = environment(database, given.rows)
    print(", ".join(f"{key} {value}" for key, value in facts.items()), end="\n\n")
    print(f"{'':10}{'a user':16}{'scoped ms':>11}{'unscoped ms':>13}{'ratio':>7}")
    for each in results:
        print(
            f"{each.what:10}{each.floor:16}{each.ours_ms:11.3f}{each.bare_ms:13.3f}"
            f"{each.ratio:7.2f}"
        )
    if given.json:
        found = {"environment": facts, "results": [asdict(each) for each in results]}
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(any(each.ratio > PROMISED for each in results))


if __name__ == "__main__":
    main()

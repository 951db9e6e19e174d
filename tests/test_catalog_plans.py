"""Over 20,000 documents every call of the catalog reads indexes, in one trip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from a2rchi_pg import CatalogRepository, Collections, CollectionSpec, Database, SelectionRepository
from a2rchi_pg._syncing import remove_deleted
from tests.database_support import wait_until
from tests.plugins.servers import new_database
from tests.plugins.stores import CountingRunner
from tests.test_plans import nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.plugins.servers import Server

pytestmark = pytest.mark.timeout(300)

# Reading these whole is right: they are as small as that.
SMALL = {"collections", "conversation_document_selection", "conversation_metadata"}
DOCUMENTS = """
    INSERT INTO documents (resource_hash, display_name, source_type, url, ticket_id, git_repo,
        suffix, size_bytes, relative_path, metadata, source_modified_at, ingested_at, enabled,
        deleted_at)
    SELECT md5(i::text), 'Document ' || i || ' about topic' || i % 977,
        (ARRAY['web', 'git', 'ticket', 'local_files'])[1 + i % 4],
        CASE i % 4 WHEN 0 THEN format('https://site%s.example/page/%s', i % 50, i) END,
        CASE i % 4 WHEN 2 THEN format('PROJ%s-%s', i % 20, i) END,
        CASE i % 4 WHEN 1 THEN format('https://git.example/org/repo%s', i % 30) END,
        '.x' || i % 4, i * 7 % 100000, format('dir%s/file%s', i % 100, i),
        jsonb_build_object('author', 'author' || i % 500, 'note', repeat('lorem ipsum ', 20)),
        now() - i * interval '1 minute', now(), i % 500 <> 1,
        CASE WHEN i % 333 = 0 THEN now() END
    FROM generate_series(1, 20000) i
"""
STATES = """
    INSERT INTO indexed_documents (collection_id, document_id, status, chunk_count, indexed_at,
        content_fingerprint, embedding_fingerprint)
    SELECT c.id, d.id, CASE WHEN d.id % 100 = 0 THEN 'failed' WHEN d.id % 101 = 0 THEN 'embedding'
        ELSE 'embedded' END, 10, now(), repeat(md5(d.id::text), 2), repeat(md5(d.id::text), 2)
    FROM documents d, collections c
    WHERE d.id % 50 > 0
"""
CHUNKS = """
    INSERT INTO document_chunks (collection_id, document_id, chunk_index, id, content, embedding)
    SELECT c.id, d.id, i, format('%s-%s', d.id, i), 'text', '[1,2]'
    FROM documents d, collections c, generate_series(0, 9) i
    WHERE d.id % 10 = 5
"""
PEOPLE = "INSERT INTO users (id) VALUES ('half'), ('another')"
CHOICES = """
    INSERT INTO user_document_selection
    SELECT name, id, id % 3 = 0
    FROM documents, unnest(ARRAY['half', 'another']) AS name
    WHERE id % 2 = 0
"""


@pytest.fixture(scope="module")
def large(server, servers, template) -> Iterator[Database]:
    with (
        new_database(server, f"{servers.prefix}_catalog", template) as dsn,
        Database(dsn) as database,
    ):
        Collections(database).create(CollectionSpec(name="c", index="none"), 2)
        with psycopg.connect(dsn, autocommit=True) as connection:
            for fill in (DOCUMENTS, STATES, CHUNKS, PEOPLE, CHOICES, "ANALYZE"):
                connection.execute(fill)
            wait_until(lambda: is_vacuumed(connection), seconds=60)
        yield database


def is_vacuumed(connection: psycopg.Connection) -> bool:
    """Index-only scans pay once all rows are seen by all; somebody's snapshot may be in the way."""
    connection.execute("VACUUM ANALYZE documents, indexed_documents, user_document_selection")
    row = connection.execute(
        "SELECT bool_and(relallvisible = relpages) FROM pg_class "
        "WHERE relname IN ('documents', 'indexed_documents', 'user_document_selection')"
    ).fetchone()
    return row == (True,)


def listed(**view: Any) -> Callable[[CatalogRepository, SelectionRepository], object]:
    return lambda catalog, _: catalog.list(**view)


CALLS: dict[str, Callable[[CatalogRepository, SelectionRepository], object]] = {
    "by name": listed(),
    "far on": listed(offset=5000),
    "by key": listed(after='["name", false, "document 15 about topic15", 15]'),
    "by time": listed(sort="modified"),
    "as added": listed(sort="added"),
    "by size": listed(sort="size"),
    "of a kind": listed(source_type="git"),
    "pending": listed(status="pending", collection="c"),
    "embedding": listed(status="embedding"),
    "embedded": listed(status="embedded", collection="c"),
    "failed": listed(status="failed"),
    "deleted": listed(deleted=True),
    "searched": listed(search="topic17"),
    "searched for what all have": listed(search="document"),
    "searched and filtered": listed(search="document", filter={"author": "author7"}),
    "filtered": listed(filter={"$or": [{"author": "author7"}, {"ticket_id": "PROJ2-2"}]}),
    "of a repository": listed(filter={"git_repo": "https://git.example/org/repo1"}),
    "of an origin": listed(filter={"source_type": "web", "origin": "https://site4.example"}),
    "of a URL": listed(filter={"url": "https://site4.example/page/4"}),
    "seen": listed(user_id="half", conversation_id=5, enabled=True),
    "not seen": listed(user_id="half", conversation_id=5, enabled=False),
    "grouped": lambda catalog, _: catalog.grouped(collection="c"),
    "stats": lambda catalog, _: catalog.stats(user_id="half", collection="c"),
    "stats of all": lambda catalog, _: catalog.stats(),
    "distinct": lambda catalog, _: catalog.distinct("git_repo"),
    "got": lambda catalog, _: catalog.get_many([5, "x"]),
    "chunks": lambda catalog, _: catalog.chunks(5),
    "content": lambda catalog, _: catalog.content(5),
    "explained": lambda _, selection: selection.explain(5, "half", 5),
    "effective": lambda _, selection: selection.effective("half", 5),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_one_trip_and_reads_indexes(large: Database, call: str):
    runner = CountingRunner(large)
    CALLS[call](CatalogRepository(runner), SelectionRepository(runner))
    (op,) = runner.ran
    assert op.read_only
    statement = next(iter(op))
    query = statement.query
    assert isinstance(query, bytes | str)
    text = query.encode() if isinstance(query, str) else query
    with large.transaction() as transaction:
        connection = transaction._connection  # with the settings that it has
        assert connection is not None
        row = connection.execute(
            b"EXPLAIN (ANALYZE, FORMAT JSON) " + text, statement.params
        ).fetchone()
    assert row is not None
    ran = [node for node in nodes(row[0][0]["Plan"]) if node["Actual Loops"]]
    whole = {node["Relation Name"] for node in ran if node["Node Type"] == "Seq Scan"}
    assert whole <= SMALL


def test_g8_what_was_deleted_is_taken_out_by_indexes(large: Database):
    collection = Collections(large).get("c")
    assert collection is not None
    statement = next(iter(remove_deleted(collection)))
    with psycopg.connect(large._settings.conninfo) as connection:
        row = connection.execute(b"EXPLAIN (FORMAT JSON) " + statement.query).fetchone()
    assert row is not None
    planned = nodes(row[0][0]["Plan"])
    chunks = [node for node in planned if node.get("Relation Name") == collection.partition]
    assert {node["Node Type"] for node in chunks} <= {
        "Index Scan",
        "ModifyTable",
        "Bitmap Heap Scan",
    }
    assert not [
        node["Relation Name"]
        for node in planned
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "documents"
    ]


def test_free_text_has_an_index_even_for_what_all_hold(large: Database, server: Server):
    """Which the plan of a statement that calls ``search_documents()`` doesn't show."""
    with psycopg.connect(large._settings.conninfo, autocommit=True) as connection:

        def scans() -> tuple[int, int]:
            connection.execute("SELECT pg_stat_force_next_flush()")
            row = connection.execute(
                "SELECT idx_scan, (SELECT seq_scan FROM pg_stat_user_tables "
                "WHERE relname = 'documents') FROM pg_stat_user_indexes WHERE indexrelname = %s",
                ("documents_trigrams" if server.has_trgm else "documents_words",),
            ).fetchone()
            assert row is not None
            return row

        before = scans()
        for text in ("topic17", "document", "no such thing"):
            connection.execute("SELECT count(*) FROM search_documents(%s)", (text,))
        after = scans()
    assert after[0] >= before[0] + 3
    assert after[1] == before[1]

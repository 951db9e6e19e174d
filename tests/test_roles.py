"""The three roles: what the reader may see, and what the application needs, which owns nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest

from a2rchi_pg import (
    Collections,
    CollectionSpec,
    ConversationRepository,
    Database,
    Owner,
    PostgresChatMessageHistory,
    PostgresVectorStore,
    Timestamps,
    _schema,
)
from tests.conversation_support import everything, new_owner
from tests.database_support import admin
from tests.plugins.stores import WordModel, ids
from tests.roles_support import ROLES, as_role, make_roles
from tests.schema_support import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.timeout(120), pytest.mark.owner]
# Run anew as the application's role: a few that reach into everything the library does.
WORK = [
    "test_catalog.py",
    "test_chat_history.py",
    "test_config.py::test_a_life_of_the_configuration",
    "test_conversations.py::test_a_conversation_from_beginning_to_end",
    "test_index_builds.py",
    "test_indexing.py",
    "test_ingest.py",
    "test_selection.py",
    "test_store.py",
    "test_user_linking.py::test_u2_u3_preferences_profile_and_keys_are_merged_and_ones_own_stay",
    "test_users.py::test_a_life_in_the_application",
]
RELATIONS = """
    SELECT c.relname, c.relkind::text FROM pg_class c
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
        AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""


@pytest.fixture
def roles(dsn: str) -> str:
    """A database with something in it, and the roles."""
    with Database(dsn) as database:
        everything(database, Owner(user_id="ada"))
        PostgresVectorStore(WordModel(), database=database).add_texts(["text"])
    make_roles(dsn)
    return dsn


@pytest.fixture
def application(roles: str) -> Iterator[Database]:
    with Database(as_role(roles, "a2rchi_application")) as database:
        yield database


def answer_to(dsn: str, statement: str) -> str | None:
    """The SQLSTATE that a statement is refused with; None where it is obeyed."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            connection.execute(statement)  # type: ignore[arg-type]
        except psycopg.Error as error:
            return error.sqlstate
    return None


def test_the_reader_sees_the_views_and_nothing_else(roles: str):
    reader = as_role(roles, "a2rchi_reader")
    relations = admin(roles, RELATIONS)
    assert {"users", "user_api_keys", "documents", "document_chunks_1"} <= {n for n, _ in relations}
    for name, kind in relations:
        may = kind == "v" and name.startswith("v_")
        assert answer_to(reader, f"SELECT FROM {name} LIMIT 1") == (None if may else "42501"), name
        for write in (f"DELETE FROM {name}", f"INSERT INTO {name} DEFAULT VALUES"):
            assert answer_to(reader, write) in {"42501", "55000"}, (name, write)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT client_id FROM conversation_metadata",
        "SELECT ciphertext FROM user_api_keys",
        "TABLE legacy_conversation_metadata",
        "COPY users TO STDOUT",
        "SELECT * FROM v_messages, users",
        "SELECT create_collection('x', 3)",
        "SELECT drop_collection('default')",
        "CREATE TABLE mine ()",
        "CREATE VIEW mine AS TABLE users",
        "SET ROLE a2rchi_owner",
        "SET ROLE a2rchi_application",
        "GRANT SELECT ON users TO a2rchi_reader",
        "CREATE OR REPLACE VIEW v_messages AS TABLE users",
        "SELECT pg_read_file('pg_hba.conf')",
    ],
)
def test_the_reader_is_refused(roles: str, statement: str):
    reader = as_role(roles, "a2rchi_reader")
    if statement.startswith("SET ROLE"):
        # The test's own login is a superuser; what counts is who is a member of what.
        role = statement.rsplit(maxsplit=1)[-1]
        query = "SELECT pg_has_role('a2rchi_reader', %s, 'MEMBER')"
        assert admin(roles, query, role) == [(False,)]
    else:
        assert answer_to(reader, statement) == "42501"


def test_functions_that_a_query_may_call_show_the_reader_no_rows(roles: str):
    """A function of ours runs with the caller's rights, or may not be called."""
    definers = admin(
        roles,
        "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef "
        "AND pronamespace = 'public'::regnamespace "
        "AND has_function_privilege('a2rchi_reader', oid, 'EXECUTE')",
    )
    assert definers == []


def test_the_application_owns_nothing_and_the_owner_all(roles: str):
    owners = admin(
        roles,
        f"SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname IN "
        f"(SELECT relname FROM ({RELATIONS}) AS r WHERE relkind <> 'S') "
        "AND relnamespace = 'public'::regnamespace",
    )
    assert owners == [("a2rchi_owner",)]
    functions = admin(
        roles,
        "SELECT DISTINCT proowner::regrole::text FROM pg_proc p "
        "WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS "
        "(SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid "
        "AND d.deptype = 'e')",
    )
    assert functions == [("a2rchi_owner",)]


def test_the_application_does_all_the_work(application: Database, roles: str):
    owner = new_owner()
    e = everything(application, owner)
    mine = ConversationRepository(application, owner=owner)
    mine.comparisons.vote(e.comparison.comparison_id, "a")
    mine.traces.complete(e.trace.trace_id, e.answered)
    mine.timings.record(e.answered, Timestamps())
    assert mine.search("job") and mine.usage() and mine.comparisons.stats()  # noqa: PT018
    history = PostgresChatMessageHistory(application, e.chat.conversation_id, owner=owner)
    history.add_user_message("more")
    assert mine.transfer_all(Owner(user_id="other")) == 1
    assert ConversationRepository(application, owner=Owner(user_id="other")).delete(
        e.chat.conversation_id
    )

    store = PostgresVectorStore(WordModel(), database=application, collection="mine")
    scattered = np.random.default_rng(1).standard_normal((3000, 64))
    store.add_embeddings(["row"] * 3000, scattered)
    store.add_texts(["the whale", "a fox"], ids=["1", "2"])
    for search in (store.similarity_search, store.bm25_search, store.hybrid_search):
        assert ids(search("whale", k=1)) == ["1"]
    collections = Collections(application)
    assert collections.add_field("mine", "year", "int")
    collections.reindex("mine", online=True)
    collections.reindex("mine", online=False)
    collections.create(CollectionSpec(name="other"), 64)
    collections.swap("mine", "other")
    assert collections.drop("other")
    assert store.delete(["1"])


@pytest.mark.timeout(300)
def test_the_suite_passes_as_the_application():
    """A part of it here; A2RCHI_PG_TEST_ROLE=a2rchi_application before pytest runs all of it."""
    files = [str(Path(__file__).with_name(name)) for name in WORK]
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-k", "embedded or external"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        env={**os.environ, "A2RCHI_PG_TEST_ROLE": "a2rchi_application"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    assert re.search(r"[1-9]\d* passed", ran.stdout)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine ()",
        "DROP TABLE feedback",
        "DELETE FROM user_role_changes",
        "UPDATE dynamic_config SET changed_by = 'ann'",
        "DELETE FROM static_config",
        "ALTER TABLE users ADD COLUMN x int",
        "TRUNCATE conversations",
        "UPDATE schema_migrations SET number = number",
        "UPDATE collections SET name = name",
        "DROP VIEW v_messages",
        "ALTER FUNCTION owned_by OWNER TO a2rchi_application",
    ],
)
def test_the_application_is_refused_what_is_the_owners(roles: str, statement: str):
    assert answer_to(as_role(roles, "a2rchi_application"), statement) == "42501"


def test_the_file_may_be_run_again_and_takes_in_what_is_new(roles: str):
    owner = as_role(roles, "a2rchi_owner")
    admin(owner, "CREATE TABLE later (id int)")
    admin(owner, "CREATE VIEW v_later AS TABLE later")
    make_roles(roles)
    make_roles(roles)
    assert answer_to(as_role(roles, "a2rchi_application"), "INSERT INTO later VALUES (1)") is None
    assert answer_to(as_role(roles, "a2rchi_reader"), "TABLE v_later") is None
    assert answer_to(as_role(roles, "a2rchi_reader"), "TABLE later") == "42501"


def test_it_leaves_what_is_anothers_alone(dsn: str):
    admin(dsn, "CREATE ROLE a2rchi_test_neighbour")
    try:
        admin(dsn, "CREATE TABLE theirs ()")
        admin(dsn, "ALTER TABLE theirs OWNER TO a2rchi_test_neighbour")
        make_roles(dsn)
        found = admin(dsn, "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'theirs'")
        assert found == [("a2rchi_test_neighbour",)]
        assert answer_to(as_role(dsn, "a2rchi_application"), "TABLE theirs") == "42501"
    finally:
        admin(dsn, "DROP OWNED BY a2rchi_test_neighbour")
        admin(dsn, "DROP ROLE a2rchi_test_neighbour")


def test_a_tables_owner_who_may_create_roles_is_enough(roles: str, empty_dsn: str):
    admin(roles, "CREATE ROLE a2rchi_test_deployer CREATEROLE")
    # What CREATE ROLE would have given, had it made them: they are there already, for other tests.
    admin(roles, "GRANT a2rchi_owner, a2rchi_application, a2rchi_reader TO a2rchi_test_deployer "
                 "WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")  # fmt: skip
    try:
        admin(empty_dsn, "CREATE EXTENSION vector")
        admin(empty_dsn, "GRANT CREATE ON SCHEMA public TO a2rchi_test_deployer WITH GRANT OPTION")
        admin(empty_dsn, "GRANT USAGE ON SCHEMA public TO a2rchi_test_deployer WITH GRANT OPTION")
        deployer = as_role(empty_dsn, "a2rchi_test_deployer")
        _schema.migrate(deployer)
        make_roles(deployer)
        make_roles(deployer)
        assert answer_to(as_role(empty_dsn, "a2rchi_application"), "TABLE users") is None
        assert answer_to(as_role(empty_dsn, "a2rchi_reader"), "TABLE users") == "42501"
    finally:
        admin(empty_dsn, "DROP OWNED BY a2rchi_test_deployer CASCADE")
        admin(empty_dsn, "DROP ROLE a2rchi_test_deployer")


def test_the_owner_migrates(roles: str):
    """A later migration, as the owner that roles.sql made."""
    admin(roles, f"DELETE FROM schema_migrations WHERE name = '{FILES[-1]}'")
    made = re.findall(r"CREATE (TABLE|FUNCTION) (\w+)", ROLES.with_name(FILES[-1]).read_text())
    assert made
    for kind, name in made:
        admin(roles, f"DROP {kind} {name} CASCADE")
    done = _schema.migrate(as_role(roles, "a2rchi_owner"))
    assert [each.name for each in done] == [FILES[-1]]


def test_in_a_schema_of_its_own(empty_dsn: str):
    _schema.migrate(empty_dsn, schema="rag")
    with psycopg.connect(empty_dsn, options="-c search_path=rag,public") as connection:
        connection.execute(ROLES.read_bytes())
    with Database(as_role(empty_dsn, "a2rchi_application"), schema="rag") as database:
        everything(database, new_owner())
    reader = as_role(empty_dsn, "a2rchi_reader")
    assert answer_to(reader, "TABLE rag.v_messages") is None
    assert answer_to(reader, "TABLE rag.conversations") == "42501"

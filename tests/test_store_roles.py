"""What a role may do that has no right to run DDL."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg.errors import DatabaseError
from tests.plugins.stores import WordModel, ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.timeout(60), pytest.mark.owner]

# What a host grants its application.
GRANTS = """
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
    GRANT INSERT, UPDATE, DELETE ON document_chunks, documents, indexed_documents,
        collection_calibration TO {role};
    GRANT EXECUTE ON FUNCTION create_collection, drop_collection, build_collection_indexes,
        drop_collection_indexes TO {role};
"""


@pytest.fixture
def new_role(dsn: str) -> Iterator[Callable[[str], str]]:
    """Makes a role with these grants, and tells the DSN that acts as it."""
    made = []

    def make(grants: str = "") -> str:
        name = f"a2rchi_test_{token_hex(4)}"
        role = sql.Identifier(name)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {}").format(role))
            made.append(role)
            connection.execute(sql.SQL(grants).format(role=role))  # type: ignore[arg-type]
        return make_conninfo(dsn, options=f"-c role={name}")

    yield make
    with psycopg.connect(dsn, autocommit=True) as connection:
        for role in made:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


@pytest.fixture
def application(new_role: Callable[[str], str]) -> Iterator[Database]:
    """A database reached as the application's role."""
    with Database(new_role(GRANTS)) as database:
        yield database


def sqlstate(dsn: str, statement: str) -> str | None:
    """How the server answers a statement; None where it obeys."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            connection.execute(statement)  # type: ignore[arg-type]
        except psycopg.Error as error:
            return error.sqlstate
    return None


def test_an_application_needs_no_ddl_rights(application: Database, model: WordModel):
    store = PostgresVectorStore(model, database=application, collection="of the application")
    store.add_texts(["the whale", "a fox"], [{"n": 1}, {"n": 2}], ids=["1", "2"])
    store.add_texts(["the blue whale"], [{"n": 1}], ids=["1"])
    assert ids(store.similarity_search("blue whale", k=1)) == ["1"]
    assert ids(store.bm25_search("whale", filter={"n": 1})) == ["1"]
    assert ids(store.hybrid_search("fox", k=1)) == ["2"]
    assert ids(store.get_by_ids(["2"])) == ["2"]
    store.delete(["2"])
    assert store.count() == 1
    collections = Collections(application)
    assert collections.drop("of the application") is True
    assert collections.all() == []


def test_many_rows_are_loaded_without_ddl_rights(application: Database, model: WordModel):
    store = PostgresVectorStore(model, database=application, collection="large")
    store.add_embeddings(["row"], [[1.0, 1.0]])
    store.add_embeddings(["row"] * 5000, [[float(n), 1.0] for n in range(5000)])
    collection = Collections(application).get("large")
    assert collection
    assert collection.vector_index
    assert store.count() == 5001


def test_an_index_is_built_late_without_ddl_rights(application: Database, model: WordModel):
    store = PostgresVectorStore(
        model, database=application, collection=CollectionSpec(name="late", index="ivfflat")
    )
    store.add_embeddings(["row"] * 1000, [[float(n), 1.0] for n in range(1000)])
    collection = Collections(application).get("late")
    assert collection
    assert collection.vector_index


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "DROP TABLE document_chunks",
        "DROP TABLE {partition}",
        "ALTER TABLE {partition} ADD COLUMN mine int",
        "CREATE INDEX ON {partition} (id)",
        "TRUNCATE {partition}",
        "UPDATE collections SET name = name",
        "DELETE FROM collections",
        "UPDATE schema_migrations SET number = 99",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION drop_collection(text) RESET search_path",
    ],
)
def test_an_application_can_do_nothing_else(
    new_role: Callable[[str], str], model: WordModel, statement: str
):
    dsn = new_role(GRANTS)
    with Database(dsn) as database:
        PostgresVectorStore(model, database=database).add_texts(["text"])
        collection = Collections(database).get("default")
    assert collection
    assert sqlstate(dsn, statement.format(partition=collection.partition)) == "42501"


@pytest.mark.parametrize(
    "call",
    [
        "create_collection('x', 3)",
        "drop_collection('x')",
        "build_collection_indexes('x')",
    ],
)
def test_a_role_that_was_granted_nothing_may_not_even_call(
    new_role: Callable[[str], str], call: str
):
    assert sqlstate(new_role(""), f"SELECT {call}") == "42501"


def test_a_reader_searches_and_writes_nothing(dsn: str, new_role, model: WordModel):
    with Database(dsn) as owner:
        PostgresVectorStore(model, database=owner).add_texts(["the whale"], ids=["1"])
    reader = new_role("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    with Database(reader) as database:
        store = PostgresVectorStore(model, database=database)
        for search in (store.similarity_search, store.bm25_search, store.hybrid_search):
            assert ids(search("whale")) == ["1"]
        for write in (lambda: store.add_texts(["x"]), lambda: store.delete(["1"])):
            with pytest.raises(DatabaseError, match="permission denied"):
                write()
        assert ids(store.similarity_search("whale")) == ["1"]


@pytest.mark.parametrize(
    "call",
    [
        "drop_collection('victim')",
        "build_collection_indexes('victim')",
        "create_collection('v', 3)",
    ],
)
def test_temporary_tables_do_not_trick_the_functions(
    dsn: str, new_role: Callable[[str], str], model: WordModel, call: str
):
    with Database(dsn) as owner:
        victim = PostgresVectorStore(model, database=owner, collection="precious")
        victim.add_texts(["text"], ids=["1"])
        precious = Collections(owner).get("precious")
        assert precious
        with psycopg.connect(new_role(GRANTS), autocommit=True) as connection:
            connection.execute("CREATE TEMPORARY TABLE collections AS TABLE public.collections")
            connection.execute("UPDATE pg_temp.collections SET name = 'victim'")
            connection.execute("CREATE TEMPORARY TABLE document_chunks (id text)")
            connection.execute("CREATE TEMPORARY TABLE pg_class (LIKE pg_catalog.pg_class)")
            if call.startswith("build"):
                with pytest.raises(psycopg.errors.NoDataFound):
                    connection.execute(f"SELECT {call}")  # type: ignore[arg-type]
            else:
                connection.execute(f"SELECT {call}")  # type: ignore[arg-type]
            assert connection.execute("SELECT count(*) FROM pg_temp.collections").fetchone() == (1,)
        assert Collections(owner).get("precious") == precious
        assert ids(victim.similarity_search("text")) == ["1"]


def test_the_functions_look_nowhere_but_where_they_were_made(dsn: str):
    query = """
        SELECT proname, proconfig FROM pg_proc
        WHERE prosecdef AND pronamespace = 'public'::regnamespace ORDER BY proname
    """
    with psycopg.connect(dsn) as connection:
        found = dict(connection.execute(query).fetchall())
    assert {"build_collection_indexes", "create_collection", "drop_collection"} <= set(found)
    assert all("search_path=public, pg_temp" in settings for settings in found.values())

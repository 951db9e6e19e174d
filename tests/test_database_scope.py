"""Where statements go: a schema of the host's choice, and a replica for those that only read."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import index
from psycopg import sql
from psycopg.conninfo import make_conninfo

from a2rchi_pg import (
    Collections,
    CollectionSpec,
    Database,
    PostgresRecordManager,
    PostgresVectorStore,
    UserRepository,
)
from a2rchi_pg._schema import migrate, migrations
from a2rchi_pg.errors import Conflict, DatabaseError, SchemaOutOfDate, Unavailable
from tests.database_support import Letters, admin, commands, value
from tests.plugins.people import new_ring
from tests.plugins.servers import new_database

pytestmark = [pytest.mark.owner, pytest.mark.servers("embedded"), pytest.mark.timeout(60)]
# pg_textsearch 0.6 can't insert where a schema's name needs quotes, so these want a server without.
ODD = ["My RAG", "50%s off", 'say "hi"', "back\\slash", "tab\there", "ünïcode", "a, b"]


def store(database: Database, **kwargs) -> PostgresVectorStore:
    return PostgresVectorStore(Letters(), database=database, **kwargs)


def tables(dsn: str, schema: str) -> set[str]:
    found = admin(
        dsn,
        "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace "
        "AND relkind IN ('r', 'p')",
        sql.Identifier(schema).as_string(),
    )
    return {name for (name,) in found}


@pytest.mark.servers("embedded")
@pytest.mark.parametrize("schema", ["rag", "rag-2", "it's"])
def test_a_schema_holds_everything(empty_dsn: str, schema: str):
    used_in(empty_dsn, schema)


@pytest.mark.servers("plain")
@pytest.mark.parametrize("schema", ODD)
def test_any_name_will_do_for_a_schema(empty_dsn: str, schema: str):
    used_in(empty_dsn, schema)


def used_in(empty_dsn: str, schema: str) -> None:
    assert len(migrate(empty_dsn, schema=schema)) == len(migrations())
    assert {"schema_migrations", "collections", "document_chunks"} <= tables(empty_dsn, schema)
    with Database(empty_dsn, schema=schema) as database:
        notes = store(database)
        notes.add_texts(["a red fox", "a blue whale"])
        assert notes.similarity_search("a red fox", k=1)[0].page_content == "a red fox"
        assert notes.bm25_search("whale")[0][0].page_content == "a blue whale"
        assert len(notes.hybrid_search("whale", k=2)) == 2
    assert tables(empty_dsn, "public") == set()


def test_the_ledger_of_public_does_not_stand_for_another_schemas(dsn: str):
    assert tables(dsn, "public") >= {"schema_migrations"}
    with pytest.raises(SchemaOutOfDate, match="0001"):
        Database(dsn, schema="other").open()
    assert len(migrate(dsn, schema="other", dry_run=True)) == len(migrations())
    assert len(migrate(dsn, schema="other")) == len(migrations())
    assert tables(dsn, "other") == tables(dsn, "public")
    assert migrate(dsn, schema="other") == []


@pytest.mark.parametrize("names", [("one", "two"), ("one", None), (None, "two")], ids=str)
def test_two_schemas_in_one_database_are_independent(empty_dsn: str, names):
    for name in names:
        migrate(empty_dsn, schema=name)
    with (
        Database(empty_dsn, schema=names[0]) as first,
        Database(empty_dsn, schema=names[1]) as second,
    ):
        store(first).add_texts(["the first's"], ids=["1"])
        assert store(second).count() == 0
        store(second).add_texts(["the second's", "whale"], ids=["1", "2"])
        assert store(first).get_by_ids(["1"])[0].page_content == "the first's"
        assert store(first).bm25_search("whale") == []
        assert len(store(second).bm25_search("whale")) == 1
        Collections(first).drop("default")
        assert store(second).count() == 2


def test_each_schemas_collections_have_indexes_of_their_own(dsn: str):
    migrate(dsn, schema="other")
    with Database(dsn) as public, Database(dsn, schema="other") as other:
        made = [Collections(each).create(CollectionSpec(), 26) for each in (public, other)]
        again = [Collections(each).get("default") for each in (public, other)]
    assert made == again
    assert [each.partition for each in made if each] == ["document_chunks_1"] * 2
    indexes = admin(
        dsn,
        "SELECT schemaname, count(*) FROM pg_indexes WHERE tablename = 'document_chunks_1' "
        "GROUP BY schemaname ORDER BY schemaname",
    )
    assert indexes[0][0] == "other"
    assert [number for _, number in indexes] == [indexes[0][1]] * 2


def test_an_index_of_another_schema_is_not_taken_for_ours(dsn: str):
    migrate(dsn, schema="other")
    with Database(dsn) as public, Database(dsn, schema="other") as other:
        Collections(public).create(CollectionSpec(), 26)
        made = Collections(other).create(CollectionSpec(index="none"), 26)
    assert not made.vector_index


# A replica: two databases that differ stand in for it


@pytest.fixture
def pair(server, servers, template, dsn: str):
    """A primary and a replica; a table says which is which."""
    with new_database(server, f"{servers.prefix}_replica", template) as replica:
        for each, name in ((dsn, "primary"), (replica, "replica")):
            admin(each, "CREATE TABLE here (name text)")
            admin(each, "INSERT INTO here VALUES (%s)", name)
        yield dsn, replica


WHERE = "SELECT string_agg(name, ' ' ORDER BY name) FROM here"
MARK = "INSERT INTO here VALUES ('mark')"


def test_reads_go_to_the_replica_and_writes_to_the_primary(pair):
    with Database(pair[0], read_dsn=pair[1]) as database:
        assert database.run(value(WHERE)) == "replica"
        database.run(commands(MARK))
    assert admin(pair[0], WHERE) == [("mark primary",)]
    assert admin(pair[1], WHERE) == [("replica",)]


async def test_reads_go_to_the_replica_in_an_event_loop_too(pair):
    async with Database(pair[0], read_dsn=pair[1]) as database:
        assert await database.arun(value(WHERE)) == "replica"
        await database.arun(commands(MARK))
    assert admin(pair[0], WHERE) == [("mark primary",)]


def test_a_transaction_reads_what_it_wrote(pair):
    with Database(pair[0], read_dsn=pair[1]) as database, database.transaction() as transaction:
        transaction.run(commands(MARK))
        assert transaction.run(value(WHERE)) == "mark primary"


def test_a_store_searches_the_replica(pair):
    with Database(pair[0], read_dsn=pair[1]) as database, Database(pair[1]) as replica:
        writer, ahead = store(database), store(replica)
        writer.add_texts(["on the primary"])
        ahead.add_texts(["on the replica"])
        found = store(database).similarity_search("on the", k=5)
        assert [document.page_content for document in found] == ["on the replica"]


def test_what_is_indexed_does_not_depend_on_what_a_replica_knows(pair):
    page, options = Document("a page"), {"cleanup": "full", "key_encoder": "sha256"}
    with Database(pair[0], read_dsn=pair[1]) as database, Database(pair[1]) as replica:
        written, records = store(database), PostgresRecordManager(store(database))
        assert index([page], records, written, **options)["num_added"] == 1
        behind = PostgresRecordManager(store(replica))
        behind.update(records.list_keys())  # of the first indexing, when the second is over
        done = index([page], records, written, **options)
    assert (done["num_added"], done["num_skipped"], done["num_deleted"]) == (0, 1, 0)
    with Database(pair[0]) as primary:
        assert store(primary).count() == 1


def test_a_collection_is_filled_with_what_a_replica_does_not_know_yet(pair):
    with Database(pair[0], read_dsn=pair[1]) as database, Database(pair[1]) as replica:
        store(database).add_texts(["known", "new"], ids=["1", "2"])
        store(replica).add_texts(["known"], ids=["1"])
        store(database).reembed(Letters(), collection="beside")
    with Database(pair[0]) as primary:
        assert store(primary, collection="beside").count() == 2


def test_keys_that_a_replica_does_not_know_yet_are_rotated(pair):
    ring = new_ring()
    with Database(pair[0], read_dsn=pair[1]) as database:
        users = UserRepository(database, ring)
        users.get_or_create("ada")
        users.set_api_key("ada", "openai", "sk-0123456789abcdef")
        assert [use.keys for use in users.api_key_status()] == [1]
        newer = UserRepository(database, new_ring(*ring._keys.values()))
        assert newer.rotate_api_keys().rotated == 1


def test_health_speaks_of_the_primary(pair):
    name = sql.Identifier(admin(pair[1], "SELECT current_database()")[0][0]).as_string()
    admin(pair[1], f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with Database(pair[0], read_dsn=pair[1]) as database:
        assert not database.health().read_only


def test_a_replica_out_of_reach_shows_on_opening(dsn: str):
    with pytest.raises(Unavailable):
        Database(dsn, read_dsn=make_conninfo(dsn, port=1)).open()


def test_a_primary_that_refuses_a_write_is_not_asked_through_the_replica(pair):
    with Database(pair[0], read_dsn=pair[1]) as database, pytest.raises(DatabaseError) as caught:
        database.run(commands("CREATE UNIQUE INDEX ON here (name)", MARK, MARK))
    assert isinstance(caught.value, Conflict)
    assert admin(pair[1], WHERE) == [("replica",)]

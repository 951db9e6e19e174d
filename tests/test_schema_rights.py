"""What is granted, refused or hidden on document_chunks holds for every collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore, _schema
from a2rchi_pg.errors import DatabaseError
from tests.database_support import admin
from tests.plugins.stores import WordModel, ids
from tests.test_store_roles import new_role  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.owner, pytest.mark.servers("full", "plain"), pytest.mark.timeout(60)]
# Searches ask of each document they find whether it may be shown.
REGISTER = (
    "GRANT SELECT ON schema_migrations, collections, collection_calibration, documents TO {role};"
)
READS = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};"
OF_A_TENANT = """
    ALTER TABLE document_chunks ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON document_chunks USING (metadata ->> 'tenant' = 'a');
    CREATE POLICY not_yet ON document_chunks AS RESTRICTIVE FOR SELECT
        USING (metadata ->> 'draft' IS NULL);
"""


def filled(dsn: str, name: str) -> None:
    with Database(dsn) as owner:
        PostgresVectorStore(WordModel(), database=owner, collection=name).add_texts(
            ["the whale", "a whale", "whale"],
            [{"tenant": "a"}, {"tenant": "b"}, {"tenant": "a", "draft": True}],
            ids=["1", "2", "3"],
        )


def found(dsn: str, name: str) -> list[Any]:
    with Database(dsn) as reader:
        store = PostgresVectorStore(WordModel(), database=reader, collection=name)
        searches = (store.similarity_search, store.bm25_search, store.hybrid_search)
        return [sorted(ids(search("whale")), key=str) for search in searches]


def test_grants_hold_for_collections_made_later(dsn: str, new_role: Callable[[str], str]):
    reader = new_role(REGISTER)
    admin(dsn, "GRANT SELECT ON document_chunks TO PUBLIC")
    filled(dsn, "later")
    assert found(reader, "later") == [["1", "2", "3"]] * 3


def test_rights_that_change_are_applied_by_one_command(dsn: str, new_role: Callable[[str], str]):
    filled(dsn, "earlier")
    reader = new_role(REGISTER)
    admin(dsn, "GRANT SELECT ON document_chunks TO PUBLIC")
    with pytest.raises(DatabaseError, match="permission denied for table document_chunks_1"):
        found(reader, "earlier")
    assert admin(dsn, "SELECT apply_chunk_rights()") == [(1,)]
    assert found(reader, "earlier") == [["1", "2", "3"]] * 3
    admin(dsn, "REVOKE SELECT ON document_chunks FROM PUBLIC")
    admin(dsn, "GRANT SELECT (id) ON document_chunks TO PUBLIC")
    admin(dsn, "SELECT apply_chunk_rights()")
    with pytest.raises(DatabaseError, match="permission denied for table document_chunks_1"):
        found(reader, "earlier")
    assert len(admin(reader, "SELECT id FROM document_chunks_1")) == 3


def test_row_security_holds_for_every_collection(dsn: str, new_role: Callable[[str], str]):
    reader = new_role(READS)
    filled(dsn, "earlier")
    admin(dsn, "GRANT SELECT ON document_chunks TO PUBLIC")
    admin(dsn, OF_A_TENANT)
    admin(dsn, "SELECT apply_chunk_rights()")
    filled(dsn, "later")
    for name in ("earlier", "later"):
        assert found(reader, name) == [["1"]] * 3
    admin(dsn, "ALTER TABLE document_chunks DISABLE ROW LEVEL SECURITY")
    admin(dsn, "DROP POLICY tenant ON document_chunks")
    admin(dsn, "SELECT apply_chunk_rights()")
    assert found(reader, "earlier") == [["1", "2", "3"]] * 3


def test_a_session_that_quotes_every_name_stores_the_same(empty_dsn: str):
    quoting = {"options": "-c quote_all_identifiers=on"}
    dsn = make_conninfo(empty_dsn, **quoting)
    _schema.migrate(dsn)
    spec = CollectionSpec(name="quoted", text_config="english", fields={"n": "int"})
    with Database(dsn) as database:
        assert Collections(database).create(spec, 64).text_config == "english"
        assert Collections(database).create(spec, 64).text_config == "english"
        store = PostgresVectorStore(WordModel(), database=database, collection=spec)
        store.add_texts(["a whale", "a fox"], [{"n": 1}, {"n": 2}], ids=["1", "2"])
        assert ids(store.bm25_search("whales")) == ["1"]
        assert ids(store.hybrid_search("fox", filter={"n": {"$gt": 1}})) == ["2"]
        for online in (True, False):
            Collections(database).reindex("quoted", online=online)


def test_what_must_never_be_rolled_back_says_so(dsn: str):
    unsaid = """
        SELECT proname FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prosrc ~ 'DROP (INDEX|TABLE)'
            AND proname <> 'build_collection_indexes'  -- drops full-text indexes only
            AND coalesce(obj_description(oid), '') !~ 'Never to be rolled back'
    """
    assert admin(dsn, unsaid) == []

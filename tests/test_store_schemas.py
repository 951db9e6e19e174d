"""Two schemas with collections of the same number: neither store ever touches the other's."""

from __future__ import annotations

import pytest

from a2rchi_pg import Collections, Database, PostgresVectorStore
from a2rchi_pg._schema import migrate
from tests.plugins.stores import WordModel

pytestmark = [pytest.mark.owner, pytest.mark.servers("embedded", "plain"), pytest.mark.timeout(120)]


def test_a_store_whose_collection_is_gone_leaves_the_other_schemas_alone(dsn: str):
    migrate(dsn, schema="rag")
    with Database(dsn) as public, Database(dsn, schema="rag") as rag:
        theirs = PostgresVectorStore(WordModel(), database=public, collection="secret")
        ours = PostgresVectorStore(WordModel(), database=rag, collection="mine")
        theirs.add_texts(["the secret"], ids=["s"])
        ours.add_texts(["a text"], ids=["t"])
        tables = [Collections(each).all()[0].partition for each in (public, rag)]
        assert tables[0] == tables[1]
        Collections(rag).drop("mine")
        assert ours.similarity_search("secret") == []
        assert ours.bm25_search("secret") == []
        assert ours.hybrid_search("secret") == []
        ours.delete(["s"])
        ours.add_texts(["written"], ids=["w"])
        assert [found.id for found in theirs.find()] == ["s"]
        assert [found.id for found in ours.find()] == ["w"]
        made_again = Collections(rag).get("mine")
        assert made_again
        assert made_again.vector_index

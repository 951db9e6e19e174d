"""Search by whom: chunks of documents that are off or deleted are never found, and k means k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest
from langchain_core.embeddings import Embeddings

from a2rchi_pg import Collections, CollectionSpec, Database, InvalidInput, PostgresVectorStore
from tests.plugins.servers import new_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.documents import Document

pytestmark = pytest.mark.timeout(300)
DOCUMENTS, DIM, K = 1500, 16, 10
CHUNKS = 4 * DOCUMENTS  # chunk n belongs to document n % DOCUMENTS
QUESTIONS = 12


class Known(Embeddings):
    """Directions known to the test: that of a chunk, and that of a question."""

    def __init__(self) -> None:
        generator = np.random.default_rng(5)
        self.chunks = generator.standard_normal((CHUNKS, DIM)).astype(np.float32)
        self.chunks /= np.linalg.norm(self.chunks, axis=1, keepdims=True)
        self.questions = generator.standard_normal((QUESTIONS, DIM)).astype(np.float32)

    def embed_query(self, text: str) -> list[float]:
        return [float(x) for x in self.questions[int(text.split("topic")[1])]]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def nearest(self, question: int, seen: set[int]) -> list[int]:
        """The exact answer over the documents that are seen."""
        order = np.argsort(-self.chunks @ self.questions[question], kind="stable")
        return [int(n) for n in order if int(n) % DOCUMENTS in seen][:K]


@pytest.fixture(scope="module")
def model() -> Known:
    return Known()


@pytest.fixture(scope="module")
def filled(server, servers, template, model) -> Iterator[str]:
    """A database with documents of four chunks each, and one of ten words in every chunk.

    The shorter a chunk, the better its word ranks; no more than five are of one length.
    """
    texts = [f"topic{n % 10}" + " filler" * (n // 10 % 120) for n in range(CHUNKS)]
    vectors = [str(vector.tolist()) for vector in model.chunks]
    with (
        new_database(server, f"{servers.prefix}_scope", template) as dsn,
        Database(dsn) as database,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        collections = Collections(database)
        made = collections.create(CollectionSpec(name="scoped"), dimensions=DIM)
        connection.execute(
            "INSERT INTO documents (resource_hash, display_name) "
            "SELECT n, 'd' || n FROM generate_series(0, %s) AS n",
            [DOCUMENTS - 1],
        )
        connection.execute(
            "INSERT INTO document_chunks (collection_id, id, document_id, content, embedding) "
            "SELECT %s, n - 1, d.id, text, vector::vector "
            "FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS given (text, vector, n) "
            "JOIN documents AS d ON d.resource_hash = ((n - 1) %% %s)::text",
            [made.id, texts, vectors, DOCUMENTS],
        )
        collections.build_indexes("scoped")
        connection.execute("VACUUM ANALYZE document_chunks, documents")
        yield dsn


@pytest.fixture
def store(filled, model) -> Iterator[PostgresVectorStore]:
    with Database(filled) as database:
        yield PostgresVectorStore(model, database=database, collection="scoped")


@pytest.fixture
def sql(filled) -> Iterator[psycopg.Connection]:
    """Statements about documents by number; what they change is undone."""
    with psycopg.connect(filled, autocommit=True) as connection:
        yield connection
        connection.execute(
            "UPDATE documents SET enabled = true, deleted_at = NULL "
            "WHERE NOT enabled OR deleted_at IS NOT NULL"
        )
        connection.execute("TRUNCATE users, conversation_metadata CASCADE")


def choose(sql: psycopg.Connection, user: str, numbers: Iterator[int] | set[int], on: bool) -> None:
    sql.execute("INSERT INTO users (id) VALUES (%s) ON CONFLICT DO NOTHING", [user])
    sql.execute(
        "INSERT INTO user_document_selection (user_id, document_id, enabled) "
        "SELECT %s, id, %s FROM documents WHERE resource_hash = ANY(%s)",
        [user, on, [str(n) for n in numbers]],
    )


def numbers(documents: list[Document]) -> list[int]:
    return [int(document.id or "") for document in documents]


SEARCHES: dict[str, Callable[..., list[int]]] = {
    "similarity": lambda store, q, **scope: numbers(
        store.similarity_search(f"topic{q}", k=K, **scope)
    ),
    "mmr": lambda store, q, **scope: numbers(
        store.max_marginal_relevance_search(f"topic{q}", k=K, **scope)
    ),
    "bm25": lambda store, q, **scope: numbers(
        [hit for hit, _ in store.bm25_search(f"topic{q % 10}", k=K, **scope)]
    ),
    "hybrid": lambda store, q, **scope: numbers(
        [hit for hit, _ in store.hybrid_search(f"topic{q}", k=K, **scope)]
    ),
}


@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.9, 0.999])
def test_k_allowed_results_whatever_share_a_user_turned_off(store, sql, model, share):
    off = np.random.default_rng(1).permutation(DOCUMENTS)[: max(1, round(share * DOCUMENTS))]
    seen = set(range(DOCUMENTS)) - {int(n) for n in off}
    choose(sql, "ada", {int(n) for n in off}, on=False)
    right = 0
    for question in range(QUESTIONS):
        for name, search in SEARCHES.items():
            found = search(store, question, user_id="ada")
            with_word = [n for n in range(CHUNKS) if n % 10 == question % 10]
            eligible = [n for n in with_word if n % DOCUMENTS in seen]
            wanted = min(
                K, len(eligible if name == "bm25" else seen) * (1 if name == "bm25" else 4)
            )
            assert len(found) == len(set(found)) == wanted, name
            assert {n % DOCUMENTS for n in found} <= seen, name
            if name == "similarity":
                right += len(set(found) & set(model.nearest(question, seen)))
    assert right >= 0.95 * QUESTIONS * min(K, 4 * len(seen))


def test_few_choices_may_hide_all_that_is_near(store, sql, model):
    near = {n % DOCUMENTS for n in SEARCHES["similarity"](store, 0, include_deleted=True)}
    near |= {n % DOCUMENTS for n in SEARCHES["bm25"](store, 0, include_deleted=True)}
    assert len(near) <= DOCUMENTS / 50
    choose(sql, "ada", near, on=False)
    seen = set(range(DOCUMENTS)) - near
    for name, search in SEARCHES.items():
        found = search(store, 0, user_id="ada")
        assert len(set(found)) == K, name
        assert {n % DOCUMENTS for n in found} <= seen, name
    assert set(SEARCHES["similarity"](store, 0, user_id="ada")) == set(model.nearest(0, seen))


@pytest.mark.parametrize("scope", [{}, {"user_id": "ada"}])
@pytest.mark.parametrize(
    ("rank", "search", "best"),
    [("semantic_rank", "similarity_search_with_score", 200), ("bm25_rank", "bm25_search", 100)],
)
def test_a_ranking_goes_further_down_where_all_its_best_are_hidden(
    store, sql, rank, search, best, scope
):
    near = {int(hit.id) % DOCUMENTS for hit, _ in getattr(store, search)("topic0", k=best)}
    off = "UPDATE documents SET enabled = false WHERE resource_hash = ANY(%s)"
    if scope:
        choose(sql, "ada", near, on=False)
    else:
        sql.execute(off, [[str(n) for n in near]])
    hits = store.hybrid_search_with_details("topic0", k=K, fusion="rrf", **scope)
    assert len(hits) == K
    assert not {int(hit.document.id) % DOCUMENTS for hit in hits} & near
    assert 1 in {getattr(hit, rank) for hit in hits}


@pytest.mark.servers("embedded", "full")
@pytest.mark.parametrize("name", ["similarity", "bm25", "hybrid"])
def test_who_chose_little_is_searched_for_little(store, sql, name):
    sql.execute("INSERT INTO users (id) VALUES ('new')")
    choose(sql, "ada", {7, 8}, on=False)
    choose(sql, "bob", set(range(0, DOCUMENTS, 2)), on=True)
    sql.execute("VACUUM ANALYZE user_document_selection")

    def rows(**scope: object) -> int:
        return store.explain("topic3", K, search_type=name, **scope).rows_examined

    nobodys = rows()
    assert nobodys <= rows(user_id="new") == rows(user_id="ada") <= 1.6 * nobodys
    assert rows(user_id="bob") >= 2.5 * nobodys


@pytest.mark.parametrize("name", ["similarity", "bm25", "hybrid"])
def test_explain_is_about_the_search_that_went_further_down(store, sql, name):
    near = {int(hit.id) % DOCUMENTS for hit, _ in store.similarity_search_with_score("topic0", 200)}
    near |= {int(hit.id) % DOCUMENTS for hit, _ in store.bm25_search("topic0", 100)}
    choose(sql, "ada", near, on=False)
    explained = store.explain("topic0", K, search_type=name, user_id="ada")
    assert explained.plan["Plan"]["Actual Rows"] == K
    assert explained.recall is None if name == "bm25" else explained.recall >= 0.9


@pytest.mark.parametrize("name", ["similarity", "bm25", "hybrid"])
def test_the_narrowest_choice_decides(store, sql, name):
    search = SEARCHES[name]
    top = search(store, 3)
    first, second, third, fourth = dict.fromkeys(n % DOCUMENTS for n in top[:4])
    sql.execute("UPDATE documents SET enabled = false WHERE resource_hash = %s", [str(first)])
    sql.execute("UPDATE documents SET deleted_at = now() WHERE resource_hash = %s", [str(fourth)])
    choose(sql, "ada", {first}, on=True)
    choose(sql, "ada", {second, third}, on=False)
    sql.execute("INSERT INTO conversation_metadata (conversation_id, user_id) VALUES (7, 'ada')")
    sql.execute(
        "INSERT INTO conversation_document_selection (conversation_id, document_id, enabled) "
        "SELECT 7, id, true FROM documents WHERE resource_hash = %s",
        [str(third)],
    )

    def seen(**scope: object) -> set[int]:
        found = search(store, 3, **scope)
        assert len(found) == K
        return {n % DOCUMENTS for n in found} & {first, second, third, fourth}

    assert seen() == {second, third}
    assert seen(user_id="ada") == {first}
    assert seen(user_id="ada", conversation_id=7) == {first, third}
    assert seen(conversation_id=7) == {second, third}
    assert seen(user_id="bob", include_deleted=True) == {second, third, fourth}


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("filter_", [None, {"source_type": "unknown"}], ids=["all", "filtered"])
def test_a_clients_conversation_counts_for_that_client(store, sql, name, filter_):
    """Its owner is looked at by the statement that searches: whoever else asks sees its own."""
    sql.execute("INSERT INTO users (id) VALUES ('ada')")
    sql.execute(
        "INSERT INTO conversation_metadata (conversation_id, user_id, client_id) "
        "VALUES (7, NULL, 'a browser'), (8, 'ada', 'a browser'), (9, NULL, NULL)"
    )
    first = SEARCHES[name](store, 3)[0] % DOCUMENTS
    sql.execute(
        "INSERT INTO conversation_document_selection (conversation_id, document_id, enabled) "
        "SELECT c.conversation_id, d.id, false FROM conversation_metadata AS c, documents AS d "
        "WHERE d.resource_hash = %s",
        [str(first)],
    )

    def hides(conversation_id: int, **who: str) -> bool:
        found = SEARCHES[name](store, 3, conversation_id=conversation_id, filter=filter_, **who)
        assert len(found) == K
        return first not in {n % DOCUMENTS for n in found}

    here, elsewhere = {"client_id": "a browser"}, {"client_id": "another"}
    assert [hides(7, **who) for who in ({}, here, elsewhere)] == [True, True, False]
    assert [hides(7, user_id="ada", **who) for who in ({}, here, elsewhere)] == [False, True, False]
    assert [hides(8, **who) for who in ({}, here, elsewhere)] == [True, False, False]
    assert hides(8, user_id="ada", **elsewhere)
    assert [hides(9, **who) for who in ({}, here, {"user_id": "ada"})] == [True] * 3


@pytest.mark.parametrize("name", SEARCHES)
def test_choice_and_filter_hold_together(store, sql, name):
    choose(sql, "ada", {n for n in range(DOCUMENTS) if n % 2}, on=False)
    found = SEARCHES[name](
        store, 4, user_id="ada", filter={"resource_hash": {"$in": [str(n) for n in range(400)]}}
    )
    assert len(found) == K
    assert all(n % DOCUMENTS < 400 and n % DOCUMENTS % 2 == 0 for n in found)


@pytest.mark.parametrize("name", SEARCHES)
def test_nothing_is_found_where_everything_is_off(store, sql, name):
    sql.execute("UPDATE documents SET enabled = false")
    assert SEARCHES[name](store, 1) == []
    assert SEARCHES[name](store, 1, user_id="ada") == []


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": 5}, "user_id"),
        ({"conversation_id": "7"}, "conversation_id"),
        ({"conversation_id": True}, "conversation_id"),
        ({"client_id": 5}, "client_id"),
        ({"include_deleted": "no"}, "include_deleted"),
    ],
)
@pytest.mark.parametrize("name", SEARCHES)
def test_a_scope_that_makes_no_sense_is_refused(store, name, scope, named):
    with pytest.raises(InvalidInput, match=named):
        SEARCHES[name](store, 1, **scope)


def test_a_retriever_searches_for_somebody(store, sql):
    choose(sql, "ada", {n for n in range(DOCUMENTS) if n % 3}, on=False)
    retriever = store.as_retriever(search_type="hybrid", user_id="ada", k=K)
    assert all(n % DOCUMENTS % 3 == 0 for n in numbers(retriever.invoke("topic2")))

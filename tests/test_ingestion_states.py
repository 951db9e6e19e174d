"""How documents come into collections: the states, and who may move them."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Collections, CollectionSpec
from a2rchi_pg.errors import IllegalTransition, InvalidInput, NotFound
from tests.database_support import commands, rows
from tests.plugins.catalogs import spec

if TYPE_CHECKING:
    from a2rchi_pg import CatalogRepository, Database

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def queue(catalog: CatalogRepository, database: Database) -> CatalogRepository:
    """Documents a to e, and an empty collection c."""
    Collections(database).create(CollectionSpec(name="c", index="none"), 2)
    catalog.upsert_many(spec(name) for name in "abcde")
    return catalog


def status(queue: CatalogRepository, document: str = "a") -> str:
    found = queue.ingestion("c", document)
    return found[0].status if found else "pending"


def taken(queue: CatalogRepository, *documents: str, owner: str = "me") -> list[str]:
    return [each.resource_hash for each in queue.begin("c", documents, owner=owner)]


def id_of(queue: CatalogRepository, document: str = "a") -> int:
    found = queue.get(document)
    assert found is not None
    return found.id


def test_from_pending_to_embedded(queue: CatalogRepository):
    (begun,) = queue.begin("c", "a", owner="me")
    assert (begun.status, begun.attempts, begun.leased_by) == ("embedding", 1, "me")
    queue.finish(
        "c", begun.document_id, owner="me", chunk_count=3,
        content_fingerprint="1", embedding_fingerprint="2",
    )  # fmt: skip
    (done,) = queue.ingestion("c", ["a", "b"])
    assert (done.status, done.attempts, done.error, done.leased_by) == ("embedded", 0, None, None)
    assert (done.chunk_count, done.content_fingerprint, done.embedding_fingerprint) == (3, "1", "2")
    assert done.indexed_at is not None


def test_g6_a_failure_has_a_reason_waits_and_is_retried_by_command(queue: CatalogRepository):
    assert taken(queue, "a") == ["a"]
    queue.fail("c", id_of(queue), "no\0 text\ud800", owner="me", retry_after=3600)
    (failed,) = queue.ingestion("c", "a")
    assert (failed.status, failed.error, failed.attempts) == ("failed", "no text\ufffd", 1)
    assert taken(queue, "a", "b") == ["b"]
    assert queue.retry("c", ["unknown"]) == 0
    assert queue.retry("c", ["a"]) == 1
    assert (status(queue), queue.ingestion("c", "a")[0].error) == ("pending", None)
    assert taken(queue, "a") == ["a"]
    queue.fail("c", id_of(queue), "again", owner="me")
    assert taken(queue, "a") == ["a"]
    assert queue.ingestion("c", "a")[0].attempts == 2
    assert queue.retry("c") == 0


def test_what_is_not_being_embedded_cannot_be_finished(queue: CatalogRepository):
    document = id_of(queue)

    def refused(match: str, owner: str = "me") -> None:
        for attempt in (
            lambda: queue.finish("c", document, owner=owner, chunk_count=1),
            lambda: queue.fail("c", document, "why", owner=owner),
        ):
            before = status(queue)
            with pytest.raises(IllegalTransition, match=match):
                attempt()
            assert status(queue) == before

    refused("is pending: it can't become")
    taken(queue, "a")
    refused("embedding by 'me', not 'you'", owner="you")
    queue.finish("c", document, owner="me", chunk_count=1)
    refused("is embedded: it can't become")
    taken(queue, "a")
    queue.fail("c", document, "why", owner="me")
    refused("is failed: it can't become")
    with pytest.raises(IllegalTransition, match="'embedding' can't be made pending"):
        queue.retry("c", status="embedding")


def test_embedded_documents_are_embedded_anew(queue: CatalogRepository):
    taken(queue, "a")
    queue.finish("c", id_of(queue), owner="me", chunk_count=1, content_fingerprint="old")
    assert queue.retry("c", status="embedded") == 1
    (begun,) = queue.begin("c", "a", owner="me")
    assert begun.content_fingerprint == "old"  # by which the manager sees whether it has to
    queue.finish("c", begun.document_id, owner="me", chunk_count=1)
    assert taken(queue, "a") == ["a"]


def test_g3_a_lease_that_ran_out_lets_another_take_over(queue: CatalogRepository):
    (mine,) = queue.begin("c", "a", owner="me", lease=3600)
    assert queue.begin("c", "a", owner="you") == []
    assert queue.renew("c", owner="me", lease=0) == 1
    (theirs,) = queue.begin("c", "a", owner="you")
    assert (theirs.leased_by, theirs.attempts) == ("you", 2)
    with pytest.raises(IllegalTransition, match="by 'you', not 'me'"):
        queue.finish("c", mine.document_id, owner="me", chunk_count=1)
    assert (queue.renew("c", owner="me"), queue.release("c", owner="me")) == (0, 0)
    assert queue.release("c", owner="you") == 1
    assert status(queue) == "pending"


def test_deleted_and_unknown_documents_are_not_taken_up(queue: CatalogRepository):
    queue.delete("a")
    assert taken(queue, "a", "b", "unknown") == ["b"]
    for attempt in (
        lambda: queue.begin("nowhere", "a", owner="me"),
        lambda: queue.retry("nowhere"),
    ):
        with pytest.raises(NotFound, match="there is no collection 'nowhere'"):
            attempt()
    with pytest.raises(InvalidInput, match="owner must be"):
        queue.begin("c", "b", owner="")
    with pytest.raises(InvalidInput, match="say why it failed"):
        queue.fail("c", id_of(queue, "b"), " \0", owner="me")


def test_g2_of_several_managers_one_gets_each_document(queue: CatalogRepository):
    queue.upsert_many(spec(f"d{n}") for n in range(200))
    names = [f"d{n}" for n in range(200)]

    def manager(number: int) -> list[str]:
        own = names[:]
        random.Random(number).shuffle(own)
        return [
            document
            for start in range(0, 200, 20)
            for document in taken(queue, *own[start : start + 20], owner=f"manager {number}")
        ]

    with ThreadPoolExecutor(6) as threads:
        shares = list(threads.map(manager, range(6)))
    assert sorted(document for share in shares for document in share) == sorted(names)


@pytest.mark.owner
def test_concurrent_managers_reach_no_illegal_state(queue: CatalogRepository, database: Database):
    """Every step is logged by the server itself, and only the lawful ones are there."""
    database.run(
        commands(
            "CREATE TABLE steps (document_id bigint, before text, after text)",
            """CREATE FUNCTION log_step() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN
                   INSERT INTO steps SELECT NEW.document_id, OLD.status, NEW.status;
                   RETURN NULL;
               END $$""",
            "CREATE TRIGGER log_step AFTER UPDATE ON indexed_documents "
            "FOR EACH ROW EXECUTE FUNCTION log_step()",
        )
    )

    def manager(number: int) -> None:
        dice = random.Random(number)
        owner = f"manager {number}"
        for _ in range(25):
            for each in queue.begin("c", list("abcde"), owner=owner, lease=dice.choice([0, 60])):
                try:
                    if dice.random() < 0.4:
                        queue.fail("c", each.document_id, "why", owner=owner)
                    else:
                        queue.finish("c", each.document_id, owner=owner, chunk_count=1)
                except IllegalTransition:
                    continue  # its lease ran out, and another took it
            dice.choice([lambda: queue.retry("c"), lambda: queue.release("c", owner=owner)])()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(manager, range(4)))
    steps = set(database.run(rows("SELECT DISTINCT before, after FROM steps")))
    assert steps <= {
        ("pending", "embedding"),
        ("embedded", "embedding"),
        ("failed", "embedding"),
        ("embedding", "embedding"),  # taken over
        ("embedding", "embedded"),
        ("embedding", "failed"),
        ("embedding", "pending"),
        ("failed", "pending"),
    }
    assert {("embedding", "embedded"), ("embedding", "failed")} <= steps

"""Many clients that change the same ids at once, each in an order of its own."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg.errors import Conflict
from tests.database_support import Letters, admin, wait_until, waiting
from tests.plugins.stores import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg._op import Runner

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(120)]
WRITERS, TEXTS = 8, 500
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
CHANGES: list[Callable[[PostgresVectorStore, int, list[str]], object]] = [
    lambda store, writer, ids: store.add_texts([f"{id_} by {writer}" for id_ in ids], ids=ids),
    lambda store, writer, ids: store.add_texts([f"{id_} of {writer}" for id_ in ids], ids=ids),
    lambda store, writer, ids: store.update_metadata({"by": writer}, ids=ids),
    lambda store, _writer, ids: store.delete(ids),
]


def store_on(runner: Runner, collection: str = "default") -> PostgresVectorStore:
    return PostgresVectorStore(Letters(), database=runner, collection=collection)


def test_they_never_wait_for_one_another_in_a_circle(dsn: str):
    with Database(dsn, max_size=WRITERS) as database, ThreadPoolExecutor(WRITERS) as pool:
        stores = [PostgresVectorStore(Letters(), database=database) for _ in range(WRITERS)]
        stores[0].add_texts(["first"], ids=["first"])
        for left, change in zip([TEXTS, TEXTS, TEXTS, 0], CHANGES, strict=True):

            def write(writer: int, change=change) -> None:
                ids = [str(n) for n in random.Random(writer).sample(range(TEXTS), TEXTS)]
                change(stores[writer], writer, ids)

            list(pool.map(write, range(WRITERS)))
            stored = rows(stores[0])
            assert len({row.id for row in stored}) == len(stored) == left + 1
    assert admin(dsn, DEADLOCKS) == [(0,)]


UPDATES = {
    "tag": lambda store: store.update_metadata({"tag": 1}, ids=["5"]),
    "seen": lambda store: store.update_metadata({"seen": 1}, filter={"n": {"$gte": 5}}),
    "add": lambda store: store.add_texts(["new"], [{"n": 7}], ids=["5"]),
    "delete": lambda store: store.delete(["5"]),
    "delete where": lambda store: store.delete(filter={"n": 5}),
}


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ("tag", "seen", [("old", {"n": 5, "tag": 1, "seen": 1})]),
        ("tag", "add", [("new", {"n": 7})]),
        ("tag", "delete", []),
        ("tag", "delete where", []),
        ("add", "seen", [("new", {"n": 7, "seen": 1})]),
        ("add", "delete", []),
        ("add", "delete where", [("new", {"n": 7})]),
        ("delete", "add", [("new", {"n": 7})]),
    ],
)
def test_a_change_reaches_the_row_that_another_put_in_place_of_the_one_it_waited_for(
    dsn: str, database: Database, first: str, second: str, left: list[tuple[str, dict[str, int]]]
):
    store = store_on(database)
    store.add_texts(["old"] * 9, [{"n": n} for n in range(9)], ids=[str(n) for n in range(9)])
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as transaction:
            UPDATES[first](store_on(transaction))
            changing = pool.submit(UPDATES[second], store)
            wait_until(lambda: waiting(dsn))
        answer = changing.result()
    if second == "seen":
        assert answer == 4  # each of 5 to 8, and once
    assert [(row.content, row.metadata) for row in rows(store) if row.id == "5"] == left
    assert len(rows(store)) == 8 + len(left)


@pytest.mark.owner
def test_what_the_host_keeps_from_being_changed_is_left(dsn: str, database: Database):
    store = store_on(database)
    store.add_texts(["kept", "free"], ids=["kept", "free"])
    admin(
        dsn,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN CASE WHEN OLD.id <> 'kept' THEN OLD END; END $$",
    )
    admin(
        dsn,
        "CREATE TRIGGER keep BEFORE DELETE ON document_chunks_1 FOR EACH ROW "
        "EXECUTE FUNCTION keep()",
    )
    assert store.update_metadata({"seen": 1}, filter={}) == 1
    store.add_texts(["changed", "changed"], ids=["kept", "free"])
    store.delete(filter={})
    assert [(row.id, row.content, row.metadata) for row in rows(store)] == [("kept", "kept", {})]


# -- in transactions of the host's -----------------------------------------------------------------


@pytest.mark.servers("full")
def test_who_waits_for_a_bm25_index_holds_no_row_that_another_wants(dsn: str, database: Database):
    """It can't be cancelled, as it waits for a lightweight lock; both would wait for ever."""
    store = store_on(database)
    store.add_texts(["old"] * 9, ids=[str(n) for n in range(9)])
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as transaction:
            mine = store_on(transaction)
            mine.add_texts(["new"], ids=["1"])
            changing = pool.submit(store.update_metadata, {"seen": 1}, ids=["5"])
            wait_until(lambda: waiting(dsn))
            mine.add_texts(["new"], ids=["5"])
        assert changing.result() == 1
    found = {row.id: (row.content, row.metadata) for row in rows(store)}
    assert (found["1"], found["5"]) == (("new", {}), ("new", {"seen": 1}))


@pytest.mark.servers("full")
def test_of_two_that_write_two_collections_crosswise_one_is_refused(database: Database):
    for name in ("a", "b"):
        store_on(database, name).add_texts(["old"])
    both_wrote = Barrier(2)

    def write(*names: str) -> bool:
        with database.transaction() as transaction:
            store_on(transaction, names[0]).add_texts(["new"])
            both_wrote.wait()
            try:
                store_on(transaction, names[1]).add_texts(["new"])
            except Conflict:
                return False
        return True

    with ThreadPoolExecutor(2) as pool:
        ended = [pool.submit(write, *names) for names in (("a", "b"), ("b", "a"))]
    errors = [each.exception() for each in ended]
    assert sorted(error is None for error in errors) == [False, True]
    assert {store_on(database, name).count() for name in ("a", "b")} == {2}


@pytest.mark.servers("plain")
def test_who_adds_to_a_collection_with_its_indexes_waits_for_no_other(dsn: str):
    with Database(make_conninfo(dsn, options="-c lock_timeout=10s")) as database:
        store_on(database).add_texts(["old"])
        with database.transaction() as first, database.transaction() as second:
            store_on(first).add_texts(["one"])
            store_on(second).add_texts(["two"])
        assert store_on(database).count() == 3


def test_who_wrote_before_leaves_the_indexes_to_who_builds_them(dsn: str, database: Database):
    """Who builds them waits for that transaction to end."""
    Collections(database).create(CollectionSpec(), Letters.dimensions)
    store = store_on(database)
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as transaction:
            mine = store_on(transaction)
            mine.delete(["none"])  # takes the table's lock, and builds nothing
            building = pool.submit(store.add_texts, ["one"])
            wait_until(lambda: waiting(dsn))
            mine.add_texts(["two"])
        building.result()
    found = Collections(database).get("default")
    assert found is not None
    assert found.vector_index
    assert (found.lexical != "fts", store.count()) == (True, 2)
    assert admin(dsn, DEADLOCKS) == [(0,)]

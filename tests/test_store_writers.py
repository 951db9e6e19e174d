"""Many clients that change the same ids at once, each in an order of its own."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Database, PostgresVectorStore
from tests.database_support import Letters, admin, wait_until, waiting
from tests.plugins.stores import rows

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(120)]
WRITERS, TEXTS = 8, 500
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
CHANGES: list[Callable[[PostgresVectorStore, int, list[str]], object]] = [
    lambda store, writer, ids: store.add_texts([f"{id_} by {writer}" for id_ in ids], ids=ids),
    lambda store, writer, ids: store.add_texts([f"{id_} of {writer}" for id_ in ids], ids=ids),
    lambda store, writer, ids: store.update_metadata({"by": writer}, ids=ids),
    lambda store, _writer, ids: store.delete(ids),
]


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
    store = PostgresVectorStore(Letters(), database=database)
    store.add_texts(["old"] * 9, [{"n": n} for n in range(9)], ids=[str(n) for n in range(9)])
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as transaction:
            UPDATES[first](PostgresVectorStore(Letters(), database=transaction))
            changing = pool.submit(UPDATES[second], store)
            wait_until(lambda: waiting(dsn))
        answer = changing.result()
    if second == "seen":
        assert answer == 4  # each of 5 to 8, and once
    assert [(row.content, row.metadata) for row in rows(store) if row.id == "5"] == left
    assert len(rows(store)) == 8 + len(left)


@pytest.mark.owner
def test_what_the_host_keeps_from_being_changed_is_left(dsn: str, database: Database):
    store = PostgresVectorStore(Letters(), database=database)
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

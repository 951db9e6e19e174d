"""Many clients that change the same ids at once, each in an order of its own."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Database, PostgresVectorStore
from tests.database_support import Letters, admin
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

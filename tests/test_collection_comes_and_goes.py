"""A store whose collection others drop, make anew and exchange while it works."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg.errors import NotFound
from tests.plugins.stores import DIMENSIONS, CountingRunner, WordModel, ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from a2rchi_pg._op import Op

pytestmark = pytest.mark.timeout(120)


@contextmanager
def dropped_and_made_anew(database: Database, name: str, every: float) -> Iterator[list[int]]:
    """Somebody who does that all the time; how often so far."""
    done, count = threading.Event(), [0]

    def again_and_again() -> None:
        collections = Collections(database)
        while not done.wait(every):
            collections.drop(name)
            collections.create(CollectionSpec(name=name), DIMENSIONS)
            count[0] += 1

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(again_and_again)
        try:
            yield count
        finally:
            done.set()
        other.result()


def test_adds_and_searches_while_the_collection_comes_and_goes(dsn: str):
    with Database(dsn) as others, Database(dsn) as database:
        store = PostgresVectorStore(WordModel(), database=database)
        with dropped_and_made_anew(others, "default", 0.05) as times:
            rounds = 0
            while rounds < 25 or times[0] <= 5:
                rounds += 1
                assert store.add_texts(["a whale", "a fox"], ids=["1", "2"]) == ["1", "2"]
                store.similarity_search("whale")
                store.hybrid_search("whale")
                with suppress(NotFound):  # between a drop and what comes after it
                    store.explain("whale", search_type="hybrid")
        store.add_texts(["a whale", "a fox"], ids=["1", "2"])
        assert sorted(ids(store.bm25_search("whale fox"))) == ["1", "2"]


class Meddler(CountingRunner):
    """Has the collection dropped and made anew before some of the operations on it."""

    def __init__(self, database: Database, before: str, times: int) -> None:
        super().__init__(database)
        self.before, self.times = before, times

    def run(self, op: Op[Any]) -> Any:
        if op.name == self.before and self.times:
            self.times -= 1
            Collections(self.database).drop("default")
            Collections(self.database).create(CollectionSpec(), DIMENSIONS)
        return super().run(op)


STEPS: dict[str, Callable[[PostgresVectorStore], Any]] = {
    "upsert_chunks": lambda store: store.add_texts(["a whale"]),
    "calibrate": lambda store: store.add_texts(["a whale"]),
    "build": lambda store: store.add_texts(["a whale"]),
    "delete_where": lambda store: store.delete(["1"]),
    "count": lambda store: store.count(),
    "dense": lambda store: store.similarity_search("whale"),
    "analysed": lambda store: store.explain("whale"),
}


@pytest.mark.servers("embedded")
@pytest.mark.parametrize("step", STEPS)
def test_every_step_goes_on_with_the_collection_there_is(database: Database, step: str):
    PostgresVectorStore(WordModel(), database=database).add_texts(["a fox"])
    meddler = Meddler(database, step, 4)
    STEPS[step](PostgresVectorStore(WordModel(), database=meddler))


@pytest.mark.servers("embedded")
@pytest.mark.parametrize("step", ["upsert_chunks", "delete_where", "dense", "analysed"])
def test_a_collection_that_never_stays_is_not_found(database: Database, step: str):
    PostgresVectorStore(WordModel(), database=database).add_texts(["a fox"])
    store = PostgresVectorStore(WordModel(), database=Meddler(database, step, 100))
    with pytest.raises(NotFound, match=r"'default' was dropped or exchanged while .* 5 times"):
        STEPS[step](store)


@pytest.mark.servers("embedded")
def test_where_nothing_comes_after_it_nothing_is_found(database: Database):
    store = PostgresVectorStore(WordModel(), database=database)
    store.add_texts(["a fox"])
    Collections(database).drop("default")
    assert store.similarity_search("fox") == []
    with pytest.raises(NotFound, match="there is no collection 'default'"):
        store.explain("fox")

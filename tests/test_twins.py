"""Every public ``x()`` has an ``ax()`` with the same parameters, and it is truly asynchronous."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import (
    CatalogRepository,
    Collections,
    ConfigRepository,
    ConversationRepository,
    Database,
    KeyResolver,
    PostgresChatMessageHistory,
    PostgresRecordManager,
    PostgresVectorStore,
    SelectionRepository,
    Transaction,
    UserRepository,
    VectorstoreConnector,
)
from a2rchi_pg._comparing import Comparisons
from a2rchi_pg._feedback import Feedback
from a2rchi_pg._messages import Messages
from a2rchi_pg._timing import Timings
from a2rchi_pg._tracing import Traces
from a2rchi_pg.ingest import VectorStoreManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.plugins.stores import WordModel

CONVERSATIONS = (ConversationRepository, Messages, Feedback, Timings, Traces, Comparisons)
CLASSES = (
    PostgresVectorStore,
    Collections,
    UserRepository,
    ConfigRepository,
    KeyResolver,
    CatalogRepository,
    SelectionRepository,
    Database,
    Transaction,
    PostgresChatMessageHistory,
    PostgresRecordManager,
    VectorstoreConnector,
    VectorStoreManager,
    *CONVERSATIONS,
)
# What does no I/O itself, or only before there is a loop to block.
ALONE = {
    (PostgresVectorStore, "as_retriever"),
    (Database, "embedded"),
    (Database, "transaction"),
    (Database, "pool_stats"),
}


def is_ours(method: Any) -> bool:
    return inspect.unwrap(getattr(method, "__func__", method)).__module__.startswith("a2rchi_pg")


def methods(owner: type) -> dict[str, Callable[..., Any]]:
    """The public methods that we wrote, inherited ones too."""
    found = inspect.getmembers_static(owner)
    named = {name: getattr(owner, name) for name, _ in found if not name.startswith("_")}
    return {name: method for name, method in named.items() if callable(method) and is_ours(method)}


def is_async(method: Any) -> bool:
    """Whether it is a coroutine, or yields as one."""
    returned = str(inspect.signature(method).return_annotation)
    return inspect.iscoroutinefunction(method) or returned.startswith("AsyncIterator")


PAIRS = [
    (owner, name)
    for owner in CLASSES
    for name, method in methods(owner).items()
    if not is_async(method) and (owner, name) not in ALONE
]


@pytest.mark.parametrize(("owner", "name"), PAIRS, ids=[f"{o.__name__}-{n}" for o, n in PAIRS])
def test_every_method_has_its_twin_with_the_same_parameters(owner: type, name: str):
    twin = getattr(owner, f"a{name}", None)
    assert twin is not None
    assert is_async(twin)
    ours, theirs = inspect.signature(getattr(owner, name)), inspect.signature(twin)
    assert list(ours.parameters.values()) == list(theirs.parameters.values())
    assert ours.return_annotation == theirs.return_annotation.removeprefix("Async")
    assert inspect.getdoc(getattr(owner, name))
    assert inspect.getdoc(twin)


@pytest.mark.parametrize("owner", CLASSES)
def test_every_twin_has_its_method(owner: type):
    twins = {name for name, method in methods(owner).items() if inspect.iscoroutinefunction(method)}
    assert {name.removeprefix("a") for name in twins} <= set(methods(owner))


def test_the_pairs_are_there_to_be_compared():
    named = {name for owner, name in PAIRS if owner is PostgresVectorStore}
    assert named >= {"add_texts", "delete", "get_by_ids", "hybrid_search", "from_texts", "count"}
    assert {(Database, "run"), (Database, "health"), (Collections, "drop")} <= set(PAIRS)


def test_what_stands_alone_is_still_there():
    assert all(hasattr(owner, name) for owner, name in ALONE)
    assert not any(hasattr(owner, f"a{name}") for owner, name in ALONE)


class NoThreads(ThreadPoolExecutor):
    """What an event loop gets here instead of threads."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"a thread was asked for: {args}, {kwargs}")


@pytest.mark.servers("embedded", "full")
@pytest.mark.timeout(60)
async def test_native_async_needs_no_thread(common_dsn: str, model: WordModel):
    async with Database(common_dsn) as database:
        asyncio.get_running_loop().set_default_executor(NoThreads())
        try:
            await use_everything(PostgresVectorStore(model, database=database, collection="native"))
        finally:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
            await Collections(database).adrop("native")


async def use_everything(store: PostgresVectorStore) -> None:
    await store.aadd_texts(["the whale"], ids=["1"])
    await store.aadd_embeddings(["a fox"], [[0.5] * 64], ids=["2"])
    await store.aadd_texts(iter(["a stream"]), batch_size=1)
    for search in (
        store.asimilarity_search,
        store.asimilarity_search_with_score,
        store.asimilarity_search_with_relevance_scores,
        store.amax_marginal_relevance_search,
        store.abm25_search,
        store.ahybrid_search,
    ):
        assert len(await search("the whale", k=1)) == 1
    for search_type in ("similarity", "mmr", "bm25", "hybrid"):
        retriever = store.as_retriever(search_type=search_type, k=1)
        assert len(await retriever.ainvoke("the whale")) == 1
        assert len(await store.asearch("the whale", search_type, k=1)) == 1
    assert len(await store.aget_by_ids(["1"])) == 1
    assert await store.acount() == 3
    assert await store.adelete(["1"])


async def test_two_searches_of_one_loop_run_at_the_same_time(common_dsn: str, model: WordModel):
    """The second is embedded while the first still waits for its model."""
    first_asked, second_asked = asyncio.Event(), asyncio.Event()

    async def wait_for_one_another(text: str) -> list[float]:
        mine, other = (first_asked, second_asked) if text == "1" else (second_asked, first_asked)
        mine.set()
        async with asyncio.timeout(20):
            await other.wait()
        return model.embed_query(text)

    model.aembed_query = wait_for_one_another  # type: ignore[method-assign]
    async with Database(common_dsn) as database:
        store = PostgresVectorStore(model, database=database, collection="nowhere")
        async with asyncio.timeout(30):
            await asyncio.gather(store.asimilarity_search("1"), store.asimilarity_search("2"))

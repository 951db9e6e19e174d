"""Vector stores on the test servers, with a model whose vectors mean something.

Tests share one database a server and keep to a collection of their own: ``new_store`` makes one,
``store`` is one with the default settings. ``twin`` is a store too, reached in each of the three
ways (sync, async in threads, native async), so that one test body covers them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from inspect import isawaitable
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings
from psycopg import sql

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore
from a2rchi_pg._op import Steps, fetch_tuples, read
from tests.plugins.servers import new_database
from tests.roles_support import acting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.documents import Document
    from numpy.typing import NDArray

    from a2rchi_pg._op import Op
    from tests.plugins.servers import Server, Servers

DIMENSIONS = 64
NewStore: TypeAlias = "Callable[..., PostgresVectorStore]"


class WordModel(Embeddings):
    """Texts that share words are near one another: hashed words, scaled to unit length.

    Attributes:
        asked: The texts of each call of ``embed_documents`` or ``aembed_documents``, in order.
    """

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        self.dimensions = dimensions
        self.asked: list[list[str]] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(list(texts))
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        # The first dimension is every text's, so that none has a vector of length zero.
        vector = np.zeros(self.dimensions)
        vector[0] = 0.1
        for word in re.findall(r"\w+", text.lower()):
            vector[crc32(word.encode("utf-8", "replace")) % self.dimensions] += 1
        return (vector / np.linalg.norm(vector)).tolist()

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        await asyncio.sleep(0)
        return self.embed_query(text)


class Twin:
    """Calls ``x()`` of what it stands for, or ``ax()`` where ``way`` isn't "sync"."""

    def __init__(self, target: Any, way: str) -> None:
        self.target = target
        self.way = way

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.target, name if self.way == "sync" else f"a{name}")

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return await gathered(result)

        return call


async def gathered(result: Any) -> Any:
    """What a sync or async method comes to; all of what a stream yields."""
    if isinstance(result, AsyncIterator):
        return [item async for item in result]
    if isinstance(result, Iterator):
        return list(result)
    return await result if isawaitable(result) else result


class Row(NamedTuple):
    """A chunk as it stands in its table; ``version`` changes with every write to it."""

    id: str
    content: str
    metadata: dict[str, Any]
    embedding: NDArray[np.float32]
    version: str


def rows(store: PostgresVectorStore) -> list[Row]:
    """Everything in a store's collection, by id, read past the store."""
    collection = Collections(store.database).get(store.collection_name)
    return store.database.run(_rows(collection.partition)) if collection else []


@read
def _rows(partition: str) -> Steps[list[Row]]:
    columns = sql.SQL("SELECT id, content, metadata, embedding, concat(xmin, ctid)")
    query = sql.SQL('{} FROM {} ORDER BY id COLLATE "C"')
    found = yield from fetch_tuples(query.format(columns, sql.Identifier(partition)))
    return [Row(*row) for row in found]


def ask(store: PostgresVectorStore, query: Any, /, **params: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement of the test's own."""
    return store.database.run(_ask(query, **params))


@read
def _ask(query: Any, /, **params: Any) -> Steps[list[tuple[Any, ...]]]:
    return (yield from fetch_tuples(query, **params))


def ids(found: Sequence[Document] | Sequence[tuple[Document, float]]) -> list[str | None]:
    """The ids of documents, with or without scores."""
    return [(each[0] if isinstance(each, tuple) else each).id for each in found]


def scores(found: Sequence[tuple[Document, float]]) -> list[float]:
    return [score for _, score in found]


class CountingRunner:
    """Passes operations on to a database, and counts them: each is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ran: list[Op[Any]] = []

    def run(self, op: Op[Any]) -> Any:
        self.ran.append(op)
        return self.database.run(op)

    async def arun(self, op: Op[Any]) -> Any:
        self.ran.append(op)
        return await self.database.arun(op)


@pytest.fixture(scope="session")
def common_dsn(server: Server, servers: Servers, template: str) -> Iterator[str]:
    """A database of a server that many tests share."""
    with new_database(server, f"{servers.prefix}_common", template) as conninfo:
        yield acting(conninfo)


@pytest.fixture(scope="session")
def common(common_dsn: str) -> Iterator[Database]:
    with Database(common_dsn) as database:
        yield database


@pytest.fixture
def model() -> WordModel:
    return WordModel()


@pytest.fixture
def new_store(common: Database, model: WordModel) -> Iterator[NewStore]:
    """Makes stores on collections of their own; takes the fields of ``CollectionSpec``."""
    with ExitStack() as cleanup:

        def make(
            *, embedding: Embeddings | None = None, database: Any = None, **spec: Any
        ) -> PostgresVectorStore:
            asked = CollectionSpec(**{"name": f"test-{token_hex(6)}", **spec})
            cleanup.callback(Collections(common).drop, asked.name)
            return PostgresVectorStore(
                embedding or model, database=database or common, collection=asked
            )

        yield make


@pytest.fixture
def store(new_store: NewStore) -> PostgresVectorStore:
    """An empty store with the default settings."""
    return new_store()


@pytest.fixture(params=["sync", "threaded", "native"])
async def way_in(
    request: pytest.FixtureRequest, common: Database, common_dsn: str
) -> AsyncIterator[tuple[str, Database]]:
    """A way of calling, and a database opened for it."""
    if request.param == "native":
        async with Database(common_dsn) as database:
            yield request.param, database
    else:
        yield request.param, common


@pytest.fixture
def twin(way_in: tuple[str, Database], new_store: NewStore) -> Twin:
    """An empty store, its methods awaited whichever way they run."""
    way, database = way_in
    return Twin(new_store(database=database), way)

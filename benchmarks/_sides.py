"""What a store is to the benchmark, and this package as one; the others stand in ``_peers``."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import tee
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from _common import K, database, settle
from floor import GivenVectors

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AsyncExitStack
    from typing import TypeAlias

    from _data import Dataset, Question
    from langchain_core.documents import Document

    Search: TypeAlias = Callable[[Question], list[str]]
    AsyncSearch: TypeAlias = Callable[[Question], Awaitable[Any]]


class Unsupported(Exception):
    """The store has no such thing; the message says what it lacks."""


class Model(GivenVectors):
    """An embedding model that costs nothing: texts have their vectors already."""

    given: Any = None

    def embed_documents(self, texts: list[str]) -> Any:
        """The vectors that were laid ready for these texts."""
        return self.given[: len(texts)]

    def known(self, questions: Sequence[Question]) -> None:
        """Learn what the questions' vectors are."""
        self.by_text = {question.text: question.numbers for question in questions}  # type: ignore[misc]

    async def aembed_query(self, text: str) -> Any:
        """The same, without a thread."""
        return self.by_text[text]


class Side:
    """A store: made empty, filled, then asked; each kind of search in one or more ways."""

    name = ""
    base = ""
    prefix = "bench"
    batch = 1_000

    def __init__(self, dsn: str, model: Model) -> None:
        self.dsn, self.model = dsn, model
        self.stack = ExitStack()

    def create(self) -> None:
        """Make it empty; not in anybody's time."""
        raise NotImplementedError

    def load(self, data: Dataset) -> None:
        """Store every row."""
        raise NotImplementedError

    def index(self) -> None:
        """Build what searches need, where loading hasn't."""

    def settle(self) -> None:
        """Get the maintenance done that would come by itself soon."""

    def searches(self) -> dict[str, Search]:
        """By vector, nearest first; the first way looks as hard as everybody's."""
        raise NotImplementedError

    def filtered(self, flag: str) -> dict[str, Search]:
        """The same among the rows that carry a flag."""
        raise NotImplementedError

    def words(self) -> dict[str, Search]:
        """By words, ranked by BM25."""
        raise Unsupported("no BM25")

    def hybrids(self) -> dict[str, Search]:
        """By vector and words."""
        raise Unsupported("no hybrid search")

    def workers(self, count: int) -> list[Search]:
        """One search by vector for each of so many threads."""
        return [next(iter(self.searches().values()))] * count

    async def coroutine(self, stack: AsyncExitStack) -> AsyncSearch:
        """A search by vector for many tasks of one event loop."""
        del stack
        raise Unsupported("no async")

    @property
    def database_name(self) -> str:
        """A database of its own on the server."""
        return f"{self.prefix}_{self.base}"

    def close(self) -> None:
        """Let go of connections."""
        self.stack.close()


def ids(documents: Sequence[Document]) -> list[str]:
    return [str(document.id) for document in documents]


class Ours(Side):
    """This package, given a stream of any length."""

    name, base = "ours, stream", "ours_stream"

    def create(self) -> None:
        self.dsn = database(self.dsn, self.database_name, extensions=False)
        migrate(self.dsn)
        self.attach()

    def attach(self) -> None:
        """Open what is there already."""
        self.database = self.stack.enter_context(Database(self.dsn))
        self.store = PostgresVectorStore(self.model, database=self.database, collection="bench")

    def load(self, data: Dataset) -> None:
        rows = (
            row
            for batch in data.batches(self.batch)
            for row in zip(batch.texts, batch.vectors, batch.metadatas, batch.ids, strict=True)
        )
        texts, vectors, metadatas, keys = (
            map(itemgetter(column), copy) for column, copy in enumerate(tee(rows, 4))
        )
        self.store.add_embeddings(texts, vectors, metadatas, ids=keys)

    def settle(self) -> None:
        settle(self.dsn)

    def searches(self) -> dict[str, Search]:
        return {"as it comes": self._by_vector(), "ef_search 40": self._by_vector(ef_search=40)}

    def _by_vector(self, **options: Any) -> Search:
        search = self.store.similarity_search_by_vector
        return lambda question: ids(search(question.numbers, K, **options))

    def filtered(self, flag: str) -> dict[str, Search]:
        return {"as it comes": self._by_vector(filter={flag: 1})}

    def words(self) -> dict[str, Search]:
        search = self.store.bm25_search
        return {"as it comes": lambda q: [hit.id or "" for hit, _ in search(q.text, K)]}

    def hybrids(self) -> dict[str, Search]:
        search = self.store.hybrid_search
        return {
            "rrf": lambda q: [hit.id or "" for hit, _ in search(q.text, K, fusion="rrf")],
            "as it comes": lambda q: [hit.id or "" for hit, _ in search(q.text, K)],
        }

    async def coroutine(self, stack: AsyncExitStack) -> AsyncSearch:
        opened = await stack.enter_async_context(Database(self.dsn))
        store = PostgresVectorStore(self.model, database=opened, collection="bench")
        return lambda question: store.asimilarity_search_by_vector(question.numbers, K)


class OursList(Ours):
    """This package, given everything at once: one transaction."""

    name, base = "ours, list", "ours"

    def load(self, data: Dataset) -> None:
        batch = data.whole()
        self.store.add_embeddings(batch.texts, batch.vectors, batch.metadatas, ids=batch.ids)

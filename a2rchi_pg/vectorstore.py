"""The LangChain vector store: embeds, searches, returns documents.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from a2rchi_pg._arguments import mapping, number, one_of, only, string
from a2rchi_pg._browsing import as_documents
from a2rchi_pg._hybrid import HybridStore, scored
from a2rchi_pg._options import SEARCHES, search_options
from a2rchi_pg._vectors import as_vector
from a2rchi_pg.retriever import PostgresRetriever

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from numpy.typing import ArrayLike

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._search import Hit
    from a2rchi_pg._vectors import Vector


class PostgresVectorStore(HybridStore):
    """Texts with vectors and metadata in one collection, searched by meaning, by words or by both.

    The collection is made when the first texts come: its dimensions are those of the vectors. A
    search before that finds nothing. Nothing is read or written on construction.

    Args:
        embedding: Any LangChain embedding model.
        database: A ``Database`` (or a ``Transaction`` of one), or a DSN, for which the store opens
            a database of its own on first use.
        collection: The name of a collection, or a ``CollectionSpec`` saying how to make it; a
            collection that exists with other settings then raises ``CollectionMismatch``.

    Every method that takes a ``filter`` takes a mapping of metadata keys to what they must hold:

    * ``{"lang": "en", "year": 2024}``: both; the same as ``$eq``.
    * ``{"year": {"$gte": 2020, "$lt": 2025}}``: ``$gt $gte $lt $lte``, and ``$between: [low,
      high]`` with both ends, compare numbers, dates (``date``, ``datetime``, ISO 8601) and strings.
    * ``{"lang": {"$in": ["en", "de"]}}``, ``$nin``: one of these, none of these.
    * ``{"title": {"$ilike": "%whale%"}}``: ``$like`` and, ignoring case, ``$ilike``; ``%`` is
      anything, ``_`` one character.
    * ``{"tags": {"$contains": "sea"}}``: a list that has the value, or a string that has the text.
      ``$eq`` on a list field is the whole list.
    * ``{"author": {"$exists": True}}``: the key is there, be it with None.
    * ``$and``, ``$or`` with a list of filters; ``$not`` with a filter, or on a key with operators.
    * ``"author.name"`` reaches inside objects; ``None`` or ``{}`` for a filter is everything.

    A value that is missing or of another type meets no comparison, so it meets ``$ne``, ``$nin``
    and ``$not``. ``{"key": None}`` is met where the key is missing or None, ``{"key": {"$ne":
    None}}`` where it has a value. Numbers, strings and booleans are never equal to one another.

    Example:
        >>> store = PostgresVectorStore(model, database="postgresql://localhost/rag")
        >>> store.add_texts(["Paris is in France."], [{"source": "atlas"}])
        >>> store.hybrid_search("capital of France", k=3)
    """

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The ``k`` nearest documents; see :meth:`similarity_search_with_score`."""
        return as_documents(
            self._do(self._nearest("similarity_search", string(query, "query"), k, kwargs))
        )

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The asynchronous twin of :meth:`similarity_search`."""
        return as_documents(
            await self._ado(self._nearest("asimilarity_search", string(query, "query"), k, kwargs))
        )

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The ``k`` nearest documents with their distances, nearest first, ties by id.

        Args:
            query: What to look for, embedded by the model.
            k: How many, up to a million; exactly as many are returned if that many are eligible.
            **kwargs: ``filter``: what the metadata must hold, in the language of the class's
                description; ``ef_search``: 1 to 1,000, how hard the index looks (HNSW's
                ``ef_search``, IVFFlat's ``probes``); ``user_id``, ``conversation_id``: only chunks
                of documents that are enabled for them, see ``SelectionRepository`` (the narrowest
                choice decides; chunks of no document are for all); ``client_id``: of which client
                the conversation has to be, if it is no user's;
                ``include_deleted``: chunks of deleted documents as well.

        Returns:
            Distances of the collection's metric, lower is better: cosine distance in [0, 2],
            Euclidean distance, or the negative inner product. A zero vector, which has no cosine,
            is at 2.

        Raises:
            FilterError: If the filter can't be understood.
            InvalidInput: If ``k`` or another option is out of range.
        """
        return scored(
            self._do(
                self._nearest("similarity_search_with_score", string(query, "query"), k, kwargs)
            )
        )

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`similarity_search_with_score`."""
        return scored(
            await self._ado(
                self._nearest("asimilarity_search_with_score", string(query, "query"), k, kwargs)
            )
        )

    def similarity_search_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """The ``k`` documents nearest to a ``(dim,)`` vector."""
        return as_documents(
            self._do(self._nearest("similarity_search_by_vector", as_vector(embedding), k, kwargs))
        )

    async def asimilarity_search_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """The asynchronous twin of :meth:`similarity_search_by_vector`."""
        return as_documents(
            await self._ado(
                self._nearest("asimilarity_search_by_vector", as_vector(embedding), k, kwargs)
            )
        )

    def similarity_search_with_score_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The ``k`` documents nearest to a ``(dim,)`` vector, with their distances."""
        return scored(
            self._do(
                self._nearest(
                    "similarity_search_with_score_by_vector", as_vector(embedding), k, kwargs
                )
            )
        )

    async def asimilarity_search_with_score_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`similarity_search_with_score_by_vector`."""
        return scored(
            await self._ado(
                self._nearest(
                    "asimilarity_search_with_score_by_vector", as_vector(embedding), k, kwargs
                )
            )
        )

    def similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The ``k`` nearest documents with their relevance, most relevant first.

        Args:
            query: What to look for.
            k: How many.
            **kwargs: ``score_threshold``, 0 to 1: leave out what is less relevant; others as for
                :meth:`similarity_search_with_score`.

        Returns:
            Relevance in [0, 1], higher is better: the cosine, or 0 where that is negative;
            ``1 / (1 + distance)``; or the logistic function of the inner product.
        """
        _check_threshold("similarity_search_with_relevance_scores", kwargs)
        return super().similarity_search_with_relevance_scores(query, k, **kwargs)

    async def asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`similarity_search_with_relevance_scores`."""
        _check_threshold("asimilarity_search_with_relevance_scores", kwargs)
        return await super().asimilarity_search_with_relevance_scores(query, k, **kwargs)

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return scored(self._do(self._relevant(query, k, kwargs)))

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return scored(await self._ado(self._relevant(query, k, kwargs)))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """``k`` of the ``fetch_k`` nearest documents, chosen to differ from one another.

        Args:
            query: What to look for.
            k: How many to return.
            fetch_k: How many to choose from; at least ``k``.
            lambda_mult: 0 (most diverse) to 1 (most relevant).
            **kwargs: As for :meth:`similarity_search_with_score`.
        """
        return as_documents(
            self._do(
                self._diverse(
                    "max_marginal_relevance_search",
                    string(query, "query"),
                    k,
                    fetch_k,
                    lambda_mult,
                    kwargs,
                )
            )
        )

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """The asynchronous twin of :meth:`max_marginal_relevance_search`."""
        return as_documents(
            await self._ado(
                self._diverse(
                    "amax_marginal_relevance_search",
                    string(query, "query"),
                    k,
                    fetch_k,
                    lambda_mult,
                    kwargs,
                )
            )
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: ArrayLike,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """:meth:`max_marginal_relevance_search` for a ``(dim,)`` vector."""
        return as_documents(
            self._do(
                self._diverse(
                    "max_marginal_relevance_search_by_vector",
                    as_vector(embedding),
                    k,
                    fetch_k,
                    lambda_mult,
                    kwargs,
                )
            )
        )

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: ArrayLike,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """The asynchronous twin of :meth:`max_marginal_relevance_search_by_vector`."""
        return as_documents(
            await self._ado(
                self._diverse(
                    "amax_marginal_relevance_search_by_vector",
                    as_vector(embedding),
                    k,
                    fetch_k,
                    lambda_mult,
                    kwargs,
                )
            )
        )

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Search by the name of a search type.

        Args:
            query: What to look for.
            search_type: ``"similarity"``, ``"similarity_score_threshold"``, ``"mmr"``, ``"bm25"``
                or ``"hybrid"``.
            **kwargs: As for the search of that name.
        """
        only(kwargs, SEARCHES[one_of(search_type, "search_type", SEARCHES)], "search()")
        if search_type in {"bm25", "hybrid"}:
            found = self.bm25_search if search_type == "bm25" else self.hybrid_search
            return [document for document, _ in found(query, **kwargs)]
        return super().search(query, search_type, **kwargs)

    async def asearch(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """The asynchronous twin of :meth:`search`."""
        only(kwargs, SEARCHES[one_of(search_type, "search_type", SEARCHES)], "asearch()")
        if search_type in {"bm25", "hybrid"}:
            found = self.abm25_search if search_type == "bm25" else self.ahybrid_search
            return [document for document, _ in await found(query, **kwargs)]
        return await super().asearch(query, search_type, **kwargs)

    def as_retriever(self, **kwargs: Any) -> PostgresRetriever:
        """A :class:`PostgresRetriever` over this store.

        Takes its arguments; any others (``filter``, ``score_threshold``, …) are the search's.
        """
        ours = PostgresRetriever.model_fields
        wanted = one_of(kwargs.get("search_type", "similarity"), "search_type", SEARCHES)
        only(kwargs, [*dict.fromkeys([*SEARCHES[wanted], *ours])], "as_retriever()")
        others = {name: kwargs.pop(name) for name in set(kwargs) - set(ours)}
        if others:
            searching = mapping(kwargs.get("search_kwargs", {}), "search_kwargs")
            kwargs["search_kwargs"] = searching | others
        tags = [*(kwargs.pop("tags", None) or []), *self._get_retriever_tags()]
        return PostgresRetriever(vectorstore=self, tags=tags, **kwargs)

    def _nearest(
        self, called: str, query: str | Vector, k: int, given: dict[str, Any]
    ) -> Flow[list[Hit]]:
        only(given, SEARCHES["similarity"], f"{called}()")
        return self._store.dense(query, k, search_options(**given))

    def _relevant(self, query: str, k: int, given: dict[str, Any]) -> Flow[list[Hit]]:
        return self._store.relevant(string(query, "query"), k, search_options(**given))

    def _diverse(
        self,
        called: str,
        query: str | Vector,
        k: int,
        fetch_k: int,
        lambda_mult: float,
        given: dict[str, Any],
    ) -> Flow[list[Hit]]:
        only(given, SEARCHES["mmr"], f"{called}()")
        return self._store.diverse(
            query,
            k,
            search_options(**given),
            fetch_k=fetch_k,
            lambda_mult=number(lambda_mult, "lambda_mult", 0, 1),
        )


def _check_threshold(called: str, given: dict[str, Any]) -> None:
    only(given, SEARCHES["similarity_score_threshold"], f"{called}()")
    if given.get("score_threshold") is not None:
        number(given["score_threshold"], "score_threshold", 0, 1)

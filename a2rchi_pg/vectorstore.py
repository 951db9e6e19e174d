"""The LangChain vector store: embeds, searches, returns documents.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from a2rchi_pg._browsing import as_documents
from a2rchi_pg._hybrid import HybridStore, scored
from a2rchi_pg._options import search_options
from a2rchi_pg._scores import relevance
from a2rchi_pg.retriever import PostgresRetriever

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.documents import Document
    from numpy.typing import ArrayLike

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._options import Filter
    from a2rchi_pg._search import Hit


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

    Example:
        >>> store = PostgresVectorStore(model, database="postgresql://localhost/rag")
        >>> store.add_texts(["Paris is in France."], [{"source": "atlas"}])
        >>> store.hybrid_search("capital of France", k=3)
    """

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The ``k`` nearest documents; see :meth:`similarity_search_with_score`."""
        return as_documents(self._do(self._nearest(query, k, **kwargs)))

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The asynchronous twin of :meth:`similarity_search`."""
        return as_documents(await self._ado(self._nearest(query, k, **kwargs)))

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The ``k`` nearest documents with their distances, nearest first, ties by id.

        Args:
            query: What to look for, embedded by the model.
            k: How many; exactly as many are returned if that many are eligible.
            **kwargs: ``filter``: ``{"key": value, …}``, what the metadata must hold; ``ef_search``:
                1 to 1,000, how hard the index looks (HNSW's ``ef_search``, IVFFlat's ``probes``).

        Returns:
            Distances of the collection's metric, lower is better: cosine distance in [0, 2],
            Euclidean distance, or the negative inner product.

        Raises:
            FilterError: If the filter can't be understood.
            InvalidInput: If ``k`` or another option is out of range.
        """
        return scored(self._do(self._nearest(query, k, **kwargs)))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`similarity_search_with_score`."""
        return scored(await self._ado(self._nearest(query, k, **kwargs)))

    def similarity_search_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """The ``k`` documents nearest to a ``(dim,)`` vector."""
        return as_documents(self._do(self._nearest(embedding, k, **kwargs)))

    async def asimilarity_search_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """The asynchronous twin of :meth:`similarity_search_by_vector`."""
        return as_documents(await self._ado(self._nearest(embedding, k, **kwargs)))

    def similarity_search_with_score_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The ``k`` documents nearest to a ``(dim,)`` vector, with their distances."""
        return scored(self._do(self._nearest(embedding, k, **kwargs)))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`similarity_search_with_score_by_vector`."""
        return scored(await self._ado(self._nearest(embedding, k, **kwargs)))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        hits = self.similarity_search_with_score(query, k, **kwargs)
        return self._relevant(hits)

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        hits = await self.asimilarity_search_with_score(query, k, **kwargs)
        return self._relevant(hits)

    def _relevant(self, hits: list[tuple[Document, float]]) -> list[tuple[Document, float]]:
        score = self._select_relevance_score_fn()
        return [(document, score(distance)) for document, distance in hits]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return relevance((self._store.collection or self._store.spec).metric)

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
        return as_documents(self._do(self._diverse(query, k, fetch_k, lambda_mult, **kwargs)))

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """The asynchronous twin of :meth:`max_marginal_relevance_search`."""
        return as_documents(
            await self._ado(self._diverse(query, k, fetch_k, lambda_mult, **kwargs))
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
        return as_documents(self._do(self._diverse(embedding, k, fetch_k, lambda_mult, **kwargs)))

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
            await self._ado(self._diverse(embedding, k, fetch_k, lambda_mult, **kwargs))
        )

    def search(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """Search by the name of a search type, ``"bm25"`` and ``"hybrid"`` among them."""
        if search_type in {"bm25", "hybrid"}:
            found = self.bm25_search if search_type == "bm25" else self.hybrid_search
            return [document for document, _ in found(query, **kwargs)]
        return super().search(query, search_type, **kwargs)

    async def asearch(self, query: str, search_type: str, **kwargs: Any) -> list[Document]:
        """The asynchronous twin of :meth:`search`."""
        if search_type in {"bm25", "hybrid"}:
            found = self.abm25_search if search_type == "bm25" else self.ahybrid_search
            return [document for document, _ in await found(query, **kwargs)]
        return await super().asearch(query, search_type, **kwargs)

    def as_retriever(self, **kwargs: Any) -> PostgresRetriever:
        """A :class:`PostgresRetriever` over this store.

        Takes its arguments; any others (``filter``, ``score_threshold``, …) are the search's.
        """
        others = {
            name: kwargs.pop(name) for name in set(kwargs) - set(PostgresRetriever.model_fields)
        }
        kwargs["search_kwargs"] = {**kwargs.get("search_kwargs", {}), **others}
        tags = [*(kwargs.pop("tags", None) or []), *self._get_retriever_tags()]
        return PostgresRetriever(vectorstore=self, tags=tags, **kwargs)

    def _nearest(
        self,
        query: str | ArrayLike,
        k: int,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> Flow[list[Hit]]:
        return self._store.dense(query, k, search_options(filter, ef_search))

    def _diverse(
        self,
        query: str | ArrayLike,
        k: int,
        fetch_k: int,
        lambda_mult: float,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> Flow[list[Hit]]:
        options = search_options(filter, ef_search)
        return self._store.diverse(query, k, options, fetch_k=fetch_k, lambda_mult=lambda_mult)

"""The LangChain vector store: embeds, searches, returns documents.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from a2rchi_pg._fusion import CANDIDATES, FusionName
from a2rchi_pg._fusion import fusion as chosen_fusion
from a2rchi_pg._scores import relevance
from a2rchi_pg._store import check_k, search_options
from a2rchi_pg._writing import WritableStore
from a2rchi_pg.retriever import PostgresRetriever

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._search import Hit, HybridRow
    from a2rchi_pg._writing import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridHit:
    """One result of a hybrid search, and what each of its two searches made of it.

    Attributes:
        document: The document.
        score: Fused score in [0, 1], higher is better.
        semantic_rank: Place in the dense ranking, from 1; None if not among its candidates.
        distance: Distance from the query, lower is better; None if nobody had to compute it.
        bm25_rank: Place in the lexical ranking, from 1; None if not among its candidates.
        bm25_score: BM25 score, higher is better; None likewise.
    """

    document: Document
    score: float
    semantic_rank: int | None
    distance: float | None
    bm25_rank: int | None
    bm25_score: float | None


class PostgresVectorStore(WritableStore):
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

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; missing ones are left out."""
        return [_document(*row) for row in self._do(self._store.get(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The asynchronous twin of :meth:`get_by_ids`."""
        return [_document(*row) for row in await self._ado(self._store.get(ids))]

    def count(self, filter: Filter = None) -> int:  # noqa: A002 - LangChain's name
        """How many chunks there are, or how many meet a filter; reads them all."""
        return self._do(self._store.count(filter))

    async def acount(self, filter: Filter = None) -> int:  # noqa: A002 - LangChain's name
        """The asynchronous twin of :meth:`count`."""
        return await self._ado(self._store.count(filter))

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The ``k`` nearest documents; see :meth:`similarity_search_with_score`."""
        return _documents(self._do(self._nearest(query, k, **kwargs)))

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The asynchronous twin of :meth:`similarity_search`."""
        return _documents(await self._ado(self._nearest(query, k, **kwargs)))

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
        return _scored(self._do(self._nearest(query, k, **kwargs)))

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`similarity_search_with_score`."""
        return _scored(await self._ado(self._nearest(query, k, **kwargs)))

    def similarity_search_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """The ``k`` documents nearest to a ``(dim,)`` vector."""
        return _documents(self._do(self._nearest(embedding, k, **kwargs)))

    async def asimilarity_search_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """The asynchronous twin of :meth:`similarity_search_by_vector`."""
        return _documents(await self._ado(self._nearest(embedding, k, **kwargs)))

    def similarity_search_with_score_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The ``k`` documents nearest to a ``(dim,)`` vector, with their distances."""
        return _scored(self._do(self._nearest(embedding, k, **kwargs)))

    async def asimilarity_search_with_score_by_vector(
        self, embedding: ArrayLike, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`similarity_search_with_score_by_vector`."""
        return _scored(await self._ado(self._nearest(embedding, k, **kwargs)))

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
        return _documents(self._do(self._diverse(query, k, fetch_k, lambda_mult, **kwargs)))

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """The asynchronous twin of :meth:`max_marginal_relevance_search`."""
        return _documents(await self._ado(self._diverse(query, k, fetch_k, lambda_mult, **kwargs)))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: ArrayLike,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """:meth:`max_marginal_relevance_search` for a ``(dim,)`` vector."""
        return _documents(self._do(self._diverse(embedding, k, fetch_k, lambda_mult, **kwargs)))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: ArrayLike,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """The asynchronous twin of :meth:`max_marginal_relevance_search_by_vector`."""
        return _documents(
            await self._ado(self._diverse(embedding, k, fetch_k, lambda_mult, **kwargs))
        )

    def bm25_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
    ) -> list[tuple[Document, float]]:
        """The ``k`` documents that best match the words of ``query``, best first.

        A document has to hold one of the words at least. Without pg_textsearch they are ranked by
        PostgreSQL's own full-text search, which is noted once in the log.

        Args:
            query: Words, of which the first 500 count; nothing in it is an operator.
            k: How many at most.
            filter: What the metadata must hold.

        Returns:
            Documents with their BM25 scores, higher is better; scores of different queries can't
            be compared.

        Raises:
            FilterError: If the filter can't be understood.
            InvalidInput: If ``k`` is negative or ``query`` isn't a string.
        """
        return _scored(self._do(self._store.bm25(query, k, search_options(filter))))

    async def abm25_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`bm25_search`."""
        return _scored(await self._ado(self._store.bm25(query, k, search_options(filter))))

    def hybrid_search(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> list[tuple[Document, float]]:
        """The ``k`` best documents by meaning and words together, best first: one statement.

        What only one of the two searches finds is ranked too.

        Args:
            query: What to look for.
            k: How many; exactly as many are returned if that many are eligible.
            semantic_weight: Weight of the dense search, at least 0; None takes what measured best
                for the fusion (0.6, 0.8, 0.5), or 1 less ``bm25_weight``.
            bm25_weight: Weight of the lexical search, at least 0; None takes 1 less
                ``semantic_weight``. Only their ratio matters.
            fusion: ``"calibrated"``, ``"tm2c2"`` (cosine only) or ``"rrf"``, see below.
            fetch_k: Candidates taken from each of the two; at least ``k`` are.
            filter: What the metadata must hold; applied to both searches.
            ef_search: As for :meth:`similarity_search_with_score`.

        Returns:
            Documents with their fused scores in [0, 1], higher is better. ``"rrf"`` is reciprocal
            rank fusion, ``Σ weight / (60 + rank)`` (Cormack, Clarke & Büttcher, SIGIR 2009), over
            the most it can be. ``"tm2c2"`` adds both scores, scaled from their theoretical least to
            the query's maximum (Bruch, Gai & Ingber, TOIS 2023). ``"calibrated"`` does so with
            similarities scaled from the query's mean similarity to the collection.

        Raises:
            FilterError: If the filter can't be understood.
            InvalidInput: If a weight is negative or both are 0, or another option is out of range.
        """
        options = search_options(filter, ef_search)
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, check_k(fetch_k, "fetch_k"))
        return _scored(self._do(self._store.hybrid(query, k, options, chosen)))

    async def ahybrid_search(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`hybrid_search`."""
        options = search_options(filter, ef_search)
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, check_k(fetch_k, "fetch_k"))
        return _scored(await self._ado(self._store.hybrid(query, k, options, chosen)))

    def hybrid_search_with_details(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> list[HybridHit]:
        """:meth:`hybrid_search`, saying of each document how either search ranked it."""
        options = search_options(filter, ef_search)
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, check_k(fetch_k, "fetch_k"))
        return _detailed(self._do(self._store.hybrid(query, k, options, chosen)))

    async def ahybrid_search_with_details(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> list[HybridHit]:
        """The asynchronous twin of :meth:`hybrid_search_with_details`."""
        options = search_options(filter, ef_search)
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, check_k(fetch_k, "fetch_k"))
        return _detailed(await self._ado(self._store.hybrid(query, k, options, chosen)))

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
        """A :class:`PostgresRetriever` over this store; takes its arguments."""
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


def _document(id_: str, content: str, metadata: dict[str, Any]) -> Document:
    return Document(id=id_, page_content=content, metadata=metadata)


def _documents(hits: list[Hit]) -> list[Document]:
    return [_document(*hit[:3]) for hit in hits]


def _scored(hits: Iterable[tuple[Any, ...]]) -> list[tuple[Document, float]]:
    return [(_document(*hit[:3]), hit[3]) for hit in hits]


def _detailed(rows: list[HybridRow]) -> list[HybridHit]:
    return [
        HybridHit(
            document=_document(*row[:3]),
            score=row[3],
            semantic_rank=row[4],
            distance=row[5],
            bm25_rank=row[6],
            bm25_score=row[7],
        )
        for row in rows
    ]

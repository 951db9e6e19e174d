"""The LangChain vector store: embeds, searches, returns documents.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from a2rchi_pg import _flow
from a2rchi_pg._op import Runner
from a2rchi_pg._scores import relevance
from a2rchi_pg._search import CANDIDATES, Fusion
from a2rchi_pg._store import (
    DEFAULT_BATCH,
    Record,
    Store,
    check_k,
    document_records,
    records,
    search_options,
)
from a2rchi_pg.collections import CollectionSpec
from a2rchi_pg.database import Database
from a2rchi_pg.errors import InvalidInput
from a2rchi_pg.retriever import PostgresRetriever

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Self

    from langchain_core.embeddings import Embeddings
    from numpy.typing import ArrayLike

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._search import Hit

T = TypeVar("T")
Filter: TypeAlias = "Mapping[str, Any] | None"
FusionName: TypeAlias = Literal["rrf"]


class PostgresVectorStore(VectorStore):
    """Texts with vectors and metadata in one collection, searched by meaning, by words or by both.

    The collection is made when the first texts come: its dimensions are those of the vectors. A
    search before that finds nothing. Nothing is read or written on construction.

    Args:
        embedding: Any LangChain embedding model.
        database: A ``Database`` (or a ``Transaction`` of one), or a DSN, for which the store opens a
            database of its own on first use.
        collection: The name of a collection, or a ``CollectionSpec`` saying how to make it; a
            collection that exists with other settings then raises ``CollectionMismatch``.

    Example:
        >>> store = PostgresVectorStore(model, database="postgresql://localhost/rag")
        >>> store.add_texts(["Paris is in France."], [{"source": "atlas"}])
        >>> store.hybrid_search("capital of France", k=3)
    """

    def __init__(
        self,
        embedding: Embeddings,
        *,
        database: Runner | str,
        collection: str | CollectionSpec = "default",
    ) -> None:
        self._embedding = embedding
        self._database = Database(database) if isinstance(database, str) else database
        strict = isinstance(collection, CollectionSpec)
        spec = collection if isinstance(collection, CollectionSpec) else CollectionSpec(name=collection)
        if spec.embedding_model is None:
            spec = replace(spec, embedding_model=_model_name(embedding))
        self._store = Store(spec, strict=strict)

    def __repr__(self) -> str:
        return f"<PostgresVectorStore {self._store.spec.name!r} of {self._database!r}>"

    @property
    def embeddings(self) -> Embeddings:
        """The embedding model."""
        return self._embedding

    @property
    def collection_name(self) -> str:
        """The collection's name."""
        return self._store.spec.name

    @property
    def database(self) -> Runner:
        """Where the collection is."""
        return self._database

    def _do(self, flow: Flow[T]) -> T:
        return _flow.run(flow, self._embedding, self._database)

    async def _ado(self, flow: Flow[T]) -> T:
        return await _flow.arun(flow, self._embedding, self._database)

    # -- in -----------------------------------------------------------------------------------

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed texts and store them; a text whose id is there already replaces the old one.

        A list is stored in one transaction, all of it or nothing. An iterable without a length is
        a stream: read, embedded and stored batch by batch, each in a transaction of its own.

        Args:
            texts: The texts. NUL characters are removed.
            metadatas: One mapping for each, of what JSON can hold; dates become ISO 8601.
            ids: One for each; None makes a new UUID. Of equal ids the last one counts.
            batch_size: Texts a transaction holds, where a stream is given.
            document_id: The row of ``documents`` that the texts are chunks of.
            **kwargs: None are accepted.

        Returns:
            The ids, in the order of the texts.

        Raises:
            InvalidInput: If something can't be stored; nothing was written.
            DimensionMismatch: If the model's vectors don't fit the collection; nothing was written.
            PartialWrite: If a stream stopped midway; ``ids`` says what is stored.
        """
        _no_more(kwargs)
        return self._do(self._add(texts, metadatas, ids, None, batch_size, document_id))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """The asynchronous twin of :meth:`add_texts`."""
        _no_more(kwargs)
        return await self._ado(self._add(texts, metadatas, ids, None, batch_size, document_id))

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Iterable[ArrayLike],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
    ) -> list[str]:
        """Store texts whose vectors are at hand, ``(n, dim)`` in float32; otherwise as above."""
        return self._do(self._add(texts, metadatas, ids, embeddings, batch_size, document_id))

    async def aadd_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Iterable[ArrayLike],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
    ) -> list[str]:
        """The asynchronous twin of :meth:`add_embeddings`."""
        return await self._ado(self._add(texts, metadatas, ids, embeddings, batch_size, document_id))

    def add_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Embed and store documents, under ``ids`` or else their own; see :meth:`add_texts`."""
        _no_more(kwargs)
        return self._do(self._add_documents(documents, ids, batch_size, document_id))

    async def aadd_documents(
        self,
        documents: Iterable[Document],
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """The asynchronous twin of :meth:`add_documents`."""
        _no_more(kwargs)
        return await self._ado(self._add_documents(documents, ids, batch_size, document_id))

    def _add(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None,
        ids: Iterable[str | None] | None,
        vectors: Iterable[ArrayLike] | None,
        batch_size: int,
        document_id: int | None,
    ) -> Flow[list[str]]:
        if isinstance(texts, str):
            raise InvalidInput("texts must be an iterable of strings, got one string")
        given = records(texts, metadatas, ids, vectors)
        return self._put(given, isinstance(texts, Sized), batch_size, document_id)

    def _add_documents(
        self,
        documents: Iterable[Document],
        ids: Iterable[str | None] | None,
        batch_size: int,
        document_id: int | None,
    ) -> Flow[list[str]]:
        given = document_records(documents, ids)
        return self._put(given, isinstance(documents, Sized), batch_size, document_id)

    def _put(
        self, given: Iterable[Record], whole: bool, batch_size: int, document_id: int | None
    ) -> Flow[list[str]]:
        if whole:
            return self._store.add(given, document_id)
        if batch_size < 1:
            raise InvalidInput(f"batch_size must be at least 1, got {batch_size!r}")
        return self._store.add_stream(given, batch_size, document_id)

    def delete(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        **kwargs: Any,
    ) -> bool:
        """Delete by ids or by metadata, in one transaction; unknown ids are none of its business.

        Args:
            ids: Ids of chunks of this collection.
            filter: Or a metadata filter; ``{}`` means every chunk.
            **kwargs: None are accepted.

        Returns:
            True: what was named is not there any more.

        Raises:
            InvalidInput: If neither or both are given.
        """
        _no_more(kwargs)
        self._do(self._delete(ids, filter))
        return True

    async def adelete(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        **kwargs: Any,
    ) -> bool:
        """The asynchronous twin of :meth:`delete`."""
        _no_more(kwargs)
        await self._ado(self._delete(ids, filter))
        return True

    def _delete(self, ids: Sequence[str] | None, filter: Filter) -> Flow[int]:  # noqa: A002
        if ids is not None and filter is None:
            return self._store.delete([ids] if isinstance(ids, str) else ids)
        if ids is None and filter is not None:
            return self._store.delete_where(filter)
        raise InvalidInput("say what to delete: either ids=[…] or filter={…} ({} for everything)")

    # -- out ----------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; missing ones are left out."""
        return [_document(*row) for row in self._do(self._store.get(ids))]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The asynchronous twin of :meth:`get_by_ids`."""
        return [_document(*row) for row in await self._ado(self._store.get(ids))]

    def count(self, filter: Filter = None) -> int:  # noqa: A002 - LangChain's name
        """How many chunks the collection holds, or how many of them meet a filter; reads them all."""
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
        semantic_weight: float = 0.5,
        bm25_weight: float = 0.5,
        fusion: FusionName = "rrf",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> list[tuple[Document, float]]:
        """The ``k`` best documents by meaning and words together, best first: one statement.

        What only one of the two searches finds is ranked too.

        Args:
            query: What to look for.
            k: How many; exactly as many are returned if that many are eligible.
            semantic_weight: Weight of the dense ranking, at least 0.
            bm25_weight: Weight of the lexical ranking, at least 0; only their ratio matters.
            fusion: ``"rrf"``, reciprocal rank fusion: the sum of ``weight / (60 + rank)`` (Cormack,
                Clarke & Büttcher, SIGIR 2009), divided by the most it can be.
            fetch_k: Candidates taken from each of the two; at least ``k`` are.
            filter: What the metadata must hold; applied to both searches.
            ef_search: As for :meth:`similarity_search_with_score`.

        Returns:
            Documents with their fused scores in [0, 1], higher is better.

        Raises:
            FilterError: If the filter can't be understood.
            InvalidInput: If a weight is negative or both are 0, or another option is out of range.
        """
        options = search_options(filter, ef_search)
        chosen = _fusion(fusion, semantic_weight, bm25_weight, fetch_k)
        return _scored(self._do(self._store.hybrid(query, k, options, chosen)))

    async def ahybrid_search(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float = 0.5,
        bm25_weight: float = 0.5,
        fusion: FusionName = "rrf",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`hybrid_search`."""
        options = search_options(filter, ef_search)
        chosen = _fusion(fusion, semantic_weight, bm25_weight, fetch_k)
        return _scored(await self._ado(self._store.hybrid(query, k, options, chosen)))

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

    # -- made from ----------------------------------------------------------------------------

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        database: Runner | str,
        collection: str | CollectionSpec = "default",
        **kwargs: Any,
    ) -> Self:
        """A store with these texts added to its collection; see :meth:`add_texts`."""
        store = cls(embedding, database=database, collection=collection)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        database: Runner | str,
        collection: str | CollectionSpec = "default",
        **kwargs: Any,
    ) -> Self:
        """The asynchronous twin of :meth:`from_texts`."""
        store = cls(embedding, database=database, collection=collection)
        await store.aadd_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings,
        *,
        ids: Iterable[str | None] | None = None,
        database: Runner | str,
        collection: str | CollectionSpec = "default",
        **kwargs: Any,
    ) -> Self:
        """A store with these documents added to its collection; see :meth:`add_documents`."""
        store = cls(embedding, database=database, collection=collection)
        store.add_documents(documents, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings,
        *,
        ids: Iterable[str | None] | None = None,
        database: Runner | str,
        collection: str | CollectionSpec = "default",
        **kwargs: Any,
    ) -> Self:
        """The asynchronous twin of :meth:`from_documents`."""
        store = cls(embedding, database=database, collection=collection)
        await store.aadd_documents(documents, ids=ids, **kwargs)
        return store

    @classmethod
    def from_existing(
        cls, embedding: Embeddings, *, database: Runner | str, collection: str = "default"
    ) -> Self:
        """A store on a collection that must be there.

        Raises:
            NotFound: If it isn't.
        """
        store = cls(embedding, database=database, collection=collection)
        store._do(store._store.existing())
        return store

    @classmethod
    async def afrom_existing(
        cls, embedding: Embeddings, *, database: Runner | str, collection: str = "default"
    ) -> Self:
        """The asynchronous twin of :meth:`from_existing`."""
        store = cls(embedding, database=database, collection=collection)
        await store._ado(store._store.existing())
        return store


def _document(id_: str, content: str, metadata: dict[str, Any]) -> Document:
    return Document(id=id_, page_content=content, metadata=metadata)


def _documents(hits: list[Hit]) -> list[Document]:
    return [_document(*hit[:3]) for hit in hits]


def _scored(hits: list[Hit]) -> list[tuple[Document, float]]:
    return [(_document(*hit[:3]), hit[3]) for hit in hits]


def _fusion(name: str, semantic_weight: float, bm25_weight: float, candidates: int) -> Fusion:
    if name != "rrf":
        raise InvalidInput(f"fusion must be 'rrf', got {name!r}")
    weights = (semantic_weight, bm25_weight)
    if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise InvalidInput(
            "semantic_weight and bm25_weight must be finite, at least 0 and not both 0; "
            f"got {semantic_weight!r} and {bm25_weight!r}"
        )
    return Fusion(
        semantic_weight=semantic_weight,
        bm25_weight=bm25_weight,
        candidates=check_k(candidates, "fetch_k"),
    )


def _model_name(embedding: Embeddings) -> str:
    """The model's name where its object tells one, else the class's."""
    for attribute in ("model", "model_name", "model_id", "deployment"):
        name = getattr(embedding, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(embedding).__name__


def _no_more(kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(kwargs))}")

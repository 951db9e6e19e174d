"""The part of the vector store that takes in: texts, ready vectors, documents.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from a2rchi_pg._arguments import many, only, row_id, whole
from a2rchi_pg._bound import BoundStore
from a2rchi_pg._records import Record, document_records, records
from a2rchi_pg._store import DEFAULT_BATCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from typing import Self

    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from numpy.typing import ArrayLike

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Runner
    from a2rchi_pg.collections import CollectionSpec

# What may be named in a call, for those that take any keyword by LangChain's signature.
ADDING = ("ids", "batch_size", "document_id")
MAKING = (*ADDING, "database", "collection")


class FillableStore(BoundStore):
    """A collection that texts are added to."""

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
        only(kwargs, ("metadatas", *ADDING), "add_texts()")
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
        only(kwargs, ("metadatas", *ADDING), "aadd_texts()")
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
        """Store texts whose vectors are at hand, ``(n, dim)`` in float32; see :meth:`add_texts`."""
        many(embeddings, "embeddings", "vectors")
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
        many(embeddings, "embeddings", "vectors")
        return await self._ado(
            self._add(texts, metadatas, ids, embeddings, batch_size, document_id)
        )

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
        only(kwargs, ADDING, "add_documents()")
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
        only(kwargs, ADDING, "aadd_documents()")
        return await self._ado(self._add_documents(documents, ids, batch_size, document_id))

    def stream_documents(
        self,
        documents: Iterable[Document],
        *,
        embeddings: Iterable[ArrayLike] | None = None,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
    ) -> Iterator[list[str]]:
        """Store documents batch by batch, and tell of each batch when it is committed.

        Memory stays bounded however many there are, where ``add_*`` returns every id (about
        100 bytes each), and a caller sees how far it is. Nothing is read before it is asked for.
        Whoever stops asking leaves the batches so far stored, and missing indexes to the next add.

        Args:
            documents: The documents, read ``batch_size`` at a time.
            embeddings: One vector for each, ``(dim,)`` in float32, if the model is not to be asked.
            ids: One for each, or else the documents' own.
            batch_size: Documents a transaction holds.
            document_id: The row of ``documents`` that they are chunks of.

        Yields:
            The ids of a batch, in the order given.

        Raises:
            InvalidInput: If something can't be stored; the batches told of are.
            DimensionMismatch: If the vectors don't fit the collection; the same.
        """
        given = document_records(documents, ids, embeddings)
        return self._batches(given, *_checked(batch_size, document_id))

    def astream_documents(
        self,
        documents: Iterable[Document],
        *,
        embeddings: Iterable[ArrayLike] | None = None,
        ids: Iterable[str | None] | None = None,
        batch_size: int = DEFAULT_BATCH,
        document_id: int | None = None,
    ) -> AsyncIterator[list[str]]:
        """The asynchronous twin of :meth:`stream_documents`."""
        given = document_records(documents, ids, embeddings)
        return self._abatches(given, *_checked(batch_size, document_id))

    def _batches(
        self, source: Iterator[Record], batch_size: int, document_id: int | None
    ) -> Iterator[list[str]]:
        stored = 0
        while ids := self._do(self._store.add_next(source, batch_size, document_id)):
            stored += len(ids)
            yield ids
        self._do(self._store.finish(stored))

    async def _abatches(
        self, source: Iterator[Record], batch_size: int, document_id: int | None
    ) -> AsyncIterator[list[str]]:
        stored = 0
        while ids := await self._ado(self._store.add_next(source, batch_size, document_id)):
            stored += len(ids)
            yield ids
        await self._ado(self._store.finish(stored))

    def _add(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None,
        ids: Iterable[str | None] | None,
        vectors: Iterable[ArrayLike] | None,
        batch_size: int,
        document_id: int | None,
    ) -> Flow[list[str]]:
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
        self, given: Iterable[Record], at_once: bool, batch_size: int, document_id: int | None
    ) -> Flow[list[str]]:
        batch_size, document_id = _checked(batch_size, document_id)
        if at_once:
            return self._store.add(given, document_id)
        return self._store.add_stream(given, batch_size, document_id)

    @classmethod
    def from_texts(  # type: ignore[override]  # which database can't be guessed
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
        only(kwargs, ("metadatas", *MAKING), "from_texts()")
        store = cls(embedding, database=database, collection=collection)
        store.add_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_texts(  # type: ignore[override]  # as above
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
        only(kwargs, ("metadatas", *MAKING), "afrom_texts()")
        store = cls(embedding, database=database, collection=collection)
        await store.aadd_texts(texts, metadatas, ids=ids, **kwargs)
        return store

    @classmethod
    def from_documents(  # type: ignore[override]  # which database can't be guessed
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
        only(kwargs, MAKING, "from_documents()")
        store = cls(embedding, database=database, collection=collection)
        store.add_documents(documents, ids=ids, **kwargs)
        return store

    @classmethod
    async def afrom_documents(  # type: ignore[override]  # as above
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
        only(kwargs, MAKING, "afrom_documents()")
        store = cls(embedding, database=database, collection=collection)
        await store.aadd_documents(documents, ids=ids, **kwargs)
        return store


def _checked(batch_size: int, document_id: int | None) -> tuple[int, int | None]:
    document = None if document_id is None else row_id(document_id, "document_id")
    return whole(batch_size, "batch_size", 1), document

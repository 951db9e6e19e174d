"""The half of the vector store that changes what is stored.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.vectorstores import VectorStore

from a2rchi_pg import _flow
from a2rchi_pg._arguments import many, only, row_id, string, whole
from a2rchi_pg._options import which
from a2rchi_pg._records import Record, document_records, records
from a2rchi_pg._store import DEFAULT_BATCH, Store
from a2rchi_pg.collections import CollectionSpec
from a2rchi_pg.database import Database
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from numpy.typing import ArrayLike

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Runner
    from a2rchi_pg._options import Filter
    from a2rchi_pg.collections import Collection

T = TypeVar("T")

# What may be named in a call, for those that take any keyword by LangChain's signature.
ADDING = ("ids", "batch_size", "document_id")
MAKING = (*ADDING, "database", "collection")
DELETING = ("ids", "filter")


class WritableStore(VectorStore):
    """A collection that texts are added to and deleted from."""

    def __init__(
        self,
        embedding: Embeddings,
        *,
        database: Runner | str,
        collection: str | CollectionSpec = "default",
    ) -> None:
        _check_parts(embedding, database)
        self._embedding = embedding
        self._database = Database(database) if isinstance(database, str) else database
        strict = isinstance(collection, CollectionSpec)
        spec = (
            collection
            if isinstance(collection, CollectionSpec)
            else CollectionSpec(name=string(collection, "collection"))
        )
        if spec.embedding_model is None:
            spec = replace(spec, embedding_model=_model_name(embedding))
        self._store = Store(spec, strict=strict)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.spec.name!r} of {self._database!r}>"

    @property
    def embeddings(self) -> Embeddings:
        """The embedding model."""
        return self._embedding

    @property
    def collection_name(self) -> str:
        """The collection's name."""
        return self._store.spec.name

    @property
    def embedding_model(self) -> str | None:
        """The model's name, as it is recorded with a collection that the store makes."""
        return self._store.spec.embedding_model

    @property
    def database(self) -> Runner:
        """Where the collection is."""
        return self._database

    def _do(self, flow: Flow[T]) -> T:
        return _flow.run(flow, self._embedding, self._database)

    async def _ado(self, flow: Flow[T]) -> T:
        return await _flow.arun(flow, self._embedding, self._database)

    def create_collection(self) -> Collection:
        """Make the collection now, if it isn't there: the model is asked what its vectors are.

        Adding texts makes it too; this is for those who want it before there are any.

        Raises:
            CollectionMismatch: If it is there with other settings than a ``CollectionSpec`` says.
        """
        return self._do(self._store.made())

    async def acreate_collection(self) -> Collection:
        """The asynchronous twin of :meth:`create_collection`."""
        return await self._ado(self._store.made())

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
        batch_size = whole(batch_size, "batch_size", 1)
        if document_id is not None:
            document_id = row_id(document_id, "document_id")
        if at_once:
            return self._store.add(given, document_id)
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
            filter: Or a metadata filter, see :class:`PostgresVectorStore`; ``{}`` is every chunk.
            **kwargs: None are accepted.

        Returns:
            True: what was named is not there any more.

        Raises:
            InvalidInput: If neither or both are given.
        """
        only(kwargs, DELETING, "delete()")
        self._do(self._store.delete(which(ids, filter)))
        return True

    async def adelete(
        self,
        ids: Sequence[str] | None = None,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        **kwargs: Any,
    ) -> bool:
        """The asynchronous twin of :meth:`delete`."""
        only(kwargs, DELETING, "adelete()")
        await self._ado(self._store.delete(which(ids, filter)))
        return True

    def update_metadata(
        self,
        patch: Mapping[str, Any],
        *,
        remove: Sequence[str] = (),
        ids: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 - LangChain's name
    ) -> int:
        """Change the metadata of some documents, leaving text and vectors, in one transaction.

        Args:
            patch: Keys to set, at the top level; others stay.
            remove: Keys to take away.
            ids: Which documents.
            filter: Or which, by their metadata, see :class:`PostgresVectorStore`; ``{}`` is all.

        Returns:
            How many documents there were.

        Raises:
            InvalidInput: If neither or both of ids and filter are given.
        """
        return self._do(self._store.update_metadata(patch, remove, which(ids, filter)))

    async def aupdate_metadata(
        self,
        patch: Mapping[str, Any],
        *,
        remove: Sequence[str] = (),
        ids: Sequence[str] | None = None,
        filter: Filter = None,  # noqa: A002 - LangChain's name
    ) -> int:
        """The asynchronous twin of :meth:`update_metadata`."""
        return await self._ado(self._store.update_metadata(patch, remove, which(ids, filter)))

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


def _check_parts(embedding: object, database: object) -> None:
    for method in ("embed_documents", "embed_query"):
        if not callable(getattr(embedding, method, None)):
            raise InvalidInput(
                f"embedding must be a LangChain embedding model, got {type(embedding).__name__}"
            )
    if not isinstance(database, str) and not callable(getattr(database, "run", None)):
        raise InvalidInput(
            "database must be a Database, a Transaction of one or a DSN, got "
            f"{type(database).__name__}"
        )


def _model_name(embedding: Embeddings) -> str:
    """The model's name where its object tells one, else the class's."""
    for attribute in ("model", "model_name", "model_id", "deployment"):
        name = getattr(embedding, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(embedding).__name__

"""A store's collection, model and database, before anything is done with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from langchain_core.vectorstores import VectorStore

from a2rchi_pg import _flow
from a2rchi_pg._arguments import string
from a2rchi_pg._store import Store
from a2rchi_pg.collections import CollectionSpec
from a2rchi_pg.database import Database
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from typing import Self

    from langchain_core.embeddings import Embeddings

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Runner
    from a2rchi_pg.collections import Collection

T = TypeVar("T")


class BoundStore(VectorStore):
    """A collection of a database, and the model that makes vectors for it."""

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

        Adding texts makes it too; this is for those who want it before there are any. The store
        sees it as it is now: with the indexes that somebody else built a moment ago.

        Raises:
            CollectionMismatch: If it is there with other settings than a ``CollectionSpec`` says.
        """
        return self._do(self._store.made())

    async def acreate_collection(self) -> Collection:
        """The asynchronous twin of :meth:`create_collection`."""
        return await self._ado(self._store.made())

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

"""The part of the vector store that needs no question: counting, listing, looking around.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from a2rchi_pg._options import search_options
from a2rchi_pg._reembedding import ReembeddableStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._inspection import MetadataField
    from a2rchi_pg._options import Filter


class BrowsableStore(ReembeddableStore):
    """A collection one can look around in."""

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; missing ones are left out."""
        return as_documents(self._do(self._store.get(ids)))

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The asynchronous twin of :meth:`get_by_ids`."""
        return as_documents(await self._ado(self._store.get(ids)))

    def count(self, filter: Filter = None) -> int:  # noqa: A002 - LangChain's name
        """How many chunks there are, or how many meet a filter; reads them all.

        Filters are described in :class:`PostgresVectorStore`.
        """
        return self._do(self._store.count(filter))

    async def acount(self, filter: Filter = None) -> int:  # noqa: A002 - LangChain's name
        """The asynchronous twin of :meth:`count`."""
        return await self._ado(self._store.count(filter))

    def find(
        self,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        *,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Document]:
        """Documents by metadata alone, in the order of their ids; disabled and deleted ones too.

        Args:
            filter: What the metadata must hold, see :class:`PostgresVectorStore`; None means every
                document.
            limit: How many at most, up to a million.
            after: The last id of the page before; None begins at the start.

        Raises:
            FilterError: If the filter can't be understood.
        """
        return as_documents(self._do(self._store.page(search_options(filter), limit, after)))

    async def afind(
        self,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        *,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Document]:
        """The asynchronous twin of :meth:`find`."""
        return as_documents(await self._ado(self._store.page(search_options(filter), limit, after)))

    def metadata_fields(self) -> list[MetadataField]:
        """The metadata's top-level keys: types, counts, least and greatest value; reads it all."""
        return self._do(self._store.fields())

    async def ametadata_fields(self) -> list[MetadataField]:
        """The asynchronous twin of :meth:`metadata_fields`."""
        return await self._ado(self._store.fields())

    def metadata_values(
        self,
        key: str,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        limit: int = 100,
    ) -> list[tuple[Any, int]]:
        """The commonest values of a top-level key, each with its number of chunks.

        Args:
            key: A key of the metadata.
            filter: Count only chunks that meet it; see :class:`PostgresVectorStore`.
            limit: How many values at most, up to a million.

        Raises:
            FilterError: If the filter can't be understood.
        """
        return self._do(self._store.values(key, limit, search_options(filter)))

    async def ametadata_values(
        self,
        key: str,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        limit: int = 100,
    ) -> list[tuple[Any, int]]:
        """The asynchronous twin of :meth:`metadata_values`."""
        return await self._ado(self._store.values(key, limit, search_options(filter)))


def as_document(id_: str, content: str, metadata: dict[str, Any]) -> Document:
    """A row of the database as LangChain's document."""
    return Document(id=id_, page_content=content, metadata=metadata)


def as_documents(rows: Sequence[tuple[Any, ...]]) -> list[Document]:
    """Rows that begin with id, content and metadata as documents."""
    return [as_document(*row[:3]) for row in rows]

"""The catalog: what documents there are, where they are from, and how far they were taken in.

Every method is a sync and async pair of one line each; what they do stands in ``_document_rows``,
``_pages``, ``_catalog_stats`` and ``_preview``. How a document comes into a collection is told by
the base class, in ``_ingestion_states``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from a2rchi_pg._arguments import many, string
from a2rchi_pg._catalog_stats import (
    catalog_stats,
    distinct_values,
    document_groups,
)
from a2rchi_pg._document_filter import document_filter, which_documents
from a2rchi_pg._document_rows import (
    delete_documents,
    get_documents,
    purge_documents,
    restore_documents,
    upsert_documents,
)
from a2rchi_pg._documents import CatalogDocument, DocumentKey, DocumentSpec, split_keys
from a2rchi_pg._ingestion_states import IngestionStates
from a2rchi_pg._listing import ListOptions, listing
from a2rchi_pg._pages import DocumentPage, list_documents
from a2rchi_pg._preview import document_chunks, document_content

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from a2rchi_pg._catalog_stats import CatalogStats, DocumentGroup
    from a2rchi_pg._document_rows import Recorded
    from a2rchi_pg._preview import DocumentChunk, DocumentContent

Which: TypeAlias = "DocumentKey | Iterable[DocumentKey] | None"
Filter: TypeAlias = "Mapping[str, Any] | None"
# In the class below, list is the method.
Recordeds: TypeAlias = "list[Recorded]"
Documents: TypeAlias = "list[CatalogDocument]"
Chunks: TypeAlias = "list[DocumentChunk]"
Groups: TypeAlias = "list[DocumentGroup]"
Values: TypeAlias = "list[tuple[Any, int]]"


class CatalogRepository(IngestionStates):
    """The documents of a database, whether or not they are in a collection.

    A document is named by its ``resource_hash``, a string, or by its id, a number.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
    """

    def upsert(self, document: DocumentSpec) -> Recorded:
        """Record a document, or bring its record up to date; a deleted one is restored.

        What is on record for its hash is replaced, except for ``content_hash`` and ``ingested_at``
        where none is given, and for what was selected. Where nothing changed, nothing is written.
        """
        return self._runner.run(upsert_documents([document]))[0]

    async def aupsert(self, document: DocumentSpec) -> Recorded:
        """The asynchronous twin of :meth:`upsert`."""
        return (await self._runner.arun(upsert_documents([document])))[0]

    def upsert_many(self, documents: Iterable[DocumentSpec]) -> Recordeds:
        """Record documents, all or none; see :meth:`upsert`.

        Returns:
            What each came to, in order. Of those with the same hash only the last one counts.
        """
        specs = list(many(documents, "documents", "DocumentSpec"))
        return self._runner.run(upsert_documents(specs))

    async def aupsert_many(self, documents: Iterable[DocumentSpec]) -> Recordeds:
        """The asynchronous twin of :meth:`upsert_many`."""
        specs = list(many(documents, "documents", "DocumentSpec"))
        return await self._runner.arun(upsert_documents(specs))

    def get(
        self, document: DocumentKey, *, include_deleted: bool = False
    ) -> CatalogDocument | None:
        """The document of that id or hash, or None."""
        named = which_documents(document, None)
        return _only(self._runner.run(get_documents(named, include_deleted=include_deleted)))

    async def aget(
        self, document: DocumentKey, *, include_deleted: bool = False
    ) -> CatalogDocument | None:
        """The asynchronous twin of :meth:`get`."""
        named = which_documents(document, None)
        return _only(await self._runner.arun(get_documents(named, include_deleted=include_deleted)))

    def get_by_hash(
        self, resource_hash: str, *, include_deleted: bool = False
    ) -> CatalogDocument | None:
        """The document of that hash, or None."""
        key = string(resource_hash, "resource_hash")
        return self.get(key, include_deleted=include_deleted)

    async def aget_by_hash(
        self, resource_hash: str, *, include_deleted: bool = False
    ) -> CatalogDocument | None:
        """The asynchronous twin of :meth:`get_by_hash`."""
        key = string(resource_hash, "resource_hash")
        return await self.aget(key, include_deleted=include_deleted)

    def get_many(
        self, documents: Iterable[DocumentKey], *, include_deleted: bool = False
    ) -> Documents:
        """The documents of these ids and hashes, in their order; missing ones are left out."""
        keys = list(many(documents, "documents", "ids and hashes"))
        op = get_documents(which_documents(keys, None), include_deleted=include_deleted)
        return _in_order(keys, self._runner.run(op))

    async def aget_many(
        self, documents: Iterable[DocumentKey], *, include_deleted: bool = False
    ) -> Documents:
        """The asynchronous twin of :meth:`get_many`."""
        keys = list(many(documents, "documents", "ids and hashes"))
        op = get_documents(which_documents(keys, None), include_deleted=include_deleted)
        return _in_order(keys, await self._runner.arun(op))

    def delete(self, documents: Which = None, *, filter: Filter = None) -> int:  # noqa: A002
        """Hide documents from listings and searches until they are restored; chunks stay.

        Args:
            documents: Which ones, by ids or hashes; those that there aren't are passed over.
            filter: Or which ones, by columns and metadata: ``{"git_repo": "…"}``.

        Returns:
            How many were deleted.
        """
        return self._runner.run(delete_documents(which_documents(documents, filter)))

    async def adelete(self, documents: Which = None, *, filter: Filter = None) -> int:  # noqa: A002
        """The asynchronous twin of :meth:`delete`."""
        return await self._runner.arun(delete_documents(which_documents(documents, filter)))

    def restore(self, documents: Which = None, *, filter: Filter = None) -> int:  # noqa: A002
        """Bring deleted documents back as they were; how many there were. See :meth:`delete`."""
        return self._runner.run(restore_documents(which_documents(documents, filter)))

    async def arestore(self, documents: Which = None, *, filter: Filter = None) -> int:  # noqa: A002
        """The asynchronous twin of :meth:`restore`."""
        return await self._runner.arun(restore_documents(which_documents(documents, filter)))

    def purge(
        self,
        documents: Which = None,
        *,
        filter: Filter = None,  # noqa: A002 - as everywhere
        only_deleted: bool = False,
    ) -> int:
        """Remove documents for good, with their chunks in every collection and all selections.

        Args:
            documents: Which ones, by ids or hashes.
            filter: Or which ones, by columns and metadata.
            only_deleted: Those alone that were deleted before; ``filter={}`` is then all of them.

        Returns:
            How many were removed.
        """
        op = purge_documents(which_documents(documents, filter), only_deleted=only_deleted)
        return self._runner.run(op)

    async def apurge(
        self,
        documents: Which = None,
        *,
        filter: Filter = None,  # noqa: A002 - as everywhere
        only_deleted: bool = False,
    ) -> int:
        """The asynchronous twin of :meth:`purge`."""
        op = purge_documents(which_documents(documents, filter), only_deleted=only_deleted)
        return await self._runner.arun(op)

    def list(self, **options: Unpack[ListOptions]) -> DocumentPage:
        """A page of documents, with their states and what was selected, in one round trip.

        Args:
            **options: What to show, in what order, and how much of it: see :class:`ListOptions`.

        Raises:
            InvalidInput: If an option is out of range; names it.
            FilterError: If the filter can't be understood.
        """
        return self._runner.run(list_documents(listing(**options)))

    async def alist(self, **options: Unpack[ListOptions]) -> DocumentPage:
        """The asynchronous twin of :meth:`list`."""
        return await self._runner.arun(list_documents(listing(**options)))

    def grouped(
        self, *, source_type: str | None = None, collection: str | None = None, limit: int = 1000
    ) -> Groups:
        """Live documents by origin; first those where something isn't embedded yet, then by name.

        Args:
            source_type: One kind of source.
            collection: In which collection states are looked at; None takes the worst of all.
            limit: How many groups at most.
        """
        return self._runner.run(document_groups(source_type, collection, limit))

    async def agrouped(
        self, *, source_type: str | None = None, collection: str | None = None, limit: int = 1000
    ) -> Groups:
        """The asynchronous twin of :meth:`grouped`."""
        return await self._runner.arun(document_groups(source_type, collection, limit))

    def distinct(self, key: str, *, filter: Filter = None, limit: int = 100) -> Values:  # noqa: A002
        """The commonest values of a column or metadata key, each with its number of documents.

        Args:
            key: ``"git_repo"``, ``"suffix"``, ``"origin"``, …, or a top-level key of the metadata.
            filter: Count only documents that meet it.
            limit: How many values at most.
        """
        return self._runner.run(distinct_values(key, document_filter(filter), limit))

    async def adistinct(
        self,
        key: str,
        *,
        filter: Filter = None,  # noqa: A002 - as everywhere
        limit: int = 100,
    ) -> Values:
        """The asynchronous twin of :meth:`distinct`."""
        return await self._runner.arun(distinct_values(key, document_filter(filter), limit))

    def stats(
        self,
        *,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        collection: str | None = None,
    ) -> CatalogStats:
        """Counts by kind and state, sizes, chunks and the last sync, in one round trip.

        Args:
            user_id: Whose selection says what is enabled.
            conversation_id: Which conversation's selection does.
            client_id: Of which client that conversation has to be, if it is no user's.
            collection: In which collection; None means all, and the worst state of each document.
        """
        return self._runner.run(catalog_stats(user_id, conversation_id, client_id, collection))

    async def astats(
        self,
        *,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        collection: str | None = None,
    ) -> CatalogStats:
        """The asynchronous twin of :meth:`stats`."""
        return await self._runner.arun(
            catalog_stats(user_id, conversation_id, client_id, collection)
        )

    def chunks(
        self,
        document: DocumentKey,
        *,
        collection: str | None = None,
        limit: int = 1000,
        offset: int = 0,
    ) -> Chunks:
        """The chunks of a live document in their order.

        Args:
            document: Its id or hash.
            collection: In which collection; None takes the first that has any.
            limit: How many at most.
            offset: How many to pass over.
        """
        return self._runner.run(document_chunks(split_keys(document), collection, limit, offset))

    async def achunks(
        self,
        document: DocumentKey,
        *,
        collection: str | None = None,
        limit: int = 1000,
        offset: int = 0,
    ) -> Chunks:
        """The asynchronous twin of :meth:`chunks`."""
        op = document_chunks(split_keys(document), collection, limit, offset)
        return await self._runner.arun(op)

    def content(
        self, document: DocumentKey, *, collection: str | None = None, max_chars: int = 100_000
    ) -> DocumentContent | None:
        """The beginning of a live document's text, put together from its chunks; None if unknown.

        Args:
            document: Its id or hash.
            collection: In which collection; None takes the first that has chunks of it.
            max_chars: How much of it, in characters.
        """
        return self._runner.run(document_content(split_keys(document), collection, max_chars))

    async def acontent(
        self, document: DocumentKey, *, collection: str | None = None, max_chars: int = 100_000
    ) -> DocumentContent | None:
        """The asynchronous twin of :meth:`content`."""
        op = document_content(split_keys(document), collection, max_chars)
        return await self._runner.arun(op)


def _only(found: Documents) -> CatalogDocument | None:
    return found[0] if found else None


def _in_order(keys: Sequence[DocumentKey], found: Documents) -> Documents:
    by_key: dict[DocumentKey, CatalogDocument] = {each.id: each for each in found}
    by_key |= {each.resource_hash: each for each in found}
    return [by_key[key] for key in keys if key in by_key]

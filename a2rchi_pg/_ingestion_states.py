"""The part of the catalog that knows how far each document has come into each collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg import _ingestion
from a2rchi_pg._documents import split_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from a2rchi_pg._documents import DocumentKey, Status
    from a2rchi_pg._ingestion import Ingestion
    from a2rchi_pg._op import Runner


class IngestionStates:
    """How documents come into collections: pending, embedding, embedded or failed.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def ingestion(
        self, collection: str, documents: DocumentKey | Iterable[DocumentKey]
    ) -> list[Ingestion]:
        """How far these documents have come; nothing of those that were never taken up."""
        return self._runner.run(_ingestion.ingestion(collection, *split_keys(documents)))

    async def aingestion(
        self, collection: str, documents: DocumentKey | Iterable[DocumentKey]
    ) -> list[Ingestion]:
        """The asynchronous twin of :meth:`ingestion`."""
        return await self._runner.arun(_ingestion.ingestion(collection, *split_keys(documents)))

    def begin(
        self,
        collection: str,
        documents: DocumentKey | Iterable[DocumentKey],
        *,
        owner: str,
        lease: float = 300.0,
    ) -> list[Ingestion]:
        """Take documents up for embedding; of several who try at once, one gets each.

        Args:
            collection: Into which collection.
            documents: Which ones, by ids or hashes.
            owner: Who takes them, such as a process's name with a random part.
            lease: Seconds after which another may take them over, unless :meth:`renew` says.

        Returns:
            Those that are the owner's now. Missing are what another holds, what failed and is to
            wait, and what is deleted or unknown.

        Raises:
            NotFound: If there is no such collection.
        """
        ids, hashes = split_keys(documents)
        return self._runner.run(_ingestion.begin(collection, ids, hashes, owner, lease))

    async def abegin(
        self,
        collection: str,
        documents: DocumentKey | Iterable[DocumentKey],
        *,
        owner: str,
        lease: float = 300.0,
    ) -> list[Ingestion]:
        """The asynchronous twin of :meth:`begin`."""
        ids, hashes = split_keys(documents)
        return await self._runner.arun(_ingestion.begin(collection, ids, hashes, owner, lease))

    def finish(
        self,
        collection: str,
        document_id: int,
        *,
        owner: str,
        chunk_count: int,
        content_fingerprint: str | None = None,
        embedding_fingerprint: str | None = None,
    ) -> None:
        """Record that a document is embedded; belongs into the transaction that stores its chunks.

        Args:
            collection: The collection it is in now.
            document_id: Its id.
            owner: Who took it up.
            chunk_count: How many chunks it has.
            content_fingerprint: Of the content they were made from.
            embedding_fingerprint: Of the splitter and the model that made them.

        Raises:
            IllegalTransition: If the owner doesn't hold it; says who does, or its state.
        """
        op = _ingestion.finish(
            collection, document_id, owner, chunk_count, content_fingerprint, embedding_fingerprint
        )
        self._runner.run(op)

    async def afinish(
        self,
        collection: str,
        document_id: int,
        *,
        owner: str,
        chunk_count: int,
        content_fingerprint: str | None = None,
        embedding_fingerprint: str | None = None,
    ) -> None:
        """The asynchronous twin of :meth:`finish`."""
        op = _ingestion.finish(
            collection, document_id, owner, chunk_count, content_fingerprint, embedding_fingerprint
        )
        await self._runner.arun(op)

    def fail(
        self,
        collection: str,
        document_id: int,
        error: str,
        *,
        owner: str,
        retry_after: float = 0.0,
    ) -> None:
        """Record that a document can't be embedded, and why; chunks it had before stay.

        Args:
            collection: The collection it was to come into.
            document_id: Its id.
            error: What people are told.
            owner: Who took it up.
            retry_after: Seconds before :meth:`begin` gives it out again.

        Raises:
            IllegalTransition: If the owner doesn't hold it; says who does, or its state.
        """
        self._runner.run(_ingestion.fail(collection, document_id, owner, error, retry_after))

    async def afail(
        self,
        collection: str,
        document_id: int,
        error: str,
        *,
        owner: str,
        retry_after: float = 0.0,
    ) -> None:
        """The asynchronous twin of :meth:`fail`."""
        await self._runner.arun(_ingestion.fail(collection, document_id, owner, error, retry_after))

    def renew(self, collection: str, *, owner: str, lease: float = 300.0) -> int:
        """Hold on to all that an owner is embedding; how many documents that still is."""
        return self._runner.run(_ingestion.renew(collection, owner, lease))

    async def arenew(self, collection: str, *, owner: str, lease: float = 300.0) -> int:
        """The asynchronous twin of :meth:`renew`."""
        return await self._runner.arun(_ingestion.renew(collection, owner, lease))

    def release(self, collection: str, *, owner: str) -> int:
        """Give back what an owner holds and won't finish: pending again; how many there were."""
        return self._runner.run(_ingestion.release(collection, owner))

    async def arelease(self, collection: str, *, owner: str) -> int:
        """The asynchronous twin of :meth:`release`."""
        return await self._runner.arun(_ingestion.release(collection, owner))

    def retry(
        self,
        collection: str,
        documents: DocumentKey | Iterable[DocumentKey] | None = None,
        *,
        status: Status = "failed",
    ) -> int:
        """Make documents pending again, without waiting.

        Args:
            collection: In which collection.
            documents: Which ones, by ids or hashes; None means all.
            status: Those that are ``"failed"``, or ``"embedded"`` to embed them anew.

        Returns:
            How many there were.

        Raises:
            NotFound: If there is no such collection.
            IllegalTransition: If the status is another: what is being embedded can't be pending.
        """
        return self._runner.run(_ingestion.retry(collection, _which(documents), status))

    async def aretry(
        self,
        collection: str,
        documents: DocumentKey | Iterable[DocumentKey] | None = None,
        *,
        status: Status = "failed",
    ) -> int:
        """The asynchronous twin of :meth:`retry`."""
        return await self._runner.arun(_ingestion.retry(collection, _which(documents), status))


def _which(
    documents: DocumentKey | Iterable[DocumentKey] | None,
) -> tuple[list[int], list[str]] | None:
    return None if documents is None else split_keys(documents)

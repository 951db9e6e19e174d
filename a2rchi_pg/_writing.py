"""The part of the vector store that changes or takes away what is stored.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from a2rchi_pg._adding import FillableStore
from a2rchi_pg._arguments import only
from a2rchi_pg._options import which

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from a2rchi_pg._options import Filter

DELETING = ("ids", "filter")


class WritableStore(FillableStore):
    """A collection that texts are added to, changed in and deleted from."""

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

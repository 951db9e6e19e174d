"""LangChain's indexing on this database: chunks and the records of them commit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.indexing import RecordManager

from a2rchi_pg import _index_records
from a2rchi_pg._arguments import string
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._index_records import Reconciled
    from a2rchi_pg.vectorstore import PostgresVectorStore


class PostgresRecordManager(RecordManager):
    """The record manager for ``langchain_core.indexing.index`` and ``aindex``.

    Where the store is one on a ``Transaction``, a whole indexing commits or fails with it::

        with database.transaction() as transaction:
            store = PostgresVectorStore(model, database=transaction, collection="docs")
            index(documents, PostgresRecordManager(store), store, cleanup="full", …)

    Else LangChain writes chunks and records one after the other, and a crash in between leaves them
    at odds until :meth:`reconcile`.

    Args:
        store: The store that is indexed into; records are in its database.
        namespace: What tells its records from others'; None takes the collection's name.
    """

    def __init__(self, store: PostgresVectorStore, *, namespace: str | None = None) -> None:
        own = store.collection_name if namespace is None else string(namespace, "namespace")
        if not own:
            raise InvalidInput("namespace must not be empty")
        super().__init__(own)
        self._collection = store.collection_name
        self._runner = store.database

    def create_schema(self) -> None:
        """Do nothing: the table comes with the schema's migrations."""

    async def acreate_schema(self) -> None:
        """The asynchronous twin of :meth:`create_schema`."""

    def get_time(self) -> float:
        """Now by the server's clock, in seconds since 1970."""
        return self._runner.run(_index_records.server_time())

    async def aget_time(self) -> float:
        """The asynchronous twin of :meth:`get_time`."""
        return await self._runner.arun(_index_records.server_time())

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Record keys as seen now, in one statement.

        Args:
            keys: Ids of chunks.
            group_ids: The source of each; without, those that are recorded already keep theirs.
            time_at_least: What "now" is where the server's clock went back meanwhile.

        Raises:
            InvalidInput: If there isn't a group id for each key.
        """
        _check_groups(keys, group_ids)
        self._runner.run(_index_records.record(self.namespace, keys, group_ids, time_at_least))

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """The asynchronous twin of :meth:`update`."""
        _check_groups(keys, group_ids)
        op = _index_records.record(self.namespace, keys, group_ids, time_at_least)
        await self._runner.arun(op)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Which of the keys are recorded."""
        return self._runner.run(_index_records.recorded(self.namespace, keys))

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """The asynchronous twin of :meth:`exists`."""
        return await self._runner.arun(_index_records.recorded(self.namespace, keys))

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Keys last seen before and after these times, oldest first.

        Args:
            before: Seconds since 1970.
            after: Seconds since 1970.
            group_ids: Only those of these sources.
            limit: How many at most.
        """
        op = _index_records.list_keys(self.namespace, before, after, group_ids, limit)
        return self._runner.run(op)

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """The asynchronous twin of :meth:`list_keys`."""
        op = _index_records.list_keys(self.namespace, before, after, group_ids, limit)
        return await self._runner.arun(op)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete records."""
        self._runner.run(_index_records.forget(self.namespace, keys))

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """The asynchronous twin of :meth:`delete_keys`."""
        await self._runner.arun(_index_records.forget(self.namespace, keys))

    def reconcile(self) -> Reconciled:
        """Restore the agreement of records and chunks after a crash, in one transaction.

        Records without a chunk go, so that the next indexing adds it again; chunks without a record
        go too, unless they belong to a document of the catalog. So the collection must be this
        namespace's alone, and no indexing may be under way.
        """
        return self._runner.run(_index_records.reconcile(self.namespace, self._collection))

    async def areconcile(self) -> Reconciled:
        """The asynchronous twin of :meth:`reconcile`."""
        return await self._runner.arun(_index_records.reconcile(self.namespace, self._collection))


def _check_groups(keys: Sequence[str], group_ids: Sequence[str | None] | None) -> None:
    if group_ids is not None and len(group_ids) != len(keys):
        raise InvalidInput(
            f"there are {len(keys)} keys and {len(group_ids)} group_ids: give one each"
        )

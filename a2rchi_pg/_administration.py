"""The door to all that is done to a whole collection, from making it to dropping it.

Every method is a sync and async pair of one line each; what they do stands in ``collections``,
``_maintenance`` and ``_tuning``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from a2rchi_pg import _flow, _maintenance
from a2rchi_pg._arguments import whole
from a2rchi_pg._indexes import build_indexes
from a2rchi_pg._tuning import tune
from a2rchi_pg.collections import (
    Collection,
    CollectionSpec,
    add_field,
    drop_collection,
    ensure_collection,
    get_collection,
    list_collections,
)
from a2rchi_pg.errors import CollectionMismatch, InvalidInput

if TYPE_CHECKING:
    from a2rchi_pg._flow import Flow
    from a2rchi_pg._maintenance import CollectionStats, IndexProgress
    from a2rchi_pg._op import Runner
    from a2rchi_pg._tuning import Tuning
    from a2rchi_pg.collections import FieldType

T = TypeVar("T")


class Collections:
    """The collections of a database.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get(self, name: str) -> Collection | None:
        """The collection of that name, or None."""
        return self._runner.run(get_collection(name))

    async def aget(self, name: str) -> Collection | None:
        """The asynchronous twin of :meth:`get`."""
        return await self._runner.arun(get_collection(name))

    def all(self) -> list[Collection]:
        """Every collection, by name."""
        return self._runner.run(list_collections())

    async def aall(self) -> list[Collection]:
        """The asynchronous twin of :meth:`all`."""
        return await self._runner.arun(list_collections())

    def create(self, spec: CollectionSpec, dimensions: int) -> Collection:
        """Make a collection, or return the one that is there if its settings are the same.

        Args:
            spec: Its name and settings.
            dimensions: Length of its vectors, 1 to 16,000.

        Raises:
            CollectionMismatch: If one of that name exists with other settings.
            InvalidInput: If its index can't take that many dimensions.
        """
        spec.check_dimensions(dimensions)
        collection = self._runner.run(ensure_collection(spec, dimensions))
        return _as_asked(collection, spec, dimensions)

    async def acreate(self, spec: CollectionSpec, dimensions: int) -> Collection:
        """The asynchronous twin of :meth:`create`."""
        spec.check_dimensions(dimensions)
        collection = await self._runner.arun(ensure_collection(spec, dimensions))
        return _as_asked(collection, spec, dimensions)

    def drop(self, name: str) -> bool:
        """Drop a collection with all its chunks; False where there is none.

        Raises:
            NotInTransaction: If this works on a ``Transaction``: a drop that is rolled back would
                break the BM25 index (pg_textsearch 0.6).
        """
        return self._runner.run(drop_collection(name))

    async def adrop(self, name: str) -> bool:
        """The asynchronous twin of :meth:`drop`."""
        return await self._runner.arun(drop_collection(name))

    def build_indexes(self, name: str) -> list[str]:
        """Build what indexes the collection lacks (IVFFlat, or BM25 once pg_textsearch is there).

        Writers wait while an index is built; readers don't. Each is a transaction of its own, so
        one that fails leaves the others.

        Returns:
            The names of the indexes built.

        Raises:
            NotFound: If there is no such collection.
            DatabaseError: If some can't be built; says which and why.
        """
        return self._do(build_indexes(name))

    async def abuild_indexes(self, name: str) -> list[str]:
        """The asynchronous twin of :meth:`build_indexes`."""
        return await self._ado(build_indexes(name))

    def add_field(self, name: str, key: str, kind: FieldType) -> bool:
        """Declare a metadata field of a collection, so that ranges of it are read from an index.

        Writers wait while the index is built; readers don't.

        Args:
            name: The collection.
            key: The field, as filters name it: ``"year"``, ``"author.name"``.
            kind: ``"int"``, ``"float"``, ``"text"``, ``"date"`` or ``"bool"``. Values of other
                types may still stand under the key; they just aren't indexed.

        Returns:
            False where the field is declared already.

        Raises:
            NotFound: If there is no such collection.
            CollectionMismatch: If the field is declared with another type.
            InvalidInput: If the key or the type is none.
        """
        return self._runner.run(add_field(name, key, kind))

    async def aadd_field(self, name: str, key: str, kind: FieldType) -> bool:
        """The asynchronous twin of :meth:`add_field`."""
        return await self._runner.arun(add_field(name, key, kind))

    def reindex(self, name: str, *, online: bool = True) -> None:
        """Rebuild the vector and the lexical index, and build what is missing.

        Online, readers and writers go on, and each index is rebuilt by itself, outside any
        transaction: not for use inside one. What an interrupted rebuild left is dropped first. A
        BM25 index that can't be read any more is built anew while writers wait, as an insert would
        hang on it. This takes ``MAINTAIN`` on the collection's table, which a role that was granted
        it on ``document_chunks`` has on every collection made since.

        Otherwise each is built anew by a function that runs as the owner of the schema: writers
        wait, readers only for a moment at the end.

        Args:
            name: The collection.
            online: Keep writers going.

        Raises:
            NotFound: If there is no such collection.
            PermissionDenied: If the role may not; says which rights it lacks.
            Conflict: If somebody else is rebuilding it, or keeps using it without a break.
            DatabaseError: If some index can't be built; says which and why. Others are.
            NotInTransaction: If this works on a ``Transaction``.
        """
        self._do(_maintenance.reindex(name, online=online))

    async def areindex(self, name: str, *, online: bool = True) -> None:
        """The asynchronous twin of :meth:`reindex`."""
        await self._ado(_maintenance.reindex(name, online=online))

    def build_progress(self, name: str) -> IndexProgress | None:
        """How far the index that is being built has come, in whichever connection.

        Of another role's build only a member of ``pg_read_all_stats`` hears.

        Returns:
            None where none is being built.
        """
        return self._runner.run(_maintenance.build_progress(name))

    async def abuild_progress(self, name: str) -> IndexProgress | None:
        """The asynchronous twin of :meth:`build_progress`."""
        return await self._runner.arun(_maintenance.build_progress(name))

    def stats(self, name: str) -> CollectionStats:
        """Rows, sizes and the state of the indexes; counts the rows, so reads an index whole.

        Raises:
            NotFound: If there is no such collection.
        """
        return self._runner.run(_maintenance.stats(name))

    async def astats(self, name: str) -> CollectionStats:
        """The asynchronous twin of :meth:`stats`."""
        return await self._runner.arun(_maintenance.stats(name))

    def tune(
        self, name: str, *, target_recall: float = 0.95, k: int = 10, sample: int = 50
    ) -> Tuning:
        """Measure the vector index against exact search, and set how hard searches look.

        Chunks of the collection are searched for, themselves left out: questions that are unlike
        any chunk may find less. The least ``ef_search`` (IVFFlat: ``probes``) that reaches the
        target is stored with the collection, where searches that name none take it from; stores
        that are in use already notice within five minutes. An exact search reads the whole table,
        once per chunk sampled.

        Args:
            name: The collection.
            target_recall: Share of the exact ``k`` nearest that searches should find, on average.
            k: How many are searched for.
            sample: How many chunks to search for.

        Returns:
            What was measured and chosen.

        Raises:
            NotFound: If there is no such collection.
            InvalidInput: If it has no vector index or no chunks, or an argument is out of range.
        """
        return self._do(_tune(name, target_recall, k, sample))

    async def atune(
        self, name: str, *, target_recall: float = 0.95, k: int = 10, sample: int = 50
    ) -> Tuning:
        """The asynchronous twin of :meth:`tune`."""
        return await self._ado(_tune(name, target_recall, k, sample))

    def swap(self, name: str, other: str) -> None:
        """Exchange the names of two collections, in one transaction.

        How a collection with another model's vectors takes the place of the old one, which stays
        under the other name until it is dropped. Running searches and writes are waited for, new
        ones held up for a tenth of a second at a time. From then on stores that use either name
        find the other collection; one whose model isn't that collection's raises
        ``CollectionMismatch``, and has to be made anew with the right one.

        Raises:
            NotFound: If there is no collection of one of the names.
            InvalidInput: If the names are the same.
            Conflict: If one of them is in use for a minute without a break; nothing has changed.
        """
        self._runner.run(_maintenance.swap(name, other))

    async def aswap(self, name: str, other: str) -> None:
        """The asynchronous twin of :meth:`swap`."""
        await self._runner.arun(_maintenance.swap(name, other))

    def _do(self, flow: Flow[T]) -> T:
        return _flow.run(flow, None, self._runner)

    async def _ado(self, flow: Flow[T]) -> T:
        return await _flow.arun(flow, None, self._runner)


def _tune(name: str, target_recall: float, k: int, sample: int) -> Flow[Tuning]:
    if not 0 < target_recall <= 1:
        raise InvalidInput(f"target_recall must be above 0 and at most 1, got {target_recall!r}")
    for value, option in ((k, "k"), (sample, "sample")):
        if whole(value, option) == 0:
            raise InvalidInput(f"{option} must be at least 1")
    return tune(name, target_recall, k, sample)


def _as_asked(collection: Collection, spec: CollectionSpec, dimensions: int) -> Collection:
    collection.check_matches(spec)
    if collection.dimensions != dimensions:
        raise CollectionMismatch(
            f"collection {collection.name!r} holds vectors of {collection.dimensions} dimensions, "
            f"asked for {dimensions}"
        )
    return collection

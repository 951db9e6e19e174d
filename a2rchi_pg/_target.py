"""A collection as a store sees it: looked up once, made when the first vectors come, mended."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from a2rchi_pg._flow import EmbedQuery
from a2rchi_pg._vectors import as_vector
from a2rchi_pg.collections import Collection, CollectionSpec, ensure_collection, get_collection
from a2rchi_pg.errors import CollectionMismatch, DatabaseError, DimensionMismatch, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Op

logger = logging.getLogger("a2rchi_pg.store")

T = TypeVar("T")
R = TypeVar("R")

ATTEMPTS = 5  # for as many collections, one after the other, that are gone when they are used
RECHECK_SECONDS = 30.0
REREAD_SECONDS = 300.0  # when settings that somebody changed are noticed at the latest
# A table that was dropped; an index that was, which BM25 is asked for by name.
_GONE = {"42P01", "42704"}
_INTERNAL = "XX"
# What pg_textsearch says where another BM25 index on the column came between.
_ANOTHER_INDEX = "42809"
_IN_SQL = (
    "collection %r has no BM25 index: scores are computed in SQL, which takes longer. Where "
    "pg_textsearch was missing, install it, then run SELECT adopt_extensions() and "
    "Collections(database).build_indexes(%r)"
)
_FULL_TEXT = (
    "collection %r has no index of its words (yet): they are ranked by PostgreSQL's full-text "
    "search instead, which reads every chunk. Collections(database).build_indexes(%r) builds one"
)


class Target:
    """A collection as flows see it: looked up once, made when the first vectors come.

    Args:
        spec: The collection's name, and its settings should it have to be made.
        strict: Whether the host gave those settings, so that a collection that has others is an
            error.
    """

    def __init__(self, spec: CollectionSpec, *, strict: bool) -> None:
        self.spec = spec
        self._strict = strict
        self._known: Collection | None = None
        self._accepted: int | None = None
        self._checked_at = 0.0
        self._said: str | None = None
        self._broken_since = -RECHECK_SECONDS

    @property
    def collection(self) -> Collection | None:
        """The collection as last seen, or None before the first look."""
        return self._known

    def existing(self) -> Flow[Collection]:
        """The collection as it is now, which must be there."""
        collection = yield from self._look()
        if collection is None:
            raise NotFound(f"there is no collection {self.spec.name!r}")
        return collection

    def made(self) -> Flow[Collection]:
        """The collection as it is now; where there is none, one for vectors as the model's are."""
        collection = yield from self._look()
        if collection is None:
            vector = as_vector((yield EmbedQuery("dimensions")))
            collection = yield from self._ensure(len(vector))
        return collection

    def _query(self, make: Callable[[Collection], Op[T]]) -> Flow[T | None]:
        """Run an operation on the collection; None where there is none."""
        return self._on(self._resolve, make)

    def _on(
        self, find: Callable[[], Flow[Collection | None]], make: Callable[[Collection], Op[T]]
    ) -> Flow[T | None]:
        """Run an operation; where the collection is another by now, on that."""

        def work(collection: Collection) -> Flow[T]:
            return (yield make(collection))  # type: ignore[no-any-return]  # the driver sends a T

        return (yield from self._through(find, work))

    def _through(
        self,
        find: Callable[[], Flow[Collection | None]],
        work: Callable[[Collection], Flow[T]],
    ) -> Flow[T | None]:
        """Go through a flow; where the collection is another by now, again with that."""
        left: Collection | None = None
        reason: Exception | None = None
        stayed = False
        for _ in range(ATTEMPTS):
            collection = yield from find()
            if collection is None:
                return None
            stayed = collection == left
            try:
                return (yield from work(collection))
            except DimensionMismatch as error:
                if stayed:
                    raise
                reason = error
            except DatabaseError as error:
                if error.sqlstate not in _GONE:
                    raise
                reason = error
            self._known, left = None, collection
        if stayed and reason:  # an index of its, then, that is missing for good
            raise reason
        raise NotFound(
            f"collection {self.spec.name!r} was dropped or exchanged while it was being used, "
            f"{ATTEMPTS} times in a row"
        ) from reason

    def _resolve(self) -> Flow[Collection | None]:
        known = self._known
        if known is None or self._age() > (RECHECK_SECONDS if degraded(known) else REREAD_SECONDS):
            known = yield from self._look()
        return known

    def _look(self) -> Flow[Collection | None]:
        found: Collection | None = yield get_collection(self.spec.name)
        if found is None:
            self._known = None
        else:
            self._accept(found)
        return found

    def _ensure(self, dimensions: int) -> Flow[Collection]:
        collection = yield from self._resolve()
        if collection is None:
            self.spec.check_dimensions(dimensions)
            collection = yield ensure_collection(self.spec, dimensions)
            self._accept(collection)
        return collection

    def _accept(self, collection: Collection) -> None:
        if self._strict:
            collection.check_matches(self.spec)
        if collection.id != self._accepted:
            self._check_model(collection)
        self._accepted = collection.id
        self._known, self._checked_at = collection, time.monotonic()

    def _check_model(self, collection: Collection) -> None:
        """Say where names of models differ, which may mean little; unless it was just exchanged."""
        model, stored = self.spec.embedding_model, collection.embedding_model
        if not collection.is_of_another_model(model):
            return
        if self._accepted is not None:
            raise CollectionMismatch(
                f"collection {collection.name!r} is another one by now, filled by embedding model "
                f"{stored!r}; this store embeds with {model!r}: make a new one with that model"
            )
        logger.warning(
            "collection %r was filled by embedding model %r and is now used with %r",
            collection.name,
            stored,
            model,
        )

    def _age(self) -> float:
        return time.monotonic() - self._checked_at

    def _with_words(self, make: Callable[[Collection], Op[list[R]]]) -> Flow[list[R]]:
        """A search that needs the lexical index, which may be missing, or turn out broken."""
        search = partial(self._query, lambda c: make(self._noticed(c)))
        return (yield from self._without_broken(search)) or []

    def _without_broken(self, work: Callable[[], Flow[T]]) -> Flow[T]:
        """What may read the lexical index; without it where that turns out broken."""
        try:
            return (yield from work())
        except DatabaseError as error:
            if not (error.sqlstate or "").startswith((_INTERNAL, _ANOTHER_INDEX)):
                raise
            self._broken_since = time.monotonic()
            logger.error(  # noqa: TRY400 - the message is all; SQL has no place in a log
                "the BM25 index of %r can't be used (%s): ranking words by full-text search "
                "instead. Collections(database).reindex(%r) heals it",
                self.spec.name,
                error,
                self.spec.name,
            )
        return (yield from work())

    def _noticed(self, collection: Collection) -> Collection:
        if time.monotonic() - self._broken_since < RECHECK_SECONDS:
            return replace(collection, lexical="fts")
        if collection.lexical != self._said:
            self._said = collection.lexical
            if self._said == "words":
                logger.info(_IN_SQL, collection.name, collection.name)
            elif self._said == "fts":
                logger.warning(_FULL_TEXT, collection.name, collection.name)
        return collection


def degraded(collection: Collection) -> bool:
    """Whether an index is missing that somebody may build at any time."""
    return collection.lexical == "fts" or (
        collection.index != "none" and not collection.vector_index
    )

"""What a vector store does, as flows: the logic that its sync and async methods share."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Any

from a2rchi_pg import _chunks, _inspection
from a2rchi_pg._arguments import many, string, whole
from a2rchi_pg._chunks import Batch
from a2rchi_pg._content import clean_text, plain_metadata, wanted_ids
from a2rchi_pg._filters import Condition, compile_filter
from a2rchi_pg._flow import EmbedTexts, Flow
from a2rchi_pg._indexes import build_indexes, drop_indexes
from a2rchi_pg._searches import Searches
from a2rchi_pg._vectors import Vector, answered, as_matrix
from a2rchi_pg.collections import Collection, CollectionSpec, calibrate
from a2rchi_pg.errors import (
    DatabaseError,
    DimensionMismatch,
    InvalidInput,
    NotFound,
    NotInTransaction,
    PartialWrite,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from a2rchi_pg._inspection import MetadataField
    from a2rchi_pg._op import Op
    from a2rchi_pg._options import SearchOptions
    from a2rchi_pg._records import Record

logger = logging.getLogger("a2rchi_pg.store")

DEFAULT_BATCH = 500
LARGE_LOAD = 5_000  # texts, from which a load may be worth building the indexes anew


class Store(Searches):
    """What a vector store does with its collection."""

    def __init__(self, spec: CollectionSpec, *, strict: bool) -> None:
        super().__init__(spec, strict=strict)
        self._built_for: int | None = None  # the collection whose indexes were seen to
        self._added = 0
        self._calibrated_rows = 0

    # -- in -----------------------------------------------------------------------------------

    def add(self, given: Iterable[Record], document_id: int | None) -> Flow[list[str]]:
        """Embed and store everything in one transaction; the ids in the order given."""
        everything = list(given)
        latest = list({record.id: record for record in everything}.values())
        batches = yield from self._embed(latest)
        made_way = yield from self._make_way(len(latest))
        try:
            yield from self._write(batches, document_id)
        except Exception:
            if made_way:
                yield from self._build(self.spec.name)
            raise
        yield from self.finish(len(latest))
        return [record.id for record in everything]

    def add_stream(
        self, given: Iterable[Record], batch_size: int, document_id: int | None
    ) -> Flow[list[str]]:
        """Embed and store batch by batch, one transaction each, in bounded memory."""
        source, stored = iter(given), list[str]()
        try:
            while ids := (yield from self.add_next(source, batch_size, document_id)):
                stored += ids
        except Exception as error:
            if not stored:
                raise
            raise PartialWrite(
                f"stopped after {len(stored)} texts were stored: {error}", ids=stored
            ) from error
        yield from self.finish(len(stored))
        return stored

    def add_next(
        self, source: Iterator[Record], batch_size: int, document_id: int | None
    ) -> Flow[list[str]]:
        """Embed and store the next batch in one transaction; its ids, none at the stream's end."""
        batch = list(islice(source, batch_size))
        latest = list({record.id: record for record in batch}.values())
        yield from self._write((yield from self._embed(latest)), document_id)
        return [record.id for record in batch]

    def _embed(self, latest: list[Record]) -> Flow[list[Batch]]:
        source, batches = iter(latest), list[Batch]()
        if latest:  # the model is asked only where its answer can be stored
            yield from self._resolve()
        while part := list(islice(source, DEFAULT_BATCH)):
            batches += [(yield from self._embedded(part))]
        return batches

    def _make_way(self, count: int) -> Flow[bool]:
        """Drop the indexes before so many rows come that building them anew is the faster way."""
        known = yield from self._resolve()
        if known is None or count < max(LARGE_LOAD, known.rows):
            return False
        if not known.vector_index and known.lexical == "fts":
            return False
        try:
            if not (yield from self._query(lambda c: drop_indexes(c.name))):
                return False
        except NotInTransaction:  # the host's own, which may yet roll back
            return False
        logger.info("loading %d texts into %r, then building its indexes", count, known.name)
        self._known = self._built_for = None
        return True

    def finish(self, added: int) -> Flow[None]:
        """What rows that came in make due: indexes that are missing, and another sample."""
        known = self._known
        if not added or known is None:
            return
        missing = known.index != "none" and not known.vector_index
        if (missing or self._built_for != known.id) and (yield from self._build(known.name)):
            self._built_for = known.id
        self._added += added
        sampled = max(known.calibrated_rows, self._calibrated_rows)
        if self._added >= sampled or known.rows >= 2 * sampled:  # others may have added more
            yield from self._calibrate(known)

    def _calibrate(self, known: Collection) -> Flow[None]:
        """Take another sample; as for indexes, a failure says nothing of the rows."""
        try:
            rows = (yield from self._query(lambda c: calibrate(c.name))) or 0
        except DatabaseError as error:
            logger.error(  # noqa: TRY400 - the message is all; SQL has no place in a log
                "the rows are stored in %r, but sampling them for hybrid search failed (%s)",
                known.name,
                error,
            )
        else:
            self._added, self._calibrated_rows = 0, max(rows, known.rows)

    def _build(self, name: str) -> Flow[bool]:
        """Build what is missing; a failure is no reason to say that the rows are not in."""
        try:
            if (yield from build_indexes(name)):
                self._known = None
        except NotFound:  # somebody dropped it, rows and all
            self._known = None
            return False
        except DatabaseError as error:
            logger.error(  # noqa: TRY400 - the message is all; SQL has no place in a log
                "the rows are stored in %r, but building its indexes failed (%s): until "
                "Collections(database).build_indexes(%r) succeeds, search is exact and slow",
                name,
                error,
                name,
            )
            return False
        return True

    def _embedded(self, part: Sequence[Record]) -> Flow[Batch]:
        contents = [record.content for record in part]
        vectors: Any = [record.vector for record in part]
        if any(vector is None for vector in vectors):
            matrix = self._answered((yield EmbedTexts(contents)), len(part))
        else:
            matrix = as_matrix(vectors, halves=self._halves)
        return Batch(
            ids=[record.id for record in part],
            contents=contents,
            metadatas=[record.metadata for record in part],
            vectors=matrix,
        )

    def _answered(self, answer: Any, count: int) -> Vector:
        return answered(answer, count, self.spec.embedding_model, halves=self._halves)

    @property
    def _halves(self) -> bool:
        return (self._known or self.spec).element == "halfvec"

    def _write(self, batches: list[Batch], document_id: int | None) -> Flow[None]:
        if not batches:
            return
        lengths = {batch.vectors.shape[1] for batch in batches}
        if len(lengths) > 1:
            raise InvalidInput(f"vectors must have one length; got lengths {sorted(lengths)}")
        (dimensions,) = lengths

        def upsert(collection: Collection) -> Op[None]:
            _check_dimensions(collection, dimensions)
            return _chunks.upsert_chunks(collection, batches, document_id)

        yield from self._on(lambda: self._ensure(dimensions), upsert)

    def delete(self, condition: Condition) -> Flow[int]:
        """Delete every chunk that meets a condition; how many there were."""
        return (yield from self._query(lambda c: _chunks.delete_where(c, condition))) or 0

    # -- out ----------------------------------------------------------------------------------

    def get(self, ids: Sequence[str]) -> Flow[list[tuple[str, str, dict[str, Any]]]]:
        """The chunks with these ids, in the order of the ids; missing ones are left out."""
        wanted = wanted_ids(ids)
        rows = (yield from self._query(lambda c: _chunks.get_by_ids(c, wanted))) or []
        found = {row[0]: row for row in rows}
        return [found[id_] for id_ in dict.fromkeys(wanted) if id_ in found]

    def count(self, filter: Mapping[str, Any] | None) -> Flow[int]:  # noqa: A002 - LangChain's name
        """How many chunks meet the filter."""
        condition = compile_filter(filter)
        return (yield from self._query(lambda c: _chunks.count(c, condition))) or 0

    # -- without a question -------------------------------------------------------------------

    def fields(self) -> Flow[list[MetadataField]]:
        """The metadata's top-level keys and types."""
        return (yield from self._query(_inspection.metadata_fields)) or []

    def values(self, key: str, limit: int, options: SearchOptions) -> Flow[list[tuple[Any, int]]]:
        """The commonest values of a key."""
        wanted, most = clean_text(string(key, "key")), whole(limit, "limit")
        found = yield from self._query(
            lambda c: _inspection.metadata_values(c, wanted, most, options.condition)
        )
        return found or []

    def page(
        self, options: SearchOptions, limit: int, after: str | None
    ) -> Flow[list[tuple[str, str, dict[str, Any]]]]:
        """Chunks in the order of their ids, from behind ``after`` on."""
        most = whole(limit, "limit")
        last = None if after is None else clean_text(string(after, "after"))
        found = yield from self._query(lambda c: _inspection.page(c, options.condition, most, last))
        return found or []

    def update_metadata(
        self, patch: Mapping[str, Any], remove: Sequence[str], condition: Condition
    ) -> Flow[int]:
        """Merge into the metadata of the chunks that meet a condition; how many there were."""
        plain = plain_metadata(patch, "patch")
        gone = [
            clean_text(string(key, "a key of remove")) for key in many(remove, "remove", "keys")
        ]
        changed = yield from self._query(
            lambda c: _inspection.update_metadata(c, plain, gone, condition)
        )
        return changed or 0


def _check_dimensions(collection: Collection, got: int) -> None:
    if got != collection.dimensions:
        raise DimensionMismatch(
            f"collection {collection.name!r} holds vectors of {collection.dimensions} dimensions, "
            f"got {got}",
            expected=collection.dimensions,
            got=got,
        )

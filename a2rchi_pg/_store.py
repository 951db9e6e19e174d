"""What a vector store does, as flows: the logic that its sync and async methods share."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from a2rchi_pg import _chunks, _search
from a2rchi_pg._chunks import Batch
from a2rchi_pg._content import clean_text, wanted_ids
from a2rchi_pg._filters import Condition, compile_filter
from a2rchi_pg._flow import EmbedQuery, EmbedTexts, Flow
from a2rchi_pg._scores import diversify
from a2rchi_pg._vectors import Vector, as_matrix, as_vector
from a2rchi_pg.collections import (
    Collection,
    CollectionSpec,
    build_indexes,
    calibrate,
    ensure_collection,
    get_collection,
)
from a2rchi_pg.errors import (
    DatabaseError,
    DimensionMismatch,
    InvalidInput,
    NotFound,
    PartialWrite,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from a2rchi_pg._fusion import Fusion
    from a2rchi_pg._op import Op
    from a2rchi_pg._records import Record
    from a2rchi_pg._search import Hit, HybridRow

logger = logging.getLogger("a2rchi_pg.store")

T = TypeVar("T")

DEFAULT_BATCH = 500
RECHECK_SECONDS = 30.0
_UNDEFINED_TABLE = "42P01"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """What narrows a search and how hard it looks."""

    condition: Condition
    ef_search: int | None


def search_options(
    filter: Mapping[str, Any] | None,  # noqa: A002 - LangChain's name
    ef_search: int | None = None,
) -> SearchOptions:
    """Check and compile a search's options.

    Raises:
        FilterError: If the filter can't be understood.
        InvalidInput: If ``ef_search`` isn't between 1 and 1,000.
    """
    if ef_search is not None and not 1 <= ef_search <= _search.MAX_EF_SEARCH:
        raise InvalidInput(f"ef_search must be between 1 and 1000, got {ef_search!r}")
    return SearchOptions(condition=compile_filter(filter), ef_search=ef_search)


def check_k(k: object, name: str = "k") -> int:
    """``k``, which must be a whole number of at least 0."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 0:
        raise InvalidInput(f"{name} must be a whole number of at least 0, got {k!r}")
    return int(k)


class Store:
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
        self._checked_at = 0.0
        self._said_fts = False
        self._added = 0
        self._calibrated_rows = 0

    @property
    def collection(self) -> Collection | None:
        """The collection as last seen, or None before the first look."""
        return self._known

    # -- in -----------------------------------------------------------------------------------

    def add(self, given: Iterable[Record], document_id: int | None) -> Flow[list[str]]:
        """Embed and store everything in one transaction; the ids in the order given."""
        everything = list(given)
        latest = iter({record.id: record for record in everything}.values())
        batches: list[Batch] = []
        while part := list(islice(latest, DEFAULT_BATCH)):
            batches += [(yield from self._embedded(part))]
        yield from self._write(batches, document_id)
        return [record.id for record in everything]

    def add_stream(
        self, given: Iterable[Record], batch_size: int, document_id: int | None
    ) -> Flow[list[str]]:
        """Embed and store batch by batch, one transaction each, in bounded memory."""
        source, stored = iter(given), list[str]()
        try:
            while batch := list(islice(source, batch_size)):
                stored += yield from self.add(batch, document_id)
        except Exception as error:
            if not stored:
                raise
            raise PartialWrite(
                f"stopped after {len(stored)} texts were stored: {error}", ids=stored
            ) from error
        return stored

    def _embedded(self, part: Sequence[Record]) -> Flow[Batch]:
        vectors: Any = [record.vector for record in part]
        if any(vector is None for vector in vectors):
            vectors = yield EmbedTexts([record.content for record in part])
        matrix = as_matrix(vectors)
        if len(matrix) != len(part):
            raise InvalidInput(f"the model returned {len(matrix)} vectors for {len(part)} texts")
        return Batch(
            ids=[record.id for record in part],
            contents=[record.content for record in part],
            metadatas=[record.metadata for record in part],
            vectors=matrix,
        )

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
        yield from self._build_late()
        yield from self._calibrate(sum(len(batch.ids) for batch in batches))

    def _build_late(self) -> Flow[None]:
        """IVFFlat is built when there are rows to learn its lists from."""
        known = self._known
        late = known is not None and known.index == "ivfflat" and not known.vector_index
        if late and (yield build_indexes(self.spec.name)):
            self._known = None

    def _calibrate(self, added: int) -> Flow[None]:
        """Sample the collection anew once it may have doubled since it was last sampled."""
        self._added += added
        known = self._known
        if known is not None and self._added >= max(known.calibrated_rows, self._calibrated_rows):
            self._added, self._calibrated_rows = 0, (yield calibrate(self.spec.name))

    def delete(self, ids: Sequence[str]) -> Flow[int]:
        """Delete chunks by id; how many there were."""
        wanted = wanted_ids(ids)
        return (yield from self._query(lambda c: _chunks.delete_by_ids(c, wanted))) or 0

    def delete_where(self, filter: Mapping[str, Any]) -> Flow[int]:  # noqa: A002 - LangChain's name
        """Delete every chunk that meets the filter; how many there were."""
        condition = compile_filter(filter)
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

    def dense(self, query: str | ArrayLike, k: int, options: SearchOptions) -> Flow[list[Hit]]:
        """The nearest chunks with their distances."""
        return (yield from self._dense(query, k, options, with_vectors=False))

    def _dense(
        self, query: str | ArrayLike, k: int, options: SearchOptions, *, with_vectors: bool
    ) -> Flow[list[Any]]:
        if not check_k(k):
            return []
        vector = yield from self._vector(query)
        hits = yield from self._query(
            lambda c: _search.dense(
                c,
                as_vector(vector, c.dimensions),
                k,
                condition=options.condition,
                ef_search=options.ef_search,
                with_vectors=with_vectors,
            )
        )
        return hits or []

    def diverse(
        self,
        query: str | ArrayLike,
        k: int,
        options: SearchOptions,
        *,
        fetch_k: int,
        lambda_mult: float,
    ) -> Flow[list[Hit]]:
        """``k`` of the ``fetch_k`` nearest chunks, chosen to differ from one another."""
        vector = as_vector((yield from self._vector(query)))
        count = max(check_k(fetch_k, "fetch_k"), check_k(k))
        hits = yield from self._dense(vector, count, options, with_vectors=True)
        chosen = diversify(vector, [hit[4] for hit in hits], k, lambda_mult) if k else []
        return [hits[position][:4] for position in chosen]

    def bm25(self, query: str, k: int, options: SearchOptions) -> Flow[list[Hit]]:
        """The best chunks for the words of the query, with their scores."""
        if not check_k(k):
            return []
        words = clean_text(query)
        hits = yield from self._query(
            lambda c: _search.lexical(self._noticed(c), words, k, condition=options.condition)
        )
        return hits or []

    def hybrid(
        self, query: str, k: int, options: SearchOptions, fusion: Fusion
    ) -> Flow[list[HybridRow]]:
        """The best chunks of the dense and the lexical ranking together, with fused scores."""
        if not check_k(k):
            return []
        words = clean_text(query)
        vector = yield EmbedQuery(query)
        hits = yield from self._query(
            lambda c: _search.hybrid(
                self._noticed(_fits(c, fusion)),
                as_vector(vector, c.dimensions),
                words,
                k,
                fusion=fusion,
                condition=options.condition,
                ef_search=options.ef_search,
            )
        )
        return hits or []

    # -- the collection -----------------------------------------------------------------------

    def existing(self) -> Flow[Collection]:
        """The collection, which must be there."""
        collection = yield from self._resolve()
        if collection is None:
            raise NotFound(f"there is no collection {self.spec.name!r}")
        return collection

    def _vector(self, query: str | ArrayLike) -> Flow[Vector]:
        if isinstance(query, str):
            return as_vector((yield EmbedQuery(query)))
        return as_vector(query)

    def _query(self, make: Callable[[Collection], Op[T]]) -> Flow[T | None]:
        """Run an operation on the collection; None where there is none."""
        return self._on(self._resolve, make)

    def _on(
        self,
        find: Callable[[], Flow[Collection | None]],
        make: Callable[[Collection], Op[T]],
        *,
        again: bool = True,
    ) -> Flow[T | None]:
        """Run an operation; where the collection is another by now, once more on that."""
        collection = yield from find()
        if collection is None:
            return None
        try:
            return (yield make(collection))  # type: ignore[no-any-return]  # the driver sends a T
        except (DatabaseError, DimensionMismatch) as error:
            if not again or getattr(error, "sqlstate", _UNDEFINED_TABLE) != _UNDEFINED_TABLE:
                raise
        self._known = None
        return (yield from self._on(find, make, again=False))

    def _resolve(self) -> Flow[Collection | None]:
        known = self._known
        if known is None or (_degraded(known) and self._age() > RECHECK_SECONDS):
            known = yield get_collection(self.spec.name)
            if known is not None:
                self._accept(known)
        return known

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
        model, stored = self.spec.embedding_model, collection.embedding_model
        if model and stored and model != stored and self._known is None:
            logger.warning(
                "collection %r was filled by embedding model %r and is now used with %r",
                collection.name,
                stored,
                model,
            )
        self._known, self._checked_at = collection, time.monotonic()

    def _age(self) -> float:
        return time.monotonic() - self._checked_at

    def _noticed(self, collection: Collection) -> Collection:
        if collection.lexical == "fts" and not self._said_fts:
            self._said_fts = True
            logger.warning(
                "collection %r has no BM25 index: words are ranked by PostgreSQL's full-text "
                "search instead. Install pg_textsearch, then run SELECT adopt_extensions() and "
                "Collections(database).build_indexes(%r)",
                collection.name,
                collection.name,
            )
        return collection


def _degraded(collection: Collection) -> bool:
    """Whether an index is missing that somebody may build at any time."""
    return collection.lexical == "fts" or (
        collection.index != "none" and not collection.vector_index
    )


def _fits(collection: Collection, fusion: Fusion) -> Collection:
    if fusion.name == "tm2c2" and collection.metric != "cosine":
        raise InvalidInput(
            "fusion 'tm2c2' needs the metric cosine, which has a least value; collection "
            f"{collection.name!r} has {collection.metric}: use 'calibrated' or 'rrf'"
        )
    return collection


def _check_dimensions(collection: Collection, got: int) -> None:
    if got != collection.dimensions:
        raise DimensionMismatch(
            f"collection {collection.name!r} holds vectors of {collection.dimensions} dimensions, "
            f"got {got}",
            expected=collection.dimensions,
            got=got,
        )

"""What a vector store does, as flows: the logic that its sync and async methods share."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Any, TypeVar

from a2rchi_pg import _chunks, _inspection, _search
from a2rchi_pg._arguments import MAX_ROWS, many, one_of, string
from a2rchi_pg._chunks import Batch
from a2rchi_pg._content import clean_text, plain_metadata, wanted_ids
from a2rchi_pg._explain import Explanation, analysed, explanation
from a2rchi_pg._filters import EVERYTHING, Condition, compile_filter
from a2rchi_pg._flow import EmbedQuery, EmbedTexts, Flow
from a2rchi_pg._options import SearchOptions, check_k
from a2rchi_pg._scope import ALL_SHOWN
from a2rchi_pg._scores import diversify
from a2rchi_pg._target import Target
from a2rchi_pg._vectors import Vector, answered, as_matrix, as_vector
from a2rchi_pg.collections import (
    Collection,
    CollectionSpec,
    build_indexes,
    calibrate,
    drop_indexes,
)
from a2rchi_pg.errors import (
    DatabaseError,
    DimensionMismatch,
    InvalidInput,
    NotInTransaction,
    PartialWrite,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from a2rchi_pg._fusion import Fusion
    from a2rchi_pg._inspection import MetadataField
    from a2rchi_pg._op import Op
    from a2rchi_pg._records import Record
    from a2rchi_pg._scope import Shown
    from a2rchi_pg._search import Hit, HybridRow

logger = logging.getLogger("a2rchi_pg.store")

T = TypeVar("T")

DEFAULT_BATCH = 500
OPPOSITE = 2.0  # the greatest cosine distance
DEEPER = 8  # times as many rows, where deleted ones stand in the way of the lexical index
LARGE_LOAD = 5_000  # texts, from which a load may be worth building the indexes anew


class Store(Target):
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
        yield from self._finish(len(latest))
        return [record.id for record in everything]

    def add_stream(
        self, given: Iterable[Record], batch_size: int, document_id: int | None
    ) -> Flow[list[str]]:
        """Embed and store batch by batch, one transaction each, in bounded memory."""
        source, stored = iter(given), list[str]()
        try:
            while batch := list(islice(source, batch_size)):
                latest = list({record.id: record for record in batch}.values())
                yield from self._write((yield from self._embed(latest)), document_id)
                stored += [record.id for record in batch]
        except Exception as error:
            if not stored:
                raise
            raise PartialWrite(
                f"stopped after {len(stored)} texts were stored: {error}", ids=stored
            ) from error
        yield from self._finish(len(stored))
        return stored

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
        if known is None or count < max(LARGE_LOAD, known.calibrated_rows):
            return False
        if not known.vector_index and known.lexical != "bm25":
            return False
        try:
            yield drop_indexes(known.name)
        except NotInTransaction:  # the host's own, which may yet roll back
            return False
        logger.info("loading %d texts into %r, then building its indexes", count, known.name)
        self._known = self._built_for = None
        return True

    def _finish(self, added: int) -> Flow[None]:
        """What rows that came in make due: indexes that are missing, and another sample."""
        known = self._known
        if not added or known is None:
            return
        missing = known.index != "none" and not known.vector_index
        if (missing or self._built_for != known.id) and (yield from self._build(known.name)):
            self._built_for = known.id
        self._added += added
        if self._added >= max(known.calibrated_rows, self._calibrated_rows):
            self._added, self._calibrated_rows = 0, (yield calibrate(known.name))

    def _build(self, name: str) -> Flow[bool]:
        """Build what is missing; a failure is no reason to say that the rows are not in."""
        try:
            if (yield build_indexes(name)):
                self._known = None
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

    def dense(self, query: str | ArrayLike, k: int, options: SearchOptions) -> Flow[list[Hit]]:
        """The nearest chunks with their distances."""
        return (yield from self._dense(query, k, options, with_vectors=False))

    def _dense(
        self, query: str | ArrayLike, k: int, options: SearchOptions, *, with_vectors: bool
    ) -> Flow[list[Any]]:
        if not (k := check_k(k)):
            return []
        vector = yield from self._vector(query)

        def best(condition: Condition, shown: Shown) -> Flow[list[Any] | None]:
            return self._query(
                lambda c: _search.dense(
                    c,
                    _comparable(c, vector),
                    k,
                    condition=condition,
                    shown=shown,
                    ef_search=options.ef_search,
                    with_vectors=with_vectors,
                )
            )

        hits = yield from _shown(options, best, lambda hits: all(hit[4] for hit in hits))
        return _with_distances(hits)

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
        count = max(check_k(fetch_k, "fetch_k"), check_k(k))
        vector = yield from self._vector(query)
        hits = yield from self._dense(vector, count, options, with_vectors=True)
        chosen = diversify(vector, [hit[5] for hit in hits], k, lambda_mult) if k else []
        return [hits[position][:4] for position in chosen]

    def bm25(self, query: str, k: int, options: SearchOptions) -> Flow[list[Hit]]:
        """The best chunks for the words of the query, with their scores."""
        if not (k := check_k(k)):
            return []
        words = clean_text(string(query, "query"))

        def best(condition: Condition, shown: Shown) -> Flow[list[Any]]:
            def rows(count: int) -> Flow[list[Any]]:
                return self._with_words(
                    lambda c: _search.lexical(c, words, count, condition=condition, shown=shown)
                )

            return _deeper(rows, k, lambda hits: len({hit[0] for hit in hits}) < len(hits))

        hits = yield from _shown(options, best, lambda hits: all(hit[4] for hit in hits))
        return list({hit[0]: hit for hit in hits}.values())[:k]

    def hybrid(
        self, query: str, k: int, options: SearchOptions, fusion: Fusion
    ) -> Flow[list[HybridRow]]:
        """The best chunks of the dense and the lexical ranking together, with fused scores."""
        if not (k := check_k(k)):
            return []
        words = clean_text(string(query, "query"))
        vector = yield from self._vector(query)
        if not vector.any():  # it has no direction; words are all there is
            fusion = replace(fusion, semantic_weight=0.0, bm25_weight=1.0)

        def best(condition: Condition, shown: Shown) -> Flow[list[HybridRow]]:
            def rows(count: int) -> Flow[list[HybridRow]]:
                return self._with_words(
                    lambda c: _search.hybrid(
                        _fits(c, fusion),
                        _comparable(c, vector),
                        words,
                        k,
                        fusion=fusion,
                        condition=condition,
                        shown=shown,
                        ef_search=options.ef_search,
                        words=count,
                    )
                )

            return _deeper(rows, max(fusion.candidates, k), lambda hits: bool(hits[0][8]))

        return (yield from _shown(options, best, lambda hits: bool(hits) and not hits[0][9]))

    # -- without a question -------------------------------------------------------------------

    def fields(self) -> Flow[list[MetadataField]]:
        """The metadata's top-level keys and types."""
        return (yield from self._query(_inspection.metadata_fields)) or []

    def values(self, key: str, limit: int, options: SearchOptions) -> Flow[list[tuple[Any, int]]]:
        """The commonest values of a key."""
        wanted, most = clean_text(string(key, "key")), check_k(limit, "limit")
        found = yield from self._query(
            lambda c: _inspection.metadata_values(c, wanted, most, options.condition)
        )
        return found or []

    def page(
        self, options: SearchOptions, limit: int, after: str | None
    ) -> Flow[list[tuple[str, str, dict[str, Any]]]]:
        """Chunks in the order of their ids, from behind ``after`` on."""
        most = check_k(limit, "limit")
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

    def explain(
        self, query: str, search_type: str, k: int, options: SearchOptions, fusion: Fusion
    ) -> Flow[Explanation]:
        """Run a search under EXPLAIN ANALYZE, and measure the recall of its dense part."""
        one_of(search_type, "search_type", _EXPLAINABLE)
        words, k = clean_text(string(query, "query")), check_k(k)
        condition, shown = _at_first(options)
        collection = self._noticed((yield from self.existing()))
        if search_type == "bm25":
            op: Op[Any] = _search.lexical(collection, words, k, condition=condition, shown=shown)
            return explanation(collection, (yield analysed(op)), None)
        vector = _comparable(collection, (yield from self._vector(query)))
        dense = _search.dense(
            collection,
            vector,
            k,
            condition=condition,
            shown=shown,
            ef_search=options.ef_search,
        )
        op = dense
        if search_type == "hybrid":
            op = _search.hybrid(
                _fits(collection, fusion),
                vector,
                words,
                k,
                fusion=fusion,
                condition=condition,
                shown=shown,
                ef_search=options.ef_search,
            )
        seen = condition if shown is ALL_SHOWN else options.scope.within(condition)
        exact = _search.dense(replace(collection, vector_index=False), vector, k, condition=seen)
        account = yield analysed(op)
        return explanation(collection, account, _recall((yield dense), (yield exact)))

    def _vector(self, query: str | ArrayLike) -> Flow[Vector]:
        if not isinstance(query, str):
            return as_vector(query)
        what = f"the vector of embedding model {self.spec.embedding_model!r}"
        return as_vector((yield EmbedQuery(query)), what=what)


def _shown(
    options: SearchOptions,
    best: Callable[[Condition, Shown], Flow[list[T] | None]],
    enough: Callable[[list[T]], bool],
) -> Flow[list[T]]:
    """The hits that may be shown.

    They are searched for among everything first, which is the faster, as few searches meet
    documents that are hidden: then those are left out. Only where too few remain, or where much is
    ruled out by choice and by filter both, does a search go by what may be shown.
    """
    condition, shown = _at_first(options)
    hits = yield from best(condition, shown)
    if hits is None or shown is ALL_SHOWN or enough(hits):
        return hits or []
    return (yield from best(options.scope.within(condition), ALL_SHOWN)) or []


def _at_first(options: SearchOptions) -> tuple[Condition, Shown]:
    """What a search goes by at first, and what is left out afterwards."""
    if options.scope.personal and options.condition.sql != EVERYTHING.sql:
        return options.scope.within(options.condition), ALL_SHOWN
    return options.condition, options.scope.shown


def _deeper(
    best: Callable[[int], Flow[list[T]]], rows: int, crowded: Callable[[list[T]], bool]
) -> Flow[list[T]]:
    """The hits among the best ``rows`` by words, or among more where rows crowd one another out."""
    hits = yield from best(rows)
    while hits and crowded(hits) and rows < MAX_ROWS:
        rows = min(DEEPER * rows, MAX_ROWS)
        hits = yield from best(rows)
    return hits


_EXPLAINABLE = ("similarity", "bm25", "hybrid")


def _comparable(collection: Collection, vector: Vector) -> Vector:
    return as_vector(vector, collection.dimensions, halves=collection.element == "halfvec")


def _with_distances(hits: list[Any]) -> list[Any]:
    """Hits by cosine of which the last are zero vectors: without direction, so the farthest."""
    if not hits or not isnan(hits[-1][3]):
        return hits
    return [(*hit[:3], OPPOSITE, *hit[4:]) if isnan(hit[3]) else hit for hit in hits]


def _recall(found: list[Hit], exact: list[Hit]) -> float:
    if not exact:
        return 1.0
    return len({hit[0] for hit in found} & {hit[0] for hit in exact}) / len(exact)


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

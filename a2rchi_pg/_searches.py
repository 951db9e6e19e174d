"""Searches of a collection, as flows: dense, by words, both fused; and how they were answered."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from a2rchi_pg import _search
from a2rchi_pg._arguments import MAX_ROWS, one_of, string, whole
from a2rchi_pg._content import clean_text
from a2rchi_pg._explain import Explanation, analysed, explanation
from a2rchi_pg._filters import EVERYTHING, Condition
from a2rchi_pg._flow import EmbedQuery, Flow
from a2rchi_pg._scope import ALL_SHOWN
from a2rchi_pg._scores import diversify, recall
from a2rchi_pg._target import Target
from a2rchi_pg._vectors import Vector, as_vector
from a2rchi_pg.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg._fusion import Fusion
    from a2rchi_pg._op import Op
    from a2rchi_pg._options import SearchOptions
    from a2rchi_pg._scope import Shown
    from a2rchi_pg._search import Hit, HybridRow
    from a2rchi_pg.collections import Collection

T = TypeVar("T")

DEEPER = 8  # times as many rows, where deleted ones stand in the way of the lexical index


class Searches(Target):
    """A collection that is searched."""

    def dense(self, query: str | Vector, k: int, options: SearchOptions) -> Flow[list[Hit]]:
        """The nearest chunks with their distances."""
        return (yield from self._dense(query, k, options, _search.dense))

    def relevant(self, query: str, k: int, options: SearchOptions) -> Flow[list[Hit]]:
        """The nearest chunks with their relevance, by the metric of the collection they are of."""
        return (yield from self._dense(query, k, options, _search.relevant))

    def _dense(
        self,
        query: str | Vector,
        k: int,
        options: SearchOptions,
        search: Callable[..., Op[list[Any]]],
    ) -> Flow[list[Any]]:
        if not (k := whole(k, "k")):
            return []
        vector = yield from self._vector(query)

        def best(condition: Condition, shown: Shown) -> Flow[list[Any] | None]:
            return self._query(
                lambda c: search(
                    c,
                    _comparable(c, vector),
                    k,
                    condition=condition,
                    shown=shown,
                    ef_search=options.ef_search,
                )
            )

        return (yield from _shown(options, best, _all_shown))

    def diverse(
        self,
        query: str | Vector,
        k: int,
        options: SearchOptions,
        *,
        fetch_k: int,
        lambda_mult: float,
    ) -> Flow[list[Hit]]:
        """``k`` of the ``fetch_k`` nearest chunks, chosen to differ from one another."""
        count = max(whole(fetch_k, "fetch_k"), whole(k, "k"))
        vector = yield from self._vector(query)
        with_vectors = partial(_search.dense, with_vectors=True)
        hits = yield from self._dense(vector, count, options, with_vectors)
        chosen = diversify(vector, [hit[5] for hit in hits], k, lambda_mult) if k else []
        return [hits[position][:4] for position in chosen]

    def bm25(self, query: str, k: int, options: SearchOptions) -> Flow[list[Hit]]:
        """The best chunks for the words of the query, with their scores."""
        if not (k := whole(k, "k")):
            return []
        words = clean_text(string(query, "query"))

        def best(condition: Condition, shown: Shown) -> Flow[list[Any]]:
            def rows(count: int) -> Flow[list[Any]]:
                return self._with_words(
                    lambda c: _search.lexical(c, words, count, condition=condition, shown=shown)
                )

            return _deeper(rows, k, lambda hits: len({hit[0] for hit in hits}) < len(hits))

        hits = yield from _shown(options, best, _all_shown)
        return list({hit[0]: hit for hit in hits}.values())[:k]

    def hybrid(
        self, query: str, k: int, options: SearchOptions, fusion: Fusion
    ) -> Flow[list[HybridRow]]:
        """The best chunks of the dense and the lexical ranking together, with fused scores."""
        if not (k := whole(k, "k")):
            return []
        words = clean_text(string(query, "query"))
        vector = yield from self._vector(query)

        def best(condition: Condition, shown: Shown) -> Flow[list[HybridRow]]:
            def rows(count: int) -> Flow[list[HybridRow]]:
                return self._with_words(
                    lambda c: _search.hybrid(
                        c,
                        _comparable(c, vector),
                        words,
                        k,
                        fusion=_fitting(c, fusion, vector),
                        condition=condition,
                        shown=shown,
                        ef_search=options.ef_search,
                        words=count,
                    )
                )

            return _deeper(rows, max(fusion.candidates, k), lambda hits: bool(hits[0][8]))

        return (yield from _shown(options, best, bool))

    def explain(
        self, query: str, search_type: str, k: int, options: SearchOptions, fusion: Fusion
    ) -> Flow[Explanation]:
        """Run a search under EXPLAIN ANALYZE, and measure the recall of its dense part."""
        one_of(search_type, "search_type", _EXPLAINABLE)
        words, k = clean_text(string(query, "query")), whole(k, "k", 1)
        yield from self.existing()
        vector = None if search_type == "bm25" else (yield from self._vector(query))
        fused = fusion if search_type == "hybrid" else None
        account = partial(
            self._through,
            self._resolve,
            lambda c: _explained(self._noticed(c), words, vector, k, options, fused),
        )
        explained = yield from self._without_broken(account)
        if explained is None:
            raise NotFound(f"there is no collection {self.spec.name!r}")
        return explained

    def _vector(self, query: str | Vector) -> Flow[Vector]:
        if not isinstance(query, str):
            return query
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


def _all_shown(hits: list[Any]) -> bool:
    return all(hit[4] for hit in hits)


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
    halves = collection.element == "halfvec"
    if len(vector) == collection.dimensions and not halves:
        return vector
    return as_vector(vector, collection.dimensions, halves=halves)


def _explained(
    collection: Collection,
    words: str,
    vector: Vector | None,
    k: int,
    options: SearchOptions,
    fusion: Fusion | None,
) -> Flow[Explanation]:
    """An account of a search by words, by a vector, or by both where they are to be fused."""
    if vector is None:
        by_words = partial(_search.lexical, collection, words, k)
        lexical = yield from _answering(options, by_words, _all_shown)
        return explanation(collection, (yield analysed(lexical)), None)
    vector, effort = _comparable(collection, vector), options.ef_search
    near = partial(_search.dense, collection, vector, k, ef_search=effort)
    dense = yield from _answering(options, near, _all_shown)
    op: Op[Any] = dense
    if fusion is not None:
        fused = partial(_search.hybrid, collection, vector, words, k, ef_search=effort)
        fitting = _fitting(collection, fusion, vector)
        op = yield from _answering(options, partial(fused, fusion=fitting), bool)
    exact = _search.dense(
        replace(collection, vector_index=False),
        vector,
        k,
        condition=options.scope.within(options.condition),
    )
    account = yield analysed(op)
    return explanation(collection, account, recall((yield dense), (yield exact)))


def _answering(
    options: SearchOptions, search: Callable[..., Op[list[T]]], enough: Callable[[list[T]], bool]
) -> Flow[Op[list[T]]]:
    """The operation that a search is answered by: see :func:`_shown`."""
    condition, shown = _at_first(options)
    first = search(condition=condition, shown=shown)
    if shown is ALL_SHOWN or enough((yield first)):
        return first
    return search(condition=options.scope.within(condition), shown=ALL_SHOWN)


def _fitting(collection: Collection, fusion: Fusion, vector: Vector) -> Fusion:
    """The fusion, by words alone where no vector is nearer than another to this one."""
    if fusion.name == "tm2c2" and collection.metric != "cosine":
        raise InvalidInput(
            "fusion 'tm2c2' needs the metric cosine, which has a least value; collection "
            f"{collection.name!r} has {collection.metric}: use 'calibrated' or 'rrf'"
        )
    if collection.metric != "l2" and not vector.any():
        return replace(fusion, semantic_weight=0.0, bm25_weight=1.0)
    return fusion

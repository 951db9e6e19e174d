"""Measuring the vector index against exact search, to know how hard searches have to look."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from a2rchi_pg import _search
from a2rchi_pg._chunks import rendered
from a2rchi_pg._maintenance import existing
from a2rchi_pg._op import Steps, fetch_tuples, fetch_value, read, write
from a2rchi_pg._scores import recall, within
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._search import Hit
    from a2rchi_pg._vectors import Vector
    from a2rchi_pg.collections import Collection

logger = logging.getLogger("a2rchi_pg.collections")

EFFORTS = {
    "hnsw": (40, 64, 100, 150, 200, 400, 800),
    "ivfflat": (1, 2, 4, 8, 16, 32, 64, 128, 256),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What searching with one ``ef_search`` brings and costs.

    Attributes:
        ef_search: HNSW's ``ef_search``, or IVFFlat's ``probes``.
        recall: Share of the exact nearest chunks that were found, on average.
        milliseconds: Median time of a search, with its round trip.
    """

    ef_search: int
    recall: float
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How good searches are as they are set.

    Attributes:
        recall: Share of the exact nearest chunks that were found, on average.
        sampled: Chunks that were searched for.
        crowded: How many of them have so many equals that these are all that is nearest.
    """

    recall: float
    sampled: int
    crowded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What :meth:`Collections.tune` measured and chose.

    Attributes:
        ef_search: The least that reaches the target, or the most there is where none does.
        recall: Its recall.
        reached: Whether that is the target.
        trials: Everything measured, by ``ef_search``.
        sampled: Chunks that were searched for.
    """

    ef_search: int
    recall: float
    reached: bool
    trials: tuple[Trial, ...]
    sampled: int


def tune(name: str, target_recall: float, k: int, sample: int) -> Flow[Tuning]:
    """Measure the vector index against exact search, and record what reaches the target."""
    collection = yield from existing(name)
    if not collection.vector_index:
        raise InvalidInput(f"collection {name!r} has no vector index: its searches are exact")
    exact = replace(collection, vector_index=False)
    probes = yield sampled_vectors(collection, sample)
    if not probes:
        raise InvalidInput(f"collection {name!r} is empty")
    truth = []
    for id_, vector in probes:
        truth.append(_others((yield _search.dense(exact, vector, k + 1)), id_, k))
    trials = list[Trial]()
    for effort in EFFORTS[collection.index]:
        trials += [(yield from _trial(collection, effort, probes, truth))]
    chosen = _choice(trials, target_recall, probes)
    if not chosen.reached:
        logger.warning(
            "no ef_search reaches a recall of %s in %r: the best is %.3f",
            target_recall,
            name,
            chosen.recall,
        )
    yield set_effort(name, chosen.ef_search)
    return chosen


def measured_recall(collection: Collection, k: int, sample: int) -> Flow[Measured | None]:
    """What share of the ``k`` nearest searches find as they are set; None where it is empty."""
    exact = replace(collection, vector_index=False)
    indexed = replace(collection, rows=0)
    shares, crowded = list[float](), 0
    for id_, vector in (yield sampled_vectors(collection, sample)):
        nearest = _others((yield _search.dense(exact, vector, k + 1)), id_, k)
        hits = yield _search.dense(indexed, vector, len(nearest) + 1)
        shares.append(recall(_others(hits, id_, len(nearest)), nearest))
        crowded += bool(nearest) and within(nearest, nearest[0]) == k
    if not shares:
        return None
    return Measured(recall=statistics.fmean(shares), sampled=len(shares), crowded=crowded)


def _trial(
    collection: Collection,
    effort: int,
    probes: Sequence[tuple[str, Vector]],
    truth: Sequence[Sequence[Hit]],
) -> Flow[Trial]:
    # Forced: for a k that is a large part of the table, a search would leave the index aside.
    indexed = replace(collection, rows=0)
    shares, times = list[float](), list[float]()
    for (id_, vector), nearest in zip(probes, truth, strict=True):
        before = time.perf_counter()
        hits = yield _search.dense(indexed, vector, len(nearest) + 1, ef_search=effort)
        times.append(1000 * (time.perf_counter() - before))
        shares.append(recall(_others(hits, id_, len(nearest)), nearest))
    return Trial(
        ef_search=effort,
        recall=statistics.fmean(shares),
        milliseconds=statistics.median(times),
    )


def _others(hits: list[Any], id_: str, k: int) -> list[Hit]:
    """The ``k`` nearest but the chunk itself."""
    return [hit for hit in hits if hit[0] != id_][:k]


def _choice(trials: Sequence[Trial], target: float, probes: Sequence[object]) -> Tuning:
    reaching = [trial for trial in trials if trial.recall >= target]
    chosen = reaching[0] if reaching else max(trials, key=lambda trial: trial.recall)
    return Tuning(
        ef_search=chosen.ef_search,
        recall=chosen.recall,
        reached=bool(reaching),
        trials=tuple(trials),
        sampled=len(probes),
    )


@read
def sampled_vectors(collection: Collection, count: int) -> Steps[list[tuple[str, Vector]]]:
    """Some chunks from pages all over the table: about twenty pages or more."""
    query = rendered(
        """
        SELECT id, embedding
        FROM {partition} TABLESAMPLE SYSTEM (
            (SELECT least(100, greatest(2000.0 * %(count)s / greatest(reltuples, 1),
                                        2000.0 / greatest(relpages, 1)))
             FROM pg_class WHERE oid = own_relation(%(partition)s)))
        ORDER BY random()
        LIMIT %(count)s
        """,
        collection,
    )
    return (yield from fetch_tuples(query, count=count, partition=collection.partition))


@write
def set_effort(name: str, effort: int | None) -> Steps[bool]:
    """Record how hard searches look that don't say."""
    query = "SELECT set_collection_effort(%(name)s, %(effort)s)"
    return bool((yield from fetch_value(query, name=name, effort=effort)))

"""How this package's times and memory grow with a collection."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from _common import K, drop_database, percentile, recall, settle, timed
from _data import Dataset
from _memory import filled
from _sides import Model, Ours, ids
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from _data import Question


def growth(dsn: str, sizes: Sequence[int], cache: Path, queries: int) -> list[dict[str, Any]]:
    """Fill a collection of each size from a stream; ask them all, in turn."""
    data = Dataset.made(cache, max(sizes))
    questions = data.questions[:queries]
    rows, stores = [], []
    for size in sizes:
        prefix = f"growth{size}"
        rows.append(filled(Ours.name, dsn, prefix, size, (cache, max(sizes))))
        if "note" in rows[-1]:
            continue
        store = Ours(make_conninfo(dsn, dbname=f"{prefix}_{Ours.base}"), Model())
        store.attach()
        settle(store.dsn)
        stores.append((rows[-1], store, data.head(size)))
    if stores:
        _ask(stores, questions)
    for size in sizes:
        drop_database(dsn, f"growth{size}_{Ours.base}")
    return rows


def _ask(
    stores: Sequence[tuple[dict[str, Any], Ours, Dataset]], questions: Sequence[Question]
) -> None:
    times: list[list[float]] = [[] for _ in stores]
    found: list[list[list[str]]] = [[] for _ in stores]
    for question in [*questions[:20], *questions]:
        for number, (_, side, _) in enumerate(stores):
            ms, hits = timed(side.store.similarity_search_by_vector, question.numbers, K)
            times[number].append(ms)
            found[number].append(ids(hits))
    first = times[0][-len(questions) :]
    for number, (row, side, data) in enumerate(stores):
        mine = times[number][-len(questions) :]
        exact = data.exact(questions)
        pairs = zip(found[number][-len(questions) :], exact, strict=True)
        row["p50_ms"], row["p99_ms"] = median(mine), percentile(mine, 99)
        row["growth"] = median(mine) / median(first)
        row["recall"] = sum(recall(*pair) for pair in pairs) / len(questions)
        side.close()

"""How this package's times and memory grow with a collection, and bare SQL's beside them."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from _common import K, drop_database, percentile, recall, settle, timed
from _data import Dataset
from _floor import Floor
from _memory import filled
from _sides import Model, Ours, Side, ids
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from _data import Question
    from _sides import Search

KINDS: dict[str, Callable[[Side], dict[str, Search]]] = {
    "dense": lambda side: side.searches(),
    "bm25": lambda side: side.words(),
    "hybrid": lambda side: side.hybrids(),
}


def growth(dsn: str, sizes: Sequence[int], cache: Path, queries: int) -> list[dict[str, Any]]:
    """Fill a collection of each size from a stream; ask them all, in turn."""
    data = Dataset.made(cache, max(sizes))
    rows = [filled(Ours.name, dsn, f"growth{size}", size, (cache, max(sizes))) for size in sizes]
    stored = [row for row in rows if "note" not in row]
    ask(dsn, stored, data, data.questions[:queries])
    for size in sizes:
        drop_database(dsn, f"growth{size}_{Ours.base}")
    return rows


def ask(
    dsn: str, rows: Sequence[dict[str, Any]], data: Dataset, questions: Sequence[Question]
) -> None:
    """Put every question to every size, and note beside what was noted of its filling."""
    model = Model()
    model.known(questions)
    ours = [_opened(dsn, row["rows"], model) for row in rows]
    bare = [Floor(side, model) for side in ours]
    for row, side in zip(rows, ours, strict=True):
        row["recall"] = _recall(side, data.head(row["rows"]), questions)
    for kind, ways in KINDS.items():
        searches = [next(iter(ways(side).values())) for side in (*ours, *bare)]
        times = _times(searches, questions)
        for row, mine, floor in zip(rows, times, times[len(ours) :], strict=False):
            row[f"{kind}_p50_ms"], row[f"{kind}_p99_ms"] = median(mine), percentile(mine, 99)
            row[f"{kind}_growth"] = median(mine) / median(times[0])
            row[f"{kind}_bare_growth"] = median(floor) / median(times[len(ours)])
    for side in (*bare, *ours):
        side.close()


def _opened(dsn: str, size: int, model: Model) -> Ours:
    side = Ours(make_conninfo(dsn, dbname=f"growth{size}_{Ours.base}"), model)
    side.attach()
    settle(side.dsn)
    return side


def _recall(side: Ours, data: Dataset, questions: Sequence[Question]) -> float:
    search = side.store.similarity_search_by_vector
    found = [ids(search(question.numbers, K)) for question in questions]
    pairs = zip(found, data.exact(questions), strict=True)
    return sum(recall(*pair) for pair in pairs) / len(questions)


def _times(searches: Sequence[Search], questions: Sequence[Question]) -> list[list[float]]:
    """Milliseconds of each question, which goes to every size in turn; warm."""
    times: list[list[float]] = [[] for _ in searches]
    for question in [*questions[:20], *questions]:
        for mine, search in zip(times, searches, strict=True):
            mine.append(timed(search, question)[0])
    return [mine[-len(questions) :] for mine in times]

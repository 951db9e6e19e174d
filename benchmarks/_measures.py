"""What is measured, each as rows of a table; sides take turns, so that drift slows all alike."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
from contextlib import AsyncExitStack
from statistics import mean, median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from _common import percentile, recall, timed
from _data import FLAGS
from _sides import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _data import Dataset, Question
    from _sides import AsyncSearch, Search, Side

    Row = dict[str, Any]
    Ways = dict[tuple[str, str], Search]

logger = logging.getLogger("benchmarks")
WARM_UP = 20


def ingest(side: Side, data: Dataset) -> Row:
    """Fill a side, from an empty store to one that can be searched by its indexes."""
    gc.collect()
    load, _ = timed(side.load, data)
    index, _ = timed(side.index)
    side.settle()
    seconds = (load + index) / 1000
    return {
        "side": side.name,
        "seconds": seconds,
        "load_seconds": load / 1000,
        "index_seconds": index / 1000,
        "rows_per_second": data.rows / seconds,
    }


def ways(
    sides: Sequence[Side], kind: Callable[[Side], dict[str, Search]]
) -> tuple[Ways, list[Row]]:
    """Every way of asking that the sides have, and what the others say."""
    found: Ways = {}
    missing: list[Row] = []
    for side in sides:
        try:
            found |= {(side.name, how): search for how, search in kind(side).items()}
        except Unsupported as reason:
            missing.append({"side": side.name, "note": str(reason)})
    return found, missing


def compare(
    found: Ways, questions: Sequence[Question], exact: Sequence[Sequence[str]]
) -> list[Row]:
    """Ask everybody every question, in an order drawn anew each time.

    Whoever is asked answers another question first, so that what the one before left in the
    processor's caches, or threw out of them, falls on nobody.
    """
    answers: dict[tuple[str, str], list[tuple[float, list[str]]]] = {way: [] for way in found}
    failed: dict[tuple[str, str], str] = {}
    order, chance = list(found), random.Random(1)
    for number, question in enumerate(questions):
        for way in chance.sample(order, len(order)):
            if way not in failed:
                try:
                    for other in questions[:WARM_UP] if number == 0 else (questions[number - 1],):
                        found[way](other)
                    answers[way].append(timed(found[way], question))
                except Exception as error:  # noqa: BLE001 - whatever a peer does is a result
                    failed[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
                    logger.warning("%s: %s", way, error)
    return [
        {"side": way[0], "way": way[1], "note": failed[way]}
        if way in failed
        else _summary(way, answers[way], exact)
        for way in order
    ]


def _summary(
    way: tuple[str, str], answers: Sequence[tuple[float, list[str]]], exact: Sequence[Sequence[str]]
) -> Row:
    times = [ms for ms, _ in answers]
    found = [ids for _, ids in answers]
    return {
        "side": way[0],
        "way": way[1],
        "p50_ms": median(times),
        "p99_ms": percentile(times, 99),
        "recall": mean(recall(got, right) for got, right in zip(found, exact, strict=True)),
        "rows": mean(len(got) for got in found),
        "fewest": min(len(got) for got in found),
        "wanted": mean(len(right) for right in exact),
        "times": times,
    }


def with_ratios(rows: list[Row], floor: Row) -> list[Row]:
    """Add how many times the floor each took: question by question, and at the 99th percentile."""
    for row in rows:
        if "times" in row:
            pairs = zip(row["times"], floor["times"], strict=True)
            row["ratio"] = median(mine / bare for mine, bare in pairs)
            row["ratio_p99"] = row["p99_ms"] / floor["p99_ms"]
    return [{key: value for key, value in row.items() if key != "times"} for row in rows]


def search(sides: Sequence[Side], data: Dataset, questions: Sequence[Question]) -> list[Row]:
    """By vector."""
    found, missing = ways(sides, lambda side: side.searches())
    rows = compare(found, questions, data.exact(questions))
    return with_ratios(rows, rows[0]) + missing


def filtered(sides: Sequence[Side], data: Dataset, questions: Sequence[Question]) -> Iterator[Row]:
    """By vector among the rows with a flag; the floor is the fastest bare form that is right."""
    for flag, share in FLAGS.items():
        found, missing = ways(sides, lambda side, flag=flag: side.filtered(flag))  # type: ignore[misc]
        eligible = data.eligible(flag)
        rows = compare(found, questions, data.exact(questions, eligible))
        bare = [row for row in rows if row["side"] == "floor" and row.get("recall", 0) >= 0.95]
        floor = min(bare, key=lambda row: row["p50_ms"])
        for row in with_ratios(rows, floor) + missing:
            yield {"share": share, "eligible": len(eligible), **row}


def worded(
    sides: Sequence[Side], questions: Sequence[Question], kind: Callable[[Side], dict[str, Search]]
) -> list[Row]:
    """By words: recall is the share of the floor's first ten that a side has too."""
    found, missing = ways(sides, kind)
    reference = next(iter(found.values()))
    rows = compare(found, questions, [reference(question) for question in questions])
    for row in rows:
        if "recall" in row:
            row["same"] = row.pop("recall")
    return with_ratios(rows, min(rows[: _bare(rows)], key=lambda row: row["p50_ms"])) + missing


def _bare(rows: Sequence[Row]) -> int:
    return sum(row["side"] == "floor" for row in rows)


def concurrency(
    sides: Sequence[Side], questions: Sequence[Question], seconds: float, rounds: int
) -> list[Row]:
    """Searches a second from 1 to 8 threads, and from 8 tasks of one event loop."""
    rates: dict[tuple[str, str], list[float]] = {}
    notes: dict[tuple[str, str], str] = {}
    workers = {
        (side.name, count): _workers(side, count) for side in sides for count in (1, 2, 4, 8)
    }
    for _ in range(rounds):
        for side in sides:
            for count in (1, 2, 4, 8):
                given = workers[side.name, count]
                key = (side.name, f"{count} threads" if count > 1 else "1 thread")
                _note(rates, notes, key, lambda given=given: _threads(given, questions, seconds))  # type: ignore[misc]
            key = (side.name, "asyncio, 8 tasks")
            _note(
                rates, notes, key, lambda side=side: asyncio.run(_tasks(side, questions, seconds))
            )  # type: ignore[misc]
    return [
        {"side": name, "way": how, "note": notes[name, how]}
        if (name, how) in notes
        else {
            "side": name,
            "way": how,
            "per_second": median(rates[name, how]),
            "ratio": median(
                a / b for a, b in zip(rates[name, how], rates["floor", how], strict=True)
            ),
        }
        for name, how in {**rates, **notes}
    ]


def _note(
    rates: dict[tuple[str, str], list[float]],
    notes: dict[tuple[str, str], str],
    key: tuple[str, str],
    work: Callable[[], float],
) -> None:
    if key in notes:
        return
    try:
        rates.setdefault(key, []).append(work())
    except Exception as error:  # noqa: BLE001 - as above
        notes[key] = str(error).splitlines()[0][:100] or type(error).__name__


def _workers(side: Side, count: int) -> list[Search] | Unsupported:
    try:
        return side.workers(count)
    except Unsupported as reason:
        return reason


def _threads(
    workers: list[Search] | Unsupported, questions: Sequence[Question], seconds: float
) -> float:
    if isinstance(workers, Unsupported):
        raise workers
    for worker in workers:
        worker(questions[0])
    done, errors = [0] * len(workers), list[Exception]()
    start = perf_counter()

    def work(number: int, ask: Search) -> None:
        try:
            while perf_counter() - start < seconds:
                ask(questions[(number * 37 + done[number]) % len(questions)])
                done[number] += 1
        except Exception as error:  # noqa: BLE001 - told to the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(done) / (perf_counter() - start)


async def _tasks(side: Side, questions: Sequence[Question], seconds: float) -> float:
    async with AsyncExitStack() as stack:
        ask: AsyncSearch = await side.coroutine(stack)
        await asyncio.gather(*(ask(questions[number]) for number in range(8)))
        done, start = [0] * 8, perf_counter()

        async def work(number: int) -> None:
            while perf_counter() - start < seconds:
                await ask(questions[(number * 37 + done[number]) % len(questions)])
                done[number] += 1

        await asyncio.gather(*map(work, range(8)))
        return sum(done) / (perf_counter() - start)

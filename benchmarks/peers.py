"""The store against bare psycopg and against other LangChain stores, in one run on one server.

    python benchmarks/peers.py                  20,000 rows: minutes
    python benchmarks/peers.py --rows 100000    longer, and what the project's claims rest on
    python benchmarks/peers.py --full           that, and growth to a million rows

Writes JSON, a table in Markdown and plots to benchmarks/results. What a store does not have, where
it fails, finds fewer rows or the wrong ones stands in the tables beside its times.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import _measures
from _common import CACHE, drop_database, environment
from _data import Dataset
from _floor import Floor, FloorLoad
from _growth import growth
from _memory import filled
from _peers import PEERS
from _sides import Model, Ours, OursList, Side

from a2rchi_pg import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MEASURES = ("ingest", "search", "filtered", "bm25", "hybrid", "concurrency", "memory", "growth")
logger = logging.getLogger("benchmarks")


def fillable() -> dict[str, type[Side]]:
    """Everything that can be filled, by name."""
    kinds: tuple[type[Side], ...] = (FloorLoad, OursList, Ours, *PEERS)
    return {kind.name: kind for kind in kinds}


def main() -> None:
    """Fill every store, measure, and write down what came out."""
    given = options()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    logger.setLevel(logging.INFO)
    warnings.simplefilter("ignore")
    data = Dataset.made(CACHE, given.rows)
    with ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="bench-"))
        server = stack.enter_context(EmbeddedPostgres(directory))
        results: dict[str, Any] = {}
        facts = environment(server.dsn, given.rows)
        model = Model()
        model.known(data.questions)
        sides, results["ingest"] = fill(server.dsn, data, model, stack, given.side)
        results |= measure(sides, data, given)
        for side in sides:
            side.close()
        steps: dict[str, Callable[[], Any]] = {
            "memory": partial(memories, server.dsn, given),
            "growth": partial(growth, server.dsn, given.growth, CACHE, given.queries),
        }
        results |= attempt(steps, given.only)
        facts |= environment(server.dsn, given.rows) | {"load_before": facts["load_before"]}
    write(given.out, given.name or f"peers-{given.rows}", facts, results)


def fill(
    dsn: str, data: Dataset, model: Model, stack: ExitStack, chosen: list[str]
) -> tuple[list[Side], list[dict[str, Any]]]:
    """Make and fill every side, one after the other; those that stay are to be asked."""
    sides: list[Side] = []
    rows: list[dict[str, Any]] = []
    after = floor_again(dsn, model, data)
    for name, kind in fillable().items():
        if kind is FloorLoad or (chosen and name not in {OursList.name, *chosen}):
            continue
        side = kind(dsn, model)
        stack.callback(side.close)
        try:
            side.create()
            row = _measures.ingest(side, data)
            sides.append(side)
        except Exception as error:
            logger.exception("ingest: %s", name)
            row = {"side": name, "note": f"{type(error).__name__}: {str(error)[:100]}"}
        before, after = after, floor_again(dsn, model, data)
        rows.append(row | {"floor_seconds": (before + after) / 2})
        if "seconds" in row:
            rows[-1]["ratio"] = row["seconds"] / rows[-1]["floor_seconds"]
            logger.info("ingest: %s, %.0f s", name, row["seconds"])
    return _to_be_asked(sides, model), rows


def floor_again(dsn: str, model: Model, data: Dataset) -> float:
    """The floor's seconds now: the machine's speed drifts, so they are taken between all others."""
    side = FloorLoad(dsn, model)
    side.create()
    seconds = _measures.ingest(side, data)["seconds"]
    side.close()
    return float(seconds)


def _to_be_asked(sides: list[Side], model: Model) -> list[Side]:
    """The floor asks the table that ours filled from lists; the stream's is done with."""
    by_name = {side.name: side for side in sides}
    ours = by_name.pop(OursList.name)
    assert isinstance(ours, OursList)
    ours.name = "ours"
    by_name.pop(Ours.name, ours)
    return [Floor(ours, model), ours, *by_name.values()]


def measure(sides: list[Side], data: Dataset, given: argparse.Namespace) -> dict[str, Any]:
    """Everything that asks."""
    gc.collect()
    gc.freeze()  # nobody is to wait for the collector to walk through all the others' modules
    questions = data.questions[: given.queries]
    few = questions[: max(30, given.queries // 4)]
    steps: dict[str, Callable[[], Any]] = {
        "search": partial(_measures.search, sides, data, questions),
        "filtered": lambda: list(_measures.filtered(sides, data, few)),
        "bm25": partial(_measures.worded, sides, questions, lambda side: side.words()),
        "hybrid": partial(_measures.worded, sides, questions, lambda side: side.hybrids()),
        "concurrency": partial(_measures.concurrency, sides, questions, given.seconds, 3),
    }
    return attempt(steps, given.only)


def attempt(steps: dict[str, Callable[[], Any]], chosen: Sequence[str]) -> dict[str, Any]:
    """Do those that were chosen; one that fails is no reason to lose the others."""
    found = {}
    for name, step in steps.items():
        if name in chosen:
            logger.info("%s", name)
            try:
                found[name] = step()
            except Exception:
                logger.exception("%s", name)
    return found


def memories(dsn: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The memory that each side's process takes while ingesting."""
    rows = []
    for name, kind in fillable().items():
        if given.side and name not in {"floor", "ours, list", *given.side}:
            continue
        logger.info("memory: %s", name)
        rows.append(filled(name, dsn, "memory", min(given.rows, 10_000), (CACHE, given.rows)))
        drop_database(dsn, f"memory_{kind.base}")
    return rows


def write(out: Path, name: str, facts: dict[str, Any], results: dict[str, Any]) -> None:
    """JSON, Markdown and plots."""
    from _report import markdown  # noqa: PLC0415 - matplotlib only where it is used

    out.mkdir(parents=True, exist_ok=True)
    found = {"environment": facts, "results": results}
    (out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = markdown(facts, results)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
    try:
        from _plots import plots  # noqa: PLC0415
    except ImportError as missing:
        logger.warning("no plots: %s", missing)
    else:
        plots(out, name, results)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, help="rows in every store (20,000; --full: 100,000)")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.7, help="of each concurrent round")
    parser.add_argument("--full", action="store_true", help="100,000 rows, growth to a million")
    parser.add_argument("--growth", type=int, nargs="+", help="collection sizes of ours to compare")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--side", action="append", default=[], help="compare with this peer only")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", help="of the files written")
    given = parser.parse_args()
    given.rows = given.rows or (100_000 if given.full else 20_000)
    given.growth = given.growth or [10_000, 100_000, *([1_000_000] if given.full else [])]
    return given


if __name__ == "__main__":
    main()

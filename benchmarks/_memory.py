"""How much memory a side takes while it is being filled: one fresh process for each.

python benchmarks/_memory.py SIDE DSN PREFIX ROWS CACHE TOTAL    what the parent runs; prints JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _sides import Side


def resident(field: str) -> float:
    """Megabytes: VmRSS now, VmHWM at the most so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def filled(side: str, dsn: str, prefix: str, rows: int, data: tuple[Path, int]) -> dict[str, Any]:
    """Fill a side with so many rows in a process of its own; its database stays."""
    command = [sys.executable, __file__, side, dsn, prefix, str(rows), str(data[0]), str(data[1])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if run.returncode:
        note = (run.stderr.strip().splitlines() or ["failed"])[-1][:100]
        return {"side": side, "rows": rows, "note": note}
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def _measured(
    name: str, dsn: str, prefix: str, rows: int, data: tuple[Path, int]
) -> dict[str, Any]:
    bare = resident("VmRSS")
    from _data import Dataset  # noqa: PLC0415 - what is imported is part of what is measured
    from _sides import Model  # noqa: PLC0415

    side = _kind(name)(dsn, Model())
    side.prefix = prefix
    side.create()
    before = resident("VmRSS")
    start = perf_counter()
    side.load(Dataset.made(*data).head(rows))
    side.index()
    seconds = perf_counter() - start
    side.close()
    peak = resident("VmHWM")
    return {
        "side": name,
        "rows": rows,
        "interpreter_mb": bare,
        "above_interpreter_mb": peak - bare,
        "while_ingesting_mb": peak - before,
        "rows_per_second": rows / seconds,
    }


def _kind(name: str) -> type[Side]:
    """The others' modules are imported only for the others: they are not this package's memory."""
    from _sides import Ours, OursList  # noqa: PLC0415

    if name in (Ours.name, OursList.name):
        return Ours if name == Ours.name else OursList
    from peers import fillable  # noqa: PLC0415

    return fillable()[name]


if __name__ == "__main__":
    name, dsn, prefix, rows, cache, total = sys.argv[1:]
    print(json.dumps(_measured(name, dsn, prefix, int(rows), (Path(cache), int(total)))))

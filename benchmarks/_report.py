"""The results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Row = dict[str, Any]
    Cell = Callable[[Row], str]


def number(key: str, digits: int = 2, unit: str = "") -> Cell:
    """A cell holding a number, or nothing where it wasn't measured."""
    return lambda row: f"{row[key]:,.{digits}f}{unit}" if row.get(key) is not None else ""


def text(key: str) -> Cell:
    return lambda row: str(row.get(key, ""))


def found(row: Row) -> str:
    """Rows returned, on average and at least, of those there were to find."""
    if "rows" not in row:
        return ""
    short = row["fewest"] < min(10, row.get("wanted", 10))
    mean = f"{row['rows']:.1f} of {row.get('wanted', 10):.0f}"
    return f"**{mean}** (least {row['fewest']})" if short else mean


def right(key: str) -> Cell:
    """A recall, in bold where it is bad."""

    def cell(row: Row) -> str:
        value = row.get(key)
        if value is None:
            return ""
        return f"{value:.3f}" if value >= 0.95 else f"**{value:.3f}**"

    return cell


TIMES = {
    "p50 ms": number("p50_ms"),
    "× floor": number("ratio"),
    "p99 ms": number("p99_ms"),
    "p99 × floor": number("ratio_p99"),
}
SECTIONS: dict[str, tuple[str, dict[str, Cell]]] = {
    "ingest": (
        "Ingest into an empty store, indexes included",
        {
            "store": text("side"),
            "rows/s": number("rows_per_second", 0),
            "seconds": number("seconds", 1),
            "of it indexes": number("index_seconds", 1),
            "the floor's": number("floor_seconds", 1),
            "× floor": number("ratio"),
            "note": text("note"),
        },
    ),
    "search": (
        "Search by vector, k = 10",
        {
            "store": text("side"),
            "how": text("way"),
            **TIMES,
            "recall@10": right("recall"),
            "rows": found,
            "note": text("note"),
        },
    ),
    "filtered": (
        "The same under a filter; recall among the eligible rows",
        {
            "filter": lambda row: f"{row['share']:.2%} ({row['eligible']:,})",
            "store": text("side"),
            "how": text("way"),
            "p50 ms": number("p50_ms"),
            "× floor": number("ratio"),
            "recall@10": right("recall"),
            "rows": found,
            "note": text("note"),
        },
    ),
    "bm25": (
        "BM25, k = 10",
        {
            "store": text("side"),
            "how": text("way"),
            **TIMES,
            "as the floor": number("same", 3),
            "rows": number("rows", 1),
            "note": text("note"),
        },
    ),
    "hybrid": (
        "Hybrid search, k = 10, 50 candidates a side",
        {
            "store": text("side"),
            "how": text("way"),
            **TIMES,
            "as the floor": number("same", 3),
            "rows": number("rows", 1),
            "note": text("note"),
        },
    ),
    "concurrency": (
        "Searches a second, by vector, all clients in one process",
        {
            "store": text("side"),
            "clients": text("way"),
            "per second": number("per_second", 0),
            "× floor": number("ratio"),
            "note": text("note"),
        },
    ),
    "memory": (
        "Memory of the client while ingesting",
        {
            "store": text("side"),
            "rows": number("rows", 0),
            "MB above the interpreter": number("above_interpreter_mb", 0),
            "of it while ingesting": number("while_ingesting_mb", 0),
            "note": text("note"),
        },
    ),
    "growth": (
        "Growth of a collection of ours, filled from a stream",
        {
            "rows": number("rows", 0),
            "rows/s": number("rows_per_second", 0),
            "MB above the interpreter": number("above_interpreter_mb", 0),
            "recall@10": right("recall"),
            **{
                f"{kind} {title}": number(f"{kind}_{key}")
                for kind in ("dense", "bm25", "hybrid")
                for title, key in (
                    ("p50 ms", "p50_ms"),
                    ("× smallest", "growth"),
                    ("bare × smallest", "bare_growth"),
                )
            },
            "note": text("note"),
        },
    ),
}


def markdown(facts: Row, results: dict[str, Sequence[Row]]) -> str:
    """Every table, under a line that names the machine."""
    told = ", ".join(f"{key} {value}" for key, value in facts.items() if value is not None)
    parts = [f"# The benchmark against other stores, {facts['rows']:,} rows", told]
    for name, (title, columns) in SECTIONS.items():
        if results.get(name):
            parts += [f"## {title}", table(columns, results[name])]
    return "\n\n".join(parts) + "\n"


def table(columns: dict[str, Cell], rows: Sequence[Row]) -> str:
    """One table; columns that nobody filled are left out."""
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    kept = [place for place in range(len(columns)) if any(row[place] for row in cells)]
    names = list(columns)
    lines = [_line(names[place] for place in kept), _line("---" for _ in kept)]
    lines += [_line(row[place] for place in kept) for row in cells]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"

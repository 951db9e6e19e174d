"""The results as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Row = dict[str, Any]


def plots(out: Path, name: str, results: dict[str, Sequence[Row]]) -> None:
    """One picture for each kind of result that there is."""
    for kind, draw in (
        ("ingest", _ingest),
        ("search", _search),
        ("filtered", _filtered),
        ("concurrency", _concurrency),
    ):
        rows = [row for row in results.get(kind, ()) if not row.get("note")]
        if rows:
            figure = draw(rows)
            figure.savefig(out / f"{name}-{kind}.png", dpi=120, bbox_inches="tight")
            plt.close(figure)


def _ingest(rows: Sequence[Row]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 3))
    bars = axes.barh([row["side"] for row in rows], [row["rows_per_second"] for row in rows])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("rows a second into an empty store, indexes included (more is better)")
    return figure


def _search(rows: Sequence[Row]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 4))
    for row in rows:
        axes.scatter(row["p50_ms"], row["recall"], label=f"{row['side']}, {row['way']}")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel("median milliseconds (less is better)")
    axes.set_ylabel("recall@10")
    return figure


def _filtered(rows: Sequence[Row]) -> Any:
    figure, (times, recalls) = plt.subplots(1, 2, figsize=(12, 4))
    for side, way in dict.fromkeys((row["side"], row["way"]) for row in rows):
        line = [row for row in rows if (row["side"], row["way"]) == (side, way)]
        shares = [row["share"] for row in line]
        times.plot(shares, [row["p50_ms"] for row in line], marker="o", label=f"{side}, {way}")
        recalls.plot(shares, [row["recall"] for row in line], marker="o")
    times.set_yscale("log")
    times.set_ylabel("median milliseconds")
    recalls.set_ylabel("recall@10 among the eligible rows")
    for axes in (times, recalls):
        axes.set_xscale("log")
        axes.set_xlabel("share of the rows that the filter leaves")
    figure.legend(fontsize=7, loc="lower center", ncols=3, bbox_to_anchor=(0.5, -0.2))
    return figure


def _concurrency(rows: Sequence[Row]) -> Any:
    figure, axes = plt.subplots(figsize=(7, 4))
    for side in dict.fromkeys(row["side"] for row in rows):
        line = [row for row in rows if row["side"] == side]
        axes.plot(
            [row["way"] for row in line], [row["per_second"] for row in line], "o-", label=side
        )
    axes.set_ylabel("searches a second")
    axes.legend(fontsize=7)
    return figure

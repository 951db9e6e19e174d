"""How a search was answered: the plan that ran, what it read, how good it was, what would help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from a2rchi_pg._op import Op, Statement, Steps, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from a2rchi_pg.collections import Collection

GOOD_RECALL = 0.95
MANY_ROWS = 10_000
# Functions that search an index of their own accord, and what a collection's is called.
_READ_BY = {"bm25_ranked": "_bm25", "words_ranked": "_fts"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What :meth:`PostgresVectorStore.explain` found out about one search.

    Attributes:
        indexes: Indexes that were read, by name.
        rows_examined: Chunks that were looked at to find the answer.
        milliseconds: Planning and execution on the server, measured.
        recall: Share of the exact nearest chunks that the dense search found, in [0, 1]; None for a
            lexical search.
        advice: What to change, each with its command; empty where all is well.
        plan: PostgreSQL's own account (``EXPLAIN (ANALYZE, FORMAT JSON)``).
    """

    indexes: tuple[str, ...]
    rows_examined: int
    milliseconds: float
    recall: float | None
    advice: tuple[str, ...]
    plan: Mapping[str, Any] = field(repr=False)


@read
def analysed(op: Op[Any]) -> Steps[Mapping[str, Any]]:
    """Run an operation's one statement under EXPLAIN ANALYZE; the plan as it was executed."""
    statement: Statement = next(iter(op))
    query = b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement.query  # type: ignore[operator]
    rows = yield Statement(query=query, params=statement.params)
    return rows[0][0][0]  # type: ignore[no-any-return]  # JSON


def explanation(
    collection: Collection, account: Mapping[str, Any], recall: float | None
) -> Explanation:
    """Read the plan's account."""
    ran = [node for node in _nodes(account["Plan"]) if node["Actual Loops"]]
    scans = [node for node in ran if node.get("Relation Name") == collection.partition]
    indexes = {node["Index Name"] for node in ran if "Index Name" in node}
    called = {node.get("Function Name") for node in ran}
    indexes |= {
        collection.partition + suffix for name, suffix in _READ_BY.items() if name in called
    }
    examined = sum(map(_rows, scans))
    sequential = any("Seq Scan" in node["Node Type"] for node in scans)
    return Explanation(
        indexes=tuple(sorted(indexes)),
        rows_examined=examined,
        milliseconds=account["Planning Time"] + account["Execution Time"],
        recall=recall,
        advice=tuple(_advice(collection, recall, slow=sequential and examined > MANY_ROWS)),
        plan=account,
    )


def _advice(collection: Collection, recall: float | None, *, slow: bool) -> Iterator[str]:
    if collection.index != "none" and not collection.vector_index:
        build = f"Collections(database).build_indexes({collection.name!r})"
        yield f"its vector index is missing: {build}"
    if collection.lexical == "fts":
        yield (
            "the index of its words is missing or broken: Collections(database)"
            f".build_indexes({collection.name!r}) builds it, .reindex({collection.name!r}) mends it"
        )
    if recall is not None and recall < GOOD_RECALL:
        yield (
            f"it found {recall:.0%} of the nearest chunks: pass a higher ef_search, or have "
            f"Collections(database).tune({collection.name!r}) find the one that does"
        )
    if slow:
        yield (
            "it read the whole table: if that is for a filter, declare the field it is on, "
            f"Collections(database).add_field({collection.name!r}, …)"
        )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _rows(node: Mapping[str, Any]) -> int:
    seen = sum(
        node.get(what, 0)
        for what in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    )
    return int(seen * node["Actual Loops"])

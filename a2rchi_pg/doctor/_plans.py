"""Whether searches of large collections read the indexes that were built for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg import _search
from a2rchi_pg._explain import MANY_ROWS, analysed, explanation
from a2rchi_pg._op import Steps, fetch_tuples, read
from a2rchi_pg._tuning import sampled_vectors
from a2rchi_pg.collections import list_collections
from a2rchi_pg.doctor._finding import Finding, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._flow import Flow
    from a2rchi_pg.collections import Collection

K = 10


def plans() -> Flow[list[Finding]]:
    """A search by a vector in every collection, as hosts make it; one by words forces its index."""
    off = yield disabled()
    found = list[Finding]()
    for collection in (yield list_collections()):
        if not collection.vector_index:
            continue
        for _, vector in (yield sampled_vectors(collection, 1)):
            search = _search.dense(collection, vector, K)
            account = explanation(collection, (yield analysed(search)), None)
            index = f"{collection.partition}_embedding"
            if index not in account.indexes and account.rows_examined > MANY_ROWS:
                found.append(_unused(collection, index, account.rows_examined, off))
    return found


def _unused(
    collection: Collection, index: str, rows: int, off: Sequence[tuple[str, str]]
) -> Finding:
    if off:
        seen = f"{', '.join(name for name, _ in off)} is off"
        remedy = " ".join(reset for _, reset in off)
    else:
        seen = "its definition is not what the search asks for, or statistics mislead the planner"
        remedy = (
            f"ANALYZE {identifier(collection.schema, collection.partition)}; or "
            f"DROP INDEX {identifier(collection.schema, index)}; "
            f"SELECT build_collection_indexes({literal(collection.name)});"
        )
    return Finding(
        check="plan",
        severity="warning",
        problem=f"searches of collection {collection.name!r} read all of it, not {index}",
        evidence=f"EXPLAIN ANALYZE shows {rows:,} rows read for {K}; {seen}",
        remedy=remedy,
    )


@read
def disabled() -> Steps[list[tuple[str, str]]]:
    """The planner's ways to an index that this database's sessions go without, and how to reset."""
    query = """
        SELECT name, format('ALTER DATABASE %%I RESET %%I;', current_database(), name)
        FROM pg_settings
        WHERE name IN ('enable_indexscan', 'enable_bitmapscan') AND setting = 'off'
        ORDER BY name
    """
    return [(name, reset) for name, reset in (yield from fetch_tuples(query))]

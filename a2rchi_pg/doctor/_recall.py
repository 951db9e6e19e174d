"""Whether searches find what is nearest, measured against exact search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg._tuning import measured_recall
from a2rchi_pg.collections import list_collections
from a2rchi_pg.doctor._finding import Finding

if TYPE_CHECKING:
    from a2rchi_pg._flow import Flow

K = 10


def recall(sample: int, target: float) -> Flow[list[Finding]]:
    """Every collection with a vector index, searched as hosts search it."""
    found = list[Finding]()
    for collection in (yield list_collections()):
        if not collection.vector_index:
            continue
        share = yield from measured_recall(collection, K, sample)
        if share is not None and share < target:
            found.append(
                Finding(
                    check="recall",
                    severity="warning",
                    problem=f"searches of collection {collection.name!r} miss what is near",
                    evidence=f"recall@{K} is {share:.3f} on {sample} chunks, wanted is {target}",
                    remedy=f"Collections(database).tune({collection.name!r})",
                )
            )
    return found

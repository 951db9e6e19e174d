"""Whether searches find what is nearest, measured against exact search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg._tuning import measured_recall
from a2rchi_pg.collections import list_collections
from a2rchi_pg.doctor._finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._tuning import Measured
    from a2rchi_pg.collections import Collection

K = 10  # an element of HNSW's graph holds as many equal vectors; of more, some may not be reached


def recall(sample: int, target: float) -> Flow[list[Finding]]:
    """Every collection with a vector index, searched as hosts search it."""
    found = list[Finding]()
    for collection in (yield list_collections()):
        if collection.vector_index:
            measured = yield from measured_recall(collection, K, sample)
            if measured is not None:
                found += _about(collection, measured, target)
    return found


def _about(collection: Collection, measured: Measured, target: float) -> Iterator[Finding]:
    if measured.recall < target:
        yield Finding(
            check="recall",
            severity="warning",
            problem=f"searches of collection {collection.name!r} miss what is near",
            evidence=f"recall@{K} is {measured.recall:.3f} on {measured.sampled} chunks, wanted is "
            f"{target}",
            remedy=f"Collections(database).tune({collection.name!r})",
        )
    if measured.crowded and collection.index == "hnsw":
        yield Finding(
            check="equal_vectors",
            severity="note",
            problem=f"collection {collection.name!r} holds texts over and over: of more than {K} "
            "equal vectors HNSW may miss some, or all, however it is tuned",
            evidence=f"{measured.crowded} of {measured.sampled} chunks have more than {K} equals",
            remedy="store each text once: give add_texts ids that follow from the text, or leave "
            "boilerplate out",
        )

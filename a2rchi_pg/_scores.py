"""What distances say: about relevance, about recall, and which of several near chunks to keep."""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from a2rchi_pg._vectors import Vector
    from a2rchi_pg.collections import Metric


def relevance_of(metric: Metric) -> Callable[[float], float]:
    """The map from a distance of ``metric`` to a relevance in [0, 1], higher is better.

    * cosine: the cosine similarity ``1 - d``, what LangChain's own stores return, with opposite
      directions at 0 instead of below it.
    * l2: ``1 / (1 + d)``, which tells distances apart however large they are.
    * inner product: the logistic function of the product, ``1 / (1 + exp(d))``; pgvector's distance
      is the negative product.
    """
    return _RELEVANCE[metric]


def _cosine(distance: float) -> float:
    return min(1.0, max(0.0, 1.0 - distance))


def _l2(distance: float) -> float:
    return 1.0 / (1.0 + distance)


def _inner_product(distance: float) -> float:
    # exp() overflows beyond 709; a product that negative is as irrelevant as 0.
    return 0.0 if distance > 700 else 1.0 / (1.0 + exp(distance))  # noqa: PLR2004 - see above


_RELEVANCE: dict[Metric, Callable[[float], float]] = {
    "cosine": _cosine,
    "l2": _l2,
    "inner_product": _inner_product,
}


def recall(found: Sequence[Any], nearest: Sequence[Any]) -> float:
    """Share of the exact nearest hits that were found.

    By distance, as of chunks equally far any is as good as another.
    """
    return within(found, nearest[-1]) / len(nearest) if nearest else 1.0


def within(hits: Sequence[Any], farthest: Any) -> int:
    """How many hits are no farther than one of them."""
    distance = farthest[3]
    return sum(hit[3] <= distance + _TIE * max(1.0, abs(distance)) for hit in hits)


# Distances come from the same vectors by the same operator; only their last bit may differ.
_TIE = 1e-6


def diversify(query: Vector, vectors: Sequence[Vector], k: int, lambda_mult: float) -> list[int]:
    """Positions of the ``k`` vectors that maximal marginal relevance picks, in its order.

    Each pick maximises ``λ·cos(query, v) - (1 - λ)·max cos(picked, v)`` (Carbonell & Goldstein,
    SIGIR 1998); the first is the nearest. Computed in float32.

    Args:
        query: ``(dim,) float32``.
        vectors: ``n`` of them.
        k: How many to pick at most.
        lambda_mult: 0 (most diverse) to 1 (most relevant).
    """
    if not vectors:
        return []
    units = _unit(np.stack(vectors))
    relevance = units @ _unit(query[np.newaxis])[0]
    redundancy = np.full(len(units), -np.inf, dtype=np.float32)
    picked = [int(np.argmax(relevance))]
    while len(picked) < min(k, len(units)):
        redundancy = np.maximum(redundancy, units @ units[picked[-1]])
        score = lambda_mult * relevance - (1 - lambda_mult) * redundancy
        score[picked] = -np.inf
        picked.append(int(np.argmax(score)))
    return picked[:k]


def _unit(rows: Vector) -> Vector:
    """Rows scaled to length one; a zero row stays zero, similar to nothing."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)

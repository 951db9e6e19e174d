"""Retrieval quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def ndcg(
    rankings: Mapping[str, Sequence[str]], judgements: Mapping[str, Mapping[str, int]], k: int = 10
) -> float:
    """Mean normalised discounted cumulative gain at ``k`` over the queries judged."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    scores = []
    for query, relevant in judgements.items():
        gains = np.array([relevant.get(document, 0) for document in rankings[query][:k]])
        best = np.sort(list(relevant.values()))[::-1][:k]
        scores.append((gains @ discounts[: len(gains)]) / (best @ discounts[: len(best)]))
    return float(np.mean(scores))

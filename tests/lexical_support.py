"""Texts to be found by their words, and what the best of them are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.plugins.stores import ids, scores

WORDS = ["alpha", "beta", "gamma", "delta", "whale", "zebra", "quark", "muon", "boson", "gluon"]


def make_texts(count: int, longest: int = 12) -> list[str]:
    """Texts of one to so many words, some words far rarer than others."""
    random = np.random.default_rng(count)
    weights = np.array([2.0**-n for n in range(len(WORDS))])
    weights /= weights.sum()
    lengths = [random.integers(1, longest + 1) for _ in range(count)]
    return [" ".join(random.choice(WORDS, length, p=weights)) for length in lengths]


def assert_best(found: Any, expected: dict[str, float], k: int, rel: float = 1e-4) -> None:
    """``found`` holds the ``k`` best of ``expected`` in order; which of equals is left open."""
    best = sorted(expected.values(), reverse=True)[:k]
    assert scores(found) == pytest.approx(best, rel=rel)
    assert [expected[id_] for id_ in ids(found)] == pytest.approx(best, rel=rel)
    assert len(set(ids(found))) == len(found)

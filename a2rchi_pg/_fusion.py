"""How the dense and the lexical ranking become one.

Measured as nDCG@10 over seven collections with MiniLM embeddings, equal candidates: RRF .559, TM2C2
.569, calibrated .567. With the same cosines squeezed into [0.4, 1], as some models do by
themselves, TM2C2 falls to .546 and the others stay: so the calibrated form is the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from a2rchi_pg._arguments import number, one_of
from a2rchi_pg.errors import InvalidInput

FusionName: TypeAlias = Literal["calibrated", "tm2c2", "rrf"]

RRF_K = 60
CANDIDATES = 50
SEMANTIC_WEIGHT: dict[FusionName, float] = {"calibrated": 0.6, "tm2c2": 0.8, "rrf": 0.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """A way to fuse, with its weights; scores lie in [0, 1], higher is better.

    * ``rrf``: reciprocal rank fusion, ``Σ weight / (60 + rank)`` (Cormack, Clarke & Büttcher, SIGIR
      2009), divided by the most it can be.
    * ``tm2c2``: the convex combination of both scores, each scaled from its theoretical minimum (-1
      for a cosine, 0 for BM25) to the query's maximum (Bruch, Gai & Ingber, TOIS 2023).
    * ``calibrated``: the same, with the semantic scores scaled from the query's mean similarity to
      the collection instead, so that it doesn't matter what range the model's cosines have.
    """

    name: FusionName
    semantic_weight: float
    bm25_weight: float
    candidates: int


def fusion(
    name: str,
    semantic_weight: float | None = None,
    bm25_weight: float | None = None,
    candidates: int = CANDIDATES,
) -> Fusion:
    """Check a caller's choice; of two weights one may be missing, or both.

    Raises:
        InvalidInput: If the name is unknown, or a weight is negative, or both are 0.
    """
    chosen: FusionName = one_of(name, "fusion", get_args(FusionName))
    semantic = _weight(semantic_weight, "semantic_weight")
    lexical = _weight(bm25_weight, "bm25_weight")
    if semantic is None:
        semantic = SEMANTIC_WEIGHT[chosen] if lexical is None else max(0.0, 1 - lexical)
    if lexical is None:
        lexical = max(0.0, 1 - semantic)
    largest = max(semantic, lexical)  # only the ratio counts, and sums must not overflow
    if largest == 0:
        raise InvalidInput("semantic_weight and bm25_weight must not both be 0")
    return Fusion(
        name=chosen,
        semantic_weight=semantic / largest,
        bm25_weight=lexical / largest,
        candidates=candidates,
    )


def _weight(value: float | None, name: str) -> float | None:
    return None if value is None else number(value, name, 0)


# What follows is about one candidate of either leg: its ranks, its similarity and BM25 score, and
# the highest of these among all candidates. ``origin`` is the similarity that counts as none; where
# it isn't known, because the collection was never sampled, the least similar candidate stands in.

RECIPROCAL_RANKS = """
    (%(semantic_weight)s::float8 * coalesce(({rrf_k} + 1)::float8 / ({rrf_k} + semantic_rank), 0)
     + %(bm25_weight)s::float8 * coalesce(({rrf_k} + 1)::float8 / ({rrf_k} + bm25_rank), 0))
    / (%(semantic_weight)s::float8 + %(bm25_weight)s::float8)
"""
CONVEX = """
    (%(semantic_weight)s::float8
        * CASE WHEN similarity >= most_similar THEN 1
               WHEN most_similar <= origin THEN 0
               ELSE greatest(0, (similarity - origin) / (most_similar - origin)) END
     + %(bm25_weight)s::float8 * coalesce(bm25_score / nullif(best_bm25, 0), 0))
    / (%(semantic_weight)s::float8 + %(bm25_weight)s::float8)
"""

THEORETICAL_MINIMUM = "-1"
MEAN = "(SELECT {similarity} FROM collection_calibration WHERE collection_id = {collection_id})"

# A similarity grows as things come closer, whatever the metric.
SIMILARITY = {
    "cosine": "1 - coalesce(dense.distance, lexical.distance)",
    "l2": "-coalesce(dense.distance, lexical.distance)",
    "inner_product": "-coalesce(dense.distance, lexical.distance)",
}
# The query's mean similarity to the collection, from the mean of its vectors: exactly for products
# and cosines; for l2 the root of the mean squared distance.
MEAN_SIMILARITY = {
    "cosine": "-(centre <#> l2_normalize(%(vector)s))",
    "inner_product": "-(centre <#> %(vector)s)",
    "l2": (
        "-sqrt(greatest(0, "
        "vector_norm(%(vector)s) ^ 2 + 2 * (centre <#> %(vector)s) + mean_square))"
    ),
}

"""Retrieval quality on SciFact and Cranfield, through the store, against known figures.

The collections are not the project's to pass on: they lie in ``../shared/data`` where there are
any, and elsewhere these tests can't be run, as the summary of the run then says.
"""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from a2rchi_pg import Database, PostgresVectorStore
from tests.metrics import ndcg
from tests.plugins.servers import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[2] / "shared/data"
NAMES = ["scifact", "cranfield"]
# Exact cosine of all-MiniLM-L6-v2, and BM25 with k1 1.2 and b 0.75: nDCG@10, measured elsewhere.
DENSE = {"scifact": 0.645, "cranfield": 0.395}
BM25 = {"scifact": 0.688, "cranfield": 0.372}

if not all((DATA / name).is_dir() for name in NAMES):
    pytest.skip(f"no {' and '.join(NAMES)} in {DATA}", allow_module_level=True)

# With an index of pg_textsearch, and where BM25 is computed in SQL.
pytestmark = [pytest.mark.servers("embedded", "plain"), pytest.mark.timeout(300)]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A test collection: texts with vectors, questions with vectors, and who answers what."""

    name: str
    ids: list[str]
    texts: list[str]
    vectors: np.ndarray
    questions: dict[str, str]
    question_vectors: dict[str, np.ndarray]
    judgements: dict[str, dict[str, int]]


def load(name: str) -> Benchmark:
    folder = DATA / name
    with gzip.open(folder / "corpus.jsonl.gz", "rt") as file:
        corpus = [json.loads(line) for line in file]
    lines = (folder / "queries.jsonl").read_text().splitlines()
    questions = {each["_id"]: each["text"] for each in map(json.loads, lines)}
    judgements: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.test.tsv").read_text().splitlines()[1:]:
        question, document, score = line.split("\t")
        if int(score) > 0:
            judgements.setdefault(question, {})[document] = int(score)
    order = (folder / "query_ids.txt").read_text().split()
    vectors = np.load(folder / "queries.f16.npy").astype(np.float32)
    return Benchmark(
        name=name,
        ids=[each["_id"] for each in corpus],
        texts=[f"{each['title']} {each['text']}" for each in corpus],
        vectors=np.load(folder / "docs.f16.npy").astype(np.float32),
        questions=questions,
        question_vectors={
            questions[id_]: vector for id_, vector in zip(order, vectors, strict=True)
        },
        judgements=judgements,
    )


class LookedUp(Embeddings):
    """Vectors that a model made before."""

    model = "all-MiniLM-L6-v2"

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self._vectors = vectors

    def embed_query(self, text: str) -> list[float]:
        return list(self._vectors[text])

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


@contextmanager
def stored(servers, server, template: str, benchmark: Benchmark) -> Iterator[PostgresVectorStore]:
    """A store that holds the benchmark's texts."""
    name = f"{servers.prefix}_{benchmark.name}"
    with new_database(server, name, template) as dsn, Database(dsn) as database:
        store = PostgresVectorStore(LookedUp(benchmark.question_vectors), database=database)
        store.add_embeddings(benchmark.texts, benchmark.vectors, ids=benchmark.ids)
        assert store.count() == len(benchmark.ids)
        yield store


def measured(store: PostgresVectorStore, benchmark: Benchmark) -> dict[str, float]:
    """nDCG@10 of each search."""
    searches = {
        "dense": lambda q: store.similarity_search_with_score(q, k=10),
        "bm25": lambda q: store.bm25_search(q, k=10),
        "hybrid": lambda q: store.hybrid_search(q, k=10),
        "rrf": lambda q: store.hybrid_search(q, k=10, fusion="rrf"),
    }
    found = {}
    for name, search in searches.items():
        rankings = {
            question: [document.id for document, _ in search(benchmark.questions[question])]
            for question in benchmark.judgements
        }
        found[name] = ndcg(rankings, benchmark.judgements)
    return found


@pytest.fixture(scope="module", params=NAMES)
def figures(servers, server, template, request) -> Iterator[tuple[str, dict[str, float]]]:
    benchmark = load(request.param)
    with stored(servers, server, template, benchmark) as store:
        yield benchmark.name, measured(store, benchmark)


def test_dense_is_as_good_as_exact_search(figures):
    name, found = figures
    assert found["dense"] == pytest.approx(DENSE[name], abs=0.01)


def test_bm25_is_as_good_as_bm25_is(figures):
    name, found = figures
    assert found["bm25"] == pytest.approx(BM25[name], abs=0.01)


@pytest.mark.parametrize("fusion", ["hybrid", "rrf"])
def test_hybrid_is_better_than_both(figures, fusion: str):
    _, found = figures
    assert found[fusion] > max(found["dense"], found["bm25"])

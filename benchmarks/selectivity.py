"""Whether searches keep their promises, whatever the filter leaves.

    python benchmarks/selectivity.py              50,000 rows, a few minutes
    python benchmarks/selectivity.py --rows 5000  a quick look

Asks every kind of search with every metric under filters that leave from half of the rows to a ten
thousandth, and compares with the exact answer: as many results as are asked for or as there are,
at least 95% of them right. Notes which indexes the server counts as used, too, and whether
``explain()`` names those and no others. Exits with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psycopg
from _common import CACHE, CANDIDATES, K, environment, settle, timed
from _data import FLAGS, Dataset, row_id
from _sides import Model

from a2rchi_pg import Collections, CollectionSpec, Database, EmbeddedPostgres, PostgresVectorStore
from a2rchi_pg._op import Steps, fetch_tuples, fetch_value, read
from a2rchi_pg.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from _data import Question
    from numpy.typing import NDArray

METRICS = ("cosine", "l2", "inner_product")
RRF_K, EPSILON = 60, 1e-4
PROMISED = 0.95
FLUSH = "SELECT pg_stat_force_next_flush()"  # counts of use are otherwise told a second late


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of search under one filter."""

    metric: str
    search: str
    filter: str
    share: float
    eligible: int
    recall: float
    short: int  # questions that got fewer results than there are
    ms: float
    used: tuple[str, ...]  # indexes, without the table's name
    explained: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Whether all promises were."""
        return not self.short and self.recall >= PROMISED and self.used == self.explained


@dataclass(frozen=True)
class Exact:
    """The right answer: scores, higher better, of all that could be returned."""

    scores: dict[str, float]

    def judge(self, found: Sequence[str]) -> tuple[float, bool]:
        """Recall, where an equal score is as right, and whether results are missing."""
        wanted = min(K, len(self.scores))
        if not wanted:
            return 1.0, False
        least = sorted(self.scores.values(), reverse=True)[wanted - 1] - EPSILON
        good = sum(self.scores.get(id_, least - 1) >= least for id_ in set(found))
        return min(good, wanted) / wanted, len(found) < wanted


class Watched:
    """A store whose every use of an index is counted: it has one connection."""

    def __init__(self, store: PostgresVectorStore, database: Database, partition: str) -> None:
        self.store, self.database, self.partition = store, database, partition

    def counts(self) -> dict[str, int]:
        """How often the server has scanned each of the collection's indexes."""
        self.database.run(_flushed())
        counted = self.database.run(_index_scans(self.partition))
        return {self.short(name): scans for name, scans in counted}

    def explained(self, kind: str, question: Question, wanted: Mapping[str, Any]) -> set[str]:
        """The collection's indexes that explain() names."""
        kinds = {"dense": "similarity", "hybrid": "hybrid", "bm25": "bm25"}
        told = self.store.explain(
            question.text, K, search_type=kinds[kind], filter=wanted, fusion="rrf"
        )
        return {self.short(name) for name in told.indexes if name.startswith(self.partition)}

    def short(self, index: str) -> str:
        """An index's name without the table's."""
        return index.removeprefix(f"{self.partition}_")


@read
def _flushed() -> Steps[None]:
    yield from fetch_value(FLUSH)


@read
def _index_scans(partition: str) -> Steps[list[tuple[Any, ...]]]:
    return (
        yield from fetch_tuples(
            "SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relname = %(name)s",
            name=partition,
        )
    )


class Oracle:
    """Exact rankings of all rows, by vector in numpy and by words from the whole BM25 index."""

    def __init__(self, data: Dataset, metric: str, dsn: str, partition: str) -> None:
        self.data, self.metric = data, metric
        self.statement = (
            f"SELECT id, -bm25_get_current_score() FROM {partition} "  # noqa: S608 - our own name
            f"ORDER BY content <@> to_bm25query(%s, '{partition}_bm25') LIMIT {data.rows}"
        )
        # Anything but the index scan would return rows that hold none of the words, too.
        options = "-c enable_seqscan=off -c enable_sort=off"
        self.connection = psycopg.connect(dsn, autocommit=True, options=options)
        self.eligible = {
            flag: {row_id(int(number)) for number in data.eligible(flag)} for flag in FLAGS
        }
        self.by_words: dict[str, dict[str, float]] = {}

    def dense(
        self, questions: Sequence[Question], eligible: NDArray[np.int64], count: int = K
    ) -> list[Exact]:
        """The nearest."""
        rankings = self.data.exact(questions, eligible, count, self.metric)
        return [Exact({id_: float(-place) for place, id_ in enumerate(ids)}) for ids in rankings]

    def bm25(self, questions: Sequence[Question], flag: str) -> list[Exact]:
        """Every eligible row that holds one of the words."""
        found = []
        for question in questions:
            if question.text not in self.by_words:
                rows = self.connection.execute(self.statement, (question.text,)).fetchall()
                self.by_words[question.text] = {id_: score for id_, score in rows if score > 0}
            ranking = self.by_words[question.text].items()
            found.append(Exact({id_: s for id_, s in ranking if id_ in self.eligible[flag]}))
        self.connection.execute(FLUSH)  # lest its own scans be counted while the store is watched
        return found

    def hybrid(self, questions: Sequence[Question], flag: str) -> list[Exact]:
        """Both fused by reciprocal ranks."""
        dense = self.dense(questions, self.data.eligible(flag), CANDIDATES)
        words = self.bm25(questions, flag)
        return [_fused(*pair) for pair in zip(dense, words, strict=True)]


def _fused(dense: Exact, words: Exact) -> Exact:
    scores: dict[str, float] = {}
    for leg in (dense.scores, words.scores):
        ranked = sorted(leg.items(), key=lambda item: (-item[1], item[0]))
        for rank, (id_, _) in enumerate(islice(ranked, CANDIDATES), 1):
            scores[id_] = scores.get(id_, 0) + 1 / (RRF_K + rank)
    # A chunk at the end of the BM25 ranking may be exchanged for one of the same score.
    return Exact(scores)


def grid(
    data: Dataset, database: Database, dsn: str, metric: str, questions: Sequence[Question]
) -> Iterator[Cell]:
    """Every cell of one metric."""
    model = Model()
    model.known(questions)
    store = filled(data, database, metric, model)
    settle(dsn)
    collection = Collections(database).get(store.collection_name)
    assert collection is not None
    oracle, watched = (
        Oracle(data, metric, dsn, collection.partition),
        Watched(store, database, collection.partition),
    )
    for flag, share in FLAGS.items():
        exact = {
            "dense": oracle.dense(questions, data.eligible(flag)),
            "bm25": oracle.bm25(questions, flag),
            "hybrid": oracle.hybrid(questions, flag),
        }
        for kind, answers in exact.items():
            yield cell((metric, kind, "JSONB", share), questions, answers, watched, {flag: 1})
        bound = max(1, round(share * data.rows))
        answers = oracle.dense(questions, data.eligible(below=bound))
        wanted = {"rank": {"$lt": bound}}
        yield cell((metric, "dense", "declared", share), questions, answers, watched, wanted)
    Collections(database).drop(store.collection_name)


def searches(store: PostgresVectorStore) -> dict[str, Callable[..., list[str]]]:
    """What is asked, each returning ids."""
    return {
        "dense": lambda q, wanted: [
            hit.id or "" for hit in store.similarity_search_by_vector(q.vector, K, filter=wanted)
        ],
        "bm25": lambda q, wanted: [
            hit.id or "" for hit, _ in store.bm25_search(q.text, K, filter=wanted)
        ],
        "hybrid": lambda q, wanted: [
            hit.id or "" for hit, _ in store.hybrid_search(q.text, K, filter=wanted, fusion="rrf")
        ],
    }


def cell(
    what: tuple[str, str, str, float],
    questions: Sequence[Question],
    exact: Sequence[Exact],
    watched: Watched,
    wanted: Mapping[str, Any],
) -> Cell:
    """Ask every question and judge the answers."""
    ask = partial(searches(watched.store)[what[1]], wanted=wanted)
    ask(questions[0])
    before = watched.counts()
    answers = [timed(ask, question) for question in questions]
    after = watched.counts()
    explained = set().union(*(watched.explained(what[1], each, wanted) for each in questions))
    judged = [right.judge(ids) for right, (_, ids) in zip(exact, answers, strict=True)]
    return Cell(
        metric=what[0],
        search=what[1],
        filter=what[2],
        share=what[3],
        eligible=max(len(right.scores) for right in exact),
        recall=mean(value for value, _ in judged),
        short=sum(missing for _, missing in judged),
        ms=median(ms for ms, _ in answers),
        used=tuple(sorted(name for name in after if after[name] > before[name])),
        explained=tuple(sorted(explained)),
    )


def filled(data: Dataset, database: Database, metric: str, model: Model) -> PostgresVectorStore:
    """A collection of that metric with everything in it."""
    spec = CollectionSpec(name=f"grid_{metric}", metric=metric, fields={"rank": "int"})  # type: ignore[arg-type]
    store = PostgresVectorStore(model, database=database, collection=spec)
    batch = data.whole()
    store.add_embeddings(batch.texts, batch.vectors, batch.metadatas, ids=batch.ids)
    return store


def show(cells: Sequence[Cell]) -> str:
    """The grid as a table in Markdown."""
    shares = list(FLAGS.values())
    lines = ["| metric | search | filter | " + " | ".join(f"{s:.2%}" for s in shares) + " |"]
    lines.append("|" + " --- |" * (3 + len(shares)))
    for metric, search, where in dict.fromkeys((c.metric, c.search, c.filter) for c in cells):
        row = [c for c in cells if (c.metric, c.search, c.filter) == (metric, search, where)]
        told = " | ".join(_told(c) for c in sorted(row, key=lambda c: -c.share))
        lines.append(f"| {metric} | {search} | {where} | {told} |")
    return "\n".join(lines)


def _told(found: Cell) -> str:
    missing = f", **{found.short} short**" if found.short else ""
    told = f"{found.recall:.3f}" if found.recall >= PROMISED else f"**{found.recall:.3f}**"
    used = ", ".join(found.used) or "no index"
    if found.used != found.explained:
        used = f"**{used}, explained as {', '.join(found.explained) or 'none'}**"
    return f"{told}{missing}, {found.ms:.1f} ms, {used}"


def main() -> int:
    """Fill, ask, print; 0 where every promise was kept."""
    given = options()
    data, cells = Dataset.made(CACHE, given.rows, spread=0.1), list[Cell]()
    questions = data.questions[: given.queries]
    with ExitStack() as stack:
        directory = stack.enter_context(TemporaryDirectory(prefix="bench-"))
        dsn = given.dsn or stack.enter_context(EmbeddedPostgres(directory)).dsn
        migrate(dsn)
        database = stack.enter_context(Database(dsn, max_size=1))
        facts = environment(dsn, given.rows)
        for metric in given.metric or METRICS:
            cells += grid(data, database, dsn, metric, questions)
            print(f"{metric}: done", file=sys.stderr)
    print(", ".join(f"{key} {value}" for key, value in facts.items() if value is not None))
    print(f"recall@{K} against exact, median time of {given.queries} questions\n")
    print(show(cells))
    broken = [c for c in cells if not c.kept]
    print(f"\n{len(cells) - len(broken)} of {len(cells)} keep their promises")
    if given.json:
        found = {"environment": facts, "cells": [asdict(c) for c in cells]}
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if broken else 0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--metric", action="append", choices=METRICS)
    parser.add_argument("--dsn", help="a server of yours; else an embedded one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

"""The rows and questions that every store gets: hard vectors, real prose, flags to filter by.

Vectors lie around 500 overlapping centres in a space of 32 dimensions, with noise in all 384: the
neighbours of a question belong to several clusters, so that recall means something. Each flag is 1
on a random share of the rows. Everything is seeded and written once, and read as a stream.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from numpy.typing import NDArray

DIM, RANK, CENTRES = 384, 32, 500
QUESTIONS = 400
FLAGS = {"p50": 0.5, "p10": 0.1, "p1": 0.01, "p01": 0.001, "p001": 0.0001}
_CHUNK = 5_000
_PROSE = " ".join(topics.values()).split()


@dataclass(frozen=True)
class Question:
    """What is asked for: words, and a vector in the two forms that stores take."""

    text: str
    vector: NDArray[np.float32]
    numbers: list[float] = field(repr=False)


@dataclass(frozen=True)
class Batch:
    """Columns of some rows."""

    ids: list[str]
    texts: list[str]
    metadatas: list[dict[str, Any]]
    vectors: NDArray[np.float32]


class Dataset:
    """The first ``rows`` rows of a set kept in a directory, written there if it is missing."""

    def __init__(self, directory: Path, rows: int) -> None:
        self.rows = rows
        self._vectors, self._records = directory / "vectors.f32", directory / "rows.jsonl"
        self._directory = directory

    @classmethod
    def made(cls, cache: Path, rows: int, spread: float = 0.0) -> Self:
        """The set of that size; ``spread`` is how much the lengths of its vectors differ."""
        directory = cache / f"data-{rows}-{spread:g}"
        data = cls(directory, rows)
        if not (directory / "complete").exists():
            data._write(spread)
        return data

    def head(self, rows: int) -> Dataset:
        """The same, but only its beginning."""
        return Dataset(self._directory, rows)

    def batches(self, size: int) -> Iterator[Batch]:
        """Everything, ``size`` rows at a time, in bounded memory."""
        with self._records.open(encoding="utf-8") as records, self._vectors.open("rb") as vectors:
            for start in range(0, self.rows, size):
                count = min(size, self.rows - start)
                rows = [json.loads(line) for line in islice(records, count)]
                matrix = np.frombuffer(vectors.read(count * DIM * 4), dtype=np.float32)
                yield Batch(
                    ids=[row["id"] for row in rows],
                    texts=[row["text"] for row in rows],
                    metadatas=[row["metadata"] for row in rows],
                    vectors=matrix.reshape(count, DIM),
                )

    def whole(self) -> Batch:
        """Everything at once."""
        (batch,) = self.batches(self.rows)
        return batch

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """All vectors, as a view of the file."""
        return np.memmap(self._vectors, np.float32, "r", shape=(self.rows, DIM))

    @cached_property
    def metadata(self) -> dict[str, NDArray[np.int64]]:
        """The flags and the ``rank`` of every row, as columns."""
        keys = (*FLAGS, "rank")
        with self._records.open(encoding="utf-8") as records:
            lines = (json.loads(line)["metadata"] for line in islice(records, self.rows))
            rows = [[metadata[key] for key in keys] for metadata in lines]
        return dict(zip(keys, np.array(rows, dtype=np.int64).T, strict=True))

    def eligible(self, flag: str = "", below: int | None = None) -> NDArray[np.int64]:
        """The numbers of the rows that carry a flag, or whose rank lies below a bound, or all."""
        if below is not None:
            return np.flatnonzero(self.metadata["rank"] < below)
        return np.flatnonzero(self.metadata[flag]) if flag else np.arange(self.rows)

    @cached_property
    def questions(self) -> list[Question]:
        """Words and vectors of the same kind as the rows, none of them stored."""
        rng, shape = np.random.default_rng(7_000), _Shape(0.0)
        vectors = shape.vectors(rng, QUESTIONS)
        texts = [_prose(rng, 1, 3 + number % 6) for number in range(QUESTIONS)]
        pairs = zip(texts, vectors, strict=True)
        return [Question(text, vector, vector.tolist()) for text, vector in pairs]

    def exact(
        self,
        questions: Sequence[Question],
        eligible: NDArray[np.int64] | None = None,
        k: int = 10,
        metric: str = "cosine",
    ) -> list[list[str]]:
        """The ids of the ``k`` nearest of all rows, or of the eligible ones, nearest first."""
        eligible = self.eligible() if eligible is None else eligible
        vectors = np.asarray(self.vectors)[eligible].astype(np.float64)
        asked = np.array([question.vector for question in questions], dtype=np.float64)
        products = asked @ vectors.T
        if metric == "cosine":
            distances = -products / np.linalg.norm(vectors, axis=1)
        elif metric == "l2":
            distances = (vectors**2).sum(axis=1) - 2 * products
        else:
            distances = -products
        order = np.argsort(distances, axis=1)[:, :k]
        return [[row_id(int(number)) for number in eligible[row]] for row in order]

    def _write(self, spread: float) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        rng, shape = np.random.default_rng(1), _Shape(spread)
        order = {flag: rng.permutation(self.rows) for flag in (*FLAGS, "rank")}
        with self._records.open("w", encoding="utf-8") as records, self._vectors.open("wb") as out:
            for start in range(0, self.rows, _CHUNK):
                count = min(_CHUNK, self.rows - start)
                out.write(shape.vectors(rng, count).tobytes())
                for number in range(start, start + count):
                    record = self._record(rng, number, order)
                    records.write(json.dumps(record) + "\n")
        (self._directory / "complete").touch()

    def _record(
        self, rng: np.random.Generator, number: int, order: dict[str, NDArray[np.int64]]
    ) -> dict[str, Any]:
        flags = {
            flag: int(order[flag][number] < max(1, round(share * self.rows)))
            for flag, share in FLAGS.items()
        }
        return {
            "id": row_id(number),
            "text": _prose(rng, int(rng.integers(5, 12)), 14),
            "metadata": {
                "number": number,
                "rank": int(order["rank"][number]),
                "source": f"manual-{number % 20}.txt",
                **flags,
            },
        }


def row_id(number: int) -> str:
    """A UUID, because some stores take no other ids."""
    return str(uuid.UUID(int=number + 1))


def _prose(rng: np.random.Generator, spans: int, length: int) -> str:
    """Some passages of ``length`` words each from Python's reference manual."""
    starts = rng.integers(len(_PROSE) - length, size=spans)
    return " ".join(word for start in starts for word in _PROSE[start : start + length])


class _Shape:
    """Where vectors lie; ``spread`` is how much their lengths differ."""

    def __init__(self, spread: float) -> None:
        rng = np.random.default_rng(0)
        self.basis = rng.normal(size=(RANK, DIM))
        self.centres = rng.normal(size=(CENTRES, RANK))
        self.spread = spread

    def vectors(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        chosen = self.centres[rng.integers(CENTRES, size=count)]
        low = chosen + rng.normal(scale=0.9, size=(count, RANK))
        noisy = low @ self.basis + rng.normal(scale=2.0, size=(count, DIM))
        lengths = np.exp(rng.normal(scale=self.spread, size=(count, 1)))
        unit = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
        return (unit * lengths).astype(np.float32)

"""A Chroma to migrate from, and what a database holds."""

from __future__ import annotations

import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.database_support import admin, wait_until

if TYPE_CHECKING:
    from typing import Self

DIMENSIONS = 8
NAME = "default_collection_with_HuggingFaceEmbeddings"


def fill_chroma(
    client: Any, rows: int, *, space: str = "cosine", name: str = NAME, start: int = 0
) -> Any:
    """A collection as the old system wrote it: ``<hash>-<index>``, metadata of every type."""
    collection = client.get_or_create_collection(
        name, metadata={"hnsw:space": space}, embedding_function=None
    )
    vectors = np.random.default_rng(start).normal(size=(rows, DIMENSIONS)).astype(np.float32)
    for at in range(0, rows, 1000):
        numbers = range(start + at, start + min(at + 1000, rows))
        collection.add(
            ids=[f"{n // 10:012x}-{n % 10:06d}" for n in numbers],
            documents=[f"chunk {n} of naïve text" for n in numbers],
            metadatas=[
                {
                    "resource_hash": f"{n // 10:012x}",
                    "chunk_index": n % 10,
                    "score": n / 7,
                    "whole": float(n),
                    "draft": n % 2 == 0,
                }
                for n in numbers
            ],
            embeddings=vectors[at : at + 1000],
        )
    return collection


def persistent(path: Path) -> Any:
    import chromadb  # noqa: PLC0415 - an extra

    return chromadb.PersistentClient(str(path), chromadb.Settings(anonymized_telemetry=False))


class ChromaServer:
    """A server on a folder's data, on the same port whenever it is started."""

    PROGRAM = Path(sys.executable).with_name("chroma")

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        address = ("--host", "127.0.0.1", "--port", str(self.port))
        self._command = [self.PROGRAM, "run", *address, "--path", folder]

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=quiet, stderr=quiet)
        wait_until(self._answers, 110)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def contents(dsn: str) -> dict[str, str]:
    """A checksum of each table, apart from the ledgers, and from samples that are taken anew."""
    names = admin(
        dsn,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind = 'r' AND relname !~ 'migration|calibration' ORDER BY 1",
    )
    sums = {}
    for (name,) in names:
        rows = admin(dsn, f'SELECT t::text FROM "{name}" AS t ORDER BY 1')
        sums[name] = sha256(repr(rows).encode()).hexdigest()
    return sums

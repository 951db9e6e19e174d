"""A folder in the database: read, given to the local model, and kept in line when it changes."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING

import sklearn
from langchain_core.embeddings import Embeddings

from a2rchi_pg import Collections, CollectionSpec, PostgresVectorStore, VectorStoreManager
from examples.local_model import LatentSemantics, digest
from examples.python_docs import python_docstrings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from a2rchi_pg import Database, IngestProgress, IngestReport

COLLECTION = "documents"
MADE_BY = digest(sys.version, sklearn.__version__)
GROWTH = 1.5  # chunks for each that the model was fitted on: beyond, it is fitted anew


class Reading(Embeddings):
    """Keeps the texts that a manager reads, so that the model can be fitted on them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The same for every text."""
        self.texts.extend(texts)
        return [[1.0]] * len(texts)

    def embed_query(self, text: str) -> list[float]:
        """As for any text."""
        return [float(bool(text))]


def ingested(
    database: Database,
    folder: Path,
    data: Path,
    *,
    progress: Callable[[str, IngestProgress], None],
) -> tuple[LatentSemantics, IngestReport]:
    """The model for a folder, and what was done to have all of the folder in the database."""
    saved = data / "model.pickle"
    model = _loaded(saved)
    if model is None:
        model = _fitted(database, folder, saved, progress)
    report = _updated(database, folder, model, progress)
    if report.chunks and _count(database, model) > GROWTH * model.fitted_on:
        model = _fitted(database, folder, saved, progress)
        report = _updated(database, folder, model, progress)
    return model, report


def _loaded(saved: Path) -> LatentSemantics | None:
    if not saved.exists():
        return None
    model: LatentSemantics = pickle.loads(saved.read_bytes())  # noqa: S301 - our own
    return model if model.state == MADE_BY else None


def _fitted(
    database: Database, folder: Path, saved: Path, progress: Callable[[str, IngestProgress], None]
) -> LatentSemantics:
    """A model made for the texts as the manager reads them; the old one's vectors go."""
    collections, reading = Collections(database), Reading()
    collections.drop("reading")
    spec = CollectionSpec(name="reading", index="none")
    store = PostgresVectorStore(reading, database=database, collection=spec)
    manager = VectorStoreManager(store)
    manager.add_folder(folder)
    manager.update_vectorstore(progress=lambda each: progress("Reading", each))
    collections.drop("reading")
    if not reading.texts:
        sys.exit(f"{folder} holds nothing that can be read as text.")
    model = LatentSemantics(reading.texts, MADE_BY)
    collections.drop(COLLECTION)
    (unfinished := saved.with_suffix(".unfinished")).write_bytes(pickle.dumps(model))
    unfinished.replace(saved)
    return model


def _updated(
    database: Database,
    folder: Path,
    model: LatentSemantics,
    progress: Callable[[str, IngestProgress], None],
) -> IngestReport:
    manager = VectorStoreManager(
        PostgresVectorStore(model, database=database, collection=COLLECTION)
    )
    manager.add_folder(folder)
    return manager.update_vectorstore(progress=lambda each: progress("Indexing", each))


def _count(database: Database, model: LatentSemantics) -> int:
    return PostgresVectorStore(model, database=database, collection=COLLECTION).count()


def python_documentation(folder: Path) -> Path:
    """A folder with Python's own documentation: a file for each module of the library."""
    if folder.exists():
        return folder
    (unfinished := folder.with_suffix(".unfinished")).mkdir(parents=True, exist_ok=True)
    modules: dict[str, list[str]] = {}
    for name, text, where in python_docstrings():
        modules.setdefault(where["module"], []).append(f"## {name}\n\n{text}\n")
    for module, texts in modules.items():
        (unfinished / f"{module}.md").write_text("\n".join([f"# {module}\n", *texts]))
    unfinished.replace(folder)
    return folder

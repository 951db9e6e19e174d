"""Dense, BM25 and hybrid search over real documents: no server, no download, no key.

    make demo                                               Python's own documentation
    .venv/bin/python examples/quickstart.py "how do I …"    the same, with a question of yours
    .venv/bin/python examples/quickstart.py --folder ~/notes "where did I write about …"

The first run indexes; later ones find everything in place, and finish one that was stopped.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
from pathlib import Path
from statistics import median
from timeit import repeat
from typing import TYPE_CHECKING, Any

import sklearn
from langchain_core.documents import Document
from local_model import LatentSemantics, digest
from python_docs import python_docstrings
from rich.console import Console
from rich.progress import track
from rich.table import Table

from a2rchi_pg import A2rchiError, Collections, Database, PostgresVectorStore

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).resolve().parents[1] / ".cache" / "demo"  # which git ignores
LONGEST = 1_200  # characters of a chunk
QUESTIONS = [
    "run another program and capture its output",
    "wait for the first of several tasks to finish",
    "what does ZipFile extractall do with absolute paths",
    "compare two texts and show where they differ",
]
console = Console(markup=False, highlight=False)


def chunks(name: str, text: str, **where: Any) -> Iterator[Document]:
    """Paragraphs packed into chunks, each with an id that stays and where it is from."""
    packed = [""]
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if packed[-1] and len(packed[-1]) + len(paragraph) > LONGEST:
            packed.append("")
        packed[-1] = f"{packed[-1]}\n\n{paragraph}".lstrip("\n")
    title = re.sub(r"[._]", " ", name)  # to a search for words, "os.path.join" is one word
    for part, content in enumerate(packed):
        id_ = digest(name, where, part, content)
        metadata = {"name": name, "part": part, **where}
        yield Document(id=id_, page_content=f"{title}\n{content}", metadata=metadata)


def python_documents() -> Iterator[Document]:
    """The documentation of Python's standard library."""
    for name, text, where in python_docstrings():
        yield from chunks(name, text, **where)


def folder_documents(folder: Path) -> Iterator[Document]:
    """The Markdown and text files of a folder, hidden ones left out."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in {".md", ".rst", ".txt"} and "/." not in f"/{name}" and path.is_file():
            yield from chunks(name, path.read_text(errors="replace"), file=str(path))


def indexed(database: Database, data: Path, folder: Path | None) -> PostgresVectorStore:
    """A store that holds all of the documents; what is missing is added first."""
    name = f"folder-{digest(folder)}" if folder else "python"
    documents = list(folder_documents(folder)) if folder else []  # each time: they may have changed
    if folder and not documents:
        sys.exit(f"{folder} holds no .md, .rst or .txt file.")
    state = digest(sys.version, sklearn.__version__, [each.id for each in documents])
    saved = data / f"{name}.pickle"
    model = pickle.loads(saved.read_bytes()) if saved.exists() else None  # noqa: S301 - our own
    if model is None or model.state != state:
        Collections(database).drop(name)
        console.print("Reading, and fitting the model …", style="dim")
        documents = documents or list(python_documents())
        model = LatentSemantics([document.page_content for document in documents], state)
        (unfinished := saved.with_suffix(".unfinished")).write_bytes(pickle.dumps(model))
        unfinished.replace(saved)
    store = PostgresVectorStore(model, database=database, collection=name)
    if store.count() < model.fitted_on:
        # An iterator, unlike a list, is stored batch by batch, each in its own transaction.
        stream = track(documents or list(python_documents()), "Indexing", console=console)
        store.add_documents(stream, batch_size=200)
    Collections(database).build_indexes(name)  # should a run have ended just before that
    return store


def answer(store: PostgresVectorStore, question: str) -> None:
    """Print what the three searches find; a time is the median of five calls, the model's too."""
    table = Table(box=None, expand=True)
    table.add_column("search", style="cyan")
    table.add_column("ms", justify="right", style="green")
    table.add_column("score", justify="right")
    table.add_column("found", ratio=1, no_wrap=True)
    table.add_column("", ratio=1, no_wrap=True, style="dim")
    for name, search in (
        ("dense", store.similarity_search_with_score),
        ("BM25", store.bm25_search),
        ("hybrid", store.hybrid_search),
    ):
        times = repeat(lambda find=search: find(question, k=3), number=1, repeat=5)
        first = name, f"{median(times) * 1000:.1f}"
        for document, score in search(question, k=3):
            line = document.page_content.split("\n")[1]
            table.add_row(*first, f"{score:.2f}", document.metadata["name"], line)
            first = "", ""
    console.print(f"\n{question}", style="bold")
    console.print(table)


def main() -> None:
    """Index what isn't indexed yet, then answer the questions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", metavar="QUESTION", default=QUESTIONS)
    parser.add_argument("--folder", type=Path, help="your own .md, .rst and .txt files")
    parser.add_argument("--data", type=Path, default=DATA, help="where the server keeps its data")
    given = parser.parse_args()
    try:
        with Database.embedded(given.data / "server") as database:
            store = indexed(database, given.data, given.folder and given.folder.resolve())
            console.print(f"{store.count():,} chunks; a dense score is a distance", style="dim")
            for question in given.questions:
                answer(store, question)
    except (KeyboardInterrupt, A2rchiError) as error:
        sys.exit(f"\nStopped: {str(error) or 'the next run goes on from here'}")


if __name__ == "__main__":
    main()

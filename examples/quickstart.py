"""Dense, BM25 and hybrid search over real documents: no server, no download, no key.

    make demo                                               Python's own documentation
    .venv/bin/python examples/quickstart.py "how do I …"    the same, with a question of yours
    .venv/bin/python examples/quickstart.py --folder ~/notes "where did I write about …"

The first run indexes; later ones find everything in place, and finish one that was stopped.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import inspect
import pickle
import re
import sys
import sysconfig
from pathlib import Path
from statistics import median
from timeit import repeat
from typing import TYPE_CHECKING, Any

import sklearn
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from a2rchi_pg import A2rchiError, Collections, Database, PostgresVectorStore

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).resolve().parents[1] / ".cache" / "demo"  # which git ignores
NOT_FOR_READERS = r"(^|\.)(_|tests?\b|idlelib|lib2to3|(site|dist)-packages)"
SHORTEST, LONGEST = 60, 1_200  # characters of a docstring, and of a chunk
QUESTIONS = [
    "run another program and capture its output",
    "wait for the first of several tasks to finish",
    "what does ZipFile extractall do with absolute paths",
    "compare two texts and show where they differ",
]
console = Console(markup=False, highlight=False)


class LatentSemantics(Embeddings):
    """TF-IDF folded into 256 dimensions, fitted on the texts; any model of LangChain's would do."""

    def __init__(self, texts: list[str], state: str) -> None:
        self.words = TfidfVectorizer(sublinear_tf=True, stop_words="english")
        weights = self.words.fit_transform(texts)
        svd = TruncatedSVD(min(256, *weights.shape), random_state=0).fit(weights)
        self.axes = svd.components_.T.copy()  # in the order that the product reads it
        self.fitted_on, self.state = len(texts), state

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector of length 1 for each text."""
        folded = self.words.transform(texts) @ self.axes
        return normalize(folded + 1e-9).tolist()  # where no word is known, some direction

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return self.embed_documents([text])[0]


def digest(*parts: Any) -> str:
    """A short name for something long."""
    return hashlib.sha256(repr(parts).encode(errors="replace")).hexdigest()[:24]


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
    """The docstrings of the standard library, read from its files without importing them."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root)
        module = ".".join(file.with_suffix("").parts).removesuffix(".__init__").removeprefix("_py")
        if not re.search(NOT_FOR_READERS, module):
            for name, line, text in documented(module, ast.parse(path.read_bytes())):
                yield from chunks(name, text, module=module, file=str(file), line=line)
    # What is written in C has no file to read, and is safe to import.
    for module in (each for each in sys.builtin_module_names if not each.startswith("_")):
        for name, text in built_in(module, importlib.import_module(module)):
            yield from chunks(name.removeprefix("builtins."), text, module=module)


def documented(name: str, node: Any) -> Iterator[tuple[str, int, str]]:
    """Name, line and docstring of what is public in a module's syntax tree."""
    if len(text := ast.get_docstring(node) or "") > SHORTEST:
        yield name, getattr(node, "lineno", 1), text
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else ():
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if named and not child.name.startswith("_"):
            yield from documented(f"{name}.{child.name}", child)


def built_in(name: str, thing: object) -> Iterator[tuple[str, str]]:
    """Name and docstring of what is public in a module that is there as an object only."""
    if len(text := inspect.getdoc(thing) or "") > SHORTEST:
        yield name, text
    for each, member in getattr(thing, "__dict__", {}).items():
        if callable(member) and not each.startswith("_"):
            yield from built_in(f"{name}.{each}", member)


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

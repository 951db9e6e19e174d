"""Documents in: a collection brought in line with the catalog, and a folder into the catalog.

As a command: ``python -m a2rchi_pg.ingest FOLDER --collection NAME --embedding MODULE:NAME``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg._arguments import MAX_INTEGER, many, mapping, number, shown, string, whole
from a2rchi_pg._folder import document_of, existing_folder, files_of, fingerprint, key_of, matches
from a2rchi_pg._loading import MAX_BYTES
from a2rchi_pg._preparing import Settings
from a2rchi_pg._splitting import default_splitter, splitter_fingerprint
from a2rchi_pg._syncing import delete_missing, server_time
from a2rchi_pg._updating import IngestProgress, IngestReport, Update
from a2rchi_pg.catalog import CatalogRepository
from a2rchi_pg.database import Database
from a2rchi_pg.errors import A2rchiError, InvalidInput
from a2rchi_pg.vectorstore import PostgresVectorStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_core.embeddings import Embeddings

    from a2rchi_pg._loading import Loaders
    from a2rchi_pg._splitting import Splitter
    from a2rchi_pg._updating import Progress

LEAST_LEASE = 0.1  # seconds, of which a third has to be enough to say that it goes on

__all__ = ["FolderReport", "IngestProgress", "IngestReport", "VectorStoreManager"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderReport:
    """What bringing a folder into the catalog did, in numbers of documents.

    Attributes:
        removed: Those whose files are gone: deleted in the catalog.
    """

    added: int
    changed: int
    removed: int
    unchanged: int


class VectorStoreManager:
    """Keeps a collection in line with the catalog of the same database.

    Any number of managers may work on a collection at once: each document is leased by one of them,
    and its chunks and its state change in one transaction. What a crashed one had is taken over
    when its lease runs out; what failed waits a minute, then twice as long each time.

    Args:
        store: The collection, with its embedding model. Its database must be a ``Database``.
        splitter: A LangChain text splitter; None takes a ``RecursiveCharacterTextSplitter``.
        splitter_name: What tells this splitter from others; None takes its class and settings.
            Where it changes, everything is embedded anew.
        loaders: By suffix (``".pdf"``), LangChain loader classes or functions of a path that return
            documents. Without: HTML, CSV, JSON, PDF and DOCX (the extra ``documents``), and
            whatever is text.
        data_path: Where relative paths of the catalog begin.
        workers: Threads that load and split.
        batch_size: Texts the model is given at a time.
        lease: Seconds after which others may take over what this manager no longer renews.
        max_bytes: The largest file that is loaded.

    Raises:
        InvalidInput: If an argument is out of range.
    """

    def __init__(
        self,
        store: PostgresVectorStore,
        *,
        splitter: Splitter | None = None,
        splitter_name: str | None = None,
        loaders: Loaders | None = None,
        data_path: str | os.PathLike[str] = ".",
        workers: int | None = None,
        batch_size: int = 128,
        lease: float = 120.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        database = getattr(store, "database", None)
        if not isinstance(database, Database):
            raise InvalidInput(
                "store must be a PostgresVectorStore whose database is a Database: every document "
                f"is a transaction; got {shown(store)}"
            )
        chosen = default_splitter() if splitter is None else splitter
        if not callable(getattr(chosen, "split_text", None)):
            raise InvalidInput(f"splitter must be a LangChain text splitter, got {shown(splitter)}")
        own = {} if loaders is None else mapping(loaders, "loaders")
        self._database = database
        self._settings = Settings(
            store=store,
            splitter=chosen,
            splitter_name=splitter_name or splitter_fingerprint(chosen),
            loaders={string(key, "a suffix").lower(): loader for key, loader in own.items()},
            data_path=Path(data_path),
            workers=whole(
                min(32, (os.cpu_count() or 1) + 4) if workers is None else workers, "workers", 1
            ),
            batch_size=whole(batch_size, "batch_size", 1),
            lease=number(lease, "lease", LEAST_LEASE, MAX_INTEGER),
            max_bytes=whole(max_bytes, "max_bytes", 1, 2**40),
        )

    def add_folder(
        self, path: str | os.PathLike[str], *, patterns: Iterable[str] = ("*",)
    ) -> FolderReport:
        """Bring a folder's files into the catalog; :meth:`update_vectorstore` then embeds them.

        A file is known by its path. Documents of the folder whose files are gone are deleted in
        the catalog; files that no pattern takes in are left as they are there, and hidden files
        and folders are passed over.

        Args:
            path: The folder.
            patterns: Which files, by their path below it: ``*.md``, ``docs/*``.

        Raises:
            InvalidInput: If there is no such folder.
            OSError: If a folder in it can't be listed.
        """
        folder = existing_folder(path)
        patterns = [string(each, "a pattern") for each in many(patterns, "patterns", "strings")]
        listed_at = self._database.run(server_time())
        files = list(files_of(folder))
        found = [path for path in files if matches(path, folder, patterns)]
        catalog = CatalogRepository(self._database)
        with ThreadPoolExecutor(self._settings.workers) as pool:
            contents = pool.map(fingerprint, found)
            specs = [document_of(*each, folder) for each in zip(found, contents, strict=True)]
        recorded = catalog.upsert_many(spec for spec in specs if spec is not None)
        changed = [each.id for each in recorded if each.outcome in ("changed", "restored")]
        if changed:  # what failed before need not wait
            collection = self._settings.store.create_collection()
            catalog.retry(collection.name, changed)
        outcomes = Counter(each.outcome for each in recorded)
        gone = {path for path, spec in zip(found, specs, strict=True) if spec is None}
        present = [key_of(path) for path in files if path not in gone]
        return FolderReport(
            added=outcomes["added"] + outcomes["restored"],
            changed=outcomes["changed"],
            removed=self._database.run(delete_missing(str(folder), present, listed_at)),
            unchanged=outcomes["unchanged"],
        )

    async def aadd_folder(
        self, path: str | os.PathLike[str], *, patterns: Iterable[str] = ("*",)
    ) -> FolderReport:
        """The asynchronous twin of :meth:`add_folder`; files are read in threads."""
        return await asyncio.to_thread(self.add_folder, path, patterns=patterns)

    def update_vectorstore(self, *, progress: Progress | None = None) -> IngestReport:
        """Bring the collection in line with the catalog: new, changed and deleted documents.

        Args:
            progress: Called after each document.

        Returns:
            What was done. A document that fails is in it, and stops no other.

        Raises:
            CollectionMismatch: If the collection was filled by a model of another name, or was
                exchanged or dropped meanwhile.
            DimensionMismatch: If the model's vectors don't fit the collection.
            DatabaseError: If the database can't be reached; what was finished stays.
        """
        if progress is not None and not callable(progress):
            raise InvalidInput(f"progress must be a function, got {shown(progress)}")
        return Update(self._settings, progress or (lambda _: None)).run()

    async def aupdate_vectorstore(self, *, progress: Progress | None = None) -> IngestReport:
        """The asynchronous twin of :meth:`update_vectorstore`; works in threads, as it has many."""
        return await asyncio.to_thread(self.update_vectorstore, progress=progress)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ingest a folder from the command line; returns the exit code, 1 if a document failed."""
    asked = parser().parse_args(arguments)
    try:
        model = _model(asked.embedding)
        with ExitStack() as stack:
            database = Database.embedded(asked.data) if asked.data else Database(asked.dsn)
            stack.enter_context(database)
            store = PostgresVectorStore(model, database=database, collection=asked.collection)
            manager = VectorStoreManager(store, workers=asked.workers, batch_size=asked.batch_size)
            manager.add_folder(asked.folder, patterns=asked.pattern or ("*",))
            report = manager.update_vectorstore(progress=_bar if sys.stderr.isatty() else None)
    except (A2rchiError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for name, reason in report.failed.items():
        sys.stderr.write(f"failed: {name}: {reason}\n")
    numbers = ("added", "updated", "removed", "unchanged", "waiting", "chunks")
    said = [f"{getattr(report, name)} {name}" for name in numbers]
    said += [f"{len(report.empty)} empty", f"{len(report.failed)} failed"]
    sys.stdout.write(", ".join(said) + "\n")
    return 1 if report.failed else 0


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    main = argparse.ArgumentParser(
        prog="python -m a2rchi_pg.ingest",
        description="Bring a folder into the catalog, and a collection in line with it.",
    )
    main.add_argument("folder", type=Path)
    main.add_argument("--collection", default="default")
    main.add_argument(
        "--embedding", required=True, metavar="MODULE:NAME",
        help="the LangChain embedding model: an object, or something to call that makes one",
    )  # fmt: skip
    where = main.add_mutually_exclusive_group()
    where.add_argument("--dsn", help="the database; without, A2RCHI_PG_DSN or libpq's PG*")
    where.add_argument("--data", metavar="FOLDER", help="an embedded server's data instead")
    main.add_argument("--pattern", action="append", help="which files, as *.md; may be repeated")
    main.add_argument("--workers", type=int, help="threads that load and split")
    main.add_argument("--batch-size", type=int, default=128, help="texts a call of the model")
    return main


def _model(name: str) -> Embeddings:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidInput(f"--embedding {name}: {error}; it takes MODULE:NAME") from error
    if isinstance(found, type) or not hasattr(found, "embed_documents"):
        return found()  # type: ignore[no-any-return]  # the store checks what it is
    return found  # type: ignore[no-any-return]  # as above


def _bar(progress: IngestProgress) -> None:
    filled = 30 * progress.done // progress.total
    bar = "█" * filled + "·" * (30 - filled)
    end = "\n" if progress.done == progress.total else ""
    sys.stderr.write(f"\r{bar} {progress.done}/{progress.total} {progress.document:.40}\033[K{end}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

"""One run that brings a collection in line with the catalog: take up, load, embed, store, tell."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from a2rchi_pg import _syncing
from a2rchi_pg._administration import Collections
from a2rchi_pg._folder import fingerprint
from a2rchi_pg._ingestion import embedding_fingerprint
from a2rchi_pg._target import degraded
from a2rchi_pg._vectors import Vector, answered
from a2rchi_pg.catalog import CatalogRepository
from a2rchi_pg.collections import calibrate
from a2rchi_pg.errors import (
    A2rchiError,
    CollectionMismatch,
    DimensionMismatch,
    IllegalTransition,
    InvalidValue,
    MissingReference,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

    from a2rchi_pg._preparing import Prepared, Settings
    from a2rchi_pg._syncing import Due, Standing

WINDOW = 32  # documents taken up at a time: what a crash leaves behind, and others wait for
FIRST_WAIT = 60.0  # seconds after the first failure; twice as many after each other one
LONGEST_WAIT = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestProgress:
    """What just became of one document.

    Attributes:
        done: How many documents are done, this one included.
        total: How many there were to do when it began; others may do some of them.
        document: Its display name.
        outcome: What became of it; ``"lost"`` if its lease ran out and another took it over.
    """

    done: int
    total: int
    document: str
    outcome: Literal["added", "updated", "failed", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestReport:
    """What an update did.

    Attributes:
        added: Documents that are new in the collection.
        updated: Documents that were embedded anew: other content, splitter or model.
        removed: Documents taken out, because the catalog has them no more.
        unchanged: Documents that were in it already.
        waiting: Documents that another manager has, or that failed before and wait.
        empty: Those added or updated that have no text, and so no chunks, by resource_hash.
        failed: Why, by resource_hash; chunks they had before stay.
        chunks: Chunks written.
        seconds: By stage: ``"fingerprint"``, ``"load"`` (over all workers), ``"embed"``,
            ``"store"``.
    """

    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    waiting: int = 0
    empty: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict, hash=False)
    chunks: int = 0
    seconds: dict[str, float] = field(default_factory=dict, hash=False)


Progress: TypeAlias = Callable[[IngestProgress], None]


class Update:
    """One run of a manager over its collection."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self._settings = settings
        self._database = settings.store.database
        self._catalog = CatalogRepository(self._database)
        self._progress = progress
        self._owner = f"{os.uname().nodename}-{os.getpid()}-{token_hex(6)}"
        self._collection = settings.store.create_collection()
        self._model, self._model_name = settings.store.embeddings, self._collection.embedding_model
        settings.check_model(self._collection)
        self._embedding = embedding_fingerprint(self._model_name, settings.splitter_name)
        self._counts: Counter[str] = Counter()
        self._empty: list[str] = []
        self._failed: dict[str, str] = {}
        self._seconds: dict[str, float] = dict.fromkeys(
            ("fingerprint", "load", "embed", "store"), 0.0
        )
        self._total = 0

    def run(self) -> IngestReport:
        removed = self._database.run(_syncing.remove_deleted(self._collection))
        with ThreadPoolExecutor(self._settings.workers) as pool, self._held():
            files = self._fingerprints(pool)
            self._database.run(_syncing.adopt(self._collection, files, self._embedding))
            self._total = self._database.run(
                _syncing.count_due(self._collection, files, self._embedding)
            )
            for window in self._windows(files, pool):
                self._embed_and_store(self._loaded(window))
        now = self._database.run(_syncing.standing(self._collection))
        self._complete(now)
        return self._report(removed, now)

    def _complete(self, now: Standing) -> None:
        """Build the indexes that its chunks lack, and sample them; a run that was killed didn't."""
        collections, name = Collections(self._database), self._collection.name
        known = collections.get(name)
        whole = known is not None and not degraded(known) and known.calibrated_rows > 0
        if self._counts["chunks"] or (now.chunks and not whole):
            collections.build_indexes(name)
            self._database.run(calibrate(name))
            self._settings.store.create_collection()  # it saw the collection without

    def _report(self, removed: int, now: Standing) -> IngestReport:
        added, updated = self._counts["added"], self._counts["updated"]
        return IngestReport(
            added=added,
            updated=updated,
            removed=removed,
            unchanged=max(0, now.embedded - added - updated),
            waiting=max(0, now.documents - now.embedded - len(self._failed)),
            empty=tuple(self._empty),
            failed=self._failed,
            chunks=self._counts["chunks"],
            seconds=self._seconds,
        )

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Renews what this run holds, and gives back what it doesn't finish."""
        over = threading.Event()
        lease, name = self._settings.lease, self._collection.name

        def renew() -> None:
            while not over.wait(lease / 3):
                try:
                    self._catalog.renew(name, owner=self._owner, lease=lease)
                except A2rchiError:  # the next document to be stored will say it
                    continue

        heart = threading.Thread(target=renew, name="a2rchi_pg-lease", daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()
            self._catalog.release(name, owner=self._owner)

    def _fingerprints(self, pool: ThreadPoolExecutor) -> dict[int, str]:
        with self._timed("fingerprint"):
            unhashed = self._database.run(_syncing.unhashed_documents())
            root = self._settings.data_path
            contents = pool.map(fingerprint, [root / each.file_path for each in unhashed])
            known = zip(unhashed, contents, strict=True)
            return {each.id: content for each, content in known if content is not None}

    def _windows(
        self, files: dict[int, str], pool: ThreadPoolExecutor
    ) -> Iterator[list[tuple[Due, Future[Prepared]]]]:
        """Documents that are ours, being loaded; the next ones already while these are embedded."""
        after, ahead = 0, list["tuple[Due, Future[Prepared]]"]()
        while due := self._database.run(
            _syncing.claim(
                self._collection, files, self._embedding, after, WINDOW, self._owner,
                self._settings.lease,
            )
        ):  # fmt: skip
            after = due[-1].id
            window = [(each, pool.submit(self._load, each)) for each in due if each.taken]
            if ahead:
                yield ahead
            ahead = window
        if ahead:
            yield ahead

    def _load(self, document: Due) -> Prepared:
        with self._timed("load"):
            return self._settings.prepared(document)

    def _loaded(self, window: list[tuple[Due, Future[Prepared]]]) -> list[tuple[Due, Prepared]]:
        loaded = []
        for document, future in window:
            try:
                loaded.append((document, future.result()))
            except Exception as error:  # noqa: BLE001 - loaders and splitters are the host's
                self._fail(document, error)
        return loaded

    def _embed_and_store(self, loaded: list[tuple[Due, Prepared]]) -> None:
        """All of them together, or one by one where the model won't have all: whose fault is it?"""
        try:
            vectors = self._vectors([p.text for _, prepared in loaded for p in prepared.pieces])
        except DimensionMismatch:
            raise
        except Exception as error:  # noqa: BLE001 - so is the model
            if len(loaded) == 1:
                self._fail(loaded[0][0], error)
            else:
                for each in loaded:
                    self._embed_and_store([each])
            return
        start = 0
        for document, prepared in loaded:
            end = start + len(prepared.pieces)
            self._store(document, prepared, vectors[start:end])
            start = end

    def _vectors(self, texts: list[str]) -> Vector:
        halves, size = self._collection.element == "halfvec", self._settings.batch_size
        found = [np.empty((0, self._collection.dimensions), np.float32)]
        with self._timed("embed"):
            for start in range(0, len(texts), size):
                batch = texts[start : start + size]
                answer = self._model.embed_documents(batch)
                found.append(answered(answer, len(batch), self._model_name, halves=halves))
                _syncing.check_dimensions(self._collection, found[-1])
        return np.concatenate(found)

    def _store(self, document: Due, prepared: Prepared, vectors: Vector) -> None:
        op = _syncing.replace_chunks(
            self._collection, document, prepared.pieces, prepared.metadatas, vectors,
            self._owner, self._embedding,
        )  # fmt: skip
        try:
            with self._timed("store"):
                self._database.run(op)
        except IllegalTransition:
            self._check_name()
            self._tell(document, "lost")
        except (InvalidValue, MissingReference) as error:
            self._fail(document, error)
        else:
            self._counts["chunks"] += len(prepared.pieces)
            if not prepared.pieces:
                self._empty.append(document.resource_hash)
            self._tell(document, "added" if document.chunk_count is None else "updated")

    def _check_name(self) -> None:
        """Stop where all that is still due would be lost, too."""
        name = self._collection.name
        known = Collections(self._database).get(name)
        if known is None or known.id != self._collection.id:
            raise CollectionMismatch(
                f"collection {name!r} was dropped or exchanged while it was being brought up to "
                "date; what was stored by then is in the one that it was"
            )

    def _fail(self, document: Due, error: Exception) -> None:
        reason = _reason(error)
        wait = min(FIRST_WAIT * 2 ** min((document.attempts or 1) - 1, 20), LONGEST_WAIT)
        try:
            self._catalog.fail(
                self._collection.name, document.id, reason, owner=self._owner, retry_after=wait
            )
        except IllegalTransition:
            self._tell(document, "lost")
        else:
            self._failed[document.resource_hash] = reason
            self._tell(document, "failed")

    def _tell(self, document: Due, outcome: Literal["added", "updated", "failed", "lost"]) -> None:
        self._counts[outcome] += 1
        self._counts["done"] += 1
        done = self._counts["done"]
        self._progress(
            IngestProgress(
                done=done,
                total=max(done, self._total),
                document=document.display_name,
                outcome=outcome,
            )
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[stage] += time.monotonic() - began


def _reason(error: Exception) -> str:
    """What people are told: ours and the system's in plain words, others by their kind as well."""
    if isinstance(error, OSError) and error.strerror:
        return f"it can't be read: {error.strerror}"
    return str(error) if isinstance(error, A2rchiError) else f"{type(error).__name__}: {error}"

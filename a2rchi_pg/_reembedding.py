"""Another model for the same texts: a collection filled beside the old one, which stays.

The new collection becomes what the old one is, but for the vectors, page after page in the order of
ids. The model is asked only for texts that the new collection lacks or has otherwise, so a run that
was interrupted goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from a2rchi_pg import _chunks, _flow
from a2rchi_pg._arguments import shown, whole
from a2rchi_pg._filters import EVERYTHING
from a2rchi_pg._flow import EmbedTexts
from a2rchi_pg._mirroring import carry_over, mirror, oldest_transaction, page
from a2rchi_pg._store import DEFAULT_BATCH, Store
from a2rchi_pg._vectors import as_matrix
from a2rchi_pg._writing import WritableStore
from a2rchi_pg.collections import Collection, CollectionSpec
from a2rchi_pg.errors import CollectionMismatch, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from langchain_core.embeddings import Embeddings

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._vectors import Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembedProgress:
    """How far a collection has been filled.

    Attributes:
        done: Chunks of the old collection that the new one has by now.
        embedded: How many of them the model was asked for in this run.
        total: Chunks there were when it began.
    """

    done: int
    embedded: int
    total: int


class ReembeddableStore(WritableStore):
    """A collection whose texts can be given to another model."""

    def reembed(
        self,
        embedding: Embeddings,
        *,
        collection: str | CollectionSpec,
        batch_size: int = DEFAULT_BATCH,
        progress: Callable[[ReembedProgress], None] | None = None,
    ) -> Self:
        """Fill a collection beside this one from its texts, with another model's vectors.

        Each batch is a transaction of its own; no connection is held while the model works, and no
        more than a batch is in memory. Interrupted, it goes on where it stopped when called again;
        called again after it finished, it brings the new collection up to date with what was
        written meanwhile. Then ``Collections(database).swap(old, new)`` exchanges the names.

        Args:
            embedding: The new model.
            collection: Where to: a name, to be made with this collection's settings, or a spec. It
                becomes a mirror: chunks that this collection doesn't have are deleted from it.
            batch_size: Texts given to the model at a time.
            progress: Called after every batch, between transactions.

        Returns:
            A store on the new collection, with the new model.

        Raises:
            NotFound: If this collection isn't there.
            CollectionMismatch: If the new one exists and was filled by a model of another name.
            InvalidInput: If the two are the same.
        """
        new, flow = self._refill(embedding, collection, batch_size, progress)
        _flow.run(flow, embedding, self._database)
        return new

    async def areembed(
        self,
        embedding: Embeddings,
        *,
        collection: str | CollectionSpec,
        batch_size: int = DEFAULT_BATCH,
        progress: Callable[[ReembedProgress], None] | None = None,
    ) -> Self:
        """The asynchronous twin of :meth:`reembed`; ``progress`` runs on the event loop."""
        new, flow = self._refill(embedding, collection, batch_size, progress)
        await _flow.arun(flow, embedding, self._database)
        return new

    def _refill(
        self,
        embedding: Embeddings,
        collection: str | CollectionSpec,
        batch_size: int,
        progress: Callable[[ReembedProgress], None] | None,
    ) -> tuple[Self, Flow[None]]:
        batch_size = whole(batch_size, "batch_size", 1)
        if progress is not None and not callable(progress):
            raise InvalidInput(f"progress must be a function, got {shown(progress)}")
        new = type(self)(embedding, database=self._database, collection=collection)
        spec = new._store.spec  # noqa: SLF001 - another object of this very class
        refill = Refill(spec, strict=isinstance(collection, CollectionSpec))
        return new, refill.fill(self._store, batch_size, progress or _silent)


class Refill(Store):
    """A collection that is filled from another one."""

    def fill(
        self, source: Store, batch_size: int, progress: Callable[[ReembedProgress], None]
    ) -> Flow[None]:
        """Make the collection a mirror of ``source``, with the vectors of the model at hand."""
        origin = yield from source.existing()
        yield from self._prepare(origin)
        horizon = yield oldest_transaction()
        total = yield _chunks.count(origin, EVERYTHING)
        after, done, embedded = None, 0, 0
        while rows := (yield page(origin, self._known, after, batch_size)):
            last = rows[-1][0] if len(rows) == batch_size else None
            fresh = [(id_, content) for id_, content in rows if content is not None]
            yield from self._mirror(origin, fresh, after, last)
            done, embedded = done + len(rows), embedded + len(fresh)
            progress(ReembedProgress(done=done, embedded=embedded, total=max(done, total)))
            if last is None:
                break
            after = last
        else:
            yield from self._mirror(origin, [], after, None)
        if self._known is not None:
            yield carry_over(origin, self._known, horizon)
        yield from self.finish(done)

    def _prepare(self, origin: Collection) -> Flow[None]:
        if not self._strict:
            self.spec = _like(origin, self.spec)
        if self.spec.name == origin.name:
            raise InvalidInput(f"collection {origin.name!r} can't be filled from itself")
        known = yield from self._resolve()
        if known is not None and known.is_of_another_model(self.spec.embedding_model):
            raise CollectionMismatch(
                f"collection {self.spec.name!r} was filled by embedding model "
                f"{known.embedding_model!r}, not by {self.spec.embedding_model!r}: "
                "choose another name"
            )

    def _mirror(
        self,
        origin: Collection,
        fresh: Sequence[tuple[str, str]],
        after: str | None,
        last: str | None,
    ) -> Flow[None]:
        """Bring what is behind ``after`` and up to ``last`` to the state of the origin."""
        matrix: Vector = as_matrix([[0.0]])[:0]
        if fresh:
            answer = yield EmbedTexts([content for _, content in fresh])
            matrix = self._answered(answer, len(fresh))
            yield from self._ensure(matrix.shape[1])
        if self._known is not None:
            yield mirror(origin, self._known, fresh, matrix, after, last)


def _like(origin: Collection, spec: CollectionSpec) -> CollectionSpec:
    """``spec`` with the settings of a collection; its name and model stay its own."""
    own = {"name", "embedding_model"}
    names = [each.name for each in fields(spec) if each.name not in own]
    return replace(spec, **{name: getattr(origin, name) for name in names})


def _silent(progress: ReembedProgress) -> None:
    """Where nobody wants to know."""

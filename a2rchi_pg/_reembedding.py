"""Another model for the same texts: a collection filled beside the old one, which stays.

The new collection becomes what the old one is, but for the vectors, page after page in the order of
ids. The model is asked only for texts that the new collection lacks or has otherwise, so a run that
was interrupted goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg import _chunks, _flow
from a2rchi_pg._arguments import shown, whole
from a2rchi_pg._filters import EVERYTHING
from a2rchi_pg._flow import EmbedTexts
from a2rchi_pg._op import Statement, Steps, fetch_tuples, own_sql, read, upsert
from a2rchi_pg._store import DEFAULT_BATCH, Store
from a2rchi_pg._vectors import VectorArray, as_matrix
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


@read
def page(
    source: Collection, target: Collection | None, after: str | None, limit: int
) -> Steps[list[tuple[str, str | None]]]:
    """Ids in their order, each with its text where the target doesn't have it."""
    query = _between(_PAGE if target else _FIRST_PAGE, source, target or source)
    return (yield from fetch_tuples(query, after=after, last=None, limit=limit))


@upsert
def mirror(
    source: Collection,
    target: Collection,
    fresh: Sequence[tuple[str, str]],
    vectors: Vector,
    after: str | None,
    last: str | None,
) -> Steps[None]:
    """Make a range of the target what it is in the source; what changed meanwhile has to wait."""
    params: dict[str, Any] = {
        "ids": [id_ for id_, _ in fresh],
        "contents": [content for _, content in fresh],
        "vectors": VectorArray(vectors),
    }
    query = _between(_MIRROR, source, target)
    yield Statement(query=query, params={**params, "after": after, "last": last})


_FIRST_PAGE = """
    SELECT s.id, s.content FROM {source} AS s WHERE {range_s} ORDER BY s.id LIMIT %(limit)s
"""
_PAGE = """
    SELECT s.id, CASE WHEN t.content = s.content THEN NULL ELSE s.content END
    FROM {source} AS s
    LEFT JOIN {target} AS t ON t.collection_id = {target_id} AND t.id = s.id
    WHERE {range_s}
    ORDER BY s.id
    LIMIT %(limit)s
"""
# Delete and insert, as everywhere. Of a text that changed since it was read the vector is an old
# one: it stays out until the next run.
_MIRROR = """
    WITH given AS MATERIALIZED (
        SELECT id, content, embedding
        FROM unnest(%(ids)b::text[], %(contents)b::text[], %(vectors)b::vector[])
            AS t (id, content, embedding)
    ),
    wanted AS MATERIALIZED (
        SELECT s.document_id, s.chunk_index, s.start_char, s.end_char, s.id, s.content, s.metadata,
               coalesce(given.embedding, t.embedding) AS embedding
        FROM {source} AS s
        LEFT JOIN given ON given.id = s.id AND given.content = s.content
        LEFT JOIN {target} AS t
            ON t.collection_id = {target_id} AND t.id = s.id AND t.content = s.content
        WHERE {range_s} AND coalesce(given.embedding, t.embedding) IS NOT NULL
    ),
    gone AS (
        DELETE FROM {target} AS t
        WHERE {range_t} AND NOT EXISTS (
            SELECT FROM wanted AS w
            WHERE w.id = t.id
                AND (w.document_id, w.chunk_index, w.start_char, w.end_char, w.content, w.metadata,
                    w.embedding) IS NOT DISTINCT FROM
                    (t.document_id, t.chunk_index, t.start_char, t.end_char, t.content, t.metadata,
                    t.embedding)
        )
        RETURNING t.id
    )
    INSERT INTO {target} (collection_id, document_id, chunk_index, start_char, end_char, id,
        content, metadata, embedding)
    SELECT {target_id}, document_id, chunk_index, start_char, end_char, id, content, metadata,
           embedding
    FROM wanted
    WHERE id IN (SELECT id FROM gone)
        OR NOT EXISTS (
            SELECT FROM {target} AS t WHERE t.collection_id = {target_id} AND t.id = wanted.id
        )
"""
_RANGE = """
    {side}.collection_id = {id}
        AND (%(after)s::text IS NULL OR {side}.id > %(after)s)
        AND (%(last)s::text IS NULL OR {side}.id <= %(last)s)
"""


@lru_cache(maxsize=32)
def _between(template: str, source: Collection, target: Collection) -> bytes:
    return (
        own_sql(template)
        .format(
            source=source.table,
            target=target.table,
            target_id=sql.Literal(target.id),
            range_s=_range("s", source),
            range_t=_range("t", target),
        )
        .as_bytes(None)
    )


def _range(side: str, collection: Collection) -> sql.Composed:
    return own_sql(_RANGE).format(side=own_sql(side), id=sql.Literal(collection.id))


def _like(origin: Collection, spec: CollectionSpec) -> CollectionSpec:
    """``spec`` with the settings of a collection; its name and model stay its own."""
    own = {"name", "embedding_model"}
    names = [each.name for each in fields(spec) if each.name not in own]
    return replace(spec, **{name: getattr(origin, name) for name in names})


def _silent(progress: ReembedProgress) -> None:
    """Where nobody wants to know."""

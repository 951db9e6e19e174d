"""Chunks and their vectors, on their way into a collection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from a2rchi_pg import collections
from a2rchi_pg._administration import Collections
from a2rchi_pg._arguments import MAX_INTEGER
from a2rchi_pg._chunks import rendered
from a2rchi_pg._content import clean_content, clean_id, metadata_json
from a2rchi_pg._indexes import drop_indexes
from a2rchi_pg._op import execute, fetch_tuples, fetch_value, write
from a2rchi_pg._vectors import Vector, VectorArray, as_vector
from a2rchi_pg.errors import CollectionMismatch, DimensionMismatch, InvalidInput, NotFound
from a2rchi_pg.migrate._cleaned import CLEANED, is_storable
from a2rchi_pg.migrate._digest import canonical, digest, vector_bytes
from a2rchi_pg.migrate._hashes import ticket_hash
from a2rchi_pg.migrate._source import Row, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from a2rchi_pg._maintenance import IndexProgress
    from a2rchi_pg._op import Runner, Steps
    from a2rchi_pg.collections import Collection, CollectionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk ready to be stored.

    Attributes:
        hash: What the document it is from is called in the catalog, where the chunk says it.
        path: The file it is from, where it says only that.
    """

    content: str
    metadata: str
    vector: Vector
    index: int | None
    hash: str | None
    path: str | None


def chunk_row(
    key: str,
    content: str | None,
    metadata: Mapping[str, Any] | None,
    vector: Any,
    dimensions: int,
) -> Row[Chunk]:
    """A record of another vector store as a row; its ``problem`` says why it can't be stored."""
    try:
        clean_id(key)
        text = clean_content("" if content is None else content)
        stored = metadata_json(metadata)
        array = as_vector(_present(vector), dimensions)
    except (InvalidInput, DimensionMismatch) as error:
        return Row(key=key, problem=str(error))
    known = json.loads(stored)
    notes = ["it has no text"] if content is None else []
    notes += [] if is_storable([content, metadata]) else [CLEANED]
    index = known.get("chunk_index")
    return Row(
        key=key,
        digest=chunk_digest(key, text, known, array),
        value=Chunk(
            content=text,
            metadata=stored,
            vector=array,
            index=index if _is_place(index) else None,
            hash=_document_hash(known),
            path=_text(known.get("source")),
        ),
        notes=tuple(notes),
    )


def chunk_digest(key: str, content: str, metadata: Any, vector: np.ndarray[Any, Any]) -> bytes:
    """The fingerprint of a chunk: its id, text, metadata and the bits of its vector."""
    return digest(key, content, canonical(metadata), vector_bytes(vector))


def _document_hash(metadata: Mapping[str, Any]) -> str | None:
    given = _text(metadata.get("resource_hash"))
    if given is not None:
        return ticket_hash(given)
    name = _text(metadata.get("filename"))  # the oldest stores named files by their hash
    return None if name is None else ticket_hash(PurePosixPath(name).stem)


def _is_place(value: object) -> bool:
    """Whether it may be where a chunk is in its document, and not just any number."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _present(vector: Any) -> Any:
    if vector is None:
        raise InvalidInput("it has no vector")
    return vector


# A chunk belongs to the document of its hash, or else to the only one with its path.
_LINKED = """
    SELECT given.id, coalesce(
        (SELECT d.id FROM documents d WHERE d.resource_hash = given.hash),
        (SELECT min(d.id) FROM documents d WHERE given.path IS NOT NULL
            AND d.file_path = given.path HAVING count(*) = 1)) AS document_id
    FROM unnest(%(keys)s::text[], %(hashes)s::text[], %(paths)s::text[]) AS given (id, hash, path)
"""
_INSERT = f"""
    WITH linked AS MATERIALIZED ({_LINKED})
    INSERT INTO {{partition}} (collection_id, document_id, chunk_index, id, content, metadata,
        embedding)
    SELECT {{collection_id}}, document_id, chunk_index, id, content, metadata::jsonb, embedding
    FROM unnest(%(keys)s::text[], %(contents)b::text[], %(metadatas)b::text[],
        %(vectors)b::vector[], %(indexes)s::integer[])
        AS t (id, content, metadata, embedding, chunk_index)
    JOIN linked USING (id)
    ON CONFLICT DO NOTHING
    RETURNING id
"""  # noqa: S608 - made of our own parts
_MISPLACED = f"""
    SELECT id FROM ({_LINKED}) AS linked
    JOIN unnest(%(keys)s::text[], %(indexes)s::integer[]) AS place (id, chunk_index) USING (id)
    JOIN {{partition}} AS stored USING (id)
    WHERE stored.collection_id = {{collection_id}}
        AND (stored.document_id, stored.chunk_index)
            IS DISTINCT FROM (linked.document_id, place.chunk_index)
    ORDER BY id COLLATE "C"
"""  # noqa: S608 - made of our own parts
# Which documents are in, for those who look for what is still to be embedded.
_STATES = """
    INSERT INTO indexed_documents AS i (collection_id, document_id, status, chunk_count, indexed_at)
    SELECT {collection_id}, document_id, 'embedded', count(*), now()
    FROM {partition} WHERE document_id IS NOT NULL GROUP BY document_id
    ON CONFLICT (collection_id, document_id) DO UPDATE SET chunk_count = excluded.chunk_count
    WHERE i.status = 'embedded' AND i.chunk_count IS DISTINCT FROM excluded.chunk_count
"""
_DELETE = """
    WITH gone AS (
        DELETE FROM {partition} WHERE collection_id = {collection_id} AND id = ANY(%(keys)s::text[])
        RETURNING id, document_id
    ),
    remaining AS (
        SELECT document_id, (SELECT count(*) FROM {partition} AS stored
            WHERE stored.document_id = touched.document_id
                AND stored.id NOT IN (SELECT unnest(%(keys)s::text[]))) AS chunks
        FROM (SELECT DISTINCT document_id FROM gone) AS touched
    ),
    ended AS (
        DELETE FROM indexed_documents AS i USING remaining AS r
        WHERE i.collection_id = {collection_id} AND i.document_id = r.document_id AND r.chunks = 0
            AND i.status = 'embedded'
    ),
    counted AS (
        UPDATE indexed_documents AS i SET chunk_count = r.chunks FROM remaining AS r
        WHERE i.collection_id = {collection_id} AND i.document_id = r.document_id AND r.chunks > 0
            AND i.status = 'embedded'
    )
    SELECT id FROM gone
"""


class ChunkTarget(Target[Chunk]):
    """A collection that chunks go into."""

    def __init__(self, spec: CollectionSpec, dimensions: int) -> None:
        self._spec = spec
        self._dimensions = dimensions
        self._collection: Collection | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"collection {self._spec.name}"

    def exists(self, runner: Runner) -> bool:
        """Whether the collection is there."""
        self._collection = runner.run(collections.get_collection(self._spec.name))
        return self._collection is not None

    def check(self, runner: Runner) -> None:
        """Raise where the vectors wouldn't fit, or distances would mean something else."""
        self._spec.check_dimensions(self._dimensions)
        if not self.exists(runner):
            return
        there = self._existing()
        if there.dimensions != self._dimensions:
            raise DimensionMismatch(
                f"collection {there.name!r} holds vectors of {there.dimensions} dimensions, the "
                f"source's have {self._dimensions}: choose another --collection",
                expected=there.dimensions,
                got=self._dimensions,
            )
        if there.is_of_another_model(self._spec.embedding_model):
            raise CollectionMismatch(
                f"collection {there.name!r} holds vectors of {there.embedding_model!r}, not of "
                f"{self._spec.embedding_model!r}: choose another --collection, or where both are "
                "one model, another --embedding-model"
            )
        if there.metric != self._spec.metric:
            raise CollectionMismatch(
                f"collection {there.name!r} measures {there.metric}, the source "
                f"{self._spec.metric}: choose another --collection"
            )

    def prepare(self, runner: Runner) -> None:
        """Make the collection where it is missing, without an index until it is full."""
        if not self.exists(runner):
            runner.run(collections.ensure_collection(self._spec, self._dimensions))
            runner.run(drop_indexes(self._spec.name))
            self.exists(runner)

    def insert(self, rows: Sequence[Row[Chunk]]) -> Steps[set[str]]:
        """Add the chunks whose ids are free, each linked to its document."""
        if not rows:
            return set()
        values = [row.value for row in rows if row.value is not None]
        found = yield from fetch_tuples(
            rendered(_INSERT, self._existing()),
            **_links(rows),
            contents=[value.content for value in values],
            metadatas=[value.metadata for value in values],
            vectors=VectorArray(np.stack([value.vector for value in values])),
        )
        return {key for (key,) in found}

    def digests(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The fingerprints of the chunks with these ids."""
        query = """
            SELECT id, content, metadata, embedding FROM {partition}
            WHERE collection_id = {collection_id} AND id = ANY(%(keys)s::text[])
        """
        found = yield from fetch_tuples(rendered(query, self._existing()), keys=list(keys))
        return {row[0]: chunk_digest(*row) for row in found}

    def misplaced(self, rows: Sequence[Row[Chunk]]) -> Steps[list[str]]:
        """The chunks that are of another document than they should be, or elsewhere in it."""
        found = yield from fetch_tuples(rendered(_MISPLACED, self._existing()), **_links(rows))
        return [key for (key,) in found]

    def keys(self) -> sql.Composable:
        """A query of every chunk's id."""
        there = self._existing()
        return sql.SQL("SELECT id AS key FROM {} WHERE collection_id = {}").format(
            there.table, sql.Literal(there.id)
        )

    def delete(self, keys: Sequence[str]) -> Steps[set[str]]:
        """Delete chunks, and the state of documents that have none left."""
        found = yield from fetch_tuples(rendered(_DELETE, self._existing()), keys=list(keys))
        return {key for (key,) in found}

    def finish(self, runner: Runner) -> None:
        """Say which documents are in, build the indexes, learn what similarity means."""
        runner.run(_note_states(self._existing()))
        Collections(runner).build_indexes(self._spec.name)
        runner.run(collections.calibrate(self._spec.name))

    def building(self, runner: Runner) -> IndexProgress | None:
        """How far the index is that is being built."""
        return Collections(runner).build_progress(self._spec.name)

    def drop(self, runner: Runner) -> bool:
        """Drop the collection if it is empty."""
        if runner.run(_is_used(self._existing())):
            return False
        return runner.run(collections.drop_collection(self._spec.name))

    def _existing(self) -> Collection:
        if self._collection is None:
            raise NotFound(f"there is no collection {self._spec.name!r}")
        return self._collection


def _links(rows: Sequence[Row[Chunk]]) -> dict[str, Any]:
    values = [(row.key, row.value) for row in rows if row.value is not None]
    return {
        "keys": [key for key, _ in values],
        "hashes": [value.hash for _, value in values],
        "paths": [value.path for _, value in values],
        "indexes": [value.index for _, value in values],
    }


@write
def _note_states(collection: Collection) -> Steps[None]:
    yield from execute(rendered(_STATES, collection))


@write
def _is_used(collection: Collection) -> Steps[bool]:
    query = rendered("SELECT EXISTS (SELECT FROM {partition})", collection)
    return bool((yield from fetch_value(query)))

"""Chunks in and out of a collection's partition: upsert, delete, get, count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._filters import Condition
from a2rchi_pg._op import Statement, Steps, fetch_tuples, fetch_value, own_sql, read, upsert, write
from a2rchi_pg._vectors import Vector, VectorArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from a2rchi_pg.collections import Collection


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Chunks ready to be stored: columns of one length, ids without duplicates.

    Attributes:
        metadatas: JSON objects, as text.
        vectors: ``(n, dim) float32``.
    """

    ids: Sequence[str]
    contents: Sequence[str]
    metadatas: Sequence[str]
    vectors: Vector


@upsert
def upsert_chunks(
    collection: Collection, batches: Sequence[Batch], document_id: int | None = None
) -> Steps[None]:
    """Store every batch in one transaction; rows that are there already in the same state stay."""
    for batch in batches:
        yield from until_none_slips(_upsert(collection, batch, document_id))


def _upsert(
    collection: Collection, batch: Batch, document_id: int | None
) -> Callable[[Sequence[str] | None], Statement]:
    statement = Statement(
        query=_upsert_sql(collection),
        params={
            "ids": list(batch.ids),
            "contents": list(batch.contents),
            "metadatas": list(batch.metadatas),
            "vectors": VectorArray(batch.vectors),
            "document_id": document_id,
        },
    )
    return lambda _slipped: statement  # what it has written by then, it leaves as it is


@lru_cache(maxsize=128)
def _upsert_sql(collection: Collection) -> bytes:
    """One statement: delete what changed, insert what is new or changed.

    Delete and insert, not update: pg_textsearch 0.6 loses rows that were updated in place. The
    insert reads ``gone`` to its end before it writes a row, which puts the deletes first.

    Writers of the same ids would wait for one another in a circle, unless all take rows in one
    order: those that are there by address, as a scan by ``ctid`` does, then new ones by id.

    Returns what :func:`until_none_slips` asks for. Lists of text go in binary (``%b``): left to
    choose, psycopg writes out and escapes each.
    """
    return rendered(
        """
        WITH held AS (DELETE FROM {partition} WHERE false),
        given AS MATERIALIZED (
            SELECT id, content, metadata::jsonb AS metadata, embedding
            FROM unnest(
                %(ids)b::text[], %(contents)b::text[], %(metadatas)b::text[], %(vectors)b::vector[]
            ) AS t (id, content, metadata, embedding)
        ),
        aimed AS MATERIALIZED (
            SELECT id, stored.ctid AS address
            FROM {partition} AS stored JOIN given USING (id)
            WHERE stored.collection_id = {collection_id}
                AND (stored.content, stored.metadata, stored.embedding, stored.document_id)
                    IS DISTINCT FROM
                    (given.content, given.metadata, given.embedding, %(document_id)s::bigint)
        ),
        gone AS (
            DELETE FROM {partition}
            WHERE ctid = ANY (ARRAY(SELECT address FROM aimed))
            RETURNING id, ctid AS address
        ),
        written AS (
            INSERT INTO {partition} (collection_id, document_id, id, content, metadata, embedding)
            SELECT {collection_id}, %(document_id)s::bigint, id, content, metadata, embedding
            FROM given
            WHERE id IN (SELECT id FROM gone)
                OR NOT EXISTS (
                    SELECT FROM {partition} AS stored
                    WHERE stored.collection_id = {collection_id} AND stored.id = given.id
                )
            ORDER BY id
            RETURNING id
        )
        SELECT (SELECT count(*) FROM written), {slipped}
        """,
        collection,
    )


@write
def delete_where(collection: Collection, condition: Condition) -> Steps[int]:
    """Delete every chunk that meets the condition; how many there were."""

    def statement(slipped: Sequence[str] | None) -> Statement:
        left = among(condition, slipped)
        return Statement(query=_delete_sql(collection, left.sql), params=left.params)

    return (yield from until_none_slips(statement))


@lru_cache(maxsize=128)
def _delete_sql(collection: Collection, condition: str) -> bytes:
    return rendered(
        """
        WITH {aimed},
        gone AS (
            DELETE FROM {partition}
            WHERE ctid = ANY (ARRAY(SELECT address FROM aimed))
            RETURNING id, ctid AS address
        )
        SELECT (SELECT count(*) FROM gone), {slipped}
        """,
        collection,
        condition,
    )


@read
def get_by_ids(
    collection: Collection, ids: Sequence[str]
) -> Steps[list[tuple[str, str, dict[str, Any]]]]:
    """Id, content and metadata of the chunks with these ids, in no particular order."""
    return (yield from fetch_tuples(_get_sql(collection), ids=list(ids)))


@lru_cache(maxsize=128)
def _get_sql(collection: Collection) -> bytes:
    return rendered(
        """
        SELECT id, content, metadata
        FROM {partition}
        WHERE collection_id = {collection_id} AND id = ANY(%(ids)s)
        """,
        collection,
    )


@read
def count(collection: Collection, condition: Condition) -> Steps[int]:
    """How many chunks meet the condition."""
    return int((yield from fetch_value(_count_sql(collection, condition.sql), **condition.params)))


@lru_cache(maxsize=128)
def _count_sql(collection: Collection, condition: str) -> bytes:
    return rendered("SELECT count(*) FROM {partition} WHERE {condition}", collection, condition)


def until_none_slips(make: Callable[[Sequence[str] | None], Statement]) -> Steps[int]:
    """Run a statement, and again for those rows that another writer replaced meanwhile.

    It waits for whoever deletes a row that it aims at, and then finds the row gone; what stands in
    its place was inserted after the statement began, so that only the next one sees it.

    Such a statement begins with a ``DELETE … WHERE false``: else it would lock the table to read
    it, and then to write to it, and whoever came between would wait for it in a circle.

    Args:
        make: The statement, which returns how many rows it wrote and, by id, the addresses of those
            that slipped; given the ids of those, the statement for them alone.
    """
    total, before = 0, dict[str, str]()
    slipped: list[str] | None = None
    while True:
        ((written, missed),) = yield make(slipped)
        total += int(written)
        # Missed twice where it was, a row is kept from us: by a policy, or a trigger of the host's.
        if not missed or missed == before:
            return total
        slipped, before = list(missed), missed


def among(condition: Condition, ids: Sequence[str] | None) -> Condition:
    """A condition for the chunks with these ids alone; None is all of them."""
    if ids is None:
        return condition
    params = {**condition.params, "slipped": ids}
    return Condition(sql=f"({condition.sql}) AND id = ANY(%(slipped)s::text[])", params=params)


# How a statement begins that aims at the chunks which meet a condition.
_AIMED = own_sql("""
        held AS (DELETE FROM {partition} WHERE false),
        aimed AS MATERIALIZED (
            SELECT id, ctid AS address FROM {partition}
            WHERE collection_id = {collection_id} AND {condition}
        )
""")
_SLIPPED = own_sql("""
    (SELECT jsonb_object_agg(id, address::text)
     FROM (SELECT id, address FROM aimed EXCEPT SELECT id, address FROM gone) AS missed)
""")


def rendered(template: str, collection: Collection, condition: str = "true") -> bytes:
    parts: dict[str, sql.Composable] = {
        "partition": collection.table,
        "collection_id": sql.Literal(collection.id),
        "condition": own_sql(condition),
    }
    aimed = _AIMED.format(**parts)
    return own_sql(template).format(**parts, aimed=aimed, slipped=_SLIPPED).as_bytes(None)

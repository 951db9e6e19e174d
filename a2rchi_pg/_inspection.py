"""What is in a collection, without a question: metadata fields, their values, pages of chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from a2rchi_pg._chunks import among, rendered, until_none_slips
from a2rchi_pg._op import Statement, Steps, fetch, fetch_tuples, read, upsert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._filters import Condition
    from a2rchi_pg.collections import Collection


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataField:
    """One key of a collection's metadata with one JSON type.

    Attributes:
        name: The key, at the top level of the metadata.
        type: ``"string"``, ``"number"``, ``"boolean"``, ``"array"``, ``"object"`` or ``"null"``.
        chunks: How many chunks have it with that type.
        distinct: How many different values it has.
        lowest: The least value of a string (by code point) or number, else None.
        highest: The greatest, likewise.
    """

    name: str
    type: str
    chunks: int
    distinct: int
    lowest: Any
    highest: Any


@read
def metadata_fields(collection: Collection) -> Steps[list[MetadataField]]:
    """Every top-level key, once per type; reads all metadata."""
    query = rendered(
        """
        SELECT name, type, count(*) AS chunks, count(DISTINCT value) AS distinct,
               CASE type WHEN 'number' THEN to_jsonb(min(number))
                         WHEN 'string' THEN to_jsonb(min(string)) END AS lowest,
               CASE type WHEN 'number' THEN to_jsonb(max(number))
                         WHEN 'string' THEN to_jsonb(max(string)) END AS highest
        FROM (
            SELECT name, value, jsonb_typeof(value) AS type,
                   CASE jsonb_typeof(value) WHEN 'number' THEN value::numeric END AS number,
                   CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{{}}' END
                       COLLATE "C" AS string
            FROM {partition}, jsonb_each(metadata) AS field (name, value)
        ) AS field
        GROUP BY name, type
        ORDER BY name, type
        """,
        collection,
    )
    return (yield from fetch(query, MetadataField))


@read
def metadata_values(
    collection: Collection, key: str, limit: int, condition: Condition
) -> Steps[list[tuple[Any, int]]]:
    """The commonest values of a top-level key, with how many chunks have each."""
    query = rendered(
        """
        SELECT metadata -> %(key)s::text, count(*)
        FROM {partition}
        WHERE metadata ? %(key)s::text AND {condition}
        GROUP BY 1
        ORDER BY 2 DESC, 1
        LIMIT %(limit)s
        """,
        collection,
        condition.sql,
    )
    return (yield from fetch_tuples(query, key=key, limit=limit, **condition.params))


@read
def page(
    collection: Collection, condition: Condition, limit: int, after: str | None
) -> Steps[list[tuple[str, str, dict[str, Any]]]]:
    """Chunks that meet the condition in the order of their ids, from behind ``after`` on."""
    query = rendered(
        """
        SELECT id, content, metadata
        FROM {partition}
        WHERE collection_id = {collection_id} AND id > %(after)s::text AND {condition}
        ORDER BY id
        LIMIT %(limit)s
        """,
        collection,
        condition.sql,
    )
    return (yield from fetch_tuples(query, limit=limit, after=after or "", **condition.params))


@upsert
def update_metadata(
    collection: Collection, patch: dict[str, Any], remove: Sequence[str], condition: Condition
) -> Steps[int]:
    """Merge into the metadata of every chunk that meets the condition; how many there were.

    Delete and insert: a row updated in place would be lost to pg_textsearch 0.6. By address and in
    the order of ids, as an upsert does: see ``_chunks``.
    """

    def statement(slipped: Sequence[str] | None) -> Statement:
        left = among(condition, slipped)
        params = {"patch": Jsonb(patch), "remove": list(remove), **left.params}
        return Statement(query=_update_sql(collection, left.sql), params=params)

    return (yield from until_none_slips(statement))


def _update_sql(collection: Collection, condition: str) -> bytes:
    return rendered(
        """
        WITH {aimed},
        gone AS (
            DELETE FROM {partition}
            WHERE ctid = ANY (ARRAY(SELECT address FROM aimed))
            RETURNING ctid AS address, document_id, chunk_index, start_char, end_char,
                id, content, embedding, metadata
        ),
        stored AS (
            INSERT INTO {partition} (collection_id, document_id, chunk_index, start_char, end_char,
                id, content, embedding, metadata)
            SELECT {collection_id}, document_id, chunk_index, start_char, end_char,
                id, content, embedding, (metadata || %(patch)s) - %(remove)s::text[]
            FROM gone
            ORDER BY id
            RETURNING id
        )
        SELECT (SELECT count(*) FROM stored), {slipped}
        """,
        collection,
        condition,
    )

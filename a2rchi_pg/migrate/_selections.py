"""What was chosen for conversations in ``catalog.sqlite``, and its way into the selection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from a2rchi_pg._arguments import MAX_BIGINT
from a2rchi_pg._dates import read_moment
from a2rchi_pg._op import fetch_tuples
from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate._digest import digest
from a2rchi_pg.migrate._hashes import renamed, todays_hash
from a2rchi_pg.migrate._source import Row, Survey, Target
from a2rchi_pg.migrate._sqlite import check_table, has_table, in_folder, read_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from a2rchi_pg._op import Steps

TABLE = "chat_document_selections"
COLUMNS = ("conversation_id", "document_hash", "enabled", "updated_at")
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Whether a conversation sees a document, and since when."""

    conversation_id: int
    resource_hash: str
    enabled: bool
    updated_at: datetime


class SelectionSource:
    """The choices in a ``catalog.sqlite``: a conversation's, as it knew no users.

    Their keys, ``conversation/hash``, are held in memory.
    """

    kind = "selections"

    def __init__(self, file: Path) -> None:
        check_table(file, TABLE, COLUMNS, "catalog with selections")
        self._file = file
        self.location = str(file.resolve())

    @classmethod
    def open(cls, path: str | Path) -> SelectionSource:
        """The choices in a file, or in ``catalog.sqlite`` of a folder."""
        return cls(in_folder(path, "catalog.sqlite"))

    def survey(self) -> Survey:
        """Count the choices."""
        return Survey(rows=len(self._rowids()))

    def batches(self, after: str | None, size: int) -> Iterator[Sequence[Row[Choice]]]:
        """The choices after a key."""
        rowids = self._rowids()
        names = renamed(rowids, _todays_key)
        wanted = [key for key in names if after is None or key > after]
        query = (
            f"SELECT rowid AS at, * FROM {TABLE} "  # noqa: S608 - our own name
            "WHERE rowid IN (SELECT value FROM json_each(?))"
        )
        for start in range(0, len(wanted), size):
            keys = wanted[start : start + size]
            places = [rowids[names[key]] for key in keys]
            found = {row["at"]: row for row in read_sqlite(self._file, query, [json.dumps(places)])}
            if found.keys() != set(places):
                raise MigrationError(f"{self._file} was changed while it was read: run it again")
            yield [_row(key, found[place]) for key, place in zip(keys, places, strict=True)]

    def _rowids(self) -> dict[str, int]:
        query = f"SELECT rowid AS at, conversation_id, document_hash FROM {TABLE}"  # noqa: S608 - ours
        found = read_sqlite(self._file, query)
        return {f"{row['conversation_id']}/{row['document_hash']}": row["at"] for row in found}


def has_selections(path: str | Path) -> bool:
    """Whether there is a ``catalog.sqlite`` that has choices: the first ones had none."""
    file = in_folder(path, "catalog.sqlite")
    return file.is_file() and has_table(file, TABLE)


def _todays_key(name: str) -> str:
    conversation, _, hash_ = name.partition("/")
    number = _number(conversation)
    return f"{conversation if number is None else number}/{todays_hash(hash_)}"


def _number(conversation: object) -> int | None:
    text = str(conversation).strip()
    number = int(text) if text.isascii() and text.isdecimal() else 0
    return number if 0 < number <= MAX_BIGINT else None


def _row(key: str, stored: dict[str, Any]) -> Row[Choice]:
    number, enabled = _number(stored["conversation_id"]), stored["enabled"]
    hash_ = todays_hash(str(stored["document_hash"]))
    if number is None:
        return Row(key=key, problem="its conversation has no number")
    if enabled not in (0, 1):
        return Row(key=key, problem="enabled is neither 0 nor 1")
    if key != f"{number}/{hash_}":
        return Row(key=key, problem=f"it is {number}/{hash_} today, which another one is as well")
    moment = read_moment(stored["updated_at"])
    choice = Choice(
        conversation_id=number,
        resource_hash=hash_,
        enabled=bool(enabled),
        updated_at=moment or UNKNOWN,
    )
    notes = () if moment else ("updated_at can't be read: 1970 stands for it",)
    return Row(key=key, digest=_digest(choice), value=choice, notes=notes)


def _digest(choice: Choice) -> bytes:
    return digest(_key(choice), str(choice.enabled), choice.updated_at.astimezone(UTC).isoformat())


def _key(choice: Choice) -> str:
    return f"{choice.conversation_id}/{choice.resource_hash}"


# Whatever there is of these, by the keys.
_GIVEN = """
    SELECT key, split_part(key, '/', 1)::bigint AS conversation_id,
           substring(key FROM position('/' IN key) + 1) AS resource_hash
    FROM unnest(%(keys)s::text[]) AS key
"""
_STORED = """
    conversation_document_selection AS s JOIN documents AS d ON d.id = s.document_id
"""


class SelectionTarget(Target[Choice]):
    """What is chosen for conversations: it needs the conversations and the documents."""

    @property
    def name(self) -> str:
        """What reports call it."""
        return "selections"

    def refused(self, rows: Sequence[Row[Choice]]) -> Steps[dict[str, str]]:
        """Choices for conversations, or of documents, that aren't here."""
        query = f"""
            SELECT key, CASE WHEN c.conversation_id IS NULL
                THEN 'its conversation is not here' ELSE 'its document is not here' END
            FROM ({_GIVEN}) AS given
            LEFT JOIN conversation_metadata AS c USING (conversation_id)
            LEFT JOIN documents AS d USING (resource_hash)
            WHERE c.conversation_id IS NULL OR d.id IS NULL
        """  # noqa: S608 - made of our own parts
        return dict((yield from fetch_tuples(query.encode(), keys=[row.key for row in rows])))

    def insert(self, rows: Sequence[Row[Choice]]) -> Steps[set[str]]:
        """Add the choices where nothing was chosen yet."""
        query = f"""
            WITH given AS MATERIALIZED ({_GIVEN}),
            written AS (
                INSERT INTO conversation_document_selection
                    (conversation_id, document_id, enabled, updated_at)
                SELECT conversation_id, d.id, chosen.enabled, chosen.updated_at
                FROM given JOIN documents AS d USING (resource_hash)
                JOIN unnest(%(keys)s::text[], %(enabled)s::boolean[], %(times)s::timestamptz[])
                    AS chosen (key, enabled, updated_at) USING (key)
                ON CONFLICT DO NOTHING
                RETURNING conversation_id, document_id
            )
            SELECT s.conversation_id || '/' || d.resource_hash
            FROM written AS s JOIN documents AS d ON d.id = s.document_id
        """  # noqa: S608 - made of our own parts
        choices = [row.value for row in rows if row.value is not None]
        found = yield from fetch_tuples(
            query.encode(),
            keys=[_key(choice) for choice in choices],
            enabled=[choice.enabled for choice in choices],
            times=[choice.updated_at for choice in choices],
        )
        return {key for (key,) in found}

    def digests(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The fingerprints of choices."""
        query = f"""
            SELECT s.conversation_id, d.resource_hash, s.enabled, s.updated_at
            FROM ({_GIVEN}) AS given JOIN ({_STORED})
                ON (s.conversation_id, d.resource_hash)
                    = (given.conversation_id, given.resource_hash)
        """  # noqa: S608 - made of our own parts
        names = ("conversation_id", "resource_hash", "enabled", "updated_at")
        found = yield from fetch_tuples(query.encode(), keys=list(keys))
        choices = [Choice(**dict(zip(names, row, strict=True))) for row in found]
        return {_key(choice): _digest(choice) for choice in choices}

    def others(self, keys: Sequence[str], low: str | None, high: str | None) -> Steps[list[str]]:
        """Choices between two keys, other than these."""
        query = f"""
            SELECT key
            FROM (SELECT s.conversation_id || '/' || d.resource_hash AS key FROM {_STORED}) AS there
            WHERE NOT key = ANY(%(keys)s::text[])
                AND (%(low)s::text IS NULL OR key COLLATE "C" > %(low)s)
                AND (%(high)s::text IS NULL OR key COLLATE "C" <= %(high)s)
            ORDER BY key COLLATE "C"
        """  # noqa: S608 - made of our own parts
        found = yield from fetch_tuples(query.encode(), keys=list(keys), low=low, high=high)
        return [key for (key,) in found]

    def delete(self, keys: Sequence[str]) -> Steps[set[str]]:
        """Delete choices."""
        query = f"""
            WITH given AS MATERIALIZED ({_GIVEN})
            DELETE FROM conversation_document_selection AS s
            USING given JOIN documents AS d USING (resource_hash)
            WHERE s.conversation_id = given.conversation_id AND s.document_id = d.id
            RETURNING key
        """  # noqa: S608 - made of our own parts
        return {key for (key,) in (yield from fetch_tuples(query.encode(), keys=list(keys)))}

"""What was chosen for conversations and by users, on its way into the selection."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._arguments import user_id_of
from a2rchi_pg._op import fetch_tuples, own_sql
from a2rchi_pg.errors import InvalidInput
from a2rchi_pg.migrate._digest import digest
from a2rchi_pg.migrate._numbers import key_of_number
from a2rchi_pg.migrate._rows import brought
from a2rchi_pg.migrate._source import Row, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from a2rchi_pg._op import Steps

MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Whether a document is seen, and since when; ``owner`` is who sees it or not, as in a key."""

    owner: str
    resource_hash: str
    enabled: bool
    updated_at: datetime

    @property
    def key(self) -> str:
        """What it is called."""
        return f"{self.owner}/{self.resource_hash}"

    @property
    def digest(self) -> bytes:
        """Its fingerprint."""
        moment = self.updated_at.astimezone(UTC).isoformat()
        return digest(self.key, str(self.enabled), moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Whose choices they are.

    Attributes:
        name: What reports call their choices.
        owner: The column that says whose.
        owners: The table they are in, and the column that says which.
        read: An owner as in a key; raises InvalidInput for what is none.
        key: The same in SQL, of a row of ``s``.
        value: The owner that an owner's ``text`` in a key is, in SQL.
    """

    name: str
    table: str
    owner: str
    owners: tuple[str, str]
    read: Callable[[object], str]
    key: str
    value: str

    def composed(self, query: str) -> sql.Composed:
        """A query with this tier's names in it."""
        return own_sql(query).format(
            table=sql.Identifier(self.table),
            owner=sql.Identifier(self.owner),
            owners=sql.Identifier(self.owners[0]),
            id=sql.Identifier(self.owners[1]),
            key=own_sql(self.key),
            given=own_sql(_GIVEN).format(value=own_sql(self.value)),
        )


def _conversation(given: object) -> str:
    text = str(given).strip()
    number = int(text) if re.fullmatch("-?[0-9]{1,19}", text) else None
    if number is None or not -MAX_NUMBER <= number <= MAX_NUMBER:
        raise InvalidInput("its conversation has no number")
    return str(number)


def quoted(owner: str) -> str:
    """A name in which no slash can be taken for the one before the document."""
    return owner.replace("%", "%25").replace("/", "%2F")


OF_CONVERSATIONS = Tier(
    name="selections",
    table="conversation_document_selection",
    owner="conversation_id",
    owners=("conversation_metadata", "conversation_id"),
    read=_conversation,
    key="s.conversation_id::text",
    value="text::bigint",
)
OF_USERS = Tier(
    name="selections of users",
    table="user_document_selection",
    owner="user_id",
    owners=("users", "id"),
    read=lambda given: quoted(user_id_of(given)),
    key="replace(replace(s.user_id, '%%', '%%25'), '/', '%%2F')",
    value="replace(replace(text, '%%2F', '/'), '%%25', '%%')",
)
TIERS = (OF_USERS, OF_CONVERSATIONS)

# Whatever there is of these, by the keys.
_GIVEN = """
    (SELECT key, {value} AS owner, resource_hash FROM (
        SELECT key, split_part(key, '/', 1) AS text,
            substring(key FROM position('/' IN key) + 1) AS resource_hash
        FROM unnest(%(keys)s::text[]) AS key) AS parts)
"""
_REFUSED = """
    SELECT key, o.{id} IS NULL
    FROM {given} AS given LEFT JOIN {owners} AS o ON o.{id} = given.owner
    LEFT JOIN documents AS d USING (resource_hash)
    WHERE o.{id} IS NULL OR d.id IS NULL
"""
_INSERT = """
    WITH given AS MATERIALIZED {given},
    written AS (
        INSERT INTO {table} ({owner}, document_id, enabled, updated_at)
        SELECT given.owner, d.id, chosen.enabled, chosen.updated_at
        FROM given JOIN documents AS d USING (resource_hash)
        JOIN unnest(%(keys)s::text[], %(enabled)s::boolean[], %(times)s::timestamptz[])
            AS chosen (key, enabled, updated_at) USING (key)
        ON CONFLICT DO NOTHING
        RETURNING {owner}, document_id
    )
    SELECT {key} || '/' || d.resource_hash
    FROM written AS s JOIN documents AS d ON d.id = s.document_id
"""
_STORED = """
    SELECT {key}, d.resource_hash, s.enabled, s.updated_at
    FROM {given} AS given JOIN documents AS d USING (resource_hash)
    JOIN {table} AS s ON s.{owner} = given.owner AND s.document_id = d.id
"""
_KEYS = """
    SELECT {key} || '/' || d.resource_hash AS key
    FROM {table} AS s JOIN documents AS d ON d.id = s.document_id
"""
_DELETE = """
    WITH given AS MATERIALIZED {given}
    DELETE FROM {table} AS s
    USING given JOIN documents AS d USING (resource_hash)
    WHERE s.{owner} = given.owner AND s.document_id = d.id
    RETURNING key
"""


class SelectionTarget(Target[Choice]):
    """What is chosen for conversations or by users: it needs them, and the documents.

    Args:
        tier: Whose choices.
        location: Where the conversations must have come from; None takes any of that number.
    """

    def __init__(self, tier: Tier = OF_CONVERSATIONS, location: str | None = None) -> None:
        self._tier, self._location = tier, location

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._tier.name

    def refused(self, rows: Sequence[Row[Choice]]) -> Steps[dict[str, str]]:
        """Choices of those, or of documents, that aren't here."""
        keys = [row.key for row in rows]
        found = yield from fetch_tuples(self._tier.composed(_REFUSED), keys=keys)
        who = "user" if self._tier is OF_USERS else "conversation"
        problems = {
            key: f"its {who if lacks_owner else 'document'} is not here"
            for key, lacks_owner in found
        }
        return (yield from self._strangers(rows)) | problems

    def _strangers(self, rows: Sequence[Row[Choice]]) -> Steps[dict[str, str]]:
        """Choices for conversations that have the number of one there, but came from elsewhere."""
        if self._location is None or self._tier is OF_USERS:
            return {}
        names = {
            row.key: key_of_number(int(row.value.owner)) for row in rows if row.value is not None
        }
        came = yield from brought(
            self._location, "table conversation_metadata", set(names.values())
        )
        return {
            key: "its conversation is none that came from this source"
            for key, name in names.items()
            if name not in came
        }

    def insert(self, rows: Sequence[Row[Choice]]) -> Steps[set[str]]:
        """Add the choices where nothing was chosen yet."""
        choices = [row.value for row in rows if row.value is not None]
        found = yield from fetch_tuples(
            self._tier.composed(_INSERT),
            keys=[choice.key for choice in choices],
            enabled=[choice.enabled for choice in choices],
            times=[choice.updated_at for choice in choices],
        )
        return {key for (key,) in found}

    def digests(self, keys: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The fingerprints of choices."""
        names = ("owner", "resource_hash", "enabled", "updated_at")
        found = yield from fetch_tuples(self._tier.composed(_STORED), keys=list(keys))
        choices = [Choice(**dict[str, Any](zip(names, row, strict=True))) for row in found]
        return {choice.key: choice.digest for choice in choices}

    def keys(self) -> sql.Composable:
        """A query of every choice's key."""
        return self._tier.composed(_KEYS)

    def delete(self, keys: Sequence[str]) -> Steps[set[str]]:
        """Delete choices."""
        found = yield from fetch_tuples(self._tier.composed(_DELETE), keys=list(keys))
        return {key for (key,) in found}

"""What is chosen in the three tiers of selection: set and forgotten, all of it or nothing.

Each operation is one statement, which finds the documents, sees whose conversation it is and stores
the choices only if nothing is amiss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg._arguments import shown, user_id_of
from a2rchi_pg._content import clean_text
from a2rchi_pg._documents import DocumentKey, split_keys
from a2rchi_pg._op import Steps, fetch_tuples, fetch_value, write
from a2rchi_pg._owner import Owner, asking
from a2rchi_pg.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Choices: TypeAlias = "Mapping[DocumentKey, bool]"
Documents: TypeAlias = "DocumentKey | Iterable[DocumentKey] | None"
Params: TypeAlias = "dict[str, Any]"  # checked, and as the statement takes them
NAMED = 10  # unknown documents that an error names

# A document named twice, by its id and its hash, gets the last choice.
_CHOSEN = """
    WITH given AS MATERIALIZED (
        SELECT coalesce(by_id.id, by_hash.id) AS id, given.enabled,
               place, name
        FROM unnest(%(ids)s::bigint[], %(hashes)s::text[], %(names)s::text[],
            %(choices)s::boolean[]) WITH ORDINALITY AS given (id, hash, name, enabled, place)
        LEFT JOIN documents AS by_id ON by_id.id = given.id AND by_id.deleted_at IS NULL
        LEFT JOIN documents AS by_hash
            ON by_hash.resource_hash = given.hash AND by_hash.deleted_at IS NULL
    ),
    unknown AS (SELECT name FROM given WHERE id IS NULL ORDER BY place),
    chosen AS (
        SELECT DISTINCT ON (id) id, enabled
        FROM given
        WHERE NOT EXISTS (SELECT FROM unknown)
        ORDER BY id, place DESC
    ),
"""
_RESULT = """
    SELECT (SELECT count(*) FROM chosen), ARRAY(SELECT name FROM unknown)
"""
_OURS = """ours AS (
        SELECT EXISTS (
            SELECT FROM conversation_metadata AS c
            WHERE c.conversation_id = %(conversation_id)s
                AND owned_by(c, %(user_id)s, %(client_id)s)
        ) AS yes)"""


@write
def set_system(chosen: Params) -> Steps[int]:
    """Choose for everybody; all or none."""
    query = (
        _CHOSEN  # noqa: S608 - our own text
        + """
        stored AS (
            UPDATE documents SET enabled = chosen.enabled, updated_at = now()
            FROM chosen
            WHERE documents.id = chosen.id AND documents.enabled <> chosen.enabled
        )
        """
        + _RESULT
    )
    ((count, unknown),) = yield from fetch_tuples(query, **chosen)
    return _known(count, unknown)


@write
def set_user(chosen: Params) -> Steps[int]:
    """Choose for a user; all or none."""
    query = (
        _CHOSEN  # noqa: S608 - our own text
        + """
        person AS (
            INSERT INTO users (id) SELECT %(user_id)s WHERE NOT EXISTS (SELECT FROM unknown)
            ON CONFLICT (id) DO NOTHING
        ),
        stored AS (
            INSERT INTO user_document_selection AS s (user_id, document_id, enabled)
            SELECT %(user_id)s, id, enabled FROM chosen ORDER BY id
            ON CONFLICT (user_id, document_id) DO UPDATE
            SET enabled = excluded.enabled, updated_at = now()
            WHERE s.enabled <> excluded.enabled
        )
        """
        + _RESULT
    )
    ((count, unknown),) = yield from fetch_tuples(query, **chosen)
    return _known(count, unknown)


@write
def set_conversation(chosen: Params) -> Steps[int]:
    """Choose for a conversation, if it is the owner's; all or none."""
    query = (
        _CHOSEN  # noqa: S608 - our own text
        + _OURS
        + """,
        stored AS (
            INSERT INTO conversation_document_selection AS s
                (conversation_id, document_id, enabled)
            SELECT %(conversation_id)s, id, enabled
            FROM chosen, ours
            WHERE yes
            ORDER BY id
            ON CONFLICT (conversation_id, document_id) DO UPDATE
            SET enabled = excluded.enabled, updated_at = now()
            WHERE s.enabled <> excluded.enabled
        )
        """
        + _RESULT
        + ", (SELECT yes FROM ours)"
    )
    ((count, unknown, is_ours),) = yield from fetch_tuples(query, **chosen)
    _allowed(chosen["conversation_id"], is_ours)
    return _known(count, unknown)


@write
def clear_user(chosen: Params) -> Steps[int]:
    """Forget what a user chose; how much that was."""
    query = """
        WITH gone AS (
            DELETE FROM user_document_selection
            WHERE user_id = %(user_id)s AND (%(every)s OR document_id IN (
                SELECT id FROM documents
                WHERE id = ANY(%(ids)s::bigint[]) OR resource_hash = ANY(%(hashes)s::text[])))
            RETURNING document_id
        )
        SELECT count(*) FROM gone
    """
    return int((yield from fetch_value(query, **chosen)))


@write
def clear_conversation(chosen: Params) -> Steps[int]:
    """Forget what was chosen for a conversation, if it is the owner's."""
    query = f"""
        WITH {_OURS},
        gone AS (
            DELETE FROM conversation_document_selection
            WHERE conversation_id = %(conversation_id)s AND (SELECT yes FROM ours)
                AND (%(every)s OR document_id IN (
                    SELECT id FROM documents
                    WHERE id = ANY(%(ids)s::bigint[]) OR resource_hash = ANY(%(hashes)s::text[])))
            RETURNING document_id
        )
        SELECT (SELECT count(*) FROM gone), (SELECT yes FROM ours)
    """  # noqa: S608 - our own text
    ((count, is_ours),) = yield from fetch_tuples(query, **chosen)
    _allowed(chosen["conversation_id"], is_ours)
    return int(count)


def columns(choices: Choices) -> Params:
    """Choices as parameters, checked."""
    if not hasattr(choices, "items"):
        raise InvalidInput(f"choices map documents to True or False, got {shown(choices)}")
    columns: dict[str, list[Any]] = {"ids": [], "hashes": [], "names": [], "choices": []}
    for key, value in choices.items():
        if not isinstance(value, bool):
            raise InvalidInput(f"choices are True or False, got {shown(value)} for {shown(key)}")
        ids, hashes = split_keys(key)
        columns["ids"] += ids or [None]
        columns["hashes"] += hashes or [None]
        columns["names"].append(clean_text(str(key)))
        columns["choices"].append(value)
    return columns


def of_user(user_id: str) -> Params:
    """A user as parameters, checked."""
    return {"user_id": user_id_of(user_id)}


def of_conversation(conversation_id: int, user_id: str | None, client_id: str | None) -> Params:
    """A conversation and whose it is as parameters, checked."""
    named = user_id is not None or client_id is not None
    owner = Owner(user_id=user_id, client_id=client_id) if named else None
    return asking(owner, conversation_id=conversation_id)


def named(documents: Documents) -> Params:
    """Documents as parameters, checked; None means every one."""
    ids, hashes = ([], []) if documents is None else split_keys(documents)
    return {"every": documents is None, "ids": ids, "hashes": hashes}


def _known(count: int, unknown: list[str]) -> int:
    if unknown:
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        named = ", ".join(map(repr, unknown[:NAMED]))
        raise NotFound(f"unknown or deleted documents: {named}{more}; nothing was stored")
    return count


def _allowed(conversation_id: int, is_ours: bool) -> None:
    if not is_ours:
        raise NotFound(f"there is no conversation {conversation_id}, or it is not yours")

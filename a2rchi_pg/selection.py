"""Selection: which documents searches see, for everybody, for a user and in a conversation.

Three tiers, of which the narrowest that is set decides: what was chosen for the conversation, what
the user chose as a default, the document's own setting. Only choices are stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg._content import clean_text
from a2rchi_pg._document_filter import which_documents
from a2rchi_pg._documents import DocumentKey, split_keys
from a2rchi_pg._listing import DocumentPage, ListedDocument, list_documents, listing
from a2rchi_pg._op import Op, Steps, fetch_tuples, fetch_value, write
from a2rchi_pg._scope import OURS, check_conversation, check_user, scope_params
from a2rchi_pg.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from a2rchi_pg._op import Runner

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
_OURS = f"ours AS (SELECT {OURS} AS yes)"


@write
def _set_system(chosen: Params) -> Steps[int]:
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
def _set_user(chosen: Params) -> Steps[int]:
    """Choose for a user; all or none."""
    query = (
        _CHOSEN  # noqa: S608 - our own text
        + """
        person AS (INSERT INTO users (id) VALUES (%(user_id)s) ON CONFLICT (id) DO NOTHING),
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
def _set_conversation(chosen: Params) -> Steps[int]:
    """Choose for a conversation, if it isn't another user's; all or none."""
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
def _clear_user(chosen: Params) -> Steps[int]:
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
def _clear_conversation(chosen: Params) -> Steps[int]:
    """Forget what was chosen for a conversation, if it isn't another user's."""
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


class SelectionRepository:
    """Who sees which documents.

    A document is named by its ``resource_hash``, a string, or by its id, a number. A choice for
    several documents is stored for all of them or for none.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def set_system(self, choices: Choices) -> int:
        """Enable or disable documents for everybody who didn't choose otherwise.

        Args:
            choices: By document, whether searches see it.

        Returns:
            How many documents were named.

        Raises:
            NotFound: If one is unknown or deleted; names up to ten. Nothing was stored.
        """
        return self._runner.run(_set_system(_columns(choices)))

    async def aset_system(self, choices: Choices) -> int:
        """The asynchronous twin of :meth:`set_system`."""
        return await self._runner.arun(_set_system(_columns(choices)))

    def set_user(self, user_id: str, choices: Choices) -> int:
        """Enable or disable documents for a user.

        Args:
            user_id: The user.
            choices: By document, whether the user's searches see it.

        Returns:
            How many documents were named.

        Raises:
            NotFound: If one is unknown or deleted; names up to ten. Nothing was stored.
        """
        return self._runner.run(_set_user(_of_user(user_id) | _columns(choices)))

    async def aset_user(self, user_id: str, choices: Choices) -> int:
        """The asynchronous twin of :meth:`set_user`."""
        return await self._runner.arun(_set_user(_of_user(user_id) | _columns(choices)))

    def set_conversation(
        self, conversation_id: int, choices: Choices, *, user_id: str | None = None
    ) -> int:
        """Enable or disable documents in a conversation.

        Args:
            conversation_id: The conversation.
            choices: By document, whether searches in that conversation see it.
            user_id: Whose conversation it is; None where the caller has seen to that.

        Returns:
            How many documents were named.

        Raises:
            NotFound: If one is unknown or deleted (names up to ten), or there is no such
                conversation, or it is another user's. Nothing was stored.
        """
        chosen = _of_conversation(conversation_id, user_id) | _columns(choices)
        return self._runner.run(_set_conversation(chosen))

    async def aset_conversation(
        self, conversation_id: int, choices: Choices, *, user_id: str | None = None
    ) -> int:
        """The asynchronous twin of :meth:`set_conversation`."""
        chosen = _of_conversation(conversation_id, user_id) | _columns(choices)
        return await self._runner.arun(_set_conversation(chosen))

    def clear_user(self, user_id: str, documents: Documents = None) -> int:
        """Forget what a user chose for these documents, or at all; how many choices that were."""
        return self._runner.run(_clear_user(_of_user(user_id) | _which(documents)))

    async def aclear_user(self, user_id: str, documents: Documents = None) -> int:
        """The asynchronous twin of :meth:`clear_user`."""
        return await self._runner.arun(_clear_user(_of_user(user_id) | _which(documents)))

    def clear_conversation(
        self, conversation_id: int, documents: Documents = None, *, user_id: str | None = None
    ) -> int:
        """Forget what was chosen in a conversation for these documents, or at all.

        Returns:
            How many choices that were.

        Raises:
            NotFound: If there is no such conversation, or it is another user's.
        """
        chosen = _of_conversation(conversation_id, user_id) | _which(documents)
        return self._runner.run(_clear_conversation(chosen))

    async def aclear_conversation(
        self, conversation_id: int, documents: Documents = None, *, user_id: str | None = None
    ) -> int:
        """The asynchronous twin of :meth:`clear_conversation`."""
        chosen = _of_conversation(conversation_id, user_id) | _which(documents)
        return await self._runner.arun(_clear_conversation(chosen))

    def effective(
        self,
        user_id: str | None = None,
        conversation_id: int | None = None,
        *,
        enabled: bool | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> DocumentPage:
        """Live documents by name, each with all three tiers, and which of them decides.

        Args:
            user_id: Whose choices count; None means nobody's.
            conversation_id: Which conversation's choices count. Another user's counts as none.
            enabled: Only what is seen, or only what isn't.
            limit: How many at most.
            after: The page before's ``next``.
        """
        return self._runner.run(_effective(user_id, conversation_id, enabled, limit, after))

    async def aeffective(
        self,
        user_id: str | None = None,
        conversation_id: int | None = None,
        *,
        enabled: bool | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> DocumentPage:
        """The asynchronous twin of :meth:`effective`."""
        op = _effective(user_id, conversation_id, enabled, limit, after)
        return await self._runner.arun(op)

    def explain(
        self,
        document: DocumentKey,
        user_id: str | None = None,
        conversation_id: int | None = None,
    ) -> ListedDocument | None:
        """Whether a document is seen and what decides that; None where there is none, ever.

        ``effective`` says whether, ``decided_by`` what, and the three tiers stand in ``enabled``,
        ``user_default`` and ``conversation_override``.
        """
        return _only(self._runner.run(_explain(document, user_id, conversation_id)))

    async def aexplain(
        self,
        document: DocumentKey,
        user_id: str | None = None,
        conversation_id: int | None = None,
    ) -> ListedDocument | None:
        """The asynchronous twin of :meth:`explain`."""
        return _only(await self._runner.arun(_explain(document, user_id, conversation_id)))


def _effective(
    user_id: str | None,
    conversation_id: int | None,
    enabled: bool | None,
    limit: int,
    after: str | None,
) -> Op[DocumentPage]:
    asked = listing(
        user_id=user_id,
        conversation_id=conversation_id,
        enabled=enabled,
        limit=limit,
        after=after,
    )
    return list_documents(asked)


def _explain(
    document: DocumentKey, user_id: str | None, conversation_id: int | None
) -> Op[DocumentPage]:
    asked = listing(
        user_id=user_id,
        conversation_id=conversation_id,
        named=which_documents(document, None),
        deleted=None,
        limit=1,
        with_total=False,
    )
    return list_documents(asked)


def _only(page: DocumentPage) -> ListedDocument | None:
    return page.documents[0] if page.documents else None


def _columns(choices: Choices) -> Params:
    if not hasattr(choices, "items"):
        raise InvalidInput(f"choices map documents to True or False, got {choices!r}")
    columns: dict[str, list[Any]] = {"ids": [], "hashes": [], "names": [], "choices": []}
    for key, value in choices.items():
        if not isinstance(value, bool):
            raise InvalidInput(f"choices are True or False, got {value!r} for {key!r}")
        ids, hashes = split_keys(key)
        columns["ids"] += ids or [None]
        columns["hashes"] += hashes or [None]
        columns["names"].append(clean_text(str(key)))
        columns["choices"].append(value)
    return columns


def _of_user(user_id: str) -> Params:
    return {"user_id": check_user(user_id)}


def _of_conversation(conversation_id: int, user_id: str | None) -> Params:
    return {**scope_params(user_id, None), "conversation_id": check_conversation(conversation_id)}


def _which(documents: Documents) -> Params:
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
        raise NotFound(f"there is no conversation {conversation_id}, or it is another user's")

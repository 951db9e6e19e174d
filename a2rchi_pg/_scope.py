"""Which documents somebody may see, as conditions inside a statement.

Three tiers decide, the narrowest that is set first: the conversation's choice, the user's, the
document's own ``enabled``. Deleted documents are never seen, unless asked for. Nothing is ever
listed in Python: a statement looks at what differs from the default, which is little or much.

The same rule stands here in two forms. :func:`visible` asks about one document at a time, by unique
index-only look-ups, for statements that stop early (a scan of a vector index in its order).
:func:`hidden` lists what is not to be seen, for statements that go over everything; put it into
``… NOT IN (…)``, which PostgreSQL answers from a hash table made once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from a2rchi_pg._arguments import flag, row_id, user_id_of
from a2rchi_pg._filters import EVERYTHING, Clause, Condition

if TYPE_CHECKING:
    from collections.abc import Mapping

# What was chosen for {document}, or NULL. Columns are renamed, so that document_id means the row
# that is asked about. Where a user or a client is named, a conversation that is another's counts as
# none; one that is nobody's counts.
OURS = """EXISTS (
            SELECT FROM conversation_metadata AS whole
            WHERE whole.conversation_id = %(conversation_id)s::bigint
                AND (owned_by(whole, %(user_id)s::text, %(client_id)s::text)
                    OR coalesce(whole.user_id, whole.client_id) IS NULL))"""
_HERE = f"conversation = %(conversation_id)s::bigint AND {OURS}"
CONVERSATION_CHOICE = f"""(
    SELECT chosen
    FROM conversation_document_selection AS tier (conversation, document, chosen)
    WHERE document = {{document}} AND {_HERE})"""  # noqa: S608 - our own text
USER_CHOICE = """(
    SELECT chosen
    FROM user_document_selection AS tier (owner, document, chosen)
    WHERE document = {document} AND owner = %(user_id)s::text)"""
_SYSTEM = (
    "NOT EXISTS (SELECT FROM documents AS owner WHERE owner.id = {document} AND NOT owner.enabled)"
)
_LIVE = (
    "NOT EXISTS (SELECT FROM documents AS owner "
    "WHERE owner.id = {document} AND owner.deleted_at IS NOT NULL)"
)


def visible(
    user_id: str | None = None,
    conversation_id: int | None = None,
    *,
    client_id: str | None = None,
    include_deleted: bool = False,
    document: str = "document_id",
) -> Condition:
    """The condition that a row's document may be seen; rows of no document always are.

    Its text is one of eight, by which arguments are given, so statements stay prepared.

    Args:
        user_id: Whose choices count; None means nobody's.
        conversation_id: Which conversation's choices count; None means none's.
        client_id: Of which client it has to be, where it is no user's.
        include_deleted: Deleted documents as well.
        document: The column that holds a document's id.

    Raises:
        InvalidInput: If an argument isn't what its name says.
    """
    params = scope_params(user_id, conversation_id, client_id)
    by_user, by_conversation = user_id is not None, conversation_id is not None
    sql = _visible_sql(by_user, by_conversation, include_deleted, document)
    return Condition(sql=sql, params=params if by_user or by_conversation else {})


@lru_cache
def _visible_sql(by_user: bool, by_conversation: bool, include_deleted: bool, document: str) -> str:
    chosen = [CONVERSATION_CHOICE] if by_conversation else []
    chosen += [USER_CHOICE] if by_user else []
    tiers = f"coalesce({', '.join([*chosen, _SYSTEM])})" if chosen else _SYSTEM
    sql = tiers if include_deleted else f"({tiers} AND {_LIVE})"
    return sql.format(document=document)


def hidden(
    user_id: str | None = None,
    conversation_id: int | None = None,
    *,
    client_id: str | None = None,
    include_deleted: bool = False,
) -> Condition:
    """The ids of the documents that may not be seen: a whole SELECT and its parameters.

    An id may come twice, and none is NULL.

    Raises:
        InvalidInput: If an argument isn't what its name says.
    """
    params = scope_params(user_id, conversation_id, client_id)
    return Condition(sql=_HIDDEN if include_deleted else _HIDDEN + _DELETED, params=params)


# What the conversation hides is all in the first part, so the others need only leave out what it,
# or the user, shows: one pass over each.
_SHOWN_HERE = f"""EXISTS (
        SELECT FROM conversation_document_selection AS here (conversation, document, chosen)
        WHERE here.document = {{document}} AND here.chosen AND {_HERE})"""
_HIDDEN = f"""
    SELECT document
    FROM conversation_document_selection AS tier (conversation, document, chosen)
    WHERE {_HERE} AND NOT chosen
    UNION ALL
    SELECT mine.document
    FROM user_document_selection AS mine (user_id, document, chosen)
    WHERE mine.user_id = %(user_id)s::text AND NOT mine.chosen
        AND NOT {_SHOWN_HERE.format(document="mine.document")}
    UNION ALL
    SELECT d.id
    FROM documents AS d
    WHERE NOT d.enabled AND NOT {_SHOWN_HERE.format(document="d.id")}
        AND NOT EXISTS (
            SELECT FROM user_document_selection AS mine (user_id, document, chosen)
            WHERE mine.user_id = %(user_id)s::text AND mine.chosen AND mine.document = d.id)
"""  # noqa: S608 - our own text
_DELETED = "UNION ALL SELECT d.id FROM documents AS d WHERE d.deleted_at IS NOT NULL"


def scope_params(
    user_id: str | None, conversation_id: int | None, client_id: str | None
) -> dict[str, str | int | None]:
    """Who asks, checked, as parameters of a statement.

    Raises:
        InvalidInput: If an argument isn't what its name says.
    """
    return {
        "user_id": None if user_id is None else user_id_of(user_id),
        "conversation_id": None
        if conversation_id is None
        else row_id(conversation_id, "conversation_id"),
        "client_id": None if client_id is None else user_id_of(client_id, "client_id"),
    }


def all_of(*conditions: Condition) -> Condition:
    """The condition that all of these hold; their parameters must not share names."""
    wanted = [each for each in conditions if each.sql != EVERYTHING.sql]
    if not wanted:
        return EVERYTHING
    params = {name: value for each in wanted for name, value in each.params.items()}
    return Condition(sql=" AND ".join(f"({each.sql})" for each in wanted), params=params)


class Shown(NamedTuple):
    """What a search leaves out of what it found.

    Attributes:
        condition: What a row must meet to be shown.
        spare: How many times the rows wanted are searched for, as some may not be shown.
        few: A test in SQL: whether so little was chosen that hardly one of them won't be. Its
            parameters are the condition's.
    """

    condition: Condition
    spare: int = 1
    few: str = ""

    @property
    def clause(self) -> Clause:
        """The condition's text."""
        return self.condition.clause

    @property
    def params(self) -> Mapping[str, Any]:
        """The condition's parameters."""
        return self.condition.params


ALL_SHOWN = Shown(EVERYTHING)
SPARE = 4  # a person may have chosen to see a quarter of everything, or more

# Of more than a hundred choices, it is not worth counting how many there are. In the order of the
# primary keys, so that one of them is read: a scan for somebody who chose nothing finds no end.
_FEW_CHOSEN = """(
    SELECT count(*) FROM (
        (SELECT FROM user_document_selection AS mine
        WHERE mine.user_id = %(user_id)s::text ORDER BY mine.document_id LIMIT 101)
        UNION ALL
        (SELECT FROM conversation_document_selection AS here
        WHERE here.conversation_id = %(conversation_id)s::bigint
        ORDER BY here.document_id LIMIT 101)
    ) AS choices
) <= (
    SELECT least(100, greatest(0, reltuples) / 50) FROM pg_class WHERE oid = 'documents'::regclass
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose search it is.

    Attributes:
        user_id: The user whose choices count, if any.
        conversation_id: The conversation whose choices count, if any.
        client_id: The client whose conversation it is, if it is no user's.
        include_deleted: Whether deleted documents are found too.
    """

    user_id: str | None = None
    conversation_id: int | None = None
    client_id: str | None = field(default=None, repr=False)
    include_deleted: bool = False

    def __post_init__(self) -> None:
        scope_params(self.user_id, self.conversation_id, self.client_id)
        flag(self.include_deleted, "include_deleted")

    @property
    def personal(self) -> bool:
        """Whether anybody's choices count but the system's."""
        return self.user_id is not None or self.conversation_id is not None

    @property
    def shown(self) -> Shown:
        """What may be shown, asked of each row that was found."""
        condition = self._visible
        of_row = Condition(sql=f"document_id IS NULL OR {condition.sql}", params=condition.params)
        return Shown(of_row, SPARE, _FEW_CHOSEN) if self.personal else Shown(of_row)

    def within(self, condition: Condition) -> Condition:
        """A condition, met only by rows that may be shown."""
        away = hidden(
            self.user_id,
            self.conversation_id,
            client_id=self.client_id,
            include_deleted=self.include_deleted,
        )
        clause = condition.clause
        owners = f"ARRAY(SELECT id FROM documents WHERE id NOT IN ({away.sql}))"  # noqa: S608
        return Condition(
            sql=f"({clause.seek}) AND (document_id IS NULL OR document_id = ANY({owners}))",
            test=f"({clause.test}) AND (document_id IS NULL OR {self._visible.sql})",
            params={**condition.params, **away.params},
        )

    @property
    def _visible(self) -> Condition:
        return visible(
            self.user_id,
            self.conversation_id,
            client_id=self.client_id,
            include_deleted=self.include_deleted,
        )

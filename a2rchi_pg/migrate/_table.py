"""A table of ours that rows go into, and the keys they are known by on both sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from psycopg import sql

from a2rchi_pg._op import own_sql
from a2rchi_pg.migrate._numbers import number_key, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KeyType: TypeAlias = Literal["text", "uuid", "bigint", "timestamptz"]

# A source may have a time that can't be read, which is no reason to have no key.
_MICROSECONDS = f"coalesce((extract(epoch FROM {{column}}) * 1000000)::bigint, {1 - 2**63})"
# What sorts as text as the value does: a key is all that a checkpoint and a report have of a row.
_KEYS: dict[KeyType, str] = {
    "text": "{column}",
    "uuid": "{column}::text",
    "bigint": number_key("{column}"),
    "timestamptz": number_key(_MICROSECONDS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of ours that rows go into.

    Attributes:
        key: What a row is known by on both sides, and the types of these columns.
        columns: What is stored and compared, the key included.
        derived: What is stored but changes by itself afterwards.
        parents: Columns that refer to a row which came from the same source; by their tables.
        references: Columns that refer to a row which only has to be there.
        numbered: The column that a sequence numbers, if one does.
        below: Numbers from here on are none that the sequence would come to.
    """

    name: str
    key: Mapping[str, KeyType]
    columns: Sequence[str]
    derived: Sequence[str] = ()
    parents: Mapping[str, Table] = field(default_factory=dict)
    references: Mapping[str, Table] = field(default_factory=dict)
    numbered: str | None = None
    below: int = 2**63 - 1

    def key_of(self, alias: str) -> sql.Composed:
        """The key as text, made of columns of that alias."""
        parts = [
            own_sql(_KEYS[kind]).format(column=sql.Identifier(alias, name))
            for name, kind in self.key.items()
        ]
        return sql.SQL('({}) COLLATE "C"').format(sql.SQL(" || '/' || ").join(parts))

    def within(self, low: str | None, high: str | None) -> sql.Composable:
        """What an index knows of keys from ``low`` to ``high``: texts it sorts otherwise."""
        bounds = [
            sql.SQL("{} {} {}").format(self.first, sign, _bound(key, self.sorts))
            for sign, key in ((sql.SQL(">="), low), (sql.SQL("<="), high))
            if self.sorts and key is not None
        ]
        return sql.SQL(" AND ").join([*bounds, sql.SQL("true")])

    @property
    def first(self) -> sql.Identifier:
        """The first column of the key, as a column of ``t``."""
        return sql.Identifier("t", next(iter(self.key)))

    @property
    def sorts(self) -> KeyType | None:
        """The first column's type, where an index sorts it as the key does."""
        kind = next(iter(self.key.values()))
        return kind if kind in ("bigint", "uuid") else None


def _bound(key: str, kind: KeyType | None) -> sql.Composable:
    start = key.partition("/")[0]
    if kind == "bigint":
        return sql.Literal(number_of(start))
    return sql.SQL("{}::uuid").format(sql.Literal(start))

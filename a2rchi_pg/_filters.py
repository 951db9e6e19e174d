"""Metadata filters, compiled to SQL in which every key and every value is bound.

The language is a mapping. ``{"year": 2024}`` means equality; ``{"year": {"$gte": 2020, "$lt":
2025}}`` puts several operators on one field; several fields hold together, as do the filters listed
under ``$and``; ``$or`` lists alternatives and ``$not`` negates. ``"author.name"`` reaches into
nested objects. The names of catalog columns (``source_type``, ``resource_hash``, …) mean the
document's column where a chunk belongs to a document.

A comparison is typed: a number compares with numbers, a string with strings (by code point), a
boolean with booleans, a date or time with what reads as one (UTC where it has no zone). A value
that is missing or of another type doesn't meet a condition, so it meets its negation. ``None``
means null or missing; ``$exists`` asks whether there is a value, be it null.

``OPERATORS`` is the one table of what can be said; ``tests/filter_oracle.py`` evaluates the same
table in Python.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from a2rchi_pg._arguments import shown
from a2rchi_pg._content import clean_text, plain_json
from a2rchi_pg.errors import FilterError

MAX_DEPTH = 50
MAX_SIZE = 5000  # keys and values; the protocol takes 65,535
MANY = 20  # values of $in up to which each is looked up in the index
INDEXED_CHARACTERS = 200  # of a string in a declared field's index, which takes no long ones


class Clause(NamedTuple):
    """A WHERE clause in two forms of one meaning.

    Attributes:
        seek: To find rows by: which documents meet it is asked first, then which rows are theirs.
        test: To try one row by: its own document is looked up.
    """

    seek: str
    test: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A WHERE clause, the same text for all filters of one shape, and its parameters.

    Attributes:
        sql: The clause as :attr:`Clause.seek`.
        params: What is bound in it.
        test: The clause as :attr:`Clause.test`, where it isn't to be derived from ``sql``.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    test: str | None = None

    @property
    def clause(self) -> Clause:
        """The text without the parameters."""
        return Clause(self.sql, self.test or self.sql.replace(_OWNERS, _OWNER))


# Both stand inside "document_id = ANY(…)", before a condition on documents and two brackets.
_OWNERS = "ARRAY(SELECT id FROM documents WHERE "
_OWNER = "(SELECT id FROM documents WHERE id = document_id AND "
EVERYTHING = Condition(sql="true")


def compile_filter(filter: Mapping[str, Any] | None) -> Condition:  # noqa: A002 - LangChain's name
    """The condition that ``filter`` describes; None and ``{}`` mean everything.

    Raises:
        FilterError: If it can't be understood; names what and says what is accepted.
    """
    if filter is None:
        return EVERYTHING
    builder = _Builder()
    sql = builder.filter(filter, depth=0)
    return Condition(sql=sql, params=builder.params)


@dataclass
class _Builder:
    """Collects parameters while the parts of a filter become text."""

    params: dict[str, Any] = field(default_factory=dict)
    size: int = 0

    def bind(self, value: Any, cast: str) -> str:
        self._grow()
        name = f"filter_{len(self.params)}"
        self.params[name] = value
        return f"%({name})s::{cast}"

    def _grow(self, depth: int = 0) -> None:
        self.size += 1
        if self.size > MAX_SIZE:
            raise FilterError(f"a filter may hold {MAX_SIZE} keys and values at most")
        if depth > MAX_DEPTH:
            raise FilterError(f"a filter may be nested {MAX_DEPTH} levels at most")

    def filter(self, given: object, *, depth: int) -> str:
        self._grow(depth)
        if not isinstance(given, Mapping):
            raise FilterError(f"a filter must map keys to conditions, got {shown(given)}")
        parts = [self._entry(key, value, depth) for key, value in given.items()]
        return _joined("AND", parts) or "true"

    def _entry(self, key: object, value: object, depth: int) -> str:
        if not isinstance(key, str):
            raise FilterError(f"filter keys are strings, got {shown(key)}")
        if key in {"$and", "$or"}:
            if not isinstance(value, list | tuple) or not value:
                raise FilterError(f"{key} takes a non-empty list of filters, got {shown(value)}")
            return _joined(key[1:].upper(), [self.filter(f, depth=depth + 1) for f in value])
        if key == "$not":
            return _not(self.filter(value, depth=depth + 1))
        if key.startswith("$"):
            raise FilterError(f"unknown {shown(key)}: here can stand $and, $or, $not or a key")
        key = clean_text(key)
        field = self._conditions(Field(self, key), value, depth)
        if key not in CATALOG:
            return field
        column = self._conditions(Column(self, key), value, depth)
        return f"(document_id IS NULL AND {field} OR document_id = ANY({_OWNERS}{column})))"

    def _conditions(self, target: Field, value: object, depth: int) -> str:
        if not isinstance(value, Mapping):
            return self._operator(target, "$eq", value, depth)
        if not value or not all(isinstance(name, str) and name.startswith("$") for name in value):
            message = f"{shown(target.key)} takes a value or operators, got {shown(value)}. "
            raise FilterError(message + "Objects are reached by dotted keys, or by {'$eq': …}")
        parts = [self._operator(target, name, each, depth) for name, each in value.items()]
        return _joined("AND", parts)

    def _operator(self, target: Field, name: str, operand: object, depth: int) -> str:
        if name == "$not":
            self._grow(depth)
            return _not(self._conditions(target, operand, depth + 1))
        if name not in OPERATORS:
            known = ", ".join([*OPERATORS, "$not"])
            raise FilterError(f"unknown {shown(name)} on {shown(target.key)}: known are {known}")
        try:
            return OPERATORS[name](target, operand)
        except FilterError:
            raise
        except (ValueError, OverflowError, RecursionError) as error:
            takes = error if isinstance(error, _Unfit) else target.operands
            message = f"{name} on {shown(target.key)} takes {takes}, got {shown(operand)}"
            raise FilterError(message) from None


class _Unfit(ValueError):
    """An operand is not what the operator takes; says what is."""


class Field:
    """One key of the metadata, and how to reach its value.

    A key with dots may be a key that has dots, or a path: the first that is there counts. With keys
    bound as constants of a custom plan, these are the expressions that the index of a declared
    field is on; ``metadata_field_key`` of ``sql/0004_collection_functions.sql`` writes the same.
    """

    operands = "strings, finite numbers, booleans, dates, None, and lists and dicts of these"

    def __init__(self, builder: _Builder, key: str) -> None:
        self.key = key
        self.bind = builder.bind
        self._path = key.split(".")
        if len(self._path) > MAX_DEPTH:
            raise FilterError(f"a key may have {MAX_DEPTH} steps at most, got {shown(key)}")
        self._is_time = CATALOG.get(key) == "timestamptz"
        if self._is_time:
            self.operands = "dates and times, or strings in ISO 8601"

    def read(self, value: object) -> Any:
        """An operand as this key compares it: plain JSON, or a time with a zone."""
        if isinstance(value, date):
            return _moment(value.isoformat())
        if isinstance(value, np.datetime64):
            return _moment(str(value.astype("datetime64[us]")))
        plain = plain_json(value, self.key)
        return _moment(plain) if self._is_time and isinstance(plain, str) else plain

    @cached_property
    def value(self) -> str:
        """The value as jsonb; NULL where it is missing."""
        if len(self._path) == 1:
            return f"(metadata -> {self._flat})"
        steps = " -> ".join([self.bind(step, "text") for step in self._path])
        return f"coalesce(metadata -> {self._flat}, metadata -> {steps})"

    @cached_property
    def _flat(self) -> str:
        return self.bind(self.key, "text")

    def holds(self, value: Any) -> str:
        """This key has that value, or a container that has it; by the GIN index."""
        flat = f"metadata @> {self.bind(_encoded({self.key: value}), 'jsonb')}"
        if len(self._path) == 1:
            return flat
        nested: Any = value
        for step in reversed(self._path):
            nested = {step: nested}
        deep = f"metadata @> {self.bind(_encoded(nested), 'jsonb')}"
        return f"({flat} OR {deep} AND metadata -> {self._flat} IS NULL)"

    def among(self, values: list[Any]) -> str:
        """This key has one of those JSON values."""
        return f"{self.value} = ANY({self.bind([_encoded(v) for v in values], 'jsonb[]')})"

    @cached_property
    def text(self) -> str:
        """The value where it is a string; NULL elsewhere."""
        return f"CASE WHEN jsonb_typeof({self.value}) = 'string' THEN {self.value} #>> '{{}}' END"

    @cached_property
    def number(self) -> str:
        """The value where it is a number; NULL elsewhere."""
        return f"CASE WHEN jsonb_typeof({self.value}) = 'number' THEN {self.value}::numeric END"

    @cached_property
    def moment(self) -> str:
        """The value where it is a string that reads as a date or a time; NULL elsewhere."""
        return f"metadata_timestamp({self.value})"


class Column(Field):
    """A column of ``documents`` under the name of a metadata key."""

    def __init__(self, builder: _Builder, key: str) -> None:
        super().__init__(builder, key)
        self.value = f"to_jsonb({key})"
        self.text = key if CATALOG[key] == "text" else "NULL"
        self.number = f"{key}::numeric" if CATALOG[key] == "numeric" else "NULL::numeric"
        self.moment = key if self._is_time else "NULL::timestamptz"

    def holds(self, value: Any) -> str:
        return self.among([value])

    def among(self, values: list[Any]) -> str:
        if CATALOG[self.key] == "text":
            texts = [value for value in values if isinstance(value, str)]
            return f"{self.key} = ANY({self.bind(texts, 'text[]')})"
        numbers = [_encoded(each) for each in values if _is_number(each)]
        return f"{self.number} = ANY({self.bind(numbers, 'numeric[]')})"


_TEXTS = "resource_hash display_name source_type url ticket_id git_repo git_commit suffix mime_type"
_TIMES = "source_created_at source_modified_at ingested_at"
CATALOG: dict[str, str] = {
    **dict.fromkeys(_TEXTS.split(), "text"),
    **dict.fromkeys(_TIMES.split(), "timestamptz"),
    "size_bytes": "numeric",
}
_encoded = json.JSONEncoder(ensure_ascii=False).encode


def _moment(iso: str) -> datetime:
    moment = datetime.fromisoformat(iso)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _joined(word: str, parts: Iterable[str]) -> str:
    listed = [part for part in parts if part]
    return f"({f' {word} '.join(listed)})" if len(listed) > 1 else "".join(listed)


def _not(condition: str) -> str:
    """NULL (missing, or of another type) counts as not met, so its negation is met."""
    return f"NOT coalesce({condition}, false)"


def _same(target: Field, plain: Any) -> str:
    match plain:
        case None:
            return f"coalesce({target.value}, 'null') = 'null'"
        case datetime():
            return f"{target.moment} = {target.bind(plain, 'timestamptz')}"
        case dict() | list():
            bound = target.bind(_encoded(plain), "jsonb")
            return f"({target.holds(plain)} AND {target.value} = {bound})"
        case _:
            return target.holds(plain)


def _eq(target: Field, value: object) -> str:
    return _same(target, target.read(value))


def _in(target: Field, values: object) -> str:
    if not isinstance(values, list | tuple | set | frozenset):
        raise _Unfit("a list of values")
    plain = [target.read(value) for value in values]
    if len(plain) <= MANY:
        return _joined("OR", [_same(target, each) for each in plain]) or "false"
    times = [each for each in plain if isinstance(each, datetime)]
    others = [each for each in plain if each is not None and not isinstance(each, datetime)]
    at = f"{target.moment} = ANY({target.bind(times, 'timestamptz[]')})" if times else ""
    among = target.among(others) if others else ""
    return _joined("OR", [at, among, _same(target, None) if None in plain else ""])


def _ordered(symbol: str, target: Field, value: object) -> str:
    plain = target.read(value)
    if isinstance(plain, datetime):
        return f"{target.moment} {symbol} {target.bind(plain, 'timestamptz')}"
    if _is_number(plain):
        return f"{target.number} {symbol} {target.bind(_encoded(plain), 'numeric')}"
    if not isinstance(plain, str):
        raise _Unfit("a finite number, a string or a date")
    # The first half says nothing new, but the index of a declared field can answer it.
    bound = target.bind(plain, "text")
    loosely = f"{symbol[0]}= left({bound}, {INDEXED_CHARACTERS})"
    return (
        f'(left({target.text}, {INDEXED_CHARACTERS}) COLLATE "C" {loosely}'
        f' AND ({target.text}) COLLATE "C" {symbol} {bound})'
    )


def _between(target: Field, bounds: object) -> str:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:  # noqa: PLR2004 - low and high
        raise _Unfit("a list of two bounds")
    return f"({_ordered('>=', target, bounds[0])} AND {_ordered('<=', target, bounds[1])})"


def _exists(target: Field, wanted: object) -> str:
    if not isinstance(wanted, bool):
        raise _Unfit("True or False")
    return f"{target.value} IS {'NOT ' if wanted else ''}NULL"


def _like(operator: str, target: Field, pattern: object) -> str:
    if not isinstance(pattern, str):
        raise _Unfit("a pattern with % and _")
    # A lone backslash at the end is an error in PostgreSQL; here it stands for itself.
    safe = clean_text(pattern)
    trailing = len(safe) - len(safe.rstrip("\\"))
    bound = target.bind(safe + trailing % 2 * "\\", "text")
    return f"({target.text}) {operator} {bound}"


def _contains(target: Field, value: object) -> str:
    plain = target.read(value)
    if isinstance(plain, str):
        inside = f"strpos({target.text}, {target.bind(plain, 'text')}) > 0"
        return f"({target.holds([plain])} OR {inside})"
    if isinstance(plain, bool) or _is_number(plain):
        return target.holds([plain])
    raise _Unfit("a string, a number or a boolean")


OPERATORS: dict[str, Callable[[Field, object], str]] = {
    "$eq": _eq,
    "$ne": lambda target, value: _not(_eq(target, value)),
    "$gt": partial(_ordered, ">"),
    "$gte": partial(_ordered, ">="),
    "$lt": partial(_ordered, "<"),
    "$lte": partial(_ordered, "<="),
    "$in": _in,
    "$nin": lambda target, values: _not(_in(target, values)),
    "$between": _between,
    "$exists": _exists,
    "$like": partial(_like, "LIKE"),
    "$ilike": partial(_like, "ILIKE"),
    "$contains": _contains,
}

"""Metadata filters, compiled to SQL in which every key and every value is bound.

The language is a mapping. ``{"year": 2024}`` means equality; ``{"year": {"$gte": 2020, "$lt":
2025}}`` puts several operators on one field; several fields hold together, as do the filters listed
under ``$and``; ``$or`` lists alternatives and ``$not`` negates. ``"author.name"`` reaches into
nested objects. The names of catalog columns (``source_type``, ``resource_hash``, …) mean the
document's column where a chunk belongs to a document.

A comparison is typed: a number compares with numbers, a string with strings (by code point), a
boolean with booleans, a date with what reads as a date. A value that is missing or of another type
doesn't meet a condition, so it meets its negation. ``None`` means null or missing.

``OPERATORS`` is the one table of what can be said; ``tests/filter_oracle.py`` evaluates the same
table in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, TypeAlias

from psycopg.types.json import Jsonb

from a2rchi_pg._content import clean_text, jsonable
from a2rchi_pg.errors import FilterError, InvalidInput

MAX_DEPTH = 50
MAX_CONDITIONS = 1000
MANY = 20  # values of $in up to which each is looked up in the index


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A WHERE clause with its parameters; the text holds no key and no value.

    Attributes:
        sql: The text, equal for filters of one shape, so that it can be cached.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)


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
    return Condition(sql=sql, params=builder.params) if sql else EVERYTHING


class _Builder:
    """Collects parameters while the parts of a filter become text."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def bind(self, value: Any, cast: str) -> str:
        name = f"filter_{len(self.params)}"
        if len(self.params) >= 2 * MAX_CONDITIONS:
            raise FilterError(f"a filter may hold {MAX_CONDITIONS} conditions at most")
        self.params[name] = value
        return f"%({name})s::{cast}"

    def filter(self, given: object, *, depth: int) -> str:
        if not isinstance(given, Mapping):
            raise FilterError(f"a filter must be a mapping of keys to conditions, got {given!r}")
        if depth > MAX_DEPTH:
            raise FilterError(f"a filter may be nested {MAX_DEPTH} levels at most")
        return _all(self._entry(key, value, depth) for key, value in given.items())

    def _entry(self, key: object, value: object, depth: int) -> str:
        if not isinstance(key, str):
            raise FilterError(f"filter keys are strings, got {key!r}")
        if key in {"$and", "$or"}:
            if not isinstance(value, list | tuple) or not value:
                raise FilterError(f"{key} takes a non-empty list of filters, got {value!r}")
            parts = [self.filter(each, depth=depth + 1) or "true" for each in value]
            return _all(parts) if key == "$and" else _any(parts)
        if key == "$not":
            return _not(self.filter(value, depth=depth + 1) or "true")
        if key.startswith("$"):
            raise FilterError(f"unknown operator {key!r}: here can stand $and, $or, $not or a key")
        field = self._conditions(Field(self, clean_text(key)), value, depth)
        if key not in CATALOG:
            return field
        column = self._conditions(Column(self, key), value, depth)
        owners = f"ARRAY(SELECT id FROM documents WHERE {column})"  # noqa: S608 - our own text
        return f"(document_id IS NULL AND {field} OR document_id = ANY({owners}))"

    def _conditions(self, target: Field, value: object, depth: int) -> str:
        if not isinstance(value, Mapping):
            return _eq(target, value)
        if not value or not all(isinstance(name, str) and name.startswith("$") for name in value):
            raise FilterError(
                f"the condition on {target.key!r} mixes or lacks operators: {value!r}. For a "
                "nested value write a dotted key, for a whole object {'$eq': …}"
            )
        return _all(self._operator(target, name, operand, depth) for name, operand in value.items())

    def _operator(self, target: Field, name: str, operand: object, depth: int) -> str:
        if name == "$not":
            if depth > MAX_DEPTH:
                raise FilterError(f"a filter may be nested {MAX_DEPTH} levels at most")
            return _not(self._conditions(target, operand, depth + 1))
        if name not in OPERATORS:
            accepted = ", ".join([*OPERATORS, "$not"])
            raise FilterError(f"unknown operator {name!r} on {target.key!r}: known are {accepted}")
        return OPERATORS[name](target, operand)


class Field:
    """One key of the metadata, and how to reach its value.

    A key with dots may be a key that has dots, or a path: the first that is there counts. With keys
    bound as constants of a custom plan, these are the expressions that the index of a declared
    field is on.
    """

    def __init__(self, builder: _Builder, key: str) -> None:
        self.key = key
        self.bind = builder.bind
        self._path = key.split(".")

    @cached_property
    def value(self) -> str:
        """The value as jsonb; NULL where it is missing."""
        if len(self._path) == 1:
            return f"(metadata -> {self._flat})"
        steps = " -> ".join(self.bind(step, "text") for step in self._path)
        return f"coalesce(metadata -> {self._flat}, metadata -> {steps})"

    @cached_property
    def _flat(self) -> str:
        return self.bind(self.key, "text")

    def holds(self, value: Any) -> str:
        """This key has that value, or a container that has it; by the GIN index."""
        flat = f"metadata @> {self.bind(Jsonb({self.key: value}), 'jsonb')}"
        if len(self._path) == 1:
            return flat
        nested: Any = value
        for step in reversed(self._path):
            nested = {step: nested}
        deep = f"metadata @> {self.bind(Jsonb(nested), 'jsonb')}"
        return f"({flat} OR {deep} AND metadata -> {self._flat} IS NULL)"

    @property
    def text(self) -> str:
        """The value where it is a string; NULL elsewhere."""
        value = self.value
        return f"CASE WHEN jsonb_typeof({value}) = 'string' THEN {value} #>> '{{}}' END"

    @property
    def number(self) -> str:
        """The value where it is a number; NULL elsewhere."""
        return f"CASE WHEN jsonb_typeof({self.value}) = 'number' THEN {self.value}::numeric END"

    @property
    def moment(self) -> str:
        """The value where it is a string that reads as a date or a time; NULL elsewhere."""
        return f"metadata_timestamp({self.value})"

    def fail(self, expected: str, got: object) -> FilterError:
        """The error that says what was expected of this key's operand."""
        return FilterError(f"{expected} on {self.key!r}, got {got!r}")


class Column(Field):
    """A column of ``documents`` under the name of a metadata key."""

    def __init__(self, builder: _Builder, key: str) -> None:
        super().__init__(builder, key)
        self._type = CATALOG[key]

    @cached_property
    def value(self) -> str:
        return f"to_jsonb({self.key})"

    def holds(self, value: Any) -> str:
        fits = isinstance(value, str if self._type == "text" else int | float)
        if self._type == "timestamptz" or not fits or isinstance(value, bool):
            return "false"
        return f"{self.key} = {self.bind(value, self._type)}"

    @property
    def text(self) -> str:
        return self.key if self._type == "text" else "NULL"

    @property
    def number(self) -> str:
        return f"{self.key}::numeric" if self._type == "numeric" else "NULL::numeric"

    @property
    def moment(self) -> str:
        return self.key if self._type == "timestamptz" else "NULL::timestamptz"


CATALOG = {
    **dict.fromkeys(
        (
            "resource_hash",
            "display_name",
            "source_type",
            "url",
            "ticket_id",
            "git_repo",
            "git_commit",
            "suffix",
            "mime_type",
        ),
        "text",
    ),
    "size_bytes": "numeric",
    **dict.fromkeys(("source_created_at", "source_modified_at", "ingested_at"), "timestamptz"),
}


def _all(parts: Any) -> str:
    return _joined(parts, " AND ")


def _any(parts: Any) -> str:
    return _joined(parts, " OR ")


def _joined(parts: Any, word: str) -> str:
    listed = [part for part in parts if part]
    return listed[0] if len(listed) == 1 else f"({word.join(listed)})" if listed else ""


def _not(condition: str) -> str:
    """NULL (missing, or of another type) counts as not met, so its negation is met."""
    return f"NOT coalesce({condition}, false)"


def _json_value(target: Field, value: object) -> Any:
    try:
        return jsonable(value, target.key)
    except InvalidInput as error:
        raise FilterError(str(error)) from None


def _eq(target: Field, value: object) -> str:
    plain = _json_value(target, value)
    if plain is None:
        return f"coalesce({target.value}, 'null') = 'null'"
    if isinstance(plain, dict | list):
        exact = f"{target.value} = {target.bind(Jsonb(plain), 'jsonb')}"
        return _all([target.holds(plain), exact])
    return target.holds(plain)


def _in(target: Field, values: object) -> str:
    if not isinstance(values, list | tuple | set | frozenset):
        raise target.fail("$in and $nin take a list of values", values)
    if len(values) <= MANY:
        return _any([_eq(target, value) for value in values]) or "false"
    plain = [_json_value(target, value) for value in values]
    listed = [Jsonb(value) for value in plain if value is not None]
    found = f"{target.value} = ANY({target.bind(listed, 'jsonb[]')})"
    return found if len(listed) == len(plain) else _any([found, _eq(target, None)])


def _ordered(symbol: str) -> Callable[[Field, object], str]:
    def compare(target: Field, value: object) -> str:
        match value:
            case bool() | None:
                pass
            case int() | float() if isinstance(value, int) or math.isfinite(value):
                return f"{target.number} {symbol} {target.bind(str(value), 'text')}::numeric"
            case str():
                bound = target.bind(clean_text(value), "text")
                return f'({target.text}) COLLATE "C" {symbol} {bound}'
            case datetime() | date():
                bound = target.bind(Jsonb(value.isoformat()), "jsonb")
                return f"{target.moment} {symbol} metadata_timestamp({bound})"
        raise target.fail(f"{_NAMES[symbol]} takes a finite number, a string or a date", value)

    return compare


_NAMES = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_gte, _lte = _ordered(">="), _ordered("<=")


def _between(target: Field, bounds: object) -> str:
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:  # noqa: PLR2004 - low and high
        raise target.fail("$between takes a list of two bounds", bounds)
    return _all([_gte(target, bounds[0]), _lte(target, bounds[1])])


def _exists(target: Field, wanted: object) -> str:
    if not isinstance(wanted, bool):
        raise target.fail("$exists takes True or False", wanted)
    return f"{target.value} IS {'NOT ' if wanted else ''}NULL"


def _pattern(operator: str) -> Callable[[Field, object], str]:
    def match(target: Field, pattern: object) -> str:
        if not isinstance(pattern, str):
            raise target.fail("$like and $ilike take a pattern with % and _", pattern)
        # A lone backslash at the end is an error in PostgreSQL; here it stands for itself.
        trailing = len(pattern) - len(pattern.rstrip("\\"))
        safe = clean_text(pattern) + ("\\" if trailing % 2 else "")
        return f"({target.text}) {operator} {target.bind(safe, 'text')}"

    return match


def _contains(target: Field, value: object) -> str:
    plain = _json_value(target, value)
    if plain is None or isinstance(plain, dict | list):
        raise target.fail("$contains takes a string, number or boolean", value)
    element = target.holds([plain])
    if not isinstance(plain, str):
        return element
    return _any([element, f"strpos({target.text}, {target.bind(plain, 'text')}) > 0"])


Operator: TypeAlias = Callable[[Field, object], str]

OPERATORS: dict[str, Operator] = {
    "$eq": _eq,
    "$ne": lambda target, value: _not(_eq(target, value)),
    "$gt": _ordered(">"),
    "$gte": _gte,
    "$lt": _ordered("<"),
    "$lte": _lte,
    "$in": _in,
    "$nin": lambda target, values: _not(_in(target, values)),
    "$between": _between,
    "$exists": _exists,
    "$like": _pattern("LIKE"),
    "$ilike": _pattern("ILIKE"),
    "$contains": _contains,
}

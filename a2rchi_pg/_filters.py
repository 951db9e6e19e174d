"""Metadata filters, compiled to SQL in which every key and every value is bound."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from a2rchi_pg.errors import FilterError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCALARS = (str, int, float, bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A WHERE clause with its parameters; the text holds no key and no value.

    Attributes:
        sql: The text, equal for filters of one shape, so that statements are prepared once.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)


EVERYTHING = Condition(sql="true")


def compile_filter(filter: Mapping[str, Any] | None) -> Condition:  # noqa: A002 - LangChain's name
    """``{"key": value, …}``: every key has exactly that value, with its JSON type.

    Raises:
        FilterError: If it isn't a mapping from strings to strings, numbers or booleans.
    """
    if filter is None or filter == {}:
        return EVERYTHING
    if not hasattr(filter, "items"):
        raise FilterError(f"a filter must be a mapping of metadata keys to values, got {filter!r}")
    for key, value in filter.items():
        _check(key, value)
    return Condition(
        sql="metadata @> %(filter)s::text::jsonb",
        params={"filter": json.dumps(dict(filter), allow_nan=False)},
    )


def _check(key: object, value: object) -> None:
    if not isinstance(key, str) or key.startswith("$"):
        raise FilterError(f"filter keys are metadata keys, got {key!r}")
    if not isinstance(value, _SCALARS) or value != value:  # noqa: PLR0124 - NaN differs from itself
        raise FilterError(
            f"filter value of {key!r} must be a string, number or boolean, got {value!r}"
        )

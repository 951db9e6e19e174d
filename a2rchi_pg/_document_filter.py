"""Which documents: by their ids or hashes, or by a filter on columns and metadata.

The filter language is that of chunks (``_filters``); here every key that names a column means the
column, the paths, the times of the record and ``enabled`` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from a2rchi_pg._content import clean_text
from a2rchi_pg._documents import split_keys
from a2rchi_pg._filters import CATALOG, Column, Condition, Field, _Builder, _is_number
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from a2rchi_pg._documents import DocumentKey

FILTERABLE: dict[str, str] = {
    **CATALOG,
    **dict.fromkeys(
        ("origin", "file_path", "original_path", "base_path", "relative_path", "content_hash"),
        "text",
    ),
    **dict.fromkeys(("created_at", "updated_at", "deleted_at"), "timestamptz"),
    "enabled": "boolean",
}


def document_filter(given: Mapping[str, Any] | None) -> Condition:
    """The condition on ``documents`` that a filter describes; None and ``{}`` mean everything.

    Raises:
        FilterError: If it can't be understood; names what and says what is accepted.
    """
    builder = _DocumentBuilder()
    sql = builder.filter({} if given is None else given, depth=0)
    return Condition(sql=sql, params=builder.params)


def which_documents(
    documents: DocumentKey | Iterable[DocumentKey] | None, given: Mapping[str, Any] | None
) -> Condition:
    """The condition that names documents one by one or by a filter.

    Raises:
        InvalidInput: If neither or both are given, or a name isn't one.
        FilterError: If the filter can't be understood.
    """
    if (documents is None) == (given is None):
        raise InvalidInput("say which: either documents=[…] or filter={…} ({} for every document)")
    if documents is None:
        return document_filter(given)
    ids, hashes = split_keys(documents)
    return Condition(
        sql="(id = ANY(%(ids)s::bigint[]) OR resource_hash = ANY(%(hashes)s::text[]))",
        params={"ids": ids, "hashes": hashes},
    )


class _DocumentBuilder(_Builder):
    """Builds conditions on ``documents`` itself rather than on chunks."""

    def _entry(self, key: object, value: object, depth: int) -> str:
        if isinstance(key, str) and (name := clean_text(key)) in FILTERABLE:
            return self._conditions(_DocumentColumn(self, name), value, depth)
        return super()._entry(key, value, depth)


class _DocumentColumn(Column):
    """A column of ``documents`` where the statement reads that table."""

    def __init__(self, builder: _Builder, key: str) -> None:
        Field.__init__(self, builder, key)
        self._kind = FILTERABLE[key]
        self._is_time = self._kind == "timestamptz"
        self.value = f"to_jsonb({key})"
        self.text = key if self._kind == "text" else "NULL"
        self.number = f"{key}::numeric" if self._kind == "numeric" else "NULL::numeric"
        self.moment = key if self._is_time else "NULL::timestamptz"

    def among(self, values: list[Any]) -> str:
        if self._is_time:
            return "false"
        own = [self._as_bound(value) for value in values if _KINDS[self._kind](value)]
        return f"{self.key} = ANY({self.bind(own, f'{self._kind}[]')})"

    def _as_bound(self, value: Any) -> Any:
        return str(value) if self._kind == "numeric" else value


_KINDS: dict[str, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "numeric": _is_number,
}

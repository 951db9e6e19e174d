"""The shapes that the older catalog took and gave: flat metadata, filters by string, dicts."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg._dates import read_moment
from a2rchi_pg._filters import CATALOG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from a2rchi_pg._pages import ListedDocument

Flat: TypeAlias = "dict[str, str]"

_NEW_NAMES = {
    "path": "file_path",
    "created_at": "source_created_at",
    "modified_at": "source_modified_at",
    "file_modified_at": "source_modified_at",
}
_OLD_NAMES = {new: old for old, new in _NEW_NAMES.items() if old != "file_modified_at"}
_COLUMNS = (*CATALOG, "file_path", "original_path", "base_path", "relative_path")
_LISTED = ("display_name", "source_type", "url", "size_bytes", "suffix")
_LISTED_TIMES = ("ingested_at", "indexed_at", "created_at")


def where(field: str, value: object) -> dict[str, Any]:
    """What a listing must be asked so that a field has a value, or any."""
    if field == "ingestion_status":
        return {"status": value}
    name = _NEW_NAMES.get(field, field)
    return {
        "filter": {name: {"$exists": True} if value is None else {"$in": readings(name, value)}}
    }


def all_of(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A filter of the old kind: equal where it names a column, contained where it doesn't."""
    conditions: list[dict[str, Any]] = []
    for field, value in wanted.items():
        name = _NEW_NAMES.get(field, field)
        equal = {name: {"$in": readings(name, value)}}
        contained = {name: {"$ilike": f"%{escaped(str(value))}%"}}
        conditions.append(equal if name in _COLUMNS else {"$or": [equal, contained]})
    return {"$and": conditions}


def readings(name: str, value: object) -> list[Any]:
    """A value, and what it would be if it weren't written as a string."""
    if CATALOG.get(name) == "timestamptz":
        moment = read_moment(value)
        return [] if moment is None else [moment]
    text = str(value)
    try:
        read = json.loads(text.lower() if text in ("True", "False") else text)
    except (ValueError, RecursionError):
        return [text]
    plain = isinstance(read, bool | int) or (isinstance(read, float) and math.isfinite(read))
    return [text, read] if plain else [text]


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def flat(document: ListedDocument) -> Flat:
    """What is known of a document, every value a string."""
    known: dict[str, Any] = dict(document.metadata)
    known |= {_OLD_NAMES.get(name, name): getattr(document, name) for name in _COLUMNS}
    known |= {"ingestion_status": document.status, "ingestion_error": document.error}
    return {key: string(value) for key, value in known.items() if value is not None}


def string(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def picked(flat: Flat, keys: Sequence[str] | None) -> Flat:
    return flat if keys is None else {key: flat[key] for key in keys if key in flat}


def listed(document: ListedDocument) -> dict[str, Any]:
    times = {name: getattr(document, name) for name in _LISTED_TIMES}
    return {
        "hash": document.resource_hash,
        **{name: getattr(document, name) for name in _LISTED},
        **{name: value.isoformat() if value else None for name, value in times.items()},
        "ingestion_status": document.status,
        "ingestion_error": document.error,
    }

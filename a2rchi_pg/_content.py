"""Host content made storable: text without NUL, metadata as JSON, ids that are ids.

PostgreSQL stores neither NUL nor lone surrogates in text, in whatever place a scraped page or a PDF
had them. They are replaced rather than refused: the page is still worth finding.
"""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import numpy as np

from a2rchi_pg._arguments import MAX_ID_BYTES, UNSTORABLE, many, mapping, shown, string
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EXPONENT_FROM = 1e16  # what Python writes with an exponent, and jsonb as a whole number
MAX_NAME_BYTES = 500  # three of them fit into an entry of an index
MAX_BITS = 13_000  # of a whole number, which Python writes with 4,300 digits at most

# A tsvector holds 1 MB, and URLs or hyphenated words fill it with three times their length.
MAX_TEXT_BYTES = 350_000


def clean_text(text: object) -> str:
    """``text`` without NUL, and with lone surrogates replaced by U+FFFD.

    Raises:
        InvalidInput: If it isn't a string.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"texts must be strings, got {type(text).__name__}")
    if UNSTORABLE.search(text) is None:
        return text
    return UNSTORABLE.sub(lambda match: "" if match[0] == "\0" else "\ufffd", text)


def optional_text(value: object, name: str) -> str | None:
    """A text as PostgreSQL can store it; None stays None.

    Raises:
        InvalidInput: If it is neither.
    """
    return None if value is None else clean_text(string(value, name))


def clean_name(value: object, name: str) -> str:
    """A name of something (a model, a tool): clean, not blank, and not too long for an index.

    Raises:
        InvalidInput: If it is none.
    """
    cleaned = clean_text(string(value, name))
    if not cleaned.strip():
        raise InvalidInput(f"{name} must not be blank")
    if len(cleaned.encode()) > MAX_NAME_BYTES:
        raise InvalidInput(f"{name} may have {MAX_NAME_BYTES} bytes at most")
    return cleaned


def optional_name(value: object, name: str) -> str | None:
    """Like :func:`clean_name`; None stays None."""
    return None if value is None else clean_name(value, name)


def clean_content(text: object) -> str:
    """A text to store: clean, and not too long for its words to be indexed.

    Raises:
        InvalidInput: If it isn't a string, or has more than 350,000 bytes.
    """
    content = clean_text(text)
    if len(content) > MAX_TEXT_BYTES // 4 and len(content.encode()) > MAX_TEXT_BYTES:
        raise InvalidInput(f"text is too long, {MAX_TEXT_BYTES} bytes are the most: split it")
    return content


def clean_id(value: object) -> str:
    """An id to store under: the one given, or a new UUID for None.

    Raises:
        InvalidInput: If it isn't a string of 1 to 2,000 bytes that PostgreSQL can store.
    """
    if value is None:
        return str(uuid4())
    if not isinstance(value, str) or not value or UNSTORABLE.search(value):
        raise InvalidInput(f"ids must be non-empty strings without NUL, got {shown(value)}")
    if len(value.encode()) > MAX_ID_BYTES:
        raise InvalidInput(f"ids may have {MAX_ID_BYTES} bytes at most, got {value[:40]!r}…")
    return value


def wanted_ids(ids: str | Iterable[str]) -> list[str]:
    """The ids to look for, without those that no chunk can have.

    Raises:
        InvalidInput: If one isn't a string.
    """
    wanted = [ids] if isinstance(ids, str) else list(many(ids, "ids", "strings"))
    for value in wanted:
        if not isinstance(value, str):
            raise InvalidInput(f"ids must be strings, got {shown(value)}")
    return [value for value in wanted if UNSTORABLE.search(value) is None]


def metadata_json(metadata: Mapping[str, Any] | None) -> str:
    """Metadata as a JSON object; dates become ISO 8601, paths and UUIDs strings.

    Raises:
        InvalidInput: If a key isn't a string or a value has no JSON form; names it.
    """
    if metadata is None:
        return "{}"
    return json.dumps(plain_metadata(metadata, "metadata"), ensure_ascii=False)


def plain_metadata(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Metadata as what JSON has: dicts, lists, strings, numbers, booleans and None.

    Raises:
        InvalidInput: If a key isn't a string or a value has no JSON form; names it.
    """
    return plain_json(mapping(metadata, name), name)  # type: ignore[no-any-return]  # a dict stays one


def plain_json(value: object, name: str) -> Any:
    """Anything that JSON can hold, as what it has.

    Raises:
        InvalidInput: If something in it has no JSON form; names it.
    """
    try:
        return jsonable(value, name)
    except RecursionError:
        raise InvalidInput(f"{name} is nested too deeply, or holds itself") from None


def jsonable(value: Any, where: str) -> Any:  # noqa: PLR0911 - one case a type
    match value:
        case None | bool():
            return value
        case int() if value.bit_length() < MAX_BITS:
            return value
        case str():
            return clean_text(value)
        case float() if math.isfinite(value):
            # jsonb keeps decimals, of which a float this large would lose its last digits.
            return int(value) if abs(value) >= EXPONENT_FROM else value
        case datetime() | date():
            return value.isoformat()
        case PurePath() | UUID():
            return clean_text(str(value))
        case np.generic() | np.ndarray():
            return jsonable(_unwrapped(value), where)
        case list() | tuple():
            return [jsonable(each, f"{where}[{i}]") for i, each in enumerate(value)]
        case dict():
            return {_key(k, where): jsonable(each, f"{where}.{k}") for k, each in value.items()}
        case _:
            raise InvalidInput(f"{where} can't be stored as JSON: {_named(value)}")


def _named(value: object) -> str:
    """A number, and anything else by its kind alone: it may be a secret of a configuration."""
    return shown(value) if isinstance(value, int | float) else f"a {type(value).__name__}"


def _unwrapped(value: Any) -> Any:
    """A numpy value as Python's; its own tolist() would make a number of nanoseconds."""
    match value:
        case _ if value.dtype.kind == "M":
            return np.datetime_as_string(value).tolist()
        case np.floating():
            return float(value)
        case _:
            return value.tolist()


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise InvalidInput(f"keys of {where} must be strings, got {shown(key)}")
    return clean_text(key)

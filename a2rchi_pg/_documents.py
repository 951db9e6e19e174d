"""A document of the catalog: as it is to be recorded, and as it stands in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from a2rchi_pg._arguments import MAX_BIGINT, row_id, shown
from a2rchi_pg._content import MAX_NAME_BYTES, clean_id, clean_text, metadata_json, plain_json
from a2rchi_pg._dates import read_moment
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date
    from typing import Self

SourceType: TypeAlias = Literal["local_files", "web", "ticket", "git", "sso", "unknown"]
Status: TypeAlias = Literal["pending", "embedding", "embedded", "failed"]
Moment: TypeAlias = "datetime | date | str | float | None"
# A document is named by its id in the database, or by the hash of what it is.
DocumentKey: TypeAlias = "int | str"

SOURCE_TYPES: tuple[SourceType, ...] = get_args(SourceType)
STATUSES: tuple[Status, ...] = get_args(Status)
_SOURCE_WORDS: dict[str, SourceType] = {
    **{each: each for each in SOURCE_TYPES},
    "links": "web",
    "files": "local_files",
    "manual": "local_files",
    "jira": "ticket",
    "redmine": "ticket",
}
_PROVIDERS = ("jira", "redmine")

_INDEXED = ("ticket_id", "git_repo", "suffix", "mime_type")
_TEXTS = ("display_name", "url", "git_commit", "content_hash", *_INDEXED)
_PATHS = ("file_path", "original_path", "base_path", "relative_path")
_TIMES = ("source_created_at", "source_modified_at", "ingested_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSpec:
    """What is to be known of a document.

    Text is made storable (NUL and lone surrogates go), dates are read tolerantly, and the older
    words for kinds of source (``links``, ``files``, ``jira``, …) are understood.

    Args:
        resource_hash: What identifies the source, such as a hash of its URL or path; not of its
            content.
        display_name: What people call it; the hash where there is nothing better.
        source_type: ``"local_files"``, ``"web"``, ``"ticket"``, ``"git"``, ``"sso"`` or
            ``"unknown"``.
        url: Where it can be read.
        ticket_id: Its key in a tracker.
        git_repo: The repository it is from.
        git_commit: The commit it is from.
        suffix: Its file name's ending.
        mime_type: The type of its content.
        size_bytes: Length of its content.
        file_path: Where its content lies.
        original_path: Where it lay before it was collected.
        base_path: The folder that ``relative_path`` is relative to.
        relative_path: Its path below ``base_path``.
        metadata: Everything else, as for chunks.
        content_hash: Fingerprint of its content; None leaves the one on record.
        source_created_at: When it came into being, at the source.
        source_modified_at: When it changed last, at the source.
        ingested_at: When it was collected; None leaves the time on record.

    Raises:
        InvalidInput: If a value can't be stored; names the field.
    """

    resource_hash: str
    display_name: str = ""
    source_type: str = "unknown"
    url: str | None = None
    ticket_id: str | None = None
    git_repo: str | None = None
    git_commit: str | None = None
    suffix: str | None = None
    mime_type: str | None = None
    size_bytes: int | None = None
    file_path: str | PurePath | None = None
    original_path: str | PurePath | None = None
    base_path: str | PurePath | None = None
    relative_path: str | PurePath | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    content_hash: str | None = None
    source_created_at: Moment = None
    source_modified_at: Moment = None
    ingested_at: Moment = None

    def __post_init__(self) -> None:
        metadata_json(self.metadata)  # says what can't be stored, and that it is a mapping
        clean: dict[str, Any] = {"resource_hash": clean_id(_given(self.resource_hash))}
        clean |= {name: _read(name, getattr(self, name)) for name in _READERS}
        clean["display_name"] = clean["display_name"] or clean["resource_hash"]
        clean["source_type"] = _source_type(self.source_type)
        clean["metadata"] = _source_words(self.source_type) | plain_json(
            dict(self.metadata), "metadata"
        )
        for name, value in clean.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_metadata(cls, resource_hash: str, metadata: Mapping[str, Any]) -> Self:
        """A document by a flat mapping, as collectors and older catalogs keep it.

        Keys that are fields here go there (``created_at``, ``modified_at`` and ``path`` too), the
        rest is metadata. What can't be read as its field's type stays metadata, as does a source
        type that nobody knows; None is left out.
        """
        known: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for key, value in metadata.items():
            name = _OLD_KEYS.get(key, key)
            if value is None:
                continue
            if name in _READERS and name not in known and _reads(name, value):
                known[name] = value
            elif key not in ("source_type", "resource_hash"):
                rest[key] = value
        known.setdefault("display_name", rest.get("file_name", ""))
        source_type = metadata.get("source_type") or "unknown"
        return cls(resource_hash=resource_hash, source_type=source_type, metadata=rest, **known)

    def as_row(self) -> dict[str, Any]:
        """The fields as JSON, for a statement to take apart."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogDocument:
    """A document as it stands in the catalog.

    Attributes:
        origin: Where it comes from, for grouping: a site, a repository, a ticket project.
        enabled: Whether searches see it, unless a user or a conversation chose otherwise.
        created_at: When the catalog first heard of it.
        updated_at: When its record last changed.
        deleted_at: When it was deleted; None while it is live.
    """

    id: int
    resource_hash: str
    display_name: str
    source_type: SourceType
    origin: str
    url: str | None
    ticket_id: str | None
    git_repo: str | None
    git_commit: str | None
    suffix: str | None
    mime_type: str | None
    size_bytes: int | None
    file_path: str | None
    original_path: str | None
    base_path: str | None
    relative_path: str | None
    metadata: dict[str, Any] = field(hash=False)
    content_hash: str | None
    enabled: bool
    source_created_at: datetime | None
    source_modified_at: datetime | None
    ingested_at: datetime | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


COLUMNS = ", ".join(each.name for each in fields(CatalogDocument))


def split_keys(documents: DocumentKey | Iterable[DocumentKey]) -> tuple[list[int], list[str]]:
    """Ids and hashes of the documents named, without hashes that no document can have.

    Raises:
        InvalidInput: If one is neither a string nor a number that a document can have.
    """
    ids: list[int] = []
    hashes: list[str] = []
    several = isinstance(documents, Iterable) and not isinstance(documents, str | bytes)
    for key in documents if several else [documents]:  # type: ignore[union-attr]  # just asked
        match key:
            case str():
                hashes += [key] if clean_text(key) == key else []
            case int():
                ids.append(row_id(key, "document"))
            case _:
                raise InvalidInput(f"documents are named by id or resource_hash, got {shown(key)}")
    return ids, hashes


def _given(resource_hash: object) -> object:
    if resource_hash is None:
        raise InvalidInput("resource_hash is missing")
    return resource_hash


def _source_type(word: object) -> SourceType:
    if not isinstance(word, str):
        raise InvalidInput(f"source_type must be a string, got {word!r}")
    return _SOURCE_WORDS.get(word, "unknown")


def _source_words(word: str) -> dict[str, str]:
    """What the metadata keeps of a source type that isn't one of ours."""
    if word in _PROVIDERS:
        return {"ticket_provider": word}
    return {} if word in _SOURCE_WORDS else {"original_source_type": clean_text(word)}


def source_type_of(word: str) -> SourceType:
    """The kind of source that a word, ours or an older one, stands for.

    Raises:
        InvalidInput: If it stands for none.
    """
    if word not in _SOURCE_WORDS:
        known = ", ".join(_SOURCE_WORDS)
        raise InvalidInput(f"source_type must be one of {known}; got {word!r}")
    return _source_type(word)


def _read(name: str, value: object) -> Any:
    """A field's value as it is stored; None where there is none."""
    if value is None or value == "":
        return None
    read = _READERS[name](value)
    if read is None:
        raise InvalidInput(f"{name} can't be {value!r}: {_ACCEPTED.get(name, 'it takes text')}")
    return read


def _reads(name: str, value: object) -> bool:
    return value == "" or _READERS[name](value) is not None


def _text(value: object) -> str | None:
    return clean_text(value) if isinstance(value, str) else None


def _path(value: object) -> str | None:
    return clean_text(str(value)) if isinstance(value, str | PurePath) else None


def short_text(value: object) -> str | None:
    """``value`` as it is stored, where an index takes it."""
    text = _text(value)
    return text if text is not None and len(text.encode()) <= MAX_NAME_BYTES else None


def _size(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) < len(str(MAX_BIGINT)):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MAX_BIGINT else None


_READERS: dict[str, Callable[[object], Any]] = {
    **dict.fromkeys(_TEXTS, _text),
    **dict.fromkeys(_INDEXED, short_text),
    **dict.fromkeys(_PATHS, _path),
    **dict.fromkeys(_TIMES, read_moment),
    "size_bytes": _size,
}
_ACCEPTED = {
    "size_bytes": "it takes a whole number of bytes",
    **dict.fromkeys(_INDEXED, f"it takes text of up to {MAX_NAME_BYTES} bytes"),
    **dict.fromkeys(_TIMES, "it takes a date or time: ISO 8601, RFC 2822, seconds since 1970"),
}
_OLD_KEYS = {
    "path": "file_path",
    "created_at": "source_created_at",
    "modified_at": "source_modified_at",
    "file_modified_at": "source_modified_at",
}

"""What a caller brings to be stored, brought together and cleaned one text at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from a2rchi_pg._arguments import many, shown
from a2rchi_pg._content import clean_content, clean_id, metadata_json
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One text on its way in, cleaned; its vector where the caller brought one."""

    id: str
    content: str
    metadata: str
    vector: ArrayLike | None = None


def records(
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, Any] | None] | None,
    ids: Iterable[str | None] | None,
    vectors: Iterable[ArrayLike] | None = None,
) -> Iterator[Record]:
    """Bring the columns a caller gave together, cleaned, one record at a time.

    Raises:
        InvalidInput: If their lengths differ or a value can't be stored; names the position.
    """
    given = {
        "texts": many(texts, "texts", "strings"),
        "metadatas": _unless_none(metadatas, "metadatas", "mappings"),
        "ids": _unless_none(ids, "ids", "strings"),
        "embeddings": _unless_none(vectors, "embeddings", "vectors"),
    }
    for position, row in enumerate(_rows(given)):
        yield _record(
            position, row["texts"], row.get("metadatas"), row.get("ids"), row.get("embeddings")
        )


def document_records(
    documents: Iterable[Document],
    ids: Iterable[str | None] | None,
    vectors: Iterable[ArrayLike] | None = None,
) -> Iterator[Record]:
    """Records of documents, under ``ids`` or else the documents' own.

    Raises:
        InvalidInput: If their lengths differ or a value can't be stored; names the position.
    """
    given = {
        "documents": many(documents, "documents", "LangChain documents"),
        "ids": _unless_none(ids, "ids", "strings"),
        "embeddings": _unless_none(vectors, "embeddings", "vectors"),
    }
    for position, row in enumerate(_rows(given)):
        document = row["documents"]
        if not isinstance(document, Document):
            raise InvalidInput(
                f"item {position}: documents must be LangChain documents, got {shown(document)}"
            )
        content, metadata = document.page_content, document.metadata
        id_, vector = row.get("ids", document.id), row.get("embeddings")
        yield _record(position, content, metadata, id_, vector)


def _unless_none(column: Iterable[Any] | None, name: str, of: str) -> Iterable[Any] | None:
    return None if column is None else many(column, name, of)


def _record(
    position: int,
    text: str,
    metadata: Mapping[str, Any] | None,
    id_: str | None,
    vector: ArrayLike | None,
) -> Record:
    try:
        return Record(
            id=clean_id(id_),
            content=clean_content(text),
            metadata=metadata_json(metadata),
            vector=vector,
        )
    except InvalidInput as error:
        raise InvalidInput(f"item {position}: {error}") from None


def _rows(given: Mapping[str, Iterable[Any] | None]) -> Iterator[dict[str, Any]]:
    columns = {name: iter(column) for name, column in given.items() if column is not None}
    end = object()
    for position in count():
        row = {name: next(column, end) for name, column in columns.items()}
        ended = [name for name, value in row.items() if value is end]
        if len(ended) == len(row):
            return
        if row.get("embeddings", ()) is None:
            raise InvalidInput(f"item {position}: its vector is None")
        if ended:
            longer = ", ".join(name for name in row if name not in ended)
            raise InvalidInput(
                f"{', '.join(ended)} end after {position} items while {longer} go on: give one each"
            )
        yield row

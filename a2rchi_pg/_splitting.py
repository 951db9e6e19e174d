"""Texts in pieces, each with its place, and a fingerprint of what made them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.documents import Document

from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PAGE_BREAK = "\n\n"  # between the parts of a document, when places are counted


class Splitter(Protocol):
    """What a LangChain text splitter does, as far as it is needed here."""

    def split_text(self, text: str) -> Sequence[Any]:
        """The pieces, as strings or as documents with metadata."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a document's text.

    Attributes:
        start: Where it begins in the document's text; None where the splitter changed the text.
        end: Where it ends, likewise.
    """

    text: str
    start: int | None
    end: int | None
    metadata: dict[str, Any] = field(default_factory=dict)


def default_splitter(size: int = 1000, overlap: int = 100) -> Splitter:
    """Paragraphs, lines, sentences, words: so many characters a piece, so many of them shared."""
    from langchain_text_splitters import (  # noqa: PLC0415 - slow to load, and not always wanted
        RecursiveCharacterTextSplitter,
    )

    return RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap)


def split(parts: Iterable[Document], splitter: Splitter) -> list[Piece]:
    """The pieces of a document's parts in their order, without blank ones.

    Raises:
        InvalidInput: If there are none, though there are parts.
    """
    pieces: list[Piece] = []
    base = 0
    for part in parts:
        pieces += _pieces(part, splitter, base)
        base += len(part.page_content) + len(PAGE_BREAK)
    if base and not pieces:
        raise InvalidInput("its splitter made no pieces of it")
    return pieces


def _pieces(part: Document, splitter: Splitter, base: int) -> Iterator[Piece]:
    start = end = 0
    shared = getattr(splitter, "_chunk_overlap", 0)
    whole = part.page_content
    for each in splitter.split_text(whole):
        text, own = (each.page_content, each.metadata) if isinstance(each, Document) else (each, {})
        if not text.strip():
            continue
        # Text that repeats itself is found where the splitter is, not where it first occurs.
        at = whole.find(text, max(start, end - shared))
        at = whole.find(text, start) if at < 0 else at
        found = at >= 0
        if found:
            start, end = at, at + len(text)
        yield Piece(
            text=text,
            start=base + at if found else None,
            end=base + end if found else None,
            metadata={**part.metadata, **own},
        )


def splitter_fingerprint(splitter: Splitter) -> str:
    """What tells one splitter from another with other settings, in every process."""
    settings = json.dumps(vars(splitter), default=_name, sort_keys=True)
    return sha256(f"{_name(type(splitter))} {settings}".encode()).hexdigest()[:32]


def _name(value: Any) -> str:
    """A function or a class by its name, and an object by its class: no addresses."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"

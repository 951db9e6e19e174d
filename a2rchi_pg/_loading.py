"""Files as text: what is read out of the box, and what a host's own loaders read."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_core.documents import Document

from a2rchi_pg._content import clean_text
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

# By suffix: a function of the path, or a LangChain loader's class.
Loaders: TypeAlias = "Mapping[str, Callable[[str], Any]]"

MAX_BYTES = 50_000_000
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_UNSEEN = {"script", "style", "template", "noscript", "head"}
_INLINE = {"a", "abbr", "b", "code", "em", "i", "kbd", "mark", "s", "small", "span", "strong",
           "sub", "sup", "u", "var"}  # fmt: skip


def load(path: Path, loaders: Loaders, max_bytes: int = MAX_BYTES) -> list[Document]:
    """The text of a file, in as many parts as its loader makes, without those that are blank.

    A file whose suffix has no loader is read as text; one without text has no parts.

    Raises:
        InvalidInput: If it is too large, no text, or needs a package that isn't there; says why.
        OSError: If it can't be read.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise InvalidInput(f"it has {size} bytes, {max_bytes} are the most")
    suffix = path.suffix.lower()
    own = loaders.get(suffix)
    found = _loaded(own(str(path))) if own else _LOADERS.get(suffix, _plain)(path)
    cleaned = [Document(clean_text(each.page_content), metadata=each.metadata) for each in found]
    return [each for each in cleaned if each.page_content.strip()]


def _loaded(given: Any) -> Iterable[Document]:
    lazily = getattr(given, "lazy_load", None)
    return lazily() if callable(lazily) else given  # type: ignore[no-any-return]  # the host's word


def _plain(path: Path) -> list[Document]:
    return [Document(decoded(path.read_bytes()))]


def decoded(data: bytes) -> str:
    """Text in UTF-8, in UTF-16 that says so, or else in Windows-1252.

    Raises:
        InvalidInput: If it is no text.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        if b"\0" in data:
            raise InvalidInput("it is binary, and no loader is given for its suffix") from None
        return data.decode("cp1252", "replace")


def _html(path: Path) -> list[Document]:
    page = _Page()
    page.feed(decoded(path.read_bytes()))
    page.close()
    title = " ".join("".join(page.title).split())
    lines = (" ".join(line.split()) for line in "".join(page.text).splitlines())
    text = "\n".join(line for line in lines if line)
    return [Document(text, metadata={"title": title} if title else {})]


class _Page(HTMLParser):
    """The text that a page shows, a block a line."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.title: list[str] = []
        self._unseen: str | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self._in_title = tag == "title"
        if self._unseen is None and tag in _UNSEEN:
            self._unseen = tag
        elif tag == "body":  # what a head that was never closed hid is over
            self._unseen = None
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if tag == self._unseen:
            self._unseen = None
        self._part(tag)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif self._unseen is None:
            self.text.append(data)

    def _part(self, tag: str) -> None:
        if tag not in _INLINE:
            self.text.append(" " if tag in ("td", "th") else "\n")


def _csv(path: Path) -> list[Document]:
    """Rows in which each value stands with its column's name, as they are torn from the header."""
    text = decoded(path.read_bytes())
    rows = (row for row in csv.reader(io.StringIO(text)) if row)
    try:
        header = next(rows, [])
        shown = ["\n".join(_cells(header, row)) for row in rows]
    except csv.Error:
        return [Document(text)]
    return [Document("\n\n".join(shown) or text)]


def _cells(header: list[str], row: list[str]) -> Iterable[str]:
    for name, value in zip_longest(header, row[: len(header)], fillvalue=""):
        yield f"{name}: {value}".removeprefix(": ")
    if more := row[len(header) :]:
        yield ", ".join(more)


def _json(path: Path) -> list[Document]:
    """Indented, so that a splitter finds where to cut; as it is where it can't be read."""
    text = decoded(path.read_bytes())
    try:
        return [Document(json.dumps(json.loads(text), ensure_ascii=False, indent=1))]
    except (ValueError, RecursionError):
        return [Document(text)]


def _pdf(path: Path) -> list[Document]:
    try:
        from pypdf import PdfReader  # noqa: PLC0415 - an extra
        from pypdf.errors import PyPdfError  # noqa: PLC0415 - an extra
    except ImportError:
        raise _missing("PDF") from None
    try:
        pages = enumerate(PdfReader(path).pages, 1)
        return [Document(page.extract_text(), metadata={"page": n}) for n, page in pages]
    except PyPdfError as error:
        raise InvalidInput(f"it can't be read as PDF: {error}") from error


def _docx(path: Path) -> list[Document]:
    try:
        import docx  # noqa: PLC0415 - an extra
        from docx.opc.exceptions import PackageNotFoundError  # noqa: PLC0415 - an extra
        from docx.table import Table  # noqa: PLC0415 - an extra
    except ImportError:
        raise _missing("DOCX") from None
    try:
        parts = list(docx.Document(str(path)).iter_inner_content())
    except (PackageNotFoundError, KeyError, ValueError) as error:
        raise InvalidInput("it can't be read as DOCX") from error
    lines = []
    for part in parts:
        if isinstance(part, Table):
            lines += [" ".join(cell.text for cell in row.cells) for row in part.rows]
        else:
            lines.append(part.text)
    return [Document("\n".join(lines))]


def _missing(kind: str) -> InvalidInput:
    return InvalidInput(f"{kind} needs an extra: pip install 'a2rchi_pg[documents]'")


_LOADERS: dict[str, Callable[[Path], list[Document]]] = {
    **dict.fromkeys((".html", ".htm", ".xhtml"), _html),
    ".csv": _csv,
    ".json": _json,
    ".pdf": _pdf,
    ".docx": _docx,
}

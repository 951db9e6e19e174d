"""Recording, finding and reading documents under the names that hosts of the older services call.

Thin: every method is a call of ``CatalogRepository`` with its result put into the old form, where
metadata is flat, every value a string and a missing one left out. Nothing is cached, so
``refresh()`` has nothing to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.documents import Document

from a2rchi_pg._arguments import MAX_PAGE
from a2rchi_pg._documents import DocumentSpec
from a2rchi_pg._legacy_forms import all_of, flat, picked, where
from a2rchi_pg._op import Steps, fetch_tuples, read
from a2rchi_pg.catalog import CatalogRepository
from a2rchi_pg.selection import SelectionRepository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from a2rchi_pg._legacy_forms import Flat
    from a2rchi_pg._op import Runner
    from a2rchi_pg._pages import ListedDocument

TEXT_SUFFIXES = (
    ".txt", ".md", ".rst", ".html", ".htm", ".csv", ".json", ".yaml", ".yml", ".xml", ".tex",
    ".log", ".py", ".c", ".cc", ".cpp", ".h", ".hpp", ".java", ".js", ".ts", ".go", ".rs", ".sh",
    ".sql", ".toml", ".ini", ".cfg",
)  # fmt: skip
DISTINCT = ("source_type", "suffix", "ticket_id", "git_repo", "url")


class LegacyLookup:
    """Documents in and out, and what is known of them, as ``PostgresCatalogService`` was called.

    Args:
        data_path: The folder that stored paths are relative to.
        runner: A ``Database``, or a ``Transaction`` of one.
        include_extensions: Endings of the files that :meth:`iter_files` yields.
        collection: The collection whose ingestion states are meant.
    """

    def __init__(
        self,
        data_path: str | PathLike[str],
        runner: Runner,
        include_extensions: Sequence[str] = TEXT_SUFFIXES,
        *,
        collection: str = "default",
    ) -> None:
        self.data_path = Path(data_path)
        self.include_extensions = {each.lower() for each in include_extensions}
        self._collection = collection
        self._runner = runner
        self._catalog = CatalogRepository(runner)
        self._selection = SelectionRepository(runner)
        self._owner = f"catalog-{uuid4()}"

    @classmethod
    def load_sources_catalog(cls, data_path: str | PathLike[str], runner: Runner) -> Flat:
        """Hash → absolute path of every live document."""
        catalog = cls(data_path, runner)
        return {key: str(catalog._resolved(path)) for key, path in catalog.file_index.items()}

    def refresh(self) -> None:
        """Nothing is cached."""

    @property
    def file_index(self) -> Flat:
        """Hash → path as stored, of every live document that has one."""
        return dict(self._runner.run(_paths()))

    @property
    def metadata_index(self) -> Flat:
        """The same as :attr:`file_index`."""
        return self.file_index

    def get_document_id(self, resource_hash: str) -> int | None:
        """The id of a live document."""
        found = self._catalog.get_by_hash(resource_hash)
        return found.id if found else None

    def upsert_resource(
        self, resource_hash: str, path: str | PathLike[str], metadata: Mapping[str, Any] | None
    ) -> int:
        """Record a document; its id."""
        given = {**(metadata or {}), "path": Path(path).as_posix()}
        return self._catalog.upsert(DocumentSpec.from_metadata(resource_hash, given)).id

    def delete_resource(self, resource_hash: str) -> None:
        """Delete a document softly; no error where there is none."""
        self._catalog.delete(resource_hash)

    def get_resource_hashes_by_metadata_filter(self, field: str, value: str) -> list[str]:
        """Hashes of the documents whose field has that value."""
        return [key for key, _ in self.get_metadata_by_filter(field, value)]

    def get_metadata_by_filter(
        self,
        field: str,
        value: object = None,
        metadata_keys: Sequence[str] | None = None,
        **by_name: object,
    ) -> list[tuple[str, Flat]]:
        """Documents whose field has a value, or any where none is given.

        ``get_metadata_by_filter("source_type", source_type="web")`` is the same as
        ``get_metadata_by_filter("source_type", "web")``.
        """
        value = by_name.get(field, value)
        found = self._every(**where(field, value))
        return [(each.resource_hash, picked(flat(each), metadata_keys)) for each in found]

    def search_metadata(
        self,
        query: str,
        *,
        limit: int | None = 5,
        filters: Mapping[str, Any] | list[Mapping[str, Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Documents by free text and by filters, the last changed first.

        Args:
            query: Words that must all be found; empty where filters are given.
            limit: How many; None means all.
            filters: Fields and values that hold together; of several mappings one must hold.
        """
        several = filters if isinstance(filters, list | tuple) else [filters]
        given = [all_of(each) for each in several if each]
        if not query.strip() and not given:
            return []
        options: dict[str, Any] = {"sort": "modified", "search": query if query.strip() else None}
        if given:
            options["filter"] = {"$or": given}
        found = self._every(limit=limit, **options)
        return [
            {
                "hash": each.resource_hash,
                "path": self._resolved(each.file_path or ""),
                "metadata": flat(each),
            }
            for each in found
        ]

    def iter_files(self) -> Iterator[tuple[str, Path]]:
        """Hash and path of each document whose file is there and has one of the endings."""
        for resource_hash, stored in self.file_index.items():
            path = self._resolved(stored)
            if path.suffix.lower() in self.include_extensions and path.is_file():
                yield resource_hash, path

    def get_metadata_for_hash(self, resource_hash: str) -> Flat | None:
        """What is known of a live document."""
        found = self._one(resource_hash)
        return flat(found) if found else None

    def get_distinct_metadata(self, fields: Iterable[str]) -> dict[str, list[str]]:
        """The values of these fields, up to ten thousand each; unknown fields are passed over."""
        return {
            field: sorted(value for value, _ in self._catalog.distinct(field, limit=MAX_PAGE))
            for field in fields
            if field in DISTINCT
        }

    def get_filepath_for_hash(self, resource_hash: str) -> Path | None:
        """Where a document's file is; None where it isn't."""
        found = self._catalog.get_by_hash(resource_hash)
        path = self._resolved(found.file_path) if found and found.file_path else None
        return path if path and path.is_file() else None

    def get_document_for_hash(self, resource_hash: str) -> Document | None:
        """A document's text, from its file if that is text and else from its chunks."""
        found = self._one(resource_hash)
        if found is None:
            return None
        text, _ = self._text(found, 2**31 - 1)
        return Document(page_content=text, metadata=flat(found))

    def _resolved(self, stored: str) -> Path:
        return self.data_path / stored

    def _one(self, resource_hash: str) -> ListedDocument | None:
        view = {"resource_hash": resource_hash}
        page = self._catalog.list(filter=view, collection=self._collection, with_total=False)
        return page.documents[0] if page.documents else None

    def _every(self, *, limit: int | None = None, **view: Any) -> list[ListedDocument]:
        """All documents, page by page."""
        found: list[ListedDocument] = []
        after: str | None = None
        view = {"collection": self._collection, **view}
        while limit is None or len(found) < limit:
            left = MAX_PAGE if limit is None else min(limit - len(found), MAX_PAGE)
            page = self._catalog.list(**view, limit=left, after=after, with_total=False)
            found += page.documents
            if (after := page.next) is None:
                break
        return found

    def _text(self, document: ListedDocument, most: int) -> tuple[str, str]:
        """The beginning of a document's text, and where it is from."""
        path = self._resolved(document.file_path) if document.file_path else None
        if path and path.suffix.lower() in self.include_extensions and path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                return file.read(most), "file"
        content = self._catalog.content(document.id, max_chars=most)
        return (content.text if content else ""), "chunks"


@read
def _paths() -> Steps[list[tuple[Any, ...]]]:
    query = """
        SELECT resource_hash, file_path
        FROM documents
        WHERE deleted_at IS NULL AND file_path IS NOT NULL
    """
    return (yield from fetch_tuples(query))

"""How a manager makes pieces of a document, and of whose vectors it brings a collection more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from a2rchi_pg._content import clean_content, metadata_json
from a2rchi_pg._loading import Loaders, load
from a2rchi_pg._splitting import Piece, Splitter, split
from a2rchi_pg.errors import CollectionMismatch, InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    from a2rchi_pg._syncing import Due
    from a2rchi_pg.collections import Collection
    from a2rchi_pg.vectorstore import PostgresVectorStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A document's pieces, and the metadata of each as JSON."""

    pieces: list[Piece]
    metadatas: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a manager works; see its arguments."""

    store: PostgresVectorStore
    splitter: Splitter
    splitter_name: str
    loaders: Loaders
    data_path: Path
    workers: int
    batch_size: int
    lease: float
    max_bytes: int

    def prepared(self, document: Due) -> Prepared:
        """A document loaded and split."""
        if document.file_path is None:
            raise InvalidInput("the catalog has no file of it")
        path = self.data_path / document.file_path
        if "\ufffd" in document.file_path and not path.exists():
            raise InvalidInput("its name is no UTF-8, so that the catalog can't hold it: rename it")
        pieces = split(load(path, self.loaders, self.max_bytes), self.splitter)
        own = document.metadata | {
            "resource_hash": document.resource_hash,
            "display_name": document.display_name,
            "source_type": document.source_type,
            "filename": path.name,
        }
        own |= {} if document.url is None else {"url": document.url}
        for piece in pieces:
            clean_content(piece.text)
        metadatas = [
            metadata_json(piece.metadata | own | {"chunk_index": n})
            for n, piece in enumerate(pieces)
        ]
        return Prepared(pieces=pieces, metadatas=metadatas)

    def check_model(self, collection: Collection) -> None:
        """Refuse to bring vectors of another model among those of a collection.

        Raises:
            CollectionMismatch: If the two have names, and these differ.
        """
        stored, own = collection.embedding_model, self.store.embedding_model
        if collection.is_of_another_model(own):
            raise CollectionMismatch(
                f"collection {collection.name!r} was filled by embedding model {stored!r}, this "
                f"store embeds with {own!r}: make another beside it with store.reembed(), or, "
                f"where both are one model, say so: CollectionSpec(embedding_model={stored!r})"
            )

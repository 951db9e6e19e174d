"""Catalogs on the test servers, each in a database of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import CatalogRepository, DocumentSpec, SelectionRepository

if TYPE_CHECKING:
    from a2rchi_pg import Database, DocumentPage


@pytest.fixture
def catalog(database: Database) -> CatalogRepository:
    """An empty catalog."""
    return CatalogRepository(database)


@pytest.fixture
def selection(database: Database) -> SelectionRepository:
    """The selection in the same database as ``catalog``."""
    return SelectionRepository(database)


def spec(resource_hash: str, **fields: Any) -> DocumentSpec:
    return DocumentSpec(resource_hash=resource_hash, **fields)


def hashes(page: DocumentPage) -> list[str]:
    return [document.resource_hash for document in page.documents]

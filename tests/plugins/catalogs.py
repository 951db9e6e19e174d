"""Catalogs on the test servers, each in a database of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import (
    CatalogRepository,
    DocumentSpec,
    SelectionRepository,
)
from tests.database_support import commands

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


def make_conversation(database: Database, conversation_id: int, user_id: str | None = None) -> None:
    """A conversation of a user's, or of nobody's."""
    owner = "NULL" if user_id is None else f"'{user_id}'"
    statements = [f"INSERT INTO conversation_metadata VALUES ({conversation_id}, {owner})"]
    if user_id is not None:
        statements.insert(0, f"INSERT INTO users (id) VALUES ({owner}) ON CONFLICT DO NOTHING")
    database.run(commands(*statements))


def spec(resource_hash: str, **fields: Any) -> DocumentSpec:
    return DocumentSpec(resource_hash=resource_hash, **fields)


def hashes(page: DocumentPage) -> list[str]:
    return [document.resource_hash for document in page.documents]

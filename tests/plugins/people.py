"""Users and a configuration, on the database that tests share, begun anew for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import SYSTEM, ConfigRepository, KeyRing, LocalKey, UserRepository
from a2rchi_pg._local_key import generate_key
from tests.database_support import admin

if TYPE_CHECKING:
    from a2rchi_pg import Database, DynamicConfig

EMPTY = "TRUNCATE users, user_role_changes, static_config, dynamic_config CASCADE"


def new_ring(*older: LocalKey) -> KeyRing:
    """A ring with a new key in front."""
    return KeyRing([LocalKey(generate_key()), *older])


@pytest.fixture
def fresh(common: Database, common_dsn: str) -> Database:
    """The shared database, without users or configuration."""
    admin(common_dsn, EMPTY)
    return common


@pytest.fixture
def ring() -> KeyRing:
    return new_ring()


@pytest.fixture
def users(fresh: Database, ring: KeyRing) -> UserRepository:
    return UserRepository(fresh, ring)


@pytest.fixture
def config(fresh: Database) -> ConfigRepository[DynamicConfig]:
    return ConfigRepository(fresh, cache_seconds=0)


@pytest.fixture
def admin_id(users: UserRepository) -> str:
    users.get_or_create("boss", auth_provider="sso")
    users.set_role("boss", "admin", changed_by=SYSTEM)
    return "boss"

"""Fixtures live by topic in tests/plugins."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # a busy machine is no counterexample
settings.load_profile("unhurried")

pytest_plugins = [
    "tests.plugins.catalogs",
    "tests.plugins.migrations",
    "tests.plugins.people",
    "tests.plugins.servers",
    "tests.plugins.stores",
    "tests.plugins.too_old",
]

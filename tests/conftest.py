"""Fixtures live by topic in tests/plugins."""

pytest_plugins = [
    "tests.plugins.catalogs",
    "tests.plugins.people",
    "tests.plugins.servers",
    "tests.plugins.stores",
]

"""Fixtures live by topic in tests/plugins."""

pytest_plugins = ["tests.plugins.servers", "tests.plugins.stores", "tests.plugins.people"]

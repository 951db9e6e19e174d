"""A server that logs everything it is sent never learns a key, and neither do our own logs."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import psycopg
import pytest

from a2rchi_pg import Database, KeyRing, LocalKey, UserRepository, _schema
from a2rchi_pg._local_key import generate_key
from a2rchi_pg.embedded import EmbeddedPostgres
from a2rchi_pg.errors import A2rchiError
from tests.plugins.servers import EXTERNAL
from tests.plugins.trees import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(EXTERNAL), reason="reads the log of a server of its own"),
]

LOGGING = {
    "log_min_duration_statement": "0",
    "log_statement": "all",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_error_verbosity": "verbose",
    "track_activity_query_size": "100000",
    "fsync": "off",
}
SECRET, LATER = "sk-live-Zebra-0123456789", "sk-live-Okapi-0123456789"
PASSPHRASE = "an old pass phrase of the system before"  # noqa: S105 - nobody's


@pytest.fixture(params=["full", "plain"])
def talkative(request: pytest.FixtureRequest, server_path: Path) -> Iterator[tuple[str, Path]]:
    """A server that logs all it is sent: how to reach it, and where its files are."""
    name = request.param
    preload = ["pg_textsearch", "pg_stat_statements"] if name == "full" else []
    with EmbeddedPostgres(
        server_path, binaries=tree(name), settings=LOGGING, preload=preload
    ) as server:
        _schema.migrate(server.dsn)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            if name == "full":
                connection.execute("CREATE EXTENSION pg_stat_statements")
        yield server.dsn, server_path


def test_u7_no_key_is_ever_in_a_log_a_statement_or_an_error(
    talkative: tuple[str, Path], caplog: pytest.LogCaptureFixture
):
    dsn, path = talkative
    caplog.set_level(logging.DEBUG)
    old, new = LocalKey(generate_key()), LocalKey(generate_key())
    errors, statements = [], []
    with Database(dsn) as database:
        ring = KeyRing([old], legacy=[PASSPHRASE])
        users = UserRepository(database, ring)
        both = UserRepository(database, KeyRing([new, old], write_format="pgcrypto"))
        users.get_or_create("ann")
        users.set_api_key("ann", "openai", SECRET)
        users.set_api_key("ann", "openai", LATER)
        assert users.get_api_key("ann", "openai") == LATER
        both.set_api_key("ann", "gemini", SECRET)
        assert both.rotate_api_keys().rotated == 1
        assert both.get_api_key("ann", "openai") == LATER
        assert users.list_api_keys("ann")[0].state == "needs re-entry"
        for attempt in (
            lambda: users.get_api_key("ann", "openai"),
            lambda: users.set_api_key("nobody", "openai", SECRET),
            lambda: users.set_api_key("ann", "no name", SECRET),
            lambda: users.set_api_key("ann", "openai", SECRET + "\n"),
            lambda: UserRepository(database).set_api_key("ann", "openai", SECRET),
        ):
            with pytest.raises(A2rchiError) as caught:
                attempt()
            errors.append("".join(traceback.format_exception(caught.value)))
        with psycopg.connect(dsn) as connection:
            seen = connection.execute("SELECT query FROM pg_stat_activity").fetchall()
            statements += [query for (query,) in seen]
            if connection.execute("SELECT to_regclass('pg_stat_statements')").fetchone() != (None,):
                kept = connection.execute("SELECT query FROM pg_stat_statements").fetchall()
                assert any("user_api_keys" in query for (query,) in kept)
                statements += [query for (query,) in kept]
            dumped = connection.execute("SELECT u::text FROM user_api_keys u").fetchall()
    logs = [file.read_text(errors="replace") for file in path.rglob("*.log")]
    logs += [file.read_text(errors="replace") for file in path.glob("log*") if file.is_file()]
    assert any("user_api_keys" in log for log in logs), "the server's log was not found"
    places = {
        "server": "\n".join(logs),
        "ours": caplog.text,
        "errors": "\n".join(errors),
        "statements": "\n".join(statements),
        "rows": str(dumped),
    }
    for hidden in (SECRET, LATER, "Zebra", "Okapi", old.text, new.text, PASSPHRASE):
        for encoded in (hidden, hidden.encode().hex()):
            found = [name for name, text in places.items() if encoded in text]
            assert not found, f"a secret stands in {found}"

"""An older A2rchi's PostgreSQL brought over: whole, provable, resumable, reversible."""

from __future__ import annotations

import json
import uuid
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial

import pytest

from a2rchi_pg import Database, KeyRing, LocalKey, UserRepository
from a2rchi_pg._local_key import generate_key
from tests.database_support import admin
from tests.migration_support import contents
from tests.origin_support import BINARIES, CONFIGS, KEY, MASTER, fill_v1, fill_v2, postgres_15

# `full` has pgcrypto, which the old users' keys are made with.
pytestmark = [pytest.mark.servers("full"), pytest.mark.timeout(240)]
WRITTEN = {
    "users": 2,
    "user_api_keys": 1,
    "conversation_metadata": 42,
    "conversations": 163,
    "feedback": 3,
    "timing": 2,
    "agent_tool_calls": 1,
    "ab_comparisons": 2,
}


@pytest.fixture
def migrate(command_line, source):
    """Runs a command on the old database: exit code, output, errors."""
    where = ("--source", "postgres", "--timezone", "Europe/Zurich")
    return partial(command_line, source=where)


def outcomes(out: str) -> dict[str, dict[str, int]]:
    made = json.loads(out)
    return {each["run"]["target"].removeprefix("table "): each["outcomes"] for each in made}


def test_the_first_version_arrives_with_times_roles_and_models(migrate, dsn, source):
    fill_v1(source)
    assert migrate("run", "--run-id", "one")[0] == 0
    assert admin(
        dsn,
        "SELECT conversation_id, role, sender, content, link, model_used, pipeline_used, ts "
        "FROM conversations ORDER BY message_id",
    ) == [
        (7, "user", "User", "why?", "", None, None, datetime(2024, 7, 1, 10, tzinfo=UTC)),
        (7, "assistant", "archi", "because", "a page", "gpt-4", "QAPipeline",
         datetime(2024, 7, 1, 10, 0, 5, 250_000, tzinfo=UTC)),
        (9, "expert", "Expert", "I know", "", None, None, datetime(2024, 12, 1, 11, tzinfo=UTC)),
    ]  # fmt: skip
    assert admin(
        dsn, "SELECT conversation_id, user_id, client_id FROM conversation_metadata ORDER BY 1"
    ) == [
        (7, None, None),
        (9, None, None),
    ]
    assert migrate("verify", "--run-id", "one")[0] == 0
    # What is said next doesn't run into what came.
    assert admin(
        dsn, "INSERT INTO conversation_metadata DEFAULT VALUES RETURNING conversation_id"
    ) == [(10,)]


def test_every_shape_of_configuration_and_every_trap(migrate, dsn, source):
    fill_v2(source)
    code, out, errors = migrate("run", "--run-id", "one", "--json")
    assert (code, errors) == (0, "")
    found = outcomes(out)
    assert {name: each["written"] for name, each in found.items()} == WRITTEN
    assert (found["feedback"]["skipped"], found["ab_comparisons"]["skipped"]) == (1, 1)
    assert admin(
        dsn,
        "SELECT DISTINCT (conversation_id - 1) %% 6 + 1, model_used, pipeline_used "
        "FROM conversations WHERE role = 'assistant' AND archi_service = 'chat' "
        "AND conversation_id <= %s ORDER BY 1",
        6,
    ) == [
        (1, "gpt-4", "QAPipeline"),
        (2, "qwen3:32b", "CMSCompOpsAgent"),
        (3, "openai/gpt-4o", "CMSAgent"),
        (4, None, "QAPipeline"),
        (5, None, None),
        (6, "openai/gpt-4o", "CMSAgent"),
    ]
    notes = {note[1]: note[2] for each in json.loads(out) for note in each["notes"]}
    assert notes["model_used is unknown"] == 14
    assert notes["model_used is unknown; pipeline_used is unknown"] == 13
    # Issue 3 of Redmine is not conversation 3 of the chat.
    assert admin(
        dsn,
        "SELECT c.title, m.content, m.model_used FROM conversations m "
        "JOIN conversation_metadata c USING (conversation_id) WHERE archi_service = 'Redmine' "
        "ORDER BY message_id",
    ) == [("Redmine #3", "issue 3", None), ("Redmine #3", "solved", None)]
    assert admin(dsn, "SELECT feedback, feedback_msg, incorrect FROM feedback ORDER BY 2") == [
        ("dislike", "no", True),
        ("comment", "one", False),
        ("comment", "two", False),
    ]
    assert admin(
        dsn, "SELECT model_a, pipeline_a, model_b, preference FROM ab_comparisons ORDER BY 1"
    ) == [("qwen3:32b", "CMSCompOpsAgent", "openai/gpt-4o", "a"), (None, "QAPipeline", None, None)]
    assert admin(dsn, "SELECT tool_args FROM agent_tool_calls") == [
        ({"q": "ümlaut", "k": 5, "w": 0.1},)
    ]
    code, out, _ = migrate("verify", "--run-id", "one", "--json")
    assert (code, sum(each["checked"] for each in json.loads(out))) == (0, 218)


def test_users_keep_their_keys_and_no_secret_is_shown(migrate, dsn, source):
    fill_v2(source)
    shown = [migrate("plan"), migrate("run", "--run-id", "one"), migrate("report")]
    shown.append(migrate("verify", "--run-id", "one"))
    assert [code for code, *_ in shown] == [0] * 4
    for secret in (KEY, MASTER, "hash-of-ann", "secret-in-yaml"):
        assert secret not in repr(shown)
    with Database(dsn) as database:
        ring = KeyRing([LocalKey(generate_key())], legacy=[MASTER])
        users = UserRepository(database, ring)
        ann, bob = users.get("ann"), users.get("bob")
        assert ann is not None
        assert bob is not None
        assert (ann.role, ann.auth_provider, bob.auth_provider) == ("admin", "basic", "sso")
        assert ann.preferences == {
            "theme": "dark", "active_model": "openai/gpt-4o", "temperature": 0.0,
        }  # fmt: skip
        assert bob.preferences == {}
        assert users.get_api_key("ann", "openai") == KEY
    columns = "to_jsonb(u)::text"
    assert "hash-of-ann" not in str(admin(dsn, f"SELECT {columns} FROM users u"))


def test_each_damage_is_found_and_named(migrate, dsn, source):
    fill_v2(source)
    migrate("run", "--run-id", "one")
    key = "{:019}".format
    admin(dsn, "DELETE FROM conversations WHERE message_id = 30")
    admin(dsn, "UPDATE conversations SET content = 'x' WHERE message_id = 31")
    admin(dsn, "UPDATE conversations SET model_used = 'other' WHERE message_id = 32")
    admin(dsn, "UPDATE conversations SET conversation_id = 2 WHERE message_id = 33")
    admin(dsn, "UPDATE timing SET archi_message_ts = archi_message_ts + interval '1 us'")
    admin(dsn, "UPDATE user_api_keys SET ciphertext = ciphertext || '\\x00'")
    admin(
        dsn,
        "INSERT INTO feedback (message_id, feedback_ts, feedback) "
        "VALUES (3, '2026-01-01 00:00+00', 'like')",
    )
    admin(source, "UPDATE conversation_metadata SET title = 'new' WHERE conversation_id = 5")
    code, out, _ = migrate("verify", "--run-id", "one", "--json")
    named = dict(zip(WRITTEN, (each["examples"] for each in json.loads(out)), strict=True))
    assert code == 4
    assert named == {
        "users": {},
        "user_api_keys": {"different": ["ann/openai"]},
        "conversation_metadata": {"different": [key(5)]},
        "conversations": {"missing": [key(30)], "different": [key(31), key(32), key(33)]},
        "feedback": {"extra": [f"{key(3)}/{1767225600000000:019}"]},
        "timing": {"different": [key(2)]},
        "agent_tool_calls": {},
        "ab_comparisons": {},
    }


def test_rows_never_join_a_conversation_that_was_there(migrate, dsn, source):
    fill_v2(source)
    admin(
        dsn,
        "INSERT INTO conversation_metadata (conversation_id, title) VALUES (2, 'somebody''s own')",
    )
    _, out, _ = migrate("run", "--run-id", "one", "--json")
    found = outcomes(out)
    assert found["conversation_metadata"]["conflict"] == 1
    assert found["conversations"] == {"written": 159, "skipped": 4}
    assert found["ab_comparisons"]["skipped"] == 2
    assert admin(dsn, "SELECT count(*) FROM conversations WHERE conversation_id = 2") == [(0,)]
    # Nor does a rollback take what people went on with.
    admin(
        dsn,
        "INSERT INTO conversations (conversation_id, role, sender, content) "
        "VALUES (3, 'user', 'User', 'and then?')",
    )
    code, out, _ = migrate("rollback", "--run-id", "one", "--yes")
    assert (code, out.count("stays")) == (4, 1)
    assert admin(dsn, "SELECT conversation_id, title FROM conversation_metadata ORDER BY 1") == [
        (2, "somebody's own"),
        (3, "title 3"),
    ]


def test_configurations_are_analysed_backed_up_and_how_to_drop_them_is_said(
    migrate, source, tmp_path, capsys
):
    fill_v2(source)
    file = tmp_path / "configs.jsonl"
    code, out, _ = migrate("configs", "--backup", str(file))
    assert code == 0
    assert "configurations: 6, 5 of them different" in out
    assert "28 answers" in out
    assert "DROP" not in out
    saved = [json.loads(line) for line in file.read_text().splitlines()]
    assert {each["config_id"]: each["config"] for each in saved} == CONFIGS
    assert file.stat().st_mode & 0o777 == 0o600
    assert migrate("configs", "--backup", str(file))[0] == 1  # never overwritten
    admin(source, "UPDATE conversations SET conf_id = 3 WHERE a2rchi_service <> 'Redmine'")
    admin(source, "UPDATE ab_comparisons SET config_a_id = 3, config_b_id = 3")
    _, out, _ = migrate("configs", "--backup", str(tmp_path / "again.jsonl"))
    statements = [line.strip() for line in out.splitlines() if line.strip().endswith(";")]
    assert len(statements) == 4
    for statement in statements:
        admin(source, statement)
    assert admin(source, "SELECT to_regclass('configs')") == [(None,)]


def test_what_is_not_there_or_may_not_be_read_is_one_line(migrate, dsn, source):
    before = contents(dsn)

    def refused(*more: str) -> str:
        code, out, errors = migrate("run", *more)
        assert (code, out, errors.count("\n")) == (1, "", 1), errors
        return errors

    assert "no table conversations" in refused()
    fill_v2(source)
    assert '"typo" does not exist' in refused("--source-dsn", f"{source} dbname=typo")
    assert "no time zone" in refused("--timezone", "Mars/Olympus")
    assert "takes no --path" in refused("--path", "here")
    reader = f"reader_{uuid.uuid4().hex[:8]}"
    admin(source, f"CREATE ROLE {reader} LOGIN")
    try:
        assert "permission denied" in refused("--source-dsn", f"{source} user={reader}")
        assert contents(dsn) == before
    finally:
        admin(source, f"DROP ROLE {reader}")


def test_postgresql_15_read_by_someone_who_may_only_read(migrate, dsn, source):
    # Where there is no 15, the old schema is on a 17: the test is never left out.
    with postgres_15() if BINARIES.is_dir() else nullcontext(source) as old:
        fill_v2(old)
        reader = f"reader_{uuid.uuid4().hex[:8]}"
        admin(old, f"CREATE ROLE {reader} LOGIN IN ROLE pg_read_all_data")
        before = contents(old)
        for command in ("plan", "run", "verify"):
            named = () if command == "plan" else ("--run-id", "one")
            assert migrate(command, "--source-dsn", f"{old} user={reader}", *named)[0] == 0
        assert contents(old) == before
        admin(old, f"DROP ROLE {reader}")
    assert admin(dsn, "SELECT count(*) FROM conversations") == [(163,)]

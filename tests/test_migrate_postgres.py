"""An older A2rchi's PostgreSQL brought over: whole, provable, resumable, reversible."""

from __future__ import annotations

import json
import random
import string
import uuid
from collections import Counter
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial

import pytest

from a2rchi_pg import Database, KeyRing, LocalKey, SelectionRepository, UserRepository
from a2rchi_pg._local_key import generate_key
from tests.database_support import admin
from tests.migration_support import contents
from tests.origin_support import (
    BINARIES,
    CONFIGS,
    KEY,
    MASTER,
    NUMBERED,
    fill_v1,
    fill_v2,
    postgres_15,
)

# `full` has pgcrypto, which the old users' keys are made with.
pytestmark = [pytest.mark.servers("full"), pytest.mark.timeout(240)]
WRITTEN = {
    "users": 3,
    "user_api_keys": 1,
    "conversation_metadata": 42,
    "conversations": 163,
    "feedback": 3,
    "timing": 2,
    "agent_tool_calls": 1,
    "agent_traces": 6,
    "ab_comparisons": 2,
    "selections of users": 2,
    "selections": 2,
}
# Of the documents that the old one's choices are about.
HERE = """
    INSERT INTO documents (resource_hash, display_name)
    VALUES ('aaaaaaaaaaaa', ''), ('ticket_A-1', '')
"""


@pytest.fixture
def migrate(command_line, source):
    """Runs a command on the old database: exit code, output, errors."""
    where = ("--source", "postgres", "--timezone", "Europe/Zurich")
    return partial(command_line, source=where)


def trace(number: int) -> str:
    return f"00000000-0000-4000-8000-00000000000{number}"


def outcomes(out: str) -> dict[str, dict[str, int]]:
    made = json.loads(out)
    return {each["run"]["target"].removeprefix("table "): each["outcomes"] for each in made}


def said(out: str, table: str) -> dict[str, int]:
    """What is to be said of the rows of a table, and of how many."""
    (notes,) = (
        each["notes"] for each in json.loads(out) if each["run"]["target"] == f"table {table}"
    )
    return {note: rows for _, note, rows, _ in notes}


def test_m16_the_first_version_arrives_with_times_roles_and_models(migrate, dsn, source):
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


def test_m8_m9_every_shape_of_configuration_and_every_trap(migrate, dsn, source):
    fill_v2(source)
    admin(dsn, HERE)
    code, out, errors = migrate("run", "--run-id", "one", "--json")
    assert (code, errors) == (0, "")
    found = outcomes(out)
    assert {name: each["written"] for name, each in found.items()} == WRITTEN
    assert {name: each["skipped"] for name, each in found.items() if "skipped" in each} == {
        "feedback": 1, "agent_traces": 1, "ab_comparisons": 1, "selections of users": 1,
        "selections": 1,
    }  # fmt: skip
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
    notes = said(out, "conversations")
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
    assert (code, sum(each["checked"] for each in json.loads(out))) == (0, 232)


def test_runs_of_agents_arrive_with_what_they_came_to(migrate, dsn, source):
    fill_v2(source)
    notes = said(migrate("run", "--run-id", "one", "--json")[1], "agent_traces")
    assert admin(
        dsn,
        "SELECT right(trace_id::text, 1)::int, user_message_id, message_id, model_used, status, "
        "events, total_duration_ms, total_tool_calls, cancelled_by, cancellation_reason, error "
        "FROM agent_traces ORDER BY 1",
    ) == [
        (1, 1, None, "openai/gpt-4o", "completed", [{"step": 0.5}], 60_000, 3, None, None, None),
        (2, 1, 2, None, "completed", [], 30_000, 0, None, None, None),
        (3, 5, None, None, "failed", [], 1500, None, None, None, "it broke"),
        (4, 5, None, None, "completed", [{"a": 1}], 60_000, 1, None, None, None),
        (5, None, None, None, "cancelled", [], 60_000, 1, "ann", "slow", None),
        (6, None, None, None, "running", [], None, 1, None, None, None),
    ]  # fmt: skip
    parts = Counter[str]()
    for note, rows in notes.items():
        parts.update(dict.fromkeys(note.split("; "), rows))
    assert parts == {
        "its message is gone, or a later run's": 2,
        "model_used is unknown": 5,
        "a negative total was left out": 1,
        "when it ended is unknown: started_at and its duration stand for it": 1,
        "total_duration_ms contradicted its times, which stay": 2,
        "who cancelled a run that was not, or why, became its error": 1,
        "its events are no list: they are one of one now": 1,
        "completed_at of a run that is still running was left out": 1,
        "who cancelled a run that was not, or why, was left out": 1,
        "status 'paused' is none of running, completed, cancelled, failed, error": 1,
    }


def test_what_users_and_conversations_see_is_what_they_chose(migrate, dsn, source):
    fill_v2(source)
    admin(source, NUMBERED)
    admin(
        source,
        "INSERT INTO conversation_document_overrides VALUES (1, 11, true, '2026-01-02'), "
        "(2, 11, false, '2026-01-02'), (1, 12, true, NULL)",
    )
    admin(dsn, HERE)
    admin(dsn, "INSERT INTO conversation_metadata (conversation_id, title) VALUES (2, 'another')")
    found = outcomes(migrate("run", "--run-id", "one", "--json")[1])
    assert found["selections of users"] == {"written": 2, "skipped": 1}
    # What was chosen for conversation 2 there says nothing of conversation 2 here.
    assert found["selections"] == {"written": 2, "skipped": 3}
    with Database(dsn) as database:
        selection = SelectionRepository(database)
        assert selection.explain("aaaaaaaaaaaa", "ann", None).effective is False
        assert selection.explain("aaaaaaaaaaaa", None, 1).conversation_override is False
        assert selection.explain("ticket_A-1", "o/r%g", None).user_default is True
        assert selection.explain("ticket_A-1", None, 1).conversation_override is True
    compared = json.loads(migrate("verify", "--run-id", "one", "--json")[1])
    assert [each["counts"] for each in compared[-2:]] == [{}, {}]


def test_numbers_below_zero_and_times_before_1970_come_too(migrate, dsn, source):
    fill_v1(source)
    admin(
        source,
        "INSERT INTO conversations SELECT -c, -m, 'User', 'hi', '', '', '1969-07-20 21:00', 1 "
        "FROM generate_series(1, 3) c, generate_series(c * 100, c * 100 + 12) m",
    )
    admin(source, "INSERT INTO feedback VALUES (-205, '1969-07-20 22:00', 'like')")
    assert migrate("run", "--run-id", "one", "--batch-size", "5")[0] == 0
    assert admin(dsn, "SELECT conversation_id FROM conversation_metadata ORDER BY 1") == [
        (-3,), (-2,), (-1,), (7,), (9,),
    ]  # fmt: skip
    admin(dsn, "DELETE FROM conversations WHERE message_id IN (-105, -305)")
    code, out, _ = migrate("verify", "--run-id", "one", "--batch-size", "5", "--json")
    assert code == 4
    assert [each["counts"] for each in json.loads(out)[3:5]] == [{"missing": 2}, {}]
    assert migrate("rollback", "--run-id", "one", "--yes", "--batch-size", "5")[0] == 0
    assert admin(dsn, "SELECT count(*) FROM conversation_metadata") == [(0,)]


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
    admin(dsn, HERE)
    migrate("run", "--run-id", "one")
    key = "{:019}".format
    admin(dsn, "DELETE FROM conversations WHERE message_id = 30")
    admin(dsn, "UPDATE conversations SET content = 'x' WHERE message_id = 31")
    admin(dsn, "UPDATE conversations SET model_used = 'other' WHERE message_id = 32")
    admin(dsn, "UPDATE conversations SET conversation_id = 2 WHERE message_id = 33")
    admin(dsn, "UPDATE timing SET archi_message_ts = archi_message_ts + interval '1 us'")
    admin(dsn, "UPDATE user_api_keys SET ciphertext = ciphertext || '\\x00'")
    admin(dsn, "DELETE FROM agent_traces WHERE trace_id = %s", trace(1))
    admin(dsn, "UPDATE agent_traces SET events = '[1]' WHERE trace_id = %s", trace(2))
    admin(dsn, "UPDATE agent_traces SET conversation_id = 1 WHERE trace_id = %s", trace(5))
    admin(
        dsn,
        "INSERT INTO agent_traces (trace_id, conversation_id, pipeline_name) VALUES (%s, 1, 'new')",
        trace(9),
    )
    admin(dsn, "UPDATE user_document_selection SET enabled = NOT enabled WHERE user_id = 'ann'")
    admin(dsn, "DELETE FROM user_document_selection WHERE user_id = 'o/r%g'")
    admin(
        dsn,
        "INSERT INTO user_document_selection (user_id, document_id, enabled) "
        "SELECT 'bob', id, true FROM documents WHERE resource_hash = 'ticket_A-1'",
    )
    admin(dsn, "DELETE FROM conversation_document_selection WHERE conversation_id = 2")
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
        "agent_traces": {
            "missing": [trace(1)], "different": [trace(2), trace(5)], "extra": [trace(9)],
        },
        "ab_comparisons": {},
        "selections of users": {
            "missing": ["o%2Fr%25g/ticket_A-1"],
            "different": ["ann/aaaaaaaaaaaa"],
            "extra": ["bob/ticket_A-1"],
        },
        "selections": {"missing": ["2/ticket_A-1"]},
    }  # fmt: skip


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


def test_m10_m11_configurations_are_analysed_backed_up_and_how_to_drop_them_is_said(
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


def test_odd_values_are_left_out_and_named_and_stop_nothing(migrate, dsn, source):
    fill_v2(source)
    letters = "".join(random.Random(1).choices(string.ascii_letters, k=2500))
    admin(source, "ALTER TABLE users ALTER id TYPE text")
    admin(source, "INSERT INTO users (id, last_login_at) VALUES (%s, now())", letters)
    admin(source, "UPDATE users SET last_login_at = 'infinity' WHERE id = 'ann'")
    admin(
        source, "UPDATE conversation_metadata SET client_id = %s WHERE conversation_id = 1", letters
    )
    admin(source, "UPDATE conversations SET ts = '-infinity' WHERE message_id = 3")
    admin(
        source,
        "UPDATE timing SET archi_message_ts = '20000-01-01 00:00'".replace("archi", "a2rchi"),
    )
    made = migrate("run", "--run-id", "one", "--json")
    assert (made[0], made[2]) == (0, "")
    found = outcomes(made[1])
    assert (found["users"]["skipped"], found["conversations"]["skipped"]) == (1, 1)
    assert said(made[1], "conversations")["it has no ts"] == 1
    assert "its client_id was left out: it has more than 2,000 bytes" in said(
        made[1], "conversation_metadata"
    )
    assert migrate("verify", "--run-id", "one")[0] == 0


def test_m17_what_is_not_there_or_may_not_be_read_is_one_line(migrate, dsn, source):
    before = contents(dsn)

    def refused(*more: str) -> str:
        code, out, errors = migrate("run", *more)
        assert (code, out, errors.count("\n")) == (1, "", 1), errors
        return errors

    assert "no table conversations" in refused()
    # Neither the target, nor libpq's variables, nor a name that it may have.
    assert "say where the source is" in refused("--source-dsn", "")
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


def test_m16_postgresql_15_read_by_someone_who_may_only_read(migrate, dsn, source):
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

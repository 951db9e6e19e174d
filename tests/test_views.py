"""What dashboards read: every query of the Grafana dashboard, and the old system's tables."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from a2rchi_pg import (
    Candidate,
    ConversationRepository,
    Database,
    Flags,
    NewMessage,
    Owner,
    Timestamps,
    ToolCall,
)
from tests.plugins.servers import new_database
from tests.roles_support import as_role, make_roles

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parent.parent
DASHBOARD = json.loads((ROOT / "examples/grafana/dashboards/a2rchi.json").read_text())
QUERIES = {p["title"]: t["rawSql"] for p in DASHBOARD["panels"] for t in p["targets"]}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=400)


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def said(role: Any, content: str, minute: float, model: str | None = None) -> NewMessage:
    pipeline = model and "qa"
    return NewMessage(
        role=role, content=content, ts=minutes(minute), model_used=model, pipeline_used=pipeline
    )


@pytest.fixture(scope="module")
def sample(server, servers, template) -> Iterator[str]:
    """Two conversations of an hour, one of the next, and one that is too old to be shown."""
    with new_database(server, f"{servers.prefix}_views", template) as dsn:
        with Database(dsn) as database:
            fill(database)
        make_roles(dsn)
        with psycopg.connect(dsn, autocommit=True) as connection:
            # Only messages say when they were, so that the rest is put beside them here.
            for table, column in (
                ("feedback", "feedback_ts"),
                ("agent_traces", "started_at"),
                ("agent_tool_calls", "ts"),
                ("ab_comparisons", "created_at"),
            ):
                connection.execute(f"UPDATE {table} SET {column} = '{minutes(90)}'")
        yield dsn


def fill(database: Database) -> None:
    mine = ConversationRepository(database, owner=Owner(user_id="ada", client_id="secret-client"))
    one, two, old = (mine.create(title).conversation_id for title in ("one", "two", "old"))
    asked, gpt, claude = mine.messages.add_many(
        one,
        [
            said("user", "Why <b>not</b>?", 0),
            said("assistant", "<p>Because 1 < 2.</p>", 1, "gpt"),
            said("assistant", "So.", 1, "claude"),
        ],
    )
    mine.messages.add_many(two, [said("user", "Else?", 70), said("assistant", "No.", 71, None)])
    mine.messages.add(old, NewMessage(role="user", content="Long ago", ts=LONG_AGO))
    mine.timings.record(
        gpt, Timestamps(server_received_msg_ts=minutes(0), server_response_msg_ts=minutes(0.5))
    )
    mine.timings.record(claude, Timestamps(server_received_msg_ts=minutes(0)))
    mine.feedback.react(gpt, "like")
    mine.feedback.react(claude, "dislike", "Too short", Flags(unhelpful=True))
    mine.feedback.comment(gpt, "Thanks")
    calls = [
        ToolCall(step_number=n, tool_name=name) for n, name in enumerate(["find", "find", "ask"])
    ]
    mine.traces.add_tool_calls(gpt, calls)
    mine.traces.start(two, "agent")
    mine.traces.cancel(mine.traces.start(two, "agent").trace_id, by="user")
    a, b = Candidate(message_id=gpt), Candidate(message_id=claude)
    for vote in ("a", "a", "tie", "b", "skip", None):
        made = mine.comparisons.create(asked, a, b)
        if vote:
            mine.comparisons.vote(made.comparison_id, vote)  # type: ignore[arg-type]


def expand(query: str) -> str:
    """What Grafana makes of its macros."""
    span = rf"\1 BETWEEN '{minutes(-60).isoformat()}' AND '{minutes(180).isoformat()}'"
    expanded = re.sub(r"\$__timeFilter\((\w+)\)", span, query)
    assert "$__" not in expanded
    return expanded


EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "Messages and conversations per hour": [(NOON, 3, 1), (minutes(60), 2, 1)],
    "Answers by model": [("claude", "qa", 1), ("gpt", "qa", 1), ("unknown", "unknown", 1)],
    "Response time by model": [(minutes(1), "gpt", 30.0)],
    "Likes and dislikes by model": [("claude", 0, 1), ("gpt", 1, 0)],
    "Messages per conversation": [(2,), (3,)],
    "A/B comparisons": [
        ("gpt", 2, 1, 1, Decimal("50.0")),
        ("claude", 1, 2, 1, Decimal("25.0")),
    ],
    "Agent runs": [("cancelled", 1), ("running", 1)],
    "Tool calls": [("find", 2), ("ask", 1)],
    "Comments": [
        ("claude", "Too short", False, True, False),
        ("gpt", "Thanks", False, False, False),
    ],
    "Last 100 messages": [
        (minutes(71), "assistant", "unknown", "No.", "user: Else?"),
        (minutes(70), "user", "unknown", "Else?", None),
        (minutes(1), "assistant", "claude", "So.", "user: Why not?\nassistant: Because 1 < 2."),
        (minutes(1), "assistant", "gpt", "Because 1 < 2.", "user: Why not?"),
        (NOON, "user", "unknown", "Why not?", None),
        (LONG_AGO, "user", "unknown", "Long ago", None),
    ],
}
# Columns left out of the comparison: moments and durations that only the clock knows.
LEFT_OUT = {"Agent runs": {2}, "Comments": {0}, "Last 100 messages": {1}}


def test_every_panel_has_something_to_be_compared_with():
    assert set(EXPECTED) == set(QUERIES)


@pytest.mark.parametrize("title", QUERIES)
def test_a_panel_shows_what_the_reader_may_see_and_the_sample_says(sample: str, title: str):
    with psycopg.connect(as_role(sample, "a2rchi_reader")) as connection:
        connection.execute("SET timezone = 'UTC'")
        found = connection.execute(expand(QUERIES[title])).fetchall()  # type: ignore[arg-type]
    left_out = LEFT_OUT.get(title, set())
    shown = [tuple(v for n, v in enumerate(row) if n not in left_out) for row in found]
    assert sorted(shown, key=repr) == sorted(EXPECTED[title], key=repr)
    if title != "Comments":
        assert shown == EXPECTED[title]


def test_provisioning_and_dashboard_name_the_same_source():
    folder = ROOT / "examples/grafana/provisioning"
    source = (folder / "datasources/a2rchi.yaml").read_text()
    for panel in DASHBOARD["panels"]:
        for each in (panel, *panel["targets"]):
            assert f"uid: {each['datasource']['uid']}\n" in source
            assert f"type: {each['datasource']['type']}\n" in source


def test_no_view_of_the_readers_tells_who_people_are(sample: str):
    with psycopg.connect(sample) as connection:
        views = connection.execute(
            "SELECT c.relname FROM pg_class c WHERE relkind = 'v' AND relname LIKE 'v\\_%' "
            "AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        assert len(views) >= 10
        for (view,) in views:
            found = connection.execute(f"SELECT string_agg(x::text, ' ') FROM {view} x").fetchone()  # type: ignore[arg-type]
            assert found
            assert "secret-client" not in (found[0] or "")
            assert not re.search(r"\bada\b", found[0] or "")


# For SQL that was written for the old tables, in the manner of each of its generations.
OLD_SQL = {
    "history": (
        "SELECT sender, content FROM conversations WHERE conversation_id = 2 ORDER BY message_id",
        [("User", "Else?"), ("archi", "No.")],
    ),
    "reaction": (
        "SELECT feedback FROM feedback WHERE mid = 2 AND feedback IN ('like', 'dislike')",
        [("like",)],
    ),
    "list": (
        (
            "SELECT conversation_id, title FROM conversation_metadata "
            "WHERE client_id = 'secret-client' ORDER BY conversation_id"
        ),
        [(1, "one"), (2, "two"), (3, "old")],
    ),
    "votes": (
        (
            "SELECT model_a, preference, count(*) FROM ab_comparisons "
            "WHERE user_prompt_mid = 1 AND preference IN ('a', 'b') GROUP BY 1, 2 ORDER BY 2"
        ),
        [("gpt", "a", 2), ("gpt", "b", 1)],
    ),
    "response times by config": (
        (
            "SELECT configs.config_name AS metric, extract(epoch FROM timing.msg_duration)::int "
            "FROM timing JOIN conversations ON timing.mid = conversations.message_id "
            "JOIN configs ON conversations.conf_id = configs.config_id "
            "WHERE msg_duration IS NOT NULL"
        ),
        [("gpt", 30)],
    ),
    "likes by config": (
        (
            "SELECT configs.config_name, count(*) FROM feedback "
            "JOIN conversations ON feedback.mid = conversations.message_id "
            "JOIN configs ON conversations.conf_id = configs.config_id "
            "WHERE feedback.feedback = 'like' GROUP BY 1"
        ),
        [("gpt", 1)],
    ),
    "messages per hour": (
        (
            "SELECT date_trunc('hour', server_received_msg_ts) AS hour, count(*), "
            "count(DISTINCT concat(client_id, conversations.conversation_id)) "
            "FROM timing JOIN conversations ON timing.mid = conversations.message_id "
            "JOIN conversation_metadata USING (conversation_id) GROUP BY 1"
        ),
        [(NOON.replace(tzinfo=None), 2, 1)],
    ),
    "tools": (
        (
            "SELECT conversation_id, tool_name FROM agent_tool_calls WHERE message_id = 2 "
            "ORDER BY step_number"
        ),
        [(1, "find"), (1, "find"), (1, "ask")],
    ),
    "active run": (
        (
            "SELECT pipeline_name, status FROM agent_traces "
            "WHERE conversation_id = 2 AND status = 'running'"
        ),
        [("agent", "running")],
    ),
    "the oldest names": (
        "SELECT a2rchi_service, context_title, ts FROM conversations WHERE message_id = 1",
        [("chat", "", NOON.replace(tzinfo=None))],
    ),
}


@pytest.mark.parametrize("name", OLD_SQL)
def test_old_sql_reads_on(sample: str, name: str):
    query, expected = OLD_SQL[name]
    with psycopg.connect(sample) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute((ROOT / "sql/legacy.sql").read_bytes())
        connection.execute("SET search_path = legacy, public")
        assert connection.execute(query).fetchall() == expected  # type: ignore[arg-type]
        connection.rollback()

"""The plans of what is asked of conversations all day: read from an index, whoever asks."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from a2rchi_pg import ConversationRepository, Database, Owner
from tests.plugins.servers import new_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from a2rchi_pg._op import Op, Statement

pytestmark = [pytest.mark.servers("embedded", "plain"), pytest.mark.timeout(120)]
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ADA = Owner(user_id="user-7")
BROWSER = Owner(client_id="client-3")
BOTH = Owner(user_id="user-7", client_id="client-3")
# 20,000 messages in 1,000 conversations of 100 users and as many clients.
FILL = """
    INSERT INTO users (id) SELECT 'user-' || n FROM generate_series(0, 99) n;
    INSERT INTO conversation_metadata (user_id, client_id, title, created_at, last_message_at)
    SELECT CASE WHEN n % 2 = 0 THEN 'user-' || n / 2 % 100 END, 'client-' || n / 2 % 100,
           'conversation ' || n, '2026-01-01', '2026-01-01'
    FROM generate_series(1, 1000) n;
    INSERT INTO conversations (conversation_id, ts, role, sender, content, model_used)
    SELECT c, '2026-01-01'::timestamptz + (m * 1000 + c) * interval '4 min',
           CASE WHEN m % 2 = 0 THEN 'user' ELSE 'assistant' END, 'x',
           'the ' || repeat('w' || (c * 31 + m) % 4000 || ' of queue ', 20),
           CASE WHEN m % 2 = 1 THEN 'model-' || c % 3 END
    FROM generate_series(1, 1000) c, generate_series(0, 19) m ORDER BY c, m;
    INSERT INTO feedback (message_id, feedback)
    SELECT message_id, 'like' FROM conversations WHERE message_id % 5 = 0;
    INSERT INTO ab_comparisons (conversation_id, user_prompt_message_id, response_a_message_id,
        response_b_message_id, model_a, model_b, created_at)
    SELECT conversation_id, message_id, message_id + 1, message_id + 2, 'model-1', 'model-2', ts
    FROM conversations WHERE role = 'user' AND message_id < 19000;
"""


class Recorder:
    """A runner that notes the statement it was last asked to run."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.statement: Statement | None = None

    def run(self, op: Op[Any]) -> Any:
        self.statement = next(iter(op))
        return self._database.run(op)

    async def arun(self, op: Op[Any]) -> Any:
        raise NotImplementedError


@pytest.fixture(scope="module")
def filled(server, servers, template) -> Iterator[str]:
    with new_database(server, f"{servers.prefix}_talk", template) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(FILL)
            connection.execute("VACUUM ANALYZE")
        yield dsn


def plan(dsn: str, ask: Callable[[ConversationRepository], Any], owner: Owner | None) -> list[Any]:
    """The nodes that ran, of the statement that is really sent."""
    with Database(dsn) as database:
        recorder = Recorder(database)
        assert ask(ConversationRepository(recorder, owner=owner))
    statement = recorder.statement
    assert statement is not None
    with psycopg.connect(dsn) as connection:
        connection.execute("SET plan_cache_mode = force_custom_plan")
        query = statement.query
        text = query.encode() if isinstance(query, str) else query
        explain = b"EXPLAIN (ANALYZE, FORMAT JSON) " + text  # type: ignore[operator]
        row = connection.execute(explain, statement.params).fetchone()
    assert row
    return [node for node in nodes(row[0][0]["Plan"]) if node["Actual Loops"]]


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree.get("Plans", ()):
        yield from nodes(child)


def scanned(ran: list[Any]) -> set[str]:
    return {node["Index Name"] for node in ran if "Index Name" in node}


def sequential(ran: list[Any]) -> list[str]:
    return [node["Relation Name"] for node in ran if node["Node Type"] == "Seq Scan"]


def read_rows(ran: list[Any], index: str) -> float:
    """How many rows the scans of an index brought, before anything was cut off."""
    hits = [node for node in ran if node.get("Index Name") == index]
    return sum(n["Actual Rows"] * n["Actual Loops"] for n in hits)


WINDOWS = {
    "newest": lambda r: r.messages.window(14, limit=5),
    "before": lambda r: r.messages.window(14, limit=5, before=270),
    "after": lambda r: r.messages.window(14, limit=5, after=270),
}


@pytest.mark.parametrize("owner", [None, ADA])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_reads_no_more_than_it_shows(filled: str, window: str, owner: Owner | None):
    ran = plan(filled, WINDOWS[window], owner)
    assert sequential(ran) == []
    # And perhaps the one it stands next to.
    assert 5 <= read_rows(ran, "conversations_window") <= 6


@pytest.mark.parametrize(
    ("owner", "indexes"),
    [
        (None, {"conversation_metadata_recent"}),
        (ADA, {"conversation_metadata_user"}),
        (BROWSER, {"conversation_metadata_client"}),
        (BOTH, {"conversation_metadata_user", "conversation_metadata_client"}),
    ],
)
@pytest.mark.parametrize("after", [None, (NOW, 1000)])
def test_a_page_is_read_in_order(filled: str, owner: Owner | None, indexes: set[str], after: Any):
    ran = plan(filled, lambda r: r.page(limit=3, after=after), owner)
    assert sequential(ran) == []
    listed = {name for name in scanned(ran) if name.startswith("conversation_metadata")}
    assert listed == indexes
    assert all(read_rows(ran, index) <= 3 for index in indexes)


@pytest.mark.parametrize("owner", [None, ADA, BROWSER, BOTH])
def test_rare_words_are_looked_up(filled: str, owner: Owner | None):
    word = "w0" if owner is None else "w447" if owner is ADA else "w217"
    ran = plan(filled, lambda r: r.search(word) or [word], owner)
    assert sequential(ran) == []
    assert scanned(ran) & {"conversations_words", "conversations_window"}


def test_a_rare_word_of_all_is_found_by_the_index_of_words(filled: str):
    ran = plan(filled, lambda r: r.search("w447"), None)
    assert "conversations_words" in scanned(ran)
    assert sequential(ran) == []


@pytest.mark.parametrize("owner", [None, ADA, BROWSER, BOTH])
def test_planned_once_for_all_words_a_search_still_uses_indexes(filled: str, owner: Owner | None):
    """As psycopg has it planned after a few times; everybody's begins with the words."""
    with Database(filled) as database:
        recorder = Recorder(database)
        ConversationRepository(recorder, owner=owner).search("w447")
    statement = recorder.statement
    assert statement is not None
    assert isinstance(statement.query, str)
    with psycopg.connect(filled) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(statement.query, statement.params, prepare=True)
        (name,) = connection.execute("SELECT name FROM pg_prepared_statements").fetchone() or ()
        values = [
            sql.Literal(statement.params[each])
            for each in dict.fromkeys(re.findall(r"%\((\w+)\)s", statement.query))
        ]
        row = connection.execute(
            sql.SQL("EXPLAIN (FORMAT JSON) EXECUTE {}({})").format(
                sql.Identifier(name), sql.SQL(", ").join(values)
            )
        ).fetchone()
    assert row
    planned = list(nodes(row[0][0]["Plan"]))
    assert "conversations" not in sequential(planned)
    if owner is None:
        assert "conversations_words" in scanned(planned)
    else:
        assert sequential(planned) == []


@pytest.mark.parametrize("days", [1, 7])
def test_statistics_of_a_while_read_that_while_from_the_index(filled: str, days: int):
    since = datetime(2026, 2, 1, tzinfo=UTC)
    ran = plan(filled, lambda r: r.usage(since=since, until=since + timedelta(days=days)), None)
    assert sequential(ran) == []
    assert scanned(ran) == {"conversations_answers"}


def test_comparisons_of_a_while_too(filled: str):
    since = datetime(2026, 2, 1, tzinfo=UTC)
    ran = plan(filled, lambda r: r.comparisons.stats(since=since, until=since + timedelta(7)), None)
    assert sequential(ran) == []
    assert scanned(ran) == {"ab_comparisons_models"}


HANGING = {
    "get": lambda r: r.get(14),
    "message": lambda r: r.messages.get(270),
    "feedback": lambda r: r.feedback.of_message(270),
    "pending": lambda r: r.comparisons.of_conversation(14, pending_only=True),
}


@pytest.mark.parametrize("owner", [None, ADA])
@pytest.mark.parametrize("what", HANGING)
def test_whatever_hangs_on_a_conversation_is_found_by_its_id(filled: str, what: str, owner):
    assert sequential(plan(filled, HANGING[what], owner)) == []


@pytest.mark.parametrize("panel", ["v_answers", "v_messages"])
def test_a_dashboard_reads_a_while_from_an_index(filled: str, panel: str):
    query = f"""
        EXPLAIN (FORMAT JSON) SELECT model, count(*) FROM {panel}
        WHERE ts BETWEEN '2026-02-01' AND '2026-02-02' GROUP BY 1
    """
    with psycopg.connect(filled) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row
    assert sequential(list(nodes(row[0][0]["Plan"]))) == []


def test_deleting_looks_for_what_hangs_on_it_by_indexes(filled: str):
    """Every foreign key has an index on its side, or each delete would read that table whole."""
    query = """
        SELECT conrelid::regclass::text, attname
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
        WHERE contype = 'f' AND confrelid IN ('conversations'::regclass,
                'conversation_metadata'::regclass, 'users'::regclass)
            AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = conrelid
                AND i.indkey[0] = conkey[1] AND i.indpred IS NULL)
    """
    with psycopg.connect(filled) as connection:
        assert connection.execute(query).fetchall() == []

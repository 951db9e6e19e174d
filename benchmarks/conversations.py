"""Conversations at a size: a million messages in 50,000 conversations, against bare SQL.

    python benchmarks/conversations.py                      a few minutes to fill, one to measure
    python benchmarks/conversations.py --messages 100000    a smaller one
    python benchmarks/conversations.py --dsn postgresql://… on a server of yours

Each question is put in turn to a repository with an owner and to bare psycopg, which asks for the
same rows and columns but not whose they are, and makes tuples. A ratio is the median over all
rounds of ours / bare.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from _common import database, drop_database, timed

from a2rchi_pg import (
    ConversationRepository,
    Database,
    EmbeddedPostgres,
    NewMessage,
    Owner,
    _schema,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PER_CONVERSATION = 20
CONVERSATIONS_PER_USER = 10
START, SECONDS = datetime(2026, 1, 1, tzinfo=UTC), 90 * 86400
# Words as language has them: the n-th most frequent, about 1/n as often as the first.
TEXTS = """
    CREATE TEMPORARY TABLE texts AS
    SELECT n, string_agg('w' || floor(exp(random() * ln(20000)))::int, ' ') AS content
    FROM generate_series(0, 49999) AS n, generate_series(1, 20 + n %% 40) GROUP BY n;
    ALTER TABLE texts ADD PRIMARY KEY (n);
    ANALYZE texts;
"""
FILL = """
    INSERT INTO users (id) SELECT 'user-' || n FROM generate_series(0, %(users)s - 1) n;
    INSERT INTO conversation_metadata (user_id, client_id, title, created_at, last_message_at)
    SELECT 'user-' || n %% %(users)s, 'client-' || n, 'conversation ' || n, %(start)s, %(start)s
    FROM generate_series(0, %(conversations)s - 1) n;
    INSERT INTO conversations
        (conversation_id, ts, role, sender, content, model_used, pipeline_used)
    SELECT c.conversation_id, %(start)s + (begun * %(seconds)s + m * 60) * interval '1 s',
           CASE m %% 2 WHEN 0 THEN 'user' ELSE 'assistant' END, 'x', t.content,
           CASE m %% 2 WHEN 1 THEN 'model-' || c.conversation_id %% 5 END,
           CASE m %% 2 WHEN 1 THEN 'qa' END
    FROM (SELECT conversation_id, random() AS begun FROM conversation_metadata OFFSET 0) AS c,
        generate_series(0, %(each)s - 1) AS m,
        texts AS t
    WHERE t.n = (c.conversation_id * 7919 + m * 104729) %% 50000;
"""


class Question(NamedTuple):
    """One thing asked, by us and bare, about a conversation, a user and a word of the round."""

    name: str
    ours: Callable[[ConversationRepository, Round], Any]
    bare: str


class Round(NamedTuple):
    """What a round is about."""

    conversation: int
    user: str
    word: str
    since: datetime
    until: datetime
    middle: int


QUESTIONS = [
    Question(
        "window of 50, the newest",
        lambda mine, r: mine.messages.window(r.conversation, limit=50),
        """
        SELECT m.*, (SELECT feedback FROM feedback f
                     WHERE f.message_id = m.message_id AND feedback <> 'comment'),
               (SELECT count(*) FROM feedback f
                WHERE f.message_id = m.message_id AND feedback = 'comment')
        FROM conversations m WHERE conversation_id = %(conversation)s
        ORDER BY ts DESC, message_id DESC LIMIT 50
        """,
    ),
    Question(
        "window of 5 before a message",
        lambda mine, r: mine.messages.window(r.conversation, limit=5, before=r.middle),
        """
        SELECT m.*, (SELECT feedback FROM feedback f
                     WHERE f.message_id = m.message_id AND feedback <> 'comment'),
               (SELECT count(*) FROM feedback f
                WHERE f.message_id = m.message_id AND feedback = 'comment')
        FROM conversations m WHERE conversation_id = %(conversation)s AND (ts, message_id) <
            (SELECT ts, message_id FROM conversations WHERE message_id = %(middle)s)
        ORDER BY ts DESC, message_id DESC LIMIT 5
        """,
    ),
    Question(
        "page of a user's conversations",
        lambda mine, _: mine.page(limit=50),
        """
        SELECT *, (SELECT count(*) FROM conversations m
                   WHERE m.conversation_id = c.conversation_id)
        FROM conversation_metadata c WHERE user_id = %(user)s
        ORDER BY last_message_at DESC, conversation_id DESC LIMIT 50
        """,
    ),
    Question(
        "search in a user's messages",
        lambda mine, r: mine.search(r.word),
        """
        SELECT *, (SELECT count(*) FROM conversations m
                   WHERE m.conversation_id = c.conversation_id)
        FROM conversation_metadata c WHERE user_id = %(user)s AND EXISTS (
            SELECT FROM conversations m WHERE m.conversation_id = c.conversation_id
                AND to_tsvector('simple', left(content, 80000)) @@ (%(word)s || ':*')::tsquery)
        ORDER BY last_message_at DESC, conversation_id DESC LIMIT 50
        """,
    ),
    Question(
        "a message added",
        lambda mine, r: mine.messages.add(
            r.conversation, NewMessage(role="user", content="w1", ts=r.until)
        ),
        """
        INSERT INTO conversations (conversation_id, ts, role, sender, content)
        VALUES (%(conversation)s, %(until)s, 'user', 'x', 'w1') RETURNING message_id
        """,
    ),
    Question(
        "a reaction",
        lambda mine, r: mine.feedback.react(r.middle, "like"),
        """
        INSERT INTO feedback (message_id, feedback) VALUES (%(middle)s, 'like')
        ON CONFLICT (message_id) WHERE feedback <> 'comment' DO UPDATE SET feedback = 'like'
        RETURNING *
        """,
    ),
]
OF_THE_HOST = [
    Question(
        "usage of a day",
        lambda host, r: host.usage(since=r.since, until=r.until),
        """
        SELECT archi_service, model_used, pipeline_used, count(*), count(DISTINCT conversation_id)
        FROM conversations WHERE role = 'assistant' AND ts >= %(since)s AND ts < %(until)s
        GROUP BY 1, 2, 3
        """,
    ),
    Question(
        "search in everybody's, a rare word",
        lambda host, r: host.search(r.word + "9"),
        """
        SELECT *, (SELECT count(*) FROM conversations m
                   WHERE m.conversation_id = c.conversation_id)
        FROM conversation_metadata c WHERE conversation_id IN (
            SELECT conversation_id FROM conversations
            WHERE to_tsvector('simple', left(content, 80000)) @@ (%(word)s || '9:*')::tsquery)
        ORDER BY last_message_at DESC, conversation_id DESC LIMIT 50
        """,
    ),
]


def fill(dsn: str, messages: int) -> None:
    """Make the schema and its content, in SQL alone."""
    _schema.migrate(dsn)
    conversations = messages // PER_CONVERSATION
    values = {
        "users": max(1, conversations // CONVERSATIONS_PER_USER),
        "conversations": conversations,
        "each": PER_CONVERSATION,
        "start": START,
        "seconds": SECONDS,
    }
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(TEXTS, values)
        # A GIN index is made faster than it is filled.
        row = connection.execute(
            "SELECT pg_get_indexdef('conversations_words'::regclass)"
        ).fetchone()
        connection.execute("DROP INDEX conversations_words")
        connection.execute(FILL, values)
        connection.execute(row[0])  # type: ignore[index]
        connection.execute("VACUUM ANALYZE")


def rounds(dsn: str, number: int, random: Random) -> list[Round]:
    """Conversations, users and words, so that every round is about others."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT c.conversation_id, c.user_id, (SELECT message_id FROM conversations "
            "WHERE conversation_id = c.conversation_id ORDER BY ts, message_id OFFSET 10 LIMIT 1) "
            "FROM conversation_metadata c "
            "ORDER BY random() LIMIT %s",
            [number],
        ).fetchall()
    made = []
    for conversation, user, middle in found:
        since = START + timedelta(seconds=random.randrange(SECONDS - 86400))
        word = f"w{random.randrange(100, 2000)}"
        made.append(Round(conversation, user, word, since, since + timedelta(days=1), middle))
    return made


def measure(
    question: Question, everything: list[Round], repository: Any, bare: psycopg.Connection[Any]
) -> tuple[float, float, float]:
    """Milliseconds of ours and bare, and the ratio, each a median."""
    times = []
    for number, each in enumerate(everything):
        sides = {
            "ours": lambda each=each: question.ours(repository(each), each),
            "bare": lambda each=each: bare.execute(question.bare, each._asdict()).fetchall(),  # type: ignore[arg-type]
        }
        order = sorted(sides, reverse=bool(number % 2))
        took = {side: timed(sides[side])[0] for side in order}
        times.append((took["ours"], took["bare"]))
    times = times[len(times) // 10 :]
    ours, bare_ = (median(column) for column in zip(*times, strict=True))
    return ours, bare_, median(a / b for a, b in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--dsn", help="a server of yours; a database is made and dropped there")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        server = arguments.dsn
        if server is None:
            path = Path(".cache/conversations")
            server = stack.enter_context(EmbeddedPostgres(path)).dsn
        dsn = database(server, "a2rchi_conversations")
        stack.callback(drop_database, server, "a2rchi_conversations")
        start = perf_counter()
        fill(dsn, arguments.messages)
        print(f"{arguments.messages:,} messages made in {perf_counter() - start:.0f} s")
        ours = stack.enter_context(Database(dsn))
        bare = stack.enter_context(psycopg.connect(dsn, autocommit=True, prepare_threshold=5))
        # Planned once for all, a search for words reads every message.
        bare.execute("SET plan_cache_mode = force_custom_plan")
        everything = rounds(dsn, arguments.rounds, Random(1))
        print(f"{'':38} {'ours ms':>9} {'bare ms':>9} {'ratio':>7}")
        for questions, repository in (
            (QUESTIONS, lambda r: ConversationRepository(ours, owner=Owner(user_id=r.user))),
            (OF_THE_HOST, lambda _: ConversationRepository(ours)),
        ):
            for question in questions:
                a, b, ratio = measure(question, everything, repository, bare)
                print(f"{question.name:38} {a:9.2f} {b:9.2f} {ratio:7.2f}")


if __name__ == "__main__":
    main()

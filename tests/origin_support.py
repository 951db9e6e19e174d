"""Databases of older A2rchis, as their own SQL made them, and a server of PostgreSQL 15."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.types.json import Jsonb

from tests.plugins.servers import passable_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

BINARIES = Path("/usr/lib/postgresql/15/bin")
MASTER = "old master key"
KEY = "sk-old-0123456789abcdef"

V1 = """
    CREATE TABLE configs (config_id serial PRIMARY KEY, config text NOT NULL, config_name text);
    CREATE TABLE conversations (conversation_id integer NOT NULL, message_id serial PRIMARY KEY,
        sender text NOT NULL, content text NOT NULL, context_title text, context text,
        ts timestamp NOT NULL, conf_id integer NOT NULL REFERENCES configs);
    CREATE TABLE feedback (mid integer NOT NULL REFERENCES conversations, feedback_ts timestamp
        NOT NULL, feedback text NOT NULL, feedback_msg text, incorrect boolean, unhelpful boolean,
        inappropriate boolean, PRIMARY KEY (mid, feedback_ts));
    CREATE TABLE timing (mid integer PRIMARY KEY REFERENCES conversations,
        client_sent_msg_ts timestamp, server_received_msg_ts timestamp,
        similarity_search_ts timestamp, a2rchi_message_ts timestamp,
        server_response_msg_ts timestamp, msg_duration interval second);
"""
# January 2026: services, metadata, tools, A/B.
V2 = (
    V1.replace(
        "conversation_id integer NOT NULL, message_id",
        "a2rchi_service text NOT NULL, conversation_id integer NOT NULL, message_id",
    ).replace("context_title", "link")
    + """
    CREATE TABLE conversation_metadata (conversation_id serial PRIMARY KEY, client_id text,
        title text, created_at timestamp NOT NULL DEFAULT now(), last_message_at timestamp NOT NULL
        DEFAULT now(), a2rchi_version varchar(50));
    CREATE TABLE agent_tool_calls (id serial PRIMARY KEY, conversation_id integer NOT NULL,
        message_id integer NOT NULL, step_number integer NOT NULL, tool_name varchar(100) NOT NULL,
        tool_args jsonb, tool_result text, ts timestamp NOT NULL);
    CREATE TABLE ab_comparisons (comparison_id serial PRIMARY KEY, conversation_id integer NOT NULL,
        user_prompt_mid integer NOT NULL, response_a_mid integer NOT NULL, response_b_mid integer
        NOT NULL, config_a_id integer NOT NULL REFERENCES configs, config_b_id integer NOT NULL
        REFERENCES configs, is_config_a_first boolean NOT NULL, preference varchar(10),
        preference_ts timestamp, created_at timestamp NOT NULL DEFAULT now());
"""
)
# The first weeks of the new schema: users and their keys.
USERS = """
    CREATE EXTENSION IF NOT EXISTS pgcrypto;
    CREATE TABLE users (id varchar(200) PRIMARY KEY, display_name text, email text,
        auth_provider varchar(50) NOT NULL DEFAULT 'anonymous', password_hash varchar(256),
        github_id varchar(100), is_admin boolean DEFAULT false, theme varchar(20) NOT NULL
        DEFAULT 'system', preferred_model varchar(200), preferred_temperature numeric(3,2),
        preferred_max_tokens integer, preferred_num_documents integer,
        preferred_condense_prompt varchar(100), preferred_chat_prompt varchar(100),
        preferred_system_prompt varchar(100), preferred_top_p numeric(3,2), preferred_top_k integer,
        api_key_openrouter bytea, api_key_openai bytea, api_key_anthropic bytea,
        last_login_at timestamp, login_count integer DEFAULT 0,
        created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now());
    ALTER TABLE conversation_metadata ADD user_id varchar(200) REFERENCES users;
    CREATE TABLE agent_traces (trace_id uuid PRIMARY KEY, conversation_id integer NOT NULL
        REFERENCES conversation_metadata ON DELETE CASCADE, message_id integer, user_message_id
        integer REFERENCES conversations ON DELETE SET NULL, config_id varchar(100), pipeline_name
        varchar(100) NOT NULL, events jsonb NOT NULL DEFAULT '[]', started_at timestamp NOT NULL
        DEFAULT now(), completed_at timestamp, status varchar(20) NOT NULL DEFAULT 'running',
        total_tool_calls integer, total_tokens_used integer, total_duration_ms integer,
        cancelled_by varchar(200), cancellation_reason text);
    CREATE TABLE documents (id serial PRIMARY KEY, resource_hash varchar(64) NOT NULL UNIQUE);
    CREATE TABLE user_document_defaults (user_id varchar(200) NOT NULL REFERENCES users,
        document_id integer NOT NULL REFERENCES documents, enabled boolean NOT NULL DEFAULT false,
        updated_at timestamp NOT NULL DEFAULT now(), PRIMARY KEY (user_id, document_id));
    CREATE TABLE conversation_doc_overrides (conversation_id integer NOT NULL
        REFERENCES conversation_metadata, document_hash varchar(64) NOT NULL, enabled boolean
        NOT NULL, updated_at timestamp NOT NULL DEFAULT now(),
        PRIMARY KEY (conversation_id, document_hash));
"""
# What the overrides were called for some days, when they named documents by their numbers.
NUMBERED = """
    CREATE TABLE conversation_document_overrides (conversation_id integer NOT NULL, document_id
        integer NOT NULL REFERENCES documents, enabled boolean NOT NULL, updated_at timestamp,
        PRIMARY KEY (conversation_id, document_id));
"""

# Runs that ended well, or badly; one that claims another's message, one whose message is gone.
TRACES = """
    INSERT INTO agent_traces (trace_id, conversation_id, message_id, user_message_id, config_id,
        pipeline_name, events, started_at, completed_at, status, total_tool_calls,
        total_duration_ms, cancelled_by, cancellation_reason)
    SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, conversation, message, question,
        config, 'CMSAgent', events::jsonb, timestamp '2026-01-25 10:00' + n * interval '1 min',
        ended::timestamp, status, calls, duration, cancelled_by, reason
    FROM (VALUES
        (1, 1, 2, 1, '3', '[{"step": 0.5}]', '2026-01-25 10:02', 'completed', 3, 60000, NULL, NULL),
        (2, 1, 2, 1, NULL, '[]', '2026-01-25 10:02:30', 'completed', 0, 30000, NULL, NULL),
        (3, 2, NULL, 5, 'main', '[]', NULL, 'error', -1, 1500, 'system', 'it broke'),
        (4, 2, 99999, 5, NULL, '{"a": 1}', '2026-01-25 10:05', 'completed', 1, 1, NULL, NULL),
        (5, 3, NULL, NULL, NULL, '[]', '2026-01-25 10:06', 'cancelled', 1, 1, 'ann', 'slow'),
        (6, 3, NULL, NULL, NULL, '[]', '2026-01-25 10:07', 'running', 1, 1, 'ann', NULL),
        (7, 3, NULL, NULL, NULL, '[]', '2026-01-25 10:08', 'paused', 1, 1, NULL, NULL)
    ) AS t (n, conversation, message, question, config, events, ended, status, calls, duration,
        cancelled_by, reason);
"""
CHOICES = """
    INSERT INTO documents VALUES (11, 'aaaaaaaaaaaa'), (12, 'jira_A-1'), (13, 'left behind');
    INSERT INTO user_document_defaults VALUES ('ann', 11, false, '2026-01-26 10:00'),
        ('ann', 13, false, '2026-01-26 10:00'), ('o/r%g', 12, true, '2026-01-26 10:00');
    INSERT INTO conversation_doc_overrides VALUES (1, 'aaaaaaaaaaaa', false, '2026-01-26 10:00'),
        (2, 'jira_A-1', true, '2026-01-26 10:00'), (3, 'gone', false, '2026-01-26 10:00');
"""
CONFIGS = {
    1: "chains:\n  chain:\n    MODEL_NAME: OpenAIGPT4LLM\n    MODEL_CLASS_MAP:\n"
    "      OpenAIGPT4LLM: {class: x, kwargs: {model_name: gpt-4, temperature: 1}}\n",
    2: "services: {chat_app: {pipeline: CMSCompOpsAgent}}\na2rchi:\n  pipelines: [QAPipeline]\n"
    "  pipeline_map: {CMSCompOpsAgent: {models: {required: {agent_model: OllamaInterface}}}}\n"
    "  model_class_map: {OllamaInterface: {kwargs: {base_model: 'qwen3:32b', url: u}}}\n",
    3: "services:\n  chat_app: {default_provider: openai, default_model: gpt-4o, "
    "agent_class: CMSAgent}\n",
    4: "services: {chat_app: {pipeline: QAPipeline}}\nnothing: {else: here}\n",
    5: "token: 'secret-in-yaml\n  - [broken",
    6: "services:\n  chat_app: {default_provider: openai, default_model: gpt-4o, "
    "agent_class: CMSAgent}\n",
}


def fill_v1(dsn: str) -> None:
    """Two conversations without metadata, of the first version."""
    with psycopg.connect(dsn) as connection:
        connection.execute(V1)
        connection.execute("INSERT INTO configs VALUES (1, %s, 'old')", [CONFIGS[1]])
        connection.execute("""
            INSERT INTO conversations (conversation_id, sender, content, context_title, context, ts,
                conf_id) VALUES
            (7, 'User', 'why?', NULL, NULL, '2024-07-01 12:00', 1),
            (7, 'A2rchi', 'because', 'a page', 'text', '2024-07-01 12:00:05.25', 1),
            (9, 'Expert', 'I know', '', '', '2024-12-01 12:00', 1)""")


def fill_v2(dsn: str, conversations: int = 40) -> None:
    """Conversations of four messages, with all that hangs on them, and rows of every trap."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(V2 + USERS)
        cursor.executemany("INSERT INTO configs VALUES (%s, %s, 'c')", list(CONFIGS.items()))
        cursor.execute(
            "INSERT INTO users (id, email, auth_provider, password_hash, is_admin, theme, "
            "preferred_model, preferred_temperature, api_key_openai) VALUES "
            "('ann', 'a@x.org', 'basic', 'hash-of-ann', true, 'dark', 'openai/gpt-4o', 0.0, "
            "pgp_sym_encrypt(%s, %s)), ('bob', NULL, 'github', NULL, NULL, 'blue', NULL, 9, NULL), "
            "('o/r%%g', NULL, 'sso', NULL, false, 'system', NULL, NULL, NULL)",
            [KEY, MASTER],
        )
        cursor.execute(
            "INSERT INTO conversation_metadata SELECT n, 'client-' || n, 'title ' || n, "
            "'2026-01-10 08:00', '2026-01-20 08:00', '1.4.0', CASE n %% 4 WHEN 0 THEN 'ann' END "
            "FROM generate_series(1, %s) n",
            [conversations],
        )
        cursor.execute(
            "INSERT INTO conversations (a2rchi_service, conversation_id, sender, content, link, "
            "context, ts, conf_id) SELECT 'Chatbot', c, CASE m %% 2 WHEN 1 THEN 'User' ELSE "
            "'A2rchi' END, 'naïve ' || c || ' ' || m, '', '', timestamp '2026-01-10 09:00' + "
            "m * interval '1 min', 1 + (c - 1) %% 6 FROM generate_series(1, %s) c, "
            "generate_series(1, 4) m ORDER BY c, m",
            [conversations],
        )
        cursor.execute("""
            INSERT INTO conversations (a2rchi_service, conversation_id, sender, content, link,
                context, ts, conf_id) VALUES
            ('Redmine', 3, 'User', 'issue 3', 'http://r/3', '', '2026-01-12 10:00', 1),
            ('Redmine', 3, 'A2rchi', 'solved', '', '', '2026-01-12 10:01', 1),
            ('Grader', 900, 'Professor', 'hm', '', '', '2026-01-13 10:00', 3);
            INSERT INTO feedback VALUES
            (2, '2026-01-11 10:00', 'like', '', NULL, NULL, NULL),
            (2, '2026-01-11 11:00', 'dislike', 'no', true, NULL, false),
            (2, '2026-01-11 11:30', 'comment', 'one', NULL, NULL, NULL),
            (2, '2026-01-11 11:31', 'comment', 'two', NULL, NULL, NULL);
            INSERT INTO timing VALUES (2, '2026-01-10 09:01', '2026-01-10 09:01:01', NULL,
                '2026-01-10 09:01:03', '2026-01-10 09:01:04', '3'),
                (4, NULL, '2026-01-10 09:01:01', NULL, NULL, '2026-01-10 09:01:04', '99');
            INSERT INTO ab_comparisons VALUES
            (5, 1, 1, 2, 4, 2, 3, true, 'A', '2026-01-14 10:00', '2026-01-14 09:00'),
            (6, 1, 1, 2, 2, 2, 3, true, NULL, NULL, '2026-01-14 09:00'),
            (7, 2, 5, 6, 8, 4, 5, false, NULL, NULL, '2026-01-14 09:00');
        """)
        cursor.execute(
            "INSERT INTO agent_tool_calls (conversation_id, message_id, step_number, tool_name, "
            "tool_args, tool_result, ts) VALUES "
            "(1, 2, 0, 'search', %s, 'found', '2026-01-10 9:01')",
            [Jsonb({"q": "ümlaut", "k": 5, "w": 0.1})],
        )
        cursor.execute(TRACES + CHOICES)


@contextmanager
def postgres_15() -> Iterator[str]:
    """A server of Debian's PostgreSQL 15, which root can't run itself."""
    account = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    with passable_folder() as folder:
        if account:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        made = [BINARIES / "initdb", "-D", data, "-U", "old", "-A", "trust", "-E", "UTF8"]
        run(made, "--no-sync", "--locale=C.UTF-8", **account)
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        control = [BINARIES / "pg_ctl", "-D", data, "-w"]
        run([*control, "-l", folder / "log", "-o", options, "start"], **account)
        try:
            yield f"host={folder} user=old dbname=postgres"
        finally:
            run([*control, "-m", "immediate", "stop"], **account)


def run(command: list[object], *more: str, **account: str) -> None:
    subprocess.run(
        [*map(str, command), *more], check=True, stdout=subprocess.DEVNULL, timeout=60, cwd="/",
        **account,
    )  # fmt: skip

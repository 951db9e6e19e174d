"""The tables of an older A2rchi, in the one shape that all its versions are read as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from a2rchi_pg._op import own_sql
from a2rchi_pg.errors import MigrationError

if TYPE_CHECKING:
    from a2rchi_pg.migrate._reading import OtherDatabase, Reader

# Redmine numbered its conversations by issues, others by a sequence of 32 bits: apart from here on.
ISSUES = 10**12

TIMES = (
    "client_sent_msg_ts",
    "server_received_msg_ts",
    "lock_acquisition_ts",
    "vectorstore_update_ts",
    "query_convo_history_ts",
    "similarity_search_ts",
    "chain_finished_ts",
    "archi_message_ts",
    "insert_convo_ts",
    "finish_call_ts",
    "server_response_msg_ts",
)
_TIME = "timestamptz"
_OVERRIDES = {
    "conversation_id": "bigint",
    "document_hash": "text",
    "document_id": "bigint",
    "enabled": "boolean",
    "updated_at": _TIME,
}
# Python knows the years 1 to 9999, in every zone; PostgreSQL more, and infinity.
_READABLE = "CASE WHEN {0} BETWEEN '0001-01-03' AND '9999-12-29' THEN {0} END"
# What is read of each table; NULL where a version lacked the column.
SHAPE: dict[str, dict[str, str]] = {
    "configs": {"config_id": "bigint", "config_name": "text", "config": "text"},
    "users": {
        "id": "text", "display_name": "text", "email": "text", "auth_provider": "text",
        "password_hash": "text", "github_id": "text", "is_admin": "boolean", "theme": "text",
        "preferred_model": "text", "preferred_temperature": "float8",
        "preferred_max_tokens": "integer", "preferred_num_documents": "integer",
        "preferred_condense_prompt": "text", "preferred_chat_prompt": "text",
        "preferred_system_prompt": "text", "preferred_top_p": "float8",
        "preferred_top_k": "integer", "api_key_openrouter": "bytea", "api_key_openai": "bytea",
        "api_key_anthropic": "bytea", "last_login_at": _TIME, "login_count": "integer",
        "created_at": _TIME, "updated_at": _TIME,
    },
    "conversation_metadata": {
        "conversation_id": "bigint", "user_id": "text", "client_id": "text", "title": "text",
        "archi_version": "text", "created_at": _TIME, "last_message_at": _TIME,
    },
    "conversations": {
        "message_id": "bigint", "conversation_id": "bigint", "archi_service": "text",
        "sender": "text", "content": "text", "link": "text", "context": "text", "ts": _TIME,
        "conf_id": "bigint", "model_used": "text", "pipeline_used": "text",
    },
    "feedback": {
        "message_id": "bigint", "feedback_ts": _TIME, "feedback": "text", "feedback_msg": "text",
        "incorrect": "boolean", "unhelpful": "boolean", "inappropriate": "boolean",
    },
    "timing": {
        "message_id": "bigint", **dict.fromkeys(TIMES, _TIME), "msg_duration": "interval",
    },
    "agent_tool_calls": {
        "id": "bigint", "message_id": "bigint", "step_number": "integer", "tool_name": "text",
        "tool_args": "jsonb", "tool_result": "text", "ts": _TIME,
    },
    "agent_traces": {
        "trace_id": "uuid", "conversation_id": "bigint", "message_id": "bigint",
        "user_message_id": "bigint", "config_id": "text", "pipeline_name": "text",
        "events": "jsonb", "started_at": _TIME, "completed_at": _TIME, "status": "text",
        "total_tool_calls": "integer", "total_tokens_used": "integer",
        "total_duration_ms": "bigint", "cancelled_by": "text", "cancellation_reason": "text",
    },
    "ab_comparisons": {
        "comparison_id": "bigint", "conversation_id": "bigint",
        "user_prompt_message_id": "bigint", "response_a_message_id": "bigint",
        "response_b_message_id": "bigint", "config_a_id": "bigint", "config_b_id": "bigint",
        "model_a": "text", "pipeline_a": "text", "model_b": "text", "pipeline_b": "text",
        "is_config_a_first": "boolean", "preference": "text", "preference_ts": _TIME,
        "created_at": _TIME,
    },
    "documents": {"id": "bigint", "resource_hash": "text"},
    "user_document_defaults": {
        "user_id": "text", "document_id": "bigint", "enabled": "boolean", "updated_at": _TIME,
    },
    "conversation_doc_overrides": _OVERRIDES,
    "conversation_document_overrides": _OVERRIDES,
}  # fmt: skip
# What a column was called before.
FORMER = {
    "message_id": "mid",
    "archi_service": "a2rchi_service",
    "archi_version": "a2rchi_version",
    "archi_message_ts": "a2rchi_message_ts",
    "link": "context_title",
    "user_prompt_message_id": "user_prompt_mid",
    "response_a_message_id": "response_a_mid",
    "response_b_message_id": "response_b_mid",
}

# Neither a key nor the hash of a password is read with a user.
_PLAIN = [
    name
    for name in SHAPE["users"]
    if name not in ("password_hash", "github_id") and not name.startswith("api_key_")
]
_USERS = f"""
    SELECT {", ".join(_PLAIN)}, password_hash IS NOT NULL AS has_password,
        github_id IS NOT NULL AS has_github
    FROM {{users}} AS u
"""  # noqa: S608 - our own names
_KEYS = """
    SELECT u.id AS user_id, k.provider, k.ciphertext
    FROM {users} AS u CROSS JOIN LATERAL (VALUES ('openrouter', u.api_key_openrouter),
        ('openai', u.api_key_openai), ('anthropic', u.api_key_anthropic))
        AS k (provider, ciphertext)
    WHERE k.ciphertext IS NOT NULL
"""
_MESSAGES = """
    SELECT m.message_id, m.archi_service, m.sender, m.content, m.link, m.context, m.ts, m.conf_id,
        m.model_used, m.pipeline_used, coalesce(lower(m.archi_service) = 'redmine', false) AS issue,
        CASE WHEN lower(m.archi_service) = 'redmine' THEN {issues} ELSE 0 END
            + m.conversation_id AS conversation_id
    FROM {conversations} AS m
"""
_CONVERSATIONS = f"""
    SELECT coalesce(c.conversation_id, s.conversation_id) AS conversation_id, c.user_id,
        c.client_id, c.title, c.archi_version, c.conversation_id IS NULL AS unknown,
        coalesce(c.created_at, s.first, c.last_message_at) AS created_at,
        greatest(coalesce(c.created_at, s.first), s.last) AS last_message_at
    FROM {{conversation_metadata}} AS c FULL JOIN (
        SELECT conversation_id, min(ts) AS first, max(ts) AS last FROM ({_MESSAGES}) AS m
        WHERE conversation_id IS NOT NULL GROUP BY conversation_id
    ) AS s ON s.conversation_id = c.conversation_id
"""  # noqa: S608 - made of our own parts
_FEEDBACK = """
    SELECT f.*, f.feedback <> 'comment' AND f.feedback_ts < max(f.feedback_ts)
        FILTER (WHERE f.feedback IN ('like', 'dislike')) OVER (PARTITION BY f.message_id)
        AS replaced
    FROM {feedback} AS f
"""
# A message comes from one run, the last that claims it; a message that is gone from none.
_TRACES = """
    SELECT t.*, q.message_id AS found_question_id,
        CASE WHEN row_number() OVER (PARTITION BY t.message_id
            ORDER BY t.started_at DESC NULLS LAST, t.trace_id DESC) = 1 THEN a.message_id END
            AS found_message_id
    FROM {agent_traces} AS t LEFT JOIN {conversations} AS a ON a.message_id = t.message_id
        LEFT JOIN {conversations} AS q ON q.message_id = t.user_message_id
"""
# The latest last, as it is the one that counts.
_DEFAULTS = """
    SELECT s.user_id AS owner, d.resource_hash AS document, s.enabled, s.updated_at
    FROM {user_document_defaults} AS s LEFT JOIN {documents} AS d ON d.id = s.document_id
    ORDER BY s.updated_at NULLS FIRST
"""
_CHOSEN = """
    SELECT s.conversation_id::text AS owner, coalesce(s.document_hash, d.resource_hash) AS document,
        s.enabled, s.updated_at
    FROM (SELECT * FROM {conversation_doc_overrides} AS t
        UNION ALL SELECT * FROM {conversation_document_overrides} AS t) AS s
        LEFT JOIN {documents} AS d ON d.id = s.document_id
    ORDER BY s.updated_at NULLS FIRST
"""
QUERIES = {
    "users": _USERS,
    "user_api_keys": _KEYS,
    "conversation_metadata": _CONVERSATIONS,
    "conversations": _MESSAGES,
    "feedback": _FEEDBACK,
    "timing": "SELECT * FROM {timing} AS t",
    "agent_tool_calls": "SELECT * FROM {agent_tool_calls} AS t",
    "agent_traces": _TRACES,
    "user_document_selection": _DEFAULTS,
    "conversation_document_selection": _CHOSEN,
    "ab_comparisons": "SELECT * FROM {ab_comparisons} AS t",
    "configs": "SELECT * FROM {configs} AS t",
}


class Origin:
    """A database of an older A2rchi.

    Args:
        database: Where it is.
        timezone: The zone that its times, which name none, are in; None is the server's.

    Raises:
        MigrationError: If it is no such database, or there is no such zone.
    """

    def __init__(self, database: OtherDatabase, timezone: str | None = None) -> None:
        with database.reading() as reader:
            if timezone is None:
                timezone = str(reader.value("SELECT current_setting('TimeZone')"))
            zones = "SELECT count(*) FROM pg_timezone_names WHERE name = %(name)s"
            if not reader.value(zones, name=timezone):
                raise MigrationError(f"{timezone!r} is no time zone, as Europe/Zurich or UTC is")
            there = {name: _columns(reader, name) for name in SHAPE}
        if not there["conversations"].keys() >= {"message_id", "conf_id", "sender", "content"}:
            raise MigrationError(
                f"{database.location} is no database of A2rchi: its search_path leads to no table "
                "conversations with message_id, conf_id, sender and content"
            )
        self.database, self.timezone = database, timezone
        self.tables = sorted(name for name, columns in there.items() if columns)
        self._relations = {name: _relation(name, there[name], timezone) for name in SHAPE}

    def query(self, name: str) -> sql.Composed:
        """The rows that go into a table of ours."""
        return own_sql(QUERIES[name]).format(issues=sql.Literal(ISSUES), **self._relations)

    def keeping_configs(self) -> list[str]:
        """What refers to the table of configurations: statements that it can be dropped after."""
        query = """
            SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I;', conrelid::regclass, conname) AS
                statement
            FROM pg_constraint WHERE contype = 'f' AND confrelid = to_regclass('configs')
            ORDER BY conrelid::regclass::text, conname
        """
        with self.database.reading() as reader:
            return [row["statement"] for row in reader.fetch(query)]


def _columns(reader: Reader, table: str) -> dict[str, str]:
    query = """
        SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
        WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped
    """
    return {each["name"]: each["type"] for each in reader.fetch(query, table=table)}


def _relation(table: str, there: dict[str, str], timezone: str) -> sql.Composed:
    """The table in its shape, as something to select from."""
    columns = sql.SQL(", ").join(
        _column(name, kind, there, timezone) for name, kind in SHAPE[table].items()
    )
    if not there:
        return sql.SQL("(SELECT {} WHERE false)").format(columns)
    return sql.SQL("(SELECT {} FROM {})").format(columns, sql.Identifier(table))


def _column(name: str, kind: str, there: dict[str, str], timezone: str) -> sql.Composed:
    found = next((each for each in (name, FORMER.get(name)) if each in there), None)
    value: sql.Composable = sql.SQL("NULL") if found is None else sql.Identifier(found)
    if found is not None and kind == _TIME:
        value = sql.SQL(_READABLE).format(value)
        if there[found] == "timestamp without time zone":
            value = sql.SQL("({}) AT TIME ZONE {}").format(value, sql.Literal(timezone))
    return sql.SQL("({})::{} AS {}").format(value, own_sql(kind), sql.Identifier(name))

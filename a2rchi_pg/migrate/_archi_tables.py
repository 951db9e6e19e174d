"""The tables that an older A2rchi's rows go into, each after those that it refers to."""

from __future__ import annotations

from a2rchi_pg.migrate._origin import ISSUES, TIMES
from a2rchi_pg.migrate._table import Table

USERS = Table(
    name="users",
    key={"id": "text"},
    columns=(
        "id", "display_name", "email", "auth_provider", "role", "preferences", "login_count",
        "last_login_at", "created_at", "updated_at",
    ),
)  # fmt: skip
KEYS = Table(
    name="user_api_keys",
    key={"user_id": "text", "provider": "text"},
    columns=("user_id", "provider", "ciphertext", "format"),
    references={"user_id": USERS},
)
CONVERSATIONS = Table(
    name="conversation_metadata",
    key={"conversation_id": "bigint"},
    columns=("conversation_id", "user_id", "client_id", "title", "archi_version", "created_at"),
    derived=("last_message_at",),  # by triggers
    references={"user_id": USERS},
    numbered="conversation_id",
    below=ISSUES,
)
MESSAGES = Table(
    name="conversations",
    key={"message_id": "bigint"},
    columns=(
        "message_id", "conversation_id", "ts", "archi_service", "role", "sender", "model_used",
        "pipeline_used", "content", "link", "context",
    ),
    parents={"conversation_id": CONVERSATIONS},
    numbered="message_id",
)  # fmt: skip
FEEDBACK = Table(
    name="feedback",
    key={"message_id": "bigint", "feedback_ts": "timestamptz"},
    columns=(
        "message_id", "feedback_ts", "feedback", "feedback_msg", "incorrect", "unhelpful",
        "inappropriate",
    ),
    parents={"message_id": MESSAGES},
)  # fmt: skip
TIMING = Table(
    name="timing",
    key={"message_id": "bigint"},
    columns=("message_id", *TIMES),
    parents={"message_id": MESSAGES},
)
TOOL_CALLS = Table(
    name="agent_tool_calls",
    key={"id": "bigint"},
    columns=("id", "message_id", "step_number", "tool_name", "tool_args", "tool_result", "ts"),
    parents={"message_id": MESSAGES},
    numbered="id",
)
TRACES = Table(
    name="agent_traces",
    key={"trace_id": "uuid"},
    columns=(
        "trace_id", "conversation_id", "user_message_id", "message_id", "pipeline_name",
        "model_used", "status", "events", "started_at", "completed_at", "total_tool_calls",
        "total_tokens_used", "cancelled_by", "cancellation_reason", "error",
    ),
    parents={
        "conversation_id": CONVERSATIONS,
        "user_message_id": MESSAGES,
        "message_id": MESSAGES,
    },
)  # fmt: skip
COMPARISONS = Table(
    name="ab_comparisons",
    key={"comparison_id": "bigint"},
    columns=(
        "comparison_id", "conversation_id", "user_prompt_message_id", "response_a_message_id",
        "response_b_message_id", "model_a", "pipeline_a", "model_b", "pipeline_b",
        "is_config_a_first", "preference", "preference_ts", "created_at",
    ),
    parents={
        "conversation_id": CONVERSATIONS,
        "user_prompt_message_id": MESSAGES,
        "response_a_message_id": MESSAGES,
        "response_b_message_id": MESSAGES,
    },
    numbered="comparison_id",
)  # fmt: skip
ALL = (USERS, KEYS, CONVERSATIONS, MESSAGES, FEEDBACK, TIMING, TOOL_CALLS, TRACES, COMPARISONS)
TABLES = {table.name: table for table in ALL}

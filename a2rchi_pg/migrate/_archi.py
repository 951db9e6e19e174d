"""An older A2rchi's PostgreSQL: which tables come over, and what their rows become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from a2rchi_pg._settings import DynamicConfig, patched
from a2rchi_pg.errors import ConfigError, InvalidInput
from a2rchi_pg.migrate._configs import Configs
from a2rchi_pg.migrate._origin import ISSUES, TIMES
from a2rchi_pg.migrate._tables import Table, TableSource, TableTarget

if TYPE_CHECKING:
    from a2rchi_pg.migrate._configs import Answerer
    from a2rchi_pg.migrate._origin import Origin
    from a2rchi_pg.migrate._tables import Mapper, Values

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
ALL = (USERS, KEYS, CONVERSATIONS, MESSAGES, FEEDBACK, TIMING, TOOL_CALLS, COMPARISONS)
TABLES = {table.name: table for table in ALL}

ROLES = {"user": "user", "a2rchi": "assistant", "archi": "assistant", "expert": "expert"}
PREFERENCES = {
    "theme": "theme",
    "preferred_model": "active_model",
    "preferred_temperature": "temperature",
    "preferred_max_tokens": "max_tokens",
    "preferred_num_documents": "num_documents_to_retrieve",
    "preferred_condense_prompt": "active_condense_prompt",
    "preferred_chat_prompt": "active_chat_prompt",
    "preferred_system_prompt": "active_system_prompt",
    "preferred_top_p": "top_p",
    "preferred_top_k": "top_k",
}
# What the old tables held where nobody had chosen.
UNCHOSEN = {"theme": "system"}
NOBODY = (None, None)


def sides(origin: Origin) -> list[tuple[TableSource, TableTarget]]:
    """What is read and where it goes, in the order in which rows refer to one another."""
    configs = configs_of(origin)
    mappers: dict[str, Mapper] = {
        USERS.name: _user,
        KEYS.name: lambda row: ({**row, "format": "pgcrypto"}, []),
        CONVERSATIONS.name: _conversation,
        MESSAGES.name: lambda row: _message(row, configs),
        FEEDBACK.name: _feedback,
        TIMING.name: _timing,
        TOOL_CALLS.name: _tool_call,
        COMPARISONS.name: lambda row: _comparison(row, configs),
    }

    def facts() -> dict[str, str]:
        return {
            "PostgreSQL": str(origin.database.version),
            "tables": ", ".join(origin.tables),
            "time zone": origin.timezone,
            **configs.facts(),
        }

    return [
        (
            TableSource(
                f"postgres-{table.name}",
                origin.database,
                table,
                origin.query(table.name),
                mappers[table.name],
                facts=facts if table is MESSAGES else dict,
            ),
            TableTarget(table, origin.database.location),
        )
        for table in ALL
    ]


def configs_of(origin: Origin) -> Configs:
    """The configurations of a database."""
    return Configs(origin.database, origin.query("configs"))


def untold(origin: Origin, configs: Configs) -> int:
    """How many answers, those of comparisons included, have a configuration that tells no model."""
    messages = origin.query("conversations"), origin.query("ab_comparisons")
    query = sql.SQL("""
        SELECT conf_id, count(*) AS rows FROM (
            SELECT conf_id FROM ({0}) AS m WHERE NOT issue AND model_used IS NULL
                AND lower(sender) = ANY (%(senders)s)
            UNION ALL SELECT config_a_id FROM ({1}) AS c WHERE model_a IS NULL
            UNION ALL SELECT config_b_id FROM ({1}) AS c WHERE model_b IS NULL
        ) AS t GROUP BY conf_id
    """).format(*messages)
    senders = [sender for sender, role in ROLES.items() if role == "assistant"]
    with origin.database.reading() as reader:
        found = reader.fetch(query, senders=senders)
    return sum(
        each["rows"] for each in found if _answerer(NOBODY, each["conf_id"], configs)[0] is None
    )


def _user(row: Values) -> tuple[Values, list[str]]:
    notes = []
    if row["has_password"]:
        notes.append("its password was left behind: logging in is the host's")
    if row["has_github"]:
        notes.append("its GitHub account was left behind")
    provider = row["auth_provider"] or "anonymous"
    if provider not in ("anonymous", "basic", "sso"):
        notes.append(f"auth_provider {provider!r} became sso")
        provider = "sso"
    preferences, left = _preferences(row)
    notes += [f"its {name} was left out: it can't be set so" for name in left]
    _needed(row, "created_at")
    return {
        **{name: row[name] for name in ("id", "display_name", "email", "last_login_at")},
        "auth_provider": provider,
        "role": "admin" if row["is_admin"] else "user",
        "preferences": preferences,
        "login_count": max(row["login_count"] or 0, 0),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"] or row["created_at"],
    }, notes


def _preferences(row: Values) -> tuple[Values, list[str]]:
    """What a user chose and may choose, and what they may not."""
    given = {
        ours: row[theirs]
        for theirs, ours in PREFERENCES.items()
        if row[theirs] is not None and row[theirs] != UNCHOSEN.get(theirs)
    }
    chosen: Values = {}
    for name, value in given.items():
        try:
            chosen = patched(
                DynamicConfig, chosen, {name: value}, below={}, only=DynamicConfig.personal
            )
        except ConfigError:
            continue
    return chosen, sorted(given.keys() - chosen.keys())


def _conversation(row: Values) -> tuple[Values, list[str]]:
    _needed(row, "created_at")
    number = row["conversation_id"]
    notes = ["it has no metadata, so it is nobody's"] if row["unknown"] else []
    if number >= ISSUES:
        notes = ["a Redmine issue: its conversation has a number of its own"]
    return {
        **{name: row[name] for name in ("conversation_id", "archi_version", "created_at")},
        "user_id": row["user_id"] or None,
        "client_id": row["client_id"] or None,
        "title": f"Redmine #{number - ISSUES}" if number >= ISSUES else row["title"],
        "last_message_at": max(row["last_message_at"] or row["created_at"], row["created_at"]),
    }, notes


def _message(row: Values, configs: Configs) -> tuple[Values, list[str]]:
    _needed(row, "conversation_id", "ts")
    notes = []
    sender = row["sender"] or ""
    role = ROLES.get(sender.lower())
    if role is None:
        notes.append(f"sender {sender!r} is none we know: taken for a user")
    answerer: dict[str, str | None] = {"model_used": None, "pipeline_used": None}
    if role == "assistant":
        given = (row["model_used"], row["pipeline_used"])
        conf_id = None if row["issue"] else row["conf_id"]  # always 1, whatever answered
        model, pipeline = _answerer(given, conf_id, configs)
        answerer = {"model_used": model, "pipeline_used": pipeline}
        notes += [f"{name} is unknown" for name, value in answerer.items() if value is None]
    service = row["archi_service"] or "chat"
    return {
        **{name: row[name] for name in ("message_id", "conversation_id", "ts")},
        **{name: row[name] or "" for name in ("content", "link", "context")},
        **answerer,
        "archi_service": "chat" if service == "Chatbot" else service,
        "role": role or "user",
        "sender": "archi" if role == "assistant" else sender,
    }, notes


def _answerer(
    given: tuple[str | None, str | None], config_id: int | None, configs: Configs
) -> tuple[str | None, str | None]:
    """The model and the pipeline: what the row says itself, else what its configuration does."""
    known: Answerer | tuple[None, None] = configs.of(config_id) or NOBODY
    return given[0] or known[0], given[1] or known[1]


def _feedback(row: Values) -> tuple[Values, list[str]]:
    if row["feedback"] not in ("like", "dislike", "comment"):
        raise InvalidInput(f"feedback {row['feedback']!r} is none of like, dislike, comment")
    if row["replaced"]:
        raise InvalidInput("a later reaction to the message replaced it")
    return {
        **{name: row[name] for name in ("message_id", "feedback_ts", "feedback", "feedback_msg")},
        **{name: bool(row[name]) for name in ("incorrect", "unhelpful", "inappropriate")},
    }, []


def _timing(row: Values) -> tuple[Values, list[str]]:
    start, end = row["server_received_msg_ts"], row["server_response_msg_ts"]
    measured = None if start is None or end is None else end - start
    notes = []
    if row["msg_duration"] is not None and row["msg_duration"] != measured:
        notes.append("msg_duration contradicted its times, which stay")
    return {name: row[name] for name in TIMING.columns}, notes


def _tool_call(row: Values) -> tuple[Values, list[str]]:
    _needed(row, "message_id", "step_number", "tool_name", "ts")
    if row["step_number"] < 0:
        raise InvalidInput("step_number is negative")
    return {name: row[name] for name in TOOL_CALLS.columns}, []


def _comparison(row: Values, configs: Configs) -> tuple[Values, list[str]]:
    _needed(row, "conversation_id", "user_prompt_message_id", "created_at")
    _needed(row, "response_a_message_id", "response_b_message_id")
    if row["response_a_message_id"] == row["response_b_message_id"]:
        raise InvalidInput("both answers are the same message")
    preference = (row["preference"] or "").strip().lower() or None
    if preference not in (None, "a", "b", "tie", "skip"):
        raise InvalidInput(f"preference {row['preference']!r} is none of a, b, tie, skip")
    notes = []
    voted_at = row["preference_ts"] if preference else None
    if preference and voted_at is None:
        notes.append("when it was voted on is unknown: created_at stands for it")
        voted_at = row["created_at"]
    known: Values = {}
    for side in ("a", "b"):
        given = (row[f"model_{side}"], row[f"pipeline_{side}"])
        model, pipeline = _answerer(given, row[f"config_{side}_id"], configs)
        known |= {f"model_{side}": model, f"pipeline_{side}": pipeline}
    notes += [f"{name} is unknown" for name, value in known.items() if value is None]
    return {
        **{name: row[name] for name in COMPARISONS.columns},
        **known,
        "is_config_a_first": row["is_config_a_first"] is not False,
        "preference": preference,
        "preference_ts": voted_at,
    }, notes


def _needed(row: Values, *names: str) -> None:
    for name in names:
        if row[name] in (None, ""):
            raise InvalidInput(f"it has no {name}")

"""What the rows of an older A2rchi become, and what is to be said of that."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from a2rchi_pg._arguments import MAX_ID_BYTES, user_id_of
from a2rchi_pg._content import MAX_NAME_BYTES
from a2rchi_pg._settings import DynamicConfig, patched
from a2rchi_pg.errors import ConfigError, InvalidInput
from a2rchi_pg.migrate._archi_tables import COMPARISONS, TIMING, TOOL_CALLS
from a2rchi_pg.migrate._origin import ISSUES

if TYPE_CHECKING:
    from a2rchi_pg.migrate._configs import Answerer, Configs
    from a2rchi_pg.migrate._tables import Values

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
MILLISECOND = timedelta(milliseconds=1)
# The code wrote "error" where the schema's comment says "failed".
STATUSES = {
    "running": "running",
    "completed": "completed",
    "cancelled": "cancelled",
    "failed": "failed",
    "error": "failed",
}


def user(row: Values) -> tuple[Values, list[str]]:
    """A user, without what logging in takes."""
    user_id_of(row["id"])
    notes = []
    if row["has_password"]:
        notes.append("its password was left behind: logging in is the host's")
    if row["has_github"]:
        notes.append("its GitHub account was left behind")
    provider = row["auth_provider"] or "anonymous"
    if provider not in ("anonymous", "basic", "sso"):
        notes.append(f"auth_provider {provider!r} became sso")
        provider = "sso"
    email = row["email"]
    if email is not None and len(email.encode()) > MAX_ID_BYTES:
        email = None
        notes.append(f"its email was left out: it has more than {MAX_ID_BYTES:,} bytes")
    preferences, left = _preferences(row)
    notes += [f"its {name} was left out: it can't be set so" for name in left]
    _needed(row, "created_at")
    return {
        **{name: row[name] for name in ("id", "display_name", "last_login_at")},
        "email": email,
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


def conversation(row: Values) -> tuple[Values, list[str]]:
    """A conversation, which may be known by its messages alone."""
    _needed(row, "created_at")
    number = row["conversation_id"]
    notes = ["it has no metadata, so it is nobody's"] if row["unknown"] else []
    if number >= ISSUES:
        notes = ["a Redmine issue: its conversation has a number of its own"]
    client = row["client_id"] or None
    if client is not None and len(client.encode()) > MAX_ID_BYTES:
        client = None
        notes.append(f"its client_id was left out: it has more than {MAX_ID_BYTES:,} bytes")
    return {
        **{name: row[name] for name in ("conversation_id", "archi_version", "created_at")},
        "user_id": row["user_id"] or None,
        "client_id": client,
        "title": f"Redmine #{number - ISSUES}" if number >= ISSUES else row["title"],
        "last_message_at": max(row["last_message_at"] or row["created_at"], row["created_at"]),
    }, notes


def message(row: Values, configs: Configs) -> tuple[Values, list[str]]:
    """A message, with who answered it."""
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
        model, pipeline = who_answered(given, conf_id, configs)
        answerer = {"model_used": model, "pipeline_used": pipeline}
        notes += [f"{name} is unknown" for name, value in answerer.items() if value is None]
    service = row["archi_service"] or "chat"
    if _name(service) is None:
        raise InvalidInput(f"archi_service has more than {MAX_NAME_BYTES} bytes")
    return {
        **{name: row[name] for name in ("message_id", "conversation_id", "ts")},
        **{name: row[name] or "" for name in ("content", "link", "context")},
        **answerer,
        "archi_service": "chat" if service == "Chatbot" else service,
        "role": role or "user",
        "sender": "archi" if role == "assistant" else sender,
    }, notes


def who_answered(
    given: tuple[str | None, str | None], config_id: int | None, configs: Configs
) -> tuple[str | None, str | None]:
    """The model and the pipeline: what the row says itself, else what its configuration does."""
    known: Answerer | tuple[None, None] = configs.of(config_id) or NOBODY
    return _name(given[0]) or _name(known[0]), _name(given[1]) or _name(known[1])


def _name(value: str | None) -> str | None:
    """A name as an index takes it; one that is longer tells as little as none."""
    return value if value and len(value.encode()) <= MAX_NAME_BYTES else None


def feedback(row: Values) -> tuple[Values, list[str]]:
    """A reaction, or a comment."""
    _needed(row, "feedback_ts")
    if row["feedback"] not in ("like", "dislike", "comment"):
        raise InvalidInput(f"feedback {row['feedback']!r} is none of like, dislike, comment")
    if row["replaced"]:
        raise InvalidInput("a later reaction to the message replaced it")
    return {
        **{name: row[name] for name in ("message_id", "feedback_ts", "feedback", "feedback_msg")},
        **{name: bool(row[name]) for name in ("incorrect", "unhelpful", "inappropriate")},
    }, []


def timing(row: Values) -> tuple[Values, list[str]]:
    """When the steps on the way to an answer were reached."""
    start, end = row["server_received_msg_ts"], row["server_response_msg_ts"]
    measured = None if start is None or end is None else end - start
    notes = []
    if row["msg_duration"] is not None and row["msg_duration"] != measured:
        notes.append("msg_duration contradicted its times, which stay")
    return {name: row[name] for name in TIMING.columns}, notes


def tool_call(row: Values) -> tuple[Values, list[str]]:
    """A tool that was called."""
    _needed(row, "message_id", "step_number", "tool_name", "ts")
    if row["step_number"] < 0:
        raise InvalidInput("step_number is negative")
    return {name: row[name] for name in TOOL_CALLS.columns}, []


def trace(row: Values, configs: Configs) -> tuple[Values, list[str]]:
    """A run of an agent."""
    _needed(row, "conversation_id", "started_at")
    status = STATUSES.get((row["status"] or "").lower())
    if status is None:
        raise InvalidInput(f"status {row['status']!r} is none of {', '.join(STATUSES)}")
    number = row["config_id"] or ""
    known = configs.of(int(number)) if re.fullmatch("[0-9]{1,18}", number) else None
    pipeline = row["pipeline_name"] or (known and known.pipeline)
    if not pipeline:
        raise InvalidInput("it has no pipeline_name")
    model = known and known.model
    counts, ending, notes = _counts(row), *_ending(row, status)
    events = [] if row["events"] is None else row["events"]
    told = {
        "model_used is unknown": model is None,
        "its message is gone, or a later run's": row["message_id"] != row["found_message_id"],
        "its question is gone": row["user_message_id"] != row["found_question_id"],
        "its events are no list: they are one of one now": not isinstance(events, list),
        "a negative total was left out": any(counts[name] != row[name] for name in counts),
    }
    return {
        **{name: row[name] for name in ("trace_id", "conversation_id", "started_at")},
        "user_message_id": row["found_question_id"],
        "message_id": row["found_message_id"],
        **counts,
        **ending,
        "pipeline_name": pipeline,
        "model_used": model,
        "status": status,
        "events": events if isinstance(events, list) else [events],
    }, [*notes, *(note for note, holds in told.items() if holds)]


def _counts(row: Values) -> Values:
    totals = {name: row[name] for name in ("total_tool_calls", "total_tokens_used")}
    return {name: None if value is None or value < 0 else value for name, value in totals.items()}


def _ending(row: Values, status: str) -> tuple[Values, list[str]]:
    """When a run ended and why, as far as its status allows it to have."""
    by, reason = row["cancelled_by"], row["cancellation_reason"]
    ended, notes = row["completed_at"], list[str]()
    if status == "running" and ended is not None:
        ended = None
        notes.append("completed_at of a run that is still running was left out")
    given = row["total_duration_ms"]
    took = timedelta(milliseconds=given or 0)
    if status != "running" and ended is None:
        ended = row["started_at"] + took
        notes.append("when it ended is unknown: started_at and its duration stand for it")
    if ended and given is not None and abs(ended - row["started_at"] - took) >= MILLISECOND:
        notes.append("total_duration_ms contradicted its times, which stay")
    if status != "cancelled" and (by or reason):
        became = "became its error" if status == "failed" and reason else "was left out"
        notes.append(f"who cancelled a run that was not, or why, {became}")
    return {
        "completed_at": ended,
        "cancelled_by": by if status == "cancelled" else None,
        "cancellation_reason": reason if status == "cancelled" else None,
        "error": reason if status == "failed" else None,
    }, notes


def comparison(row: Values, configs: Configs) -> tuple[Values, list[str]]:
    """Two answers to one question."""
    _needed(row, "conversation_id", "user_prompt_message_id", "created_at")
    _needed(row, "response_a_message_id", "response_b_message_id")
    if row["response_a_message_id"] == row["response_b_message_id"]:
        raise InvalidInput("both answers are the same message")
    preference = (row["preference"] or "").strip().lower() or None
    if preference not in (None, "a", "b", "tie", "skip"):
        raise InvalidInput(f"preference {row['preference']!r} is none of a, b, tie, skip")
    notes = []
    if row["preference_ts"] and not preference:
        notes.append("preference_ts was left out where there is no preference")
    voted_at = row["preference_ts"] if preference else None
    if preference and voted_at is None:
        notes.append("when it was voted on is unknown: created_at stands for it")
        voted_at = row["created_at"]
    known: Values = {}
    for side in ("a", "b"):
        given = (row[f"model_{side}"], row[f"pipeline_{side}"])
        model, pipeline = who_answered(given, row[f"config_{side}_id"], configs)
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

"""Agents at work: their runs, from start to end or cancellation, and the tools they called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb

from a2rchi_pg._arguments import MAX_INTEGER, many, row_id, stored_moment, uuid_of, whole
from a2rchi_pg._content import clean_name, optional_name, optional_text, plain_json
from a2rchi_pg._op import Op, Statement, Steps, fetch, fetch_one, fetch_tuples, read, write
from a2rchi_pg._owner import asking, required
from a2rchi_pg.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from a2rchi_pg._owner import Owner

Status: TypeAlias = Literal["running", "completed", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One run of an agent.

    Attributes:
        user_message_id: The question it was started for.
        message_id: The answer it came to.
        total_duration_ms: From start to end; None while it runs.
        error: Why it failed.
    """

    trace_id: UUID
    conversation_id: int
    user_message_id: int | None
    message_id: int | None
    pipeline_name: str
    model_used: str | None
    status: Status
    events: list[Any]
    started_at: datetime
    completed_at: datetime | None
    total_duration_ms: int | None
    total_tool_calls: int | None
    total_tokens_used: int | None
    cancelled_by: str | None
    cancellation_reason: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool that was called on the way to a message.

    Args:
        step_number: Which step of the run it was part of, from 0.
        tool_name: The tool.
        tool_args: What it was called with: anything that JSON can hold.
        tool_result: What it answered.
        ts: When; None is now.

    Raises:
        InvalidInput: If a value can't be stored; names it.
    """

    step_number: int
    tool_name: str
    tool_args: Any = None
    tool_result: str | None = None
    ts: datetime | None = None

    def __post_init__(self) -> None:
        clean = {
            "step_number": whole(self.step_number, "step_number", 0, MAX_INTEGER),
            "tool_name": clean_name(self.tool_name, "tool_name"),
            "tool_args": plain_json(self.tool_args, "tool_args"),
            "tool_result": optional_text(self.tool_result, "tool_result"),
            "ts": stored_moment(self.ts, "ts"),
        }
        for name, value in clean.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ends."""

    status: Status
    message_id: int | None = None
    total_tool_calls: int | None = None
    total_tokens_used: int | None = None
    by: str | None = None
    reason: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.status == "completed":
            row_id(self.message_id, "message_id")
        for name in ("total_tool_calls", "total_tokens_used"):
            value = getattr(self, name)
            if value is not None:
                whole(value, name, 0, MAX_INTEGER)


@write
def start_trace(
    conversation_id: int,
    pipeline: str,
    model: str | None,
    user_message_id: int | None,
    owner: Owner | None,
) -> Steps[Trace]:
    """Begin a run."""
    asked = None if user_message_id is None else row_id(user_message_id, "user_message_id")
    made = yield from fetch_one(
        """
        INSERT INTO agent_traces (conversation_id, user_message_id, pipeline_name, model_used)
        SELECT c.conversation_id, m.message_id, %(pipeline)s, %(model)s
        FROM conversation_metadata c LEFT JOIN conversations m
            ON m.conversation_id = c.conversation_id AND m.message_id = %(user_message_id)s
        WHERE c.conversation_id = %(conversation_id)s
            AND (m.message_id IS NOT NULL OR %(user_message_id)s::bigint IS NULL)
            AND owned_by(c, %(user_id)s, %(client_id)s)
        RETURNING *
        """,
        Trace,
        user_message_id=asked,
        pipeline=clean_name(pipeline, "pipeline"),
        model=optional_name(model, "model"),
        **asking(owner, conversation_id=conversation_id),
    )
    of = "" if asked is None else f" with a message {asked}"
    return required(made, "conversation", f"{conversation_id}{of}")


def _run(trace_id: UUID, owner: Owner | None) -> dict[str, Any]:
    return {"trace_id": uuid_of(trace_id, "trace_id"), **asking(owner)}


def note_events(trace_id: UUID, events: Sequence[Any], owner: Owner | None) -> Op[None]:
    """Append to a run's events."""
    given = list(many(events, "events", "JSON values"))
    return _note(trace_id, plain_json(given, "events"), owner)


@write
def _note(trace_id: UUID, events: list[Any], owner: Owner | None) -> Steps[None]:
    rows = yield from fetch(
        """
        WITH own AS (
            SELECT t.trace_id
            FROM agent_traces t JOIN conversation_metadata c USING (conversation_id)
            WHERE t.trace_id = %(trace_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        ), noted AS (
            UPDATE agent_traces SET events = events || %(events)s
            WHERE trace_id = (SELECT trace_id FROM own) AND status = 'running'
            RETURNING *
        )
        SELECT noted.* FROM own LEFT JOIN noted USING (trace_id)
        """,
        Trace,
        events=Jsonb(events),
        **_run(trace_id, owner),
    )
    _changed(rows, trace_id)


@write
def end_trace(trace_id: UUID, ending: Ending, owner: Owner | None) -> Steps[Trace]:
    """End a run that is running, with its answer if there is one."""
    rows = yield from fetch(
        """
        WITH own AS (
            SELECT t.trace_id, m.message_id
            FROM agent_traces t JOIN conversation_metadata c USING (conversation_id)
                LEFT JOIN conversations m ON m.conversation_id = c.conversation_id
                    AND m.message_id = %(message_id)s
            WHERE t.trace_id = %(trace_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
                AND (m.message_id IS NOT NULL OR %(message_id)s::bigint IS NULL)
        ), ended AS (
            UPDATE agent_traces AS t
            SET status = %(status)s, completed_at = greatest(clock_timestamp(), t.started_at),
                message_id = own.message_id, total_tool_calls = %(tool_calls)s,
                total_tokens_used = %(tokens)s, cancelled_by = %(by)s,
                cancellation_reason = %(reason)s, error = %(error)s
            FROM own
            WHERE t.trace_id = own.trace_id AND t.status = 'running'
            RETURNING t.*
        )
        SELECT ended.* FROM own LEFT JOIN ended USING (trace_id)
        """,
        Trace,
        status=ending.status,
        message_id=ending.message_id,
        tool_calls=ending.total_tool_calls,
        tokens=ending.total_tokens_used,
        by=optional_text(ending.by, "by"),
        reason=optional_text(ending.reason, "reason"),
        error=optional_text(ending.error, "error"),
        **_run(trace_id, owner),
    )
    answer = "" if ending.message_id is None else f" with a message {ending.message_id}"
    return _changed(rows, f"{trace_id}{answer}")


def _changed(rows: list[Trace], id_: object) -> Trace:
    """The run as it is now: no row where there is none, an empty one where it wasn't running."""
    required(rows or None, "trace", id_)
    if rows[0].trace_id is None:
        raise Conflict(f"trace {id_} has ended already")
    return rows[0]


@write
def cancel_traces(
    conversation_id: int, by: str, reason: str | None, owner: Owner | None
) -> Steps[list[UUID]]:
    """Cancel what runs in a conversation; which runs that were."""
    rows = yield from fetch_tuples(
        """
        UPDATE agent_traces t
        SET status = 'cancelled', completed_at = greatest(clock_timestamp(), t.started_at),
            cancelled_by = %(by)s, cancellation_reason = %(reason)s
        FROM conversation_metadata c
        WHERE t.conversation_id = %(conversation_id)s AND t.status = 'running'
            AND c.conversation_id = t.conversation_id AND owned_by(c, %(user_id)s, %(client_id)s)
        RETURNING t.trace_id
        """,
        by=optional_text(by, "by"),
        reason=optional_text(reason, "reason"),
        **asking(owner, conversation_id=conversation_id),
    )
    return [trace_id for (trace_id,) in rows]


@read
def get_trace(trace_id: UUID, owner: Owner | None) -> Steps[Trace | None]:
    """A run, or None."""
    query = """
        SELECT t.* FROM agent_traces t JOIN conversation_metadata c USING (conversation_id)
        WHERE t.trace_id = %(trace_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
    """
    return (yield from fetch_one(query, Trace, **_run(trace_id, owner)))


@read
def trace_of(message_id: int, owner: Owner | None) -> Steps[Trace | None]:
    """The run that came to an answer, or None."""
    query = """
        SELECT t.* FROM agent_traces t JOIN conversation_metadata c USING (conversation_id)
        WHERE t.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
    """
    return (yield from fetch_one(query, Trace, **asking(owner, message_id=message_id)))


@read
def running_traces(conversation_id: int, owner: Owner | None) -> Steps[list[Trace]]:
    """What runs in a conversation, newest first."""
    query = """
        SELECT t.* FROM agent_traces t JOIN conversation_metadata c USING (conversation_id)
        WHERE t.conversation_id = %(conversation_id)s AND t.status = 'running'
            AND owned_by(c, %(user_id)s, %(client_id)s)
        ORDER BY t.started_at DESC, t.trace_id
    """
    return (yield from fetch(query, Trace, **asking(owner, conversation_id=conversation_id)))


@write
def add_tool_calls(message_id: int, calls: Sequence[ToolCall], owner: Owner | None) -> Steps[None]:
    """Store the tools called for a message."""
    rows = [
        {
            "step_number": call.step_number,
            "tool_name": call.tool_name,
            "tool_args": call.tool_args,
            "tool_result": call.tool_result,
            "ts": call.ts and call.ts.isoformat(),
        }
        for call in calls
    ]
    added = yield from fetch_tuples(
        """
        INSERT INTO agent_tool_calls
            (message_id, step_number, tool_name, tool_args, tool_result, ts)
        SELECT m.message_id, n.step_number, n.tool_name, n.tool_args, n.tool_result,
               coalesce(n.ts, clock_timestamp())
        FROM conversations m JOIN conversation_metadata c USING (conversation_id),
            ROWS FROM (jsonb_to_recordset(%(rows)s) AS (step_number integer, tool_name text,
                tool_args jsonb, tool_result text, ts timestamptz)) WITH ORDINALITY AS n
        WHERE m.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        ORDER BY n.ordinality
        RETURNING id
        """,
        rows=Jsonb(rows),
        **asking(owner, message_id=message_id),
    )
    required(added or None, "message", message_id)


@read
def tool_calls_of(message_id: int, owner: Owner | None) -> Steps[list[ToolCall]]:
    """The tools called for a message, step by step."""
    query = """
        SELECT a.step_number, a.tool_name, a.tool_args, a.tool_result, a.ts
        FROM agent_tool_calls a JOIN conversations m USING (message_id)
            JOIN conversation_metadata c USING (conversation_id)
        WHERE a.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        ORDER BY a.step_number, a.id
    """
    params = asking(owner, message_id=message_id)
    return (yield Statement(query=query, params=params, row_factory=kwargs_row(_as_stored)))


def _as_stored(**columns: Any) -> ToolCall:
    """A tool call as it stands in its row, whoever wrote that: only what is new is checked."""
    call = object.__new__(ToolCall)
    for name, value in columns.items():
        object.__setattr__(call, name, value)
    return call

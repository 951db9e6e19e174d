"""Usage: how much was answered, by service, model, pipeline and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from a2rchi_pg._arguments import moment, one_of
from a2rchi_pg._content import optional_text
from a2rchi_pg._op import Op, Steps, fetch, read
from a2rchi_pg._owner import asking

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._owner import Owner

Period: TypeAlias = Literal["hour", "day", "week", "month"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Answers of one kind.

    Attributes:
        period: When the hour, day, week or month begins, in UTC; None where none was asked for.
        model: None where no model was recorded.
        message_count: How many answers there are.
        conversation_count: In how many conversations.
    """

    period: datetime | None
    service: str
    model: str | None
    pipeline: str | None
    message_count: int
    conversation_count: int


def usage(
    since: datetime | None,
    until: datetime | None,
    service: str | None,
    every: Period | None,
    owner: Owner | None,
) -> Op[list[Usage]]:
    """Answers counted by kind."""
    if every is not None:
        one_of(every, "every", get_args(Period))
    named = optional_text(service, "service")
    return _usage(moment(since, "since"), moment(until, "until"), named, every, owner)


@read
def _usage(
    since: datetime | None,
    until: datetime | None,
    service: str | None,
    every: str | None,
    owner: Owner | None,
) -> Steps[list[Usage]]:
    return (
        yield from fetch(
            """
            SELECT date_trunc(%(every)s, m.ts, 'UTC') AS period, m.archi_service AS service,
                   m.model_used AS model, m.pipeline_used AS pipeline,
                   count(*) AS message_count,
                   count(DISTINCT m.conversation_id) AS conversation_count
            FROM conversations m
            WHERE m.role = 'assistant'
                AND m.ts >= coalesce(%(since)s, '-infinity'::timestamptz)
                AND m.ts < coalesce(%(until)s, 'infinity'::timestamptz)
                AND (%(service)s::text IS NULL OR m.archi_service = %(service)s)
                AND ((%(user_id)s::text IS NULL AND %(client_id)s::text IS NULL)
                    OR m.conversation_id IN (
                        SELECT c.conversation_id FROM conversation_metadata c
                        WHERE owned_by(c, %(user_id)s, %(client_id)s)))
            GROUP BY 1, 2, 3, 4
            ORDER BY 1, message_count DESC, 2, 3, 4
            """,
            Usage,
            since=since,
            until=until,
            service=service,
            every=every,
            **asking(owner),
        )
    )

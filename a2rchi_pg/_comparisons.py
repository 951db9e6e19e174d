"""A/B comparisons: two answers to one question, one vote, and what all the votes say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from a2rchi_pg._arguments import flag, moment, one_of, row_id, whole
from a2rchi_pg._content import optional_name, optional_text
from a2rchi_pg._op import Op, Steps, fetch, fetch_one, fetch_value, read, write
from a2rchi_pg._owner import asking, required
from a2rchi_pg.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._owner import Owner

Preference: TypeAlias = Literal["a", "b", "tie", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two answers to one question.

    Attributes:
        is_config_a_first: Whether answer a was shown first.
        preference: ``"a"``, ``"b"``, ``"tie"``, ``"skip"``, or None until there was a vote.
    """

    comparison_id: int
    conversation_id: int
    user_prompt_message_id: int
    response_a_message_id: int
    response_b_message_id: int
    model_a: str | None
    pipeline_a: str | None
    model_b: str | None
    pipeline_b: str | None
    is_config_a_first: bool
    preference: Preference | None
    preference_ts: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonStats:
    """How two models did against each other.

    Attributes:
        win_rate_a: Wins of a as a share of wins and ties, or None where there are neither.
        win_rate_b: The same of b.
    """

    model_a: str | None
    model_b: str | None
    total: int
    wins_a: int
    wins_b: int
    ties: int
    skips: int
    pending: int
    win_rate_a: float | None
    win_rate_b: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One of the two answers.

    Args:
        message_id: The answer.
        model: The model compared; None takes the one the message says wrote it.
        pipeline: The pipeline compared; None takes the message's.
    """

    message_id: int
    model: str | None = None
    pipeline: str | None = None

    def __post_init__(self) -> None:
        row_id(self.message_id, "message_id")
        object.__setattr__(self, "model", optional_name(self.model, "model"))
        object.__setattr__(self, "pipeline", optional_name(self.pipeline, "pipeline"))


def compare(
    prompt: int, a: Candidate, b: Candidate, *, first: bool, most: int | None, owner: Owner | None
) -> Op[Comparison]:
    """Put two answers side by side."""
    if a.message_id == b.message_id:
        raise InvalidInput("the two answers must be two messages")
    if most is not None:
        whole(most, "max_pending", 1)
    flag(first, "is_config_a_first")
    return _compare(row_id(prompt, "user_prompt_message_id"), a, b, first, most, owner)


@write
def _compare(
    prompt: int, a: Candidate, b: Candidate, first: bool, most: int | None, owner: Owner | None
) -> Steps[Comparison]:
    """The conversation is held first: only one at a time counts what is pending, and adds to it."""
    conversation_id = yield from _held(prompt, owner)
    if most is not None:
        pending = yield from _pending(conversation_id)
        if pending >= most:
            raise Conflict(f"{pending} comparisons of this conversation wait for a vote already")
    made = yield from fetch_one(
        """
        INSERT INTO ab_comparisons (conversation_id, user_prompt_message_id, response_a_message_id,
            response_b_message_id, model_a, pipeline_a, model_b, pipeline_b, is_config_a_first)
        SELECT p.conversation_id, p.message_id, a.message_id, b.message_id,
               coalesce(%(model_a)s, a.model_used), coalesce(%(pipeline_a)s, a.pipeline_used),
               coalesce(%(model_b)s, b.model_used), coalesce(%(pipeline_b)s, b.pipeline_used),
               %(first)s
        FROM conversations p JOIN conversations a USING (conversation_id)
            JOIN conversations b USING (conversation_id)
        WHERE p.message_id = %(prompt)s AND p.role = 'user'
            AND a.message_id = %(a)s AND a.role <> 'user'
            AND b.message_id = %(b)s AND b.role <> 'user'
        RETURNING *
        """,
        Comparison,
        prompt=prompt,
        first=first,
        **_columns("a", a),
        **_columns("b", b),
    )
    if made is None:
        raise NotFound(
            f"message {prompt} is no question that {a.message_id} and {b.message_id} of the same "
            "conversation answer"
        )
    return made


def _held(prompt: int, owner: Owner | None) -> Steps[int]:
    """The conversation of a message, which nobody else changes until the end."""
    query = """
        SELECT c.conversation_id FROM conversation_metadata c
        WHERE c.conversation_id = (SELECT conversation_id FROM conversations
                                   WHERE message_id = %(prompt)s)
            AND owned_by(c, %(user_id)s, %(client_id)s)
        FOR NO KEY UPDATE
    """
    held = yield from fetch_value(query, prompt=prompt, **asking(owner))
    return int(required(held, "message", prompt))


def _pending(conversation_id: int) -> Steps[int]:
    query = """
        SELECT count(*) FROM ab_comparisons
        WHERE conversation_id = %(conversation_id)s AND preference IS NULL
    """
    return int((yield from fetch_value(query, conversation_id=conversation_id)))


def _columns(side: str, answer: Candidate) -> dict[str, Any]:
    given = {"": answer.message_id, "model_": answer.model, "pipeline_": answer.pipeline}
    return {f"{name}{side}": value for name, value in given.items()}


def vote(comparison_id: int, preference: Preference, owner: Owner | None) -> Op[Comparison]:
    """Record the one vote."""
    one_of(preference, "preference", get_args(Preference))
    return _vote(comparison_id, preference, owner)


@write
def _vote(comparison_id: int, preference: str, owner: Owner | None) -> Steps[Comparison]:
    """Of votes at the same time the second waits for the first, and then finds no row to change."""
    rows = yield from fetch(
        """
        WITH own AS (
            SELECT x.comparison_id
            FROM ab_comparisons x JOIN conversation_metadata c USING (conversation_id)
            WHERE x.comparison_id = %(comparison_id)s
                AND owned_by(c, %(user_id)s, %(client_id)s)
        ), voted AS (
            UPDATE ab_comparisons SET preference = %(preference)s, preference_ts = clock_timestamp()
            WHERE comparison_id = (SELECT comparison_id FROM own) AND preference IS NULL
            RETURNING *
        )
        SELECT voted.* FROM own LEFT JOIN voted USING (comparison_id)
        """,
        Comparison,
        preference=preference,
        **asking(owner, comparison_id=comparison_id),
    )
    required(rows or None, "comparison", comparison_id)
    if rows[0].comparison_id is None:
        raise Conflict(f"comparison {comparison_id} has been voted on already")
    return rows[0]


@read
def get_comparison(comparison_id: int, owner: Owner | None) -> Steps[Comparison | None]:
    """A comparison, or None."""
    return (
        yield from fetch_one(
            """
            SELECT x.* FROM ab_comparisons x JOIN conversation_metadata c USING (conversation_id)
            WHERE x.comparison_id = %(comparison_id)s
                AND owned_by(c, %(user_id)s, %(client_id)s)
            """,
            Comparison,
            **asking(owner, comparison_id=comparison_id),
        )
    )


@read
def comparisons_of(
    conversation_id: int, pending: bool, owner: Owner | None
) -> Steps[list[Comparison]]:
    """A conversation's comparisons, oldest first; all, or those without a vote."""
    return (
        yield from fetch(
            """
            SELECT x.* FROM ab_comparisons x JOIN conversation_metadata c USING (conversation_id)
            WHERE x.conversation_id = %(conversation_id)s
                AND (x.preference IS NULL OR NOT %(pending)s)
                AND owned_by(c, %(user_id)s, %(client_id)s)
            ORDER BY x.created_at, x.comparison_id
            """,
            Comparison,
            pending=flag(pending, "pending_only"),
            **asking(owner, conversation_id=conversation_id),
        )
    )


@write
def delete_comparison(comparison_id: int, owner: Owner | None) -> Steps[bool]:
    """Delete a comparison; False where there is none."""
    query = """
        DELETE FROM ab_comparisons x USING conversation_metadata c
        WHERE x.comparison_id = %(comparison_id)s AND c.conversation_id = x.conversation_id
            AND owned_by(c, %(user_id)s, %(client_id)s)
        RETURNING true
    """
    return bool((yield from fetch_value(query, **asking(owner, comparison_id=comparison_id))))


def comparison_stats(
    model_a: str | None,
    model_b: str | None,
    since: datetime | None,
    until: datetime | None,
    owner: Owner | None,
) -> Op[list[ComparisonStats]]:
    """What the votes say, by pair of models."""
    models = optional_text(model_a, "model_a"), optional_text(model_b, "model_b")
    return _stats(*models, moment(since, "since"), moment(until, "until"), owner)


@read
def _stats(
    model_a: str | None,
    model_b: str | None,
    since: datetime | None,
    until: datetime | None,
    owner: Owner | None,
) -> Steps[list[ComparisonStats]]:
    return (
        yield from fetch(
            """
            SELECT s.*, wins_a::float8 / nullif(wins_a + wins_b + ties, 0) AS win_rate_a,
                   wins_b::float8 / nullif(wins_a + wins_b + ties, 0) AS win_rate_b
            FROM (
                SELECT x.model_a, x.model_b, count(*) AS total,
                       count(*) FILTER (WHERE x.preference = 'a') AS wins_a,
                       count(*) FILTER (WHERE x.preference = 'b') AS wins_b,
                       count(*) FILTER (WHERE x.preference = 'tie') AS ties,
                       count(*) FILTER (WHERE x.preference = 'skip') AS skips,
                       count(*) FILTER (WHERE x.preference IS NULL) AS pending
                FROM ab_comparisons x
                WHERE x.created_at >= coalesce(%(since)s, '-infinity'::timestamptz)
                    AND x.created_at < coalesce(%(until)s, 'infinity'::timestamptz)
                    AND (%(model_a)s::text IS NULL OR x.model_a = %(model_a)s)
                    AND (%(model_b)s::text IS NULL OR x.model_b = %(model_b)s)
                    AND ((%(user_id)s::text IS NULL AND %(client_id)s::text IS NULL)
                        OR x.conversation_id IN (
                            SELECT c.conversation_id FROM conversation_metadata c
                            WHERE owned_by(c, %(user_id)s, %(client_id)s)))
                GROUP BY 1, 2
            ) AS s
            ORDER BY total DESC, model_a, model_b
            """,
            ComparisonStats,
            model_a=model_a,
            model_b=model_b,
            since=since,
            until=until,
            **asking(owner),
        )
    )

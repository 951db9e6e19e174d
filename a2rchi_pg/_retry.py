"""Which failures are worth another try, and how often."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import PoolTimeout
from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from a2rchi_pg.errors import translate

if TYPE_CHECKING:
    from a2rchi_pg._op import Op

logger = logging.getLogger("a2rchi_pg.database")

ATTEMPTS = 5
_SERIALIZATION, _DEADLOCK, _UNIQUE, _READ_ONLY = "40001", "40P01", "23505", "25006"


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is of no more use: broken, shut down, or to a demoted primary."""
    if isinstance(error, PoolTimeout):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P0")) or error.sqlstate == _READ_ONLY


def is_retryable(error: psycopg.Error, op: Op[Any]) -> bool:
    """Whether nothing of ``op`` can have happened, so that running it again is safe."""
    if op.autocommit:
        return False
    if error.sqlstate == _UNIQUE:
        return op.retry_conflicts
    return is_lost(error) or error.sqlstate in {_SERIALIZATION, _DEADLOCK}


def note(op: Op[Any], error: BaseException | None, attempt: int) -> None:
    """Log that an attempt failed and another one follows."""
    reason = translate(error) if isinstance(error, psycopg.Error) else error
    logger.warning(
        "%s failed (%s), trying again",
        op.name,
        reason,
        extra={
            "op": op.name,
            "attempt": attempt,
            "sqlstate": getattr(error, "sqlstate", None),
        },
    )


def policy(op: Op[Any]) -> dict[str, Any]:
    """Tenacity's arguments: a bounded number of whole transactions, with jittered pauses."""

    def log(state: RetryCallState) -> None:
        # The first attempt of all was made, and noted, without tenacity.
        note(op, state.outcome.exception() if state.outcome else None, state.attempt_number + 1)

    return {
        "retry": retry_if_exception(
            lambda error: isinstance(error, psycopg.Error) and is_retryable(error, op)
        ),
        "stop": stop_after_attempt(ATTEMPTS - 1),
        "wait": wait_random_exponential(multiplier=0.05, max=2.0),
        "before_sleep": log,
        "reraise": True,
    }

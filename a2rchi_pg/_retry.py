"""Which failures are worth another try, and how often."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import PoolTimeout
from tenacity import RetryCallState, retry_if_exception, wait_random_exponential

from a2rchi_pg.errors import translate

if TYPE_CHECKING:
    from a2rchi_pg._op import Op

logger = logging.getLogger("a2rchi_pg.database")

ATTEMPTS = 5
CONFLICT_ATTEMPTS = 10  # of many who want the same rows each waits for every other's turn
CONFLICT_SECONDS = 30.0  # after which a conflict gets no more attempts than anything else
REFUSED_ATTEMPTS = 2
_SERIALIZATION, _DEADLOCK, _UNIQUE, _READ_ONLY = "40001", "40P01", "23505", "25006"


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is of no more use: broken or shut down."""
    if isinstance(error, PoolTimeout):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("08", "57P0"))


def is_refused(error: psycopg.Error) -> bool:
    """Whether the server takes no writes; after a failover, that behind a new connection may."""
    return error.sqlstate == _READ_ONLY


def is_retryable(error: psycopg.Error, op: Op[Any]) -> bool:
    """Whether nothing of ``op`` can have happened, so that running it again is safe."""
    if op.autocommit:
        return False
    if error.sqlstate == _UNIQUE:
        return op.retry_conflicts
    return is_lost(error) or error.sqlstate in {_SERIALIZATION, _DEADLOCK, _READ_ONLY}


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


def _attempts(error: BaseException | None, seconds: float) -> int:
    """How many attempts there are in all, when one failed after so long."""
    state = getattr(error, "sqlstate", None)
    if state == _READ_ONLY:
        return REFUSED_ATTEMPTS
    if state in {_SERIALIZATION, _DEADLOCK, _UNIQUE} and seconds < CONFLICT_SECONDS:
        return CONFLICT_ATTEMPTS
    return ATTEMPTS


def policy(op: Op[Any]) -> dict[str, Any]:
    """Tenacity's arguments: a bounded number of whole transactions, with jittered pauses."""

    def failure(state: RetryCallState) -> BaseException | None:
        return state.outcome.exception() if state.outcome else None

    def made(state: RetryCallState) -> int:
        return state.attempt_number + 1  # the first of all was made, and noted, without tenacity

    def is_enough(state: RetryCallState) -> bool:
        return made(state) >= _attempts(failure(state), state.seconds_since_start or 0.0)

    return {
        "retry": retry_if_exception(
            lambda error: isinstance(error, psycopg.Error) and is_retryable(error, op)
        ),
        "stop": is_enough,
        "wait": wait_random_exponential(multiplier=0.05, max=2.0),
        "before_sleep": lambda state: note(op, failure(state), made(state)),
        "reraise": True,
    }

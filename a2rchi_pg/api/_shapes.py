"""What requests and responses have in common."""

import base64
import json
import re
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic.json_schema import SkipJsonSchema

from a2rchi_pg._arguments import MAX_BIGINT, MIN_BIGINT, row_id
from a2rchi_pg.api._problems import Refused

MAX_CHOICES = 10_000
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")

Absent = SkipJsonSchema[None]  # a parameter that isn't given: a query can't say null


def _written_out(value: object) -> object:
    """Refuse numbers, which Pydantic takes for seconds: 2026 would be a moment of 1970."""
    if not (isinstance(value, str) and _DATE.match(value)):
        raise ValueError("a date and time with a time zone is needed, as in 2026-05-01T12:00:00Z")
    return value


Id = Annotated[int, Path(ge=MIN_BIGINT, le=MAX_BIGINT)]
BodyId = Annotated[int, Field(ge=MIN_BIGINT, le=MAX_BIGINT)]
InConversation = Annotated[int | Absent, Query(ge=MIN_BIGINT, le=MAX_BIGINT)]
Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[str | Absent, Query(max_length=2000)]
Time = Annotated[AwareDatetime, Strict(strict=False), BeforeValidator(_written_out)]
Moment = Annotated[Time | Absent, Query()]


class Sent(BaseModel):
    """A request's body: a field that isn't known is a mistake, and true is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Shown(BaseModel):
    """A response, read from a record's attributes."""

    model_config = ConfigDict(from_attributes=True)


class Count(Shown):
    """How many things a request was about."""

    count: int


def cursor(moment: datetime, id_: int) -> str:
    """Where a page ends, for a client to hand back."""
    return base64.urlsafe_b64encode(json.dumps([moment.isoformat(), id_]).encode()).decode()


def read_cursor(text: str | None) -> tuple[datetime, int] | None:
    """What :func:`cursor` wrote."""
    if text is None:
        return None
    try:
        moment, id_ = json.loads(base64.urlsafe_b64decode(text))
        read = datetime.fromisoformat(moment), row_id(id_, "after")
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_cursor() from error
    if read[0].tzinfo is None:
        raise _no_cursor()
    return read


def _no_cursor() -> Refused:
    return Refused(400, "invalid_cursor", "after takes what the page before gave as next")


def found(value: Any, what: str) -> Any:
    """``value``, where there is one."""
    if value is None:
        raise Refused(404, "not_found", f"there is no such {what}")
    return value

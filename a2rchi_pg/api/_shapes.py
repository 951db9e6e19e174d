"""What requests and responses have in common."""

import base64
import binascii
import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from a2rchi_pg._arguments import MAX_BIGINT
from a2rchi_pg.api._problems import Refused

MAX_CHOICES = 10_000

Id = Annotated[int, Path(ge=1, le=MAX_BIGINT)]
BodyId = Annotated[int, Field(ge=1, le=MAX_BIGINT)]
InConversation = Annotated[int | None, Query(ge=1, le=MAX_BIGINT)]
Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[str | None, Query(max_length=2000)]
Moment = Annotated[datetime | None, Query()]


class Sent(BaseModel):
    """A request's body: a field that isn't known is a mistake."""

    model_config = ConfigDict(extra="forbid")


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
        read = datetime.fromisoformat(moment), int(id_)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _no_cursor() from error
    if read[0].tzinfo is None or not 0 < read[1] <= MAX_BIGINT:
        raise _no_cursor()
    return read


def _no_cursor() -> Refused:
    return Refused(400, "invalid_cursor", "after takes what the page before gave as next")


def found(value: Any, what: str) -> Any:
    """``value``, where there is one."""
    if value is None:
        raise Refused(404, "not_found", f"there is no such {what}")
    return value

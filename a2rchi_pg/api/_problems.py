"""Errors as ``application/problem+json`` (RFC 9457), all of them translated here."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive

from a2rchi_pg import errors
from a2rchi_pg.errors import A2rchiError

# By the most derived class that stands here: status, code, and whether clients may read the message
# (the server's own messages name tables and constraints).
_TABLE: dict[type[A2rchiError], tuple[int, str, bool]] = {
    errors.InvalidInput: (422, "invalid_input", True),
    errors.FilterError: (422, "invalid_filter", True),
    errors.ConfigError: (422, "invalid_config", True),
    errors.DimensionMismatch: (422, "dimension_mismatch", True),
    errors.InvalidValue: (422, "invalid_value", False),
    errors.NotFound: (404, "not_found", True),
    errors.MissingReference: (404, "not_found", False),
    errors.PermissionDenied: (403, "permission_denied", True),
    errors.Conflict: (409, "conflict", False),
    errors.IllegalTransition: (409, "illegal_transition", True),
    errors.DecryptionError: (409, "key_unreadable", True),
    errors.ConfigConflict: (412, "config_changed", True),
    errors.Unavailable: (503, "unavailable", False),
    errors.CommitUnknown: (503, "commit_unknown", True),
    errors.NotOpen: (503, "unavailable", False),
    errors.SchemaOutOfDate: (503, "schema_out_of_date", False),
    A2rchiError: (500, "internal", False),
}
_SAID = {
    400: "The request can't be understood.",
    401: "Log in first.",
    403: "You may not do this.",
    404: "There is no such thing, or it is not yours.",
    409: "Something stored already is in the way.",
    413: "That is too much for one request.",
    412: "It was changed meanwhile: read it again, and decide again.",
    422: "A value can't be used.",
    428: "Say which revision this changes: If-Match.",
    500: "Something went wrong on our side.",
    503: "Not available at the moment: try again.",
}
_RETRY_SECONDS = "1"
_MAX_BODY = 2**24  # bytes: the longest message, each character written as \uXXXX twice


class Problem(BaseModel):
    """What went wrong: ``code`` for programs, ``detail`` for people."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    fields: dict[str, str] | None = None


class Refused(Exception):
    """A request that an endpoint itself turns down."""

    def __init__(self, status: int, code: str, detail: str | None = None) -> None:
        super().__init__(code)
        self.problem = Problem(
            title=_SAID[status], status=status, code=code, detail=detail or _SAID[status]
        )


class ProblemRoute(APIRoute):
    """A route whose errors are problems, in whatever application it is mounted."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with errors translated."""
        handle = super().get_route_handler()

        async def translated(request: Request) -> Response:
            try:
                return await handle(Request(request.scope, _bounded(request.receive)))
            except (A2rchiError, HTTPException, RequestValidationError, Refused) as error:
                return _response(error)

        return translated


def _bounded(receive: Receive) -> Receive:
    """What receives a body, up to a length: FastAPI would hold all of it in memory."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > _MAX_BODY:
            raise HTTPException(413, _SAID[413])  # the only error that FastAPI lets pass here
        return message

    return bounded


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an endpoint's description says about its errors."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": _SAID[status], "content": content} for status in statuses}


class _ProblemResponse(JSONResponse):
    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """As ASCII: the name of a field that nobody knows may hold what UTF-8 can't."""
        return json.dumps(content).encode()


def _response(error: Exception) -> Response:
    problem, headers = _translate(error)
    return _ProblemResponse(problem.model_dump(exclude_none=True), problem.status, dict(headers))


def _translate(error: Exception) -> tuple[Problem, Mapping[str, str]]:
    match error:
        case Refused():
            return error.problem, {}
        case RequestValidationError():
            return _invalid(error), {}
        case HTTPException():
            said = str(error.detail)
            status = error.status_code
            code = {401: "unauthenticated", 413: "too_large"}.get(status, "refused")
            return Problem(title=said, status=status, code=code, detail=said), error.headers or {}
    return _ours(error)


def _ours(error: Exception) -> tuple[Problem, Mapping[str, str]]:
    status, code, shown = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    problem = Problem(
        title=_SAID[status],
        status=status,
        code=code,
        detail=str(error) if shown else _SAID[status],
        fields=error.fields if isinstance(error, errors.ConfigError) else None,
    )
    return problem, {"Retry-After": _RETRY_SECONDS} if status == 503 else {}  # noqa: PLR2004


def _invalid(error: RequestValidationError) -> Problem:
    """Names fields and what is wrong with them; what was sent, a key perhaps, is not repeated."""
    found = error.errors()
    status = 400 if any(each["type"] == "json_invalid" for each in found) else 422
    return Problem(
        title=_SAID[status],
        status=status,
        code="invalid_json" if status == 400 else "invalid_request",  # noqa: PLR2004
        detail=_SAID[status],
        fields={".".join(map(str, each["loc"])): each["msg"] for each in found},
    )

"""Who asks, for a demonstration on one's own machine: whoever gives a name is believed.

The name is kept in a signed cookie. A host of yours has a real login in the place of this module.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import JSONResponse

from a2rchi_pg import SYSTEM, User, UserRepository

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COOKIE = "assistant"
DAYS = 30
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, pattern=r"^[\w][\w .@-]*$", max_length=60)
]


class SignIn(BaseModel):
    """The name that somebody gives."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[Name, Field(min_length=1)]


class Session(BaseModel):
    """Who is signed in; None is nobody."""

    user_id: str | None
    is_admin: bool = False


@dataclass(frozen=True)
class Signer:
    """Writes and reads cookies that nobody else can write."""

    secret: str

    def sign(self, name: str, now: float | None = None) -> str:
        """The cookie of a name."""
        until = int((time.time() if now is None else now) + DAYS * 86_400)
        said = f"{base64.urlsafe_b64encode(name.encode()).decode()}.{until}"
        return f"{said}.{self._signature(said)}"

    def read(self, cookie: str | None) -> str | None:
        """The name in a cookie; None where it is forged, damaged or too old."""
        said, _, signature = (cookie or "").rpartition(".")
        if not hmac.compare_digest(self._signature(said).encode(), signature.encode()):
            return None
        name, _, until = said.partition(".")
        try:
            return base64.urlsafe_b64decode(name).decode() if time.time() < int(until) else None
        except (binascii.Error, ValueError):
            return None

    def _signature(self, said: str) -> str:
        return hmac.new(self.secret.encode(), said.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class LocalSignIn:
    """The login of the demonstration.

    Attributes:
        admin: The name of the administrator; None makes it whoever comes first.
    """

    users: UserRepository
    signer: Signer
    admin: str | None = None
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def current_user(self, request: Request) -> str | None:
        """The dependency that the router asks: the name in the cookie."""
        return self.signer.read(request.cookies.get(COOKIE))

    def routes(self) -> APIRouter:
        """Signing in and out."""
        router = APIRouter(prefix="/assistant/session", tags=["session"])

        @router.get("")
        async def session(request: Request) -> Session:
            """Who is signed in."""
            name = self.current_user(request)
            known = name and await self.users.aget(name)
            return _session(known) if known else Session(user_id=None)

        @router.post("")
        async def sign_in(given: SignIn, response: Response) -> Session:
            """Believe a name."""
            user = await self._welcome(given.name)
            response.set_cookie(
                COOKIE, self.signer.sign(user.id), DAYS * 86_400, httponly=True, samesite="lax"
            )
            return _session(user)

        @router.delete("", status_code=204)
        async def sign_out(response: Response) -> None:
            """Forget who it is."""
            response.delete_cookie(COOKIE, httponly=True, samesite="lax")

        return router

    async def _welcome(self, name: str) -> User:
        async with self._one_at_a_time:  # of two who come first, one is the first
            first = self.admin is None and not await self.users.alist_users(role="admin", limit=1)
            user = await self.users.aget_or_create(name, auth_provider="basic")
            if (first or name == self.admin) and user.role != "admin":
                user = await self.users.aset_role(name, "admin", changed_by=SYSTEM)
        return await self.users.arecord_login(user.id)


def _session(user: User) -> Session:
    return Session(user_id=user.id, is_admin=user.role == "admin")


async def refuse_other_sites(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Nothing is changed for another site's page: a browser says in ``Origin`` whose page asks."""
    origin = request.headers.get("origin")
    same = origin is None or urlsplit(origin).netloc == request.headers.get("host")
    if request.method in {"GET", "HEAD", "OPTIONS"} or same:
        return await call_next(request)
    said = {"title": "Another site asks.", "status": 403, "code": "other_site"}
    return JSONResponse(said, 403, media_type="application/problem+json")

"""The application: the package's router, a way to sign in, answers, and a page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response

from a2rchi_pg import (
    A2rchiError,
    ConfigRepository,
    DecryptionError,
    InvalidInput,
    KeyRing,
    NotFound,
    PostgresVectorStore,
    Unavailable,
    UserRepository,
)
from a2rchi_pg.api import create_router
from examples.assistant.answering import Answerer, Extractive
from examples.assistant.answers import Assistant
from examples.assistant.chat_models import ModelFailed
from examples.assistant.shapes import (
    Answer,
    Answered,
    AssistantConfig,
    Compared,
    Question,
    Trial,
)
from examples.assistant.sign_in import LocalSignIn, Signer, refuse_other_sites

PAGE = FilePath(__file__).parent / "page"
HOSTS = ["localhost", "127.0.0.1"]
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Conversation = Annotated[int, Path(ge=1, le=2**63 - 1)]


def create_app(
    store: PostgresVectorStore,
    *,
    secret: str,
    keyring: KeyRing,
    answerers: Sequence[Answerer] = (),
    admin: str | None = None,
) -> FastAPI:
    """The application on a store's database, which it opens for as long as it runs.

    Args:
        store: What is searched; documents in it come from the catalog.
        secret: Signs the cookies.
        keyring: Encrypts people's API keys.
        answerers: Chat models, the one to be used by default first; the extractive one is always
            there.
        admin: The administrator's name; None makes it whoever signs in first.
    """
    database = store.database
    config = ConfigRepository(database, model=AssistantConfig)
    offered = {each.name: each for each in (*answerers, Extractive())}
    deployed = {
        "deployment_name": "assistant",
        "collection": store.collection_name,
        "embedding_model": type(store.embeddings).__name__,
        "available_models": list(offered),
        "defaults": {"active_model": next(iter(offered))},
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with database:
            await config.aload_static_config(deployed, redeploy=True)
            yield

    app = FastAPI(title="a2rchi_pg assistant", lifespan=lifespan)
    login = LocalSignIn(UserRepository(database), Signer(secret), admin)
    app.include_router(login.routes())
    app.include_router(
        create_router(
            database,
            current_user=login.current_user,
            store=store,
            keyring=keyring,
            model=AssistantConfig,
        )
    )
    _add_answers(app, Assistant(database, store, config, offered), login)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.middleware("http")(refuse_other_sites)
    app.middleware("http")(_with_headers)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.exception_handler(A2rchiError)(_problem)
    app.exception_handler(ModelFailed)(_failed)
    app.exception_handler(RequestValidationError)(_invalid)
    return app


def _add_answers(app: FastAPI, assistant: Assistant, login: LocalSignIn) -> None:
    """What the router doesn't have."""

    def somebody(user_id: Annotated[str | None, Depends(login.current_user)]) -> str:
        if user_id is None:
            raise HTTPException(401, "Sign in first.")
        return user_id

    @app.get("/assistant/settings-schema")
    async def schema() -> dict[str, Any]:
        """What can be configured, for the form."""
        return AssistantConfig.model_json_schema()

    @app.get("/assistant/conversations/{conversation_id}/answers")
    async def answers(
        conversation_id: Conversation, user_id: Annotated[str, Depends(somebody)]
    ) -> list[Answer]:
        """The answers of a conversation of yours, with their sources."""
        return await assistant.answers(user_id, conversation_id)

    @app.post("/assistant/conversations/{conversation_id}/answers", status_code=201)
    async def ask(
        conversation_id: Conversation,
        question: Question,
        user_id: Annotated[str, Depends(somebody)],
    ) -> Answered:
        """Ask in a conversation of yours."""
        return await assistant.ask(user_id, conversation_id, question.content)

    @app.post("/assistant/conversations/{conversation_id}/trials", status_code=201)
    async def compare(
        conversation_id: Conversation, trial: Trial, user_id: Annotated[str, Depends(somebody)]
    ) -> Compared:
        """Ask two settings at once."""
        return await assistant.compare(user_id, conversation_id, trial)


async def _with_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """Which fields are wrong, and nothing of what was sent."""
    wrong = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
    said = {"title": "A value can't be used.", "status": 422, "fields": wrong}
    return JSONResponse(said, 422, media_type="application/problem+json")


async def _problem(_: Request, error: Exception) -> JSONResponse:
    """Errors of what was added, as the router shows those of its own."""
    kinds = {NotFound: 404, DecryptionError: 409, InvalidInput: 422, Unavailable: 503}
    status = next((kinds[kind] for kind in kinds if isinstance(error, kind)), 500)
    # The server's words are not for others.
    own = isinstance(error, NotFound | DecryptionError | InvalidInput)
    detail = str(error) if own else "It can't be answered at the moment."
    said = {"title": detail, "detail": detail, "status": status}
    return JSONResponse(said, status, media_type="application/problem+json")


async def _failed(_: Request, error: Exception) -> JSONResponse:
    """A chat model that didn't answer: its key may be wrong, or its provider away."""
    said = {"title": str(error), "detail": str(error), "status": 502}
    return JSONResponse(said, 502, media_type="application/problem+json")

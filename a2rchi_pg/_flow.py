"""Work that needs the embedding model as well as the database, written once for sync and async.

A flow is to the store what an operation is to the database: a generator that yields what it wants
done (:class:`EmbedQuery`, :class:`EmbedTexts`, or a whole ``Op``) and is sent the result. Between
two operations no connection is held, so the model may take its time. An error is thrown into the
flow at the step that failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from a2rchi_pg._op import Op, Runner
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from langchain_core.embeddings import Embeddings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EmbedQuery:
    """Ask the model for the vector of a question."""

    text: str


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Ask the model for the vectors of some texts."""

    texts: Sequence[str]


Step: TypeAlias = "EmbedQuery | EmbedTexts | Op[Any]"
Flow: TypeAlias = "Generator[Step, Any, T]"


def run(flow: Flow[T], model: Embeddings | None, runner: Runner) -> T:
    """Run a flow to its end and return its result; ``model`` is None where none is asked for."""
    try:
        step = next(flow)
        while True:
            try:
                result = _perform(step, model, runner)
            except Exception as error:  # noqa: BLE001 - the flow decides; what it won't handle rises
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # it is the generator's own T


async def arun(flow: Flow[T], model: Embeddings | None, runner: Runner) -> T:
    """The asynchronous twin of :func:`run`."""
    try:
        step = next(flow)
        while True:
            try:
                result = await _aperform(step, model, runner)
            except Exception as error:  # noqa: BLE001 - the flow decides; what it won't handle rises
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # it is the generator's own T


def _perform(step: Step, model: Embeddings | None, runner: Runner) -> Any:
    match step:
        case EmbedQuery(text):
            return _given(model).embed_query(text)
        case EmbedTexts(texts):
            return _given(model).embed_documents(list(texts))
        case Op():
            return runner.run(step)


async def _aperform(step: Step, model: Embeddings | None, runner: Runner) -> Any:
    match step:
        case EmbedQuery(text):
            return await _given(model).aembed_query(text)
        case EmbedTexts(texts):
            return await _given(model).aembed_documents(list(texts))
        case Op():
            return await runner.arun(step)


def _given(model: Embeddings | None) -> Embeddings:
    if model is None:
        raise InvalidInput("this needs an embedding model, and there is none")
    return model

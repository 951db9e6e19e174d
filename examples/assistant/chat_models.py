"""Chat models of LangChain's, asked with the key of whoever asks."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from a2rchi_pg import InvalidInput, KeyResolver
from examples.assistant.answering import NOTHING, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.documents import Document
    from langchain_core.language_models import BaseChatModel

    from a2rchi_pg import Database, KeyRing

INSTRUCTION = (
    "Answer the question from the numbered passages only, in a few sentences. After each statement "
    "name its passage, as in [1]. Where the passages don't say, say that they don't."
)
logger = logging.getLogger(__name__)


class ModelFailed(Exception):
    """A chat model didn't answer; whoever asked may know, and sees no more of it."""


@dataclass(frozen=True)
class ChatModel:
    """A chat model, which is shown the passages.

    Attributes:
        name: What the settings know it by, ``provider:model``.
        make: The model, to be asked with a key; with None where its provider asks for none.
        keys: Finds the key of whoever asks, or else the deployment's; None for no keys at all.
    """

    name: str
    make: Callable[[str | None], BaseChatModel]
    keys: KeyResolver | None = field(default=None, repr=False)

    async def answer(self, question: str, passages: Sequence[Document], user_id: str) -> str:
        """What the model says."""
        if not passages:
            return NOTHING
        model = self.make(await self._key(user_id))
        shown = "\n\n".join(f"[{n}] {each.page_content}" for n, each in numbered(passages))
        asked = [("system", INSTRUCTION), ("human", f"{shown}\n\nQuestion: {question}")]
        try:
            said = await model.ainvoke(asked)
        except Exception as error:  # each provider has errors of its own
            logger.warning("%s did not answer: %s", self.name, type(error).__name__)
            raise ModelFailed(f"{self.name} did not answer: {type(error).__name__}.") from error
        return str(said.text)

    async def _key(self, user_id: str) -> str | None:
        if self.keys is None:
            return None
        provider = self.name.partition(":")[0]
        found = await self.keys.aresolve(user_id, provider)
        if found is None:
            raise InvalidInput(
                f"There is no key for {provider} that could be used: keep one of yours under You."
            )
        return found.key


def maker(name: str) -> Callable[[str | None], BaseChatModel]:
    """What makes the model that ``provider:name`` means to LangChain."""
    try:
        from langchain.chat_models import init_chat_model  # noqa: PLC0415 - only who asks needs it
    except ModuleNotFoundError:
        raise SystemExit(
            "--model needs LangChain and the provider's package, as in: "
            ".venv/bin/python -m pip install langchain langchain-openai"
        ) from None

    def make(key: str | None) -> BaseChatModel:
        given = {} if key is None else {"api_key": key}
        model: Any = init_chat_model(name, **given)
        return model  # type: ignore[no-any-return]

    return make


def with_keys(
    name: str, make: Callable[[str | None], BaseChatModel], database: Database, ring: KeyRing
) -> ChatModel:
    """The model, with people's keys where its provider asks for one."""
    variables = make("none yet").lc_secrets.values()  # where LangChain would look for the key
    if not variables:
        return ChatModel(name, make)
    key = next(filter(None, map(os.environ.get, variables)), None)
    deployment = {name.partition(":")[0]: key} if key else {}
    return ChatModel(name, make, KeyResolver(database, ring, deployment=deployment))

"""LangChain's chat history over the same tables, so that chains need no other memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    BaseMessage,
    ChatMessage,
    message_chunk_to_message,
    message_to_dict,
    messages_from_dict,
)

from a2rchi_pg._arguments import row_id
from a2rchi_pg._messages import Messages, NewMessage
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._messages import Message, Role
    from a2rchi_pg._op import Runner
    from a2rchi_pg._owner import Owner

_ROLES: dict[str, Role] = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_TYPES = {role: type_ for type_, role in _ROLES.items()}


class PostgresChatMessageHistory(BaseChatMessageHistory):
    """The newest messages of a conversation, as ``RunnableWithMessageHistory`` wants them.

    What a chain answers is stored with the model that the answer itself names
    (``response_metadata``), or else with ``model``.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
        conversation_id: A conversation that exists.
        owner: Whose it has to be; None is the host itself.
        model: The model that answers, where the answer doesn't say.
        pipeline: The pipeline that answers.
        service: Which of the host's services this is.
        limit: How many messages the chain gets to see, the newest.
    """

    def __init__(
        self,
        runner: Runner,
        conversation_id: int,
        *,
        owner: Owner | None = None,
        model: str | None = None,
        pipeline: str | None = None,
        service: str = "chat",
        limit: int = 100,
    ) -> None:
        self.conversation_id = row_id(conversation_id, "conversation_id")
        self._messages = Messages(runner, owner)
        self._model = model
        self._pipeline = pipeline
        self._service = service
        self._limit = limit

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # LangChain's is an attribute
        """The newest messages, oldest first."""
        return self.get_messages()

    def get_messages(self) -> list[BaseMessage]:
        """The newest messages, oldest first.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        stored = self._messages.window(self.conversation_id, limit=self._limit)
        return [as_langchain(message) for message in stored]

    async def aget_messages(self) -> list[BaseMessage]:
        """The asynchronous twin of :meth:`get_messages`."""
        stored = await self._messages.awindow(self.conversation_id, limit=self._limit)
        return [as_langchain(message) for message in stored]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages in the order given, all or none.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
            InvalidInput: If a message is of a kind that can't be stored.
        """
        self._messages.add_many(self.conversation_id, [self._as_new(each) for each in messages])

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """The asynchronous twin of :meth:`add_messages`."""
        new = [self._as_new(each) for each in messages]
        await self._messages.aadd_many(self.conversation_id, new)

    def clear(self) -> None:
        """Remove all messages of the conversation."""
        self._messages.clear(self.conversation_id)

    async def aclear(self) -> None:
        """The asynchronous twin of :meth:`clear`."""
        await self._messages.aclear(self.conversation_id)

    def _as_new(self, message: BaseMessage) -> NewMessage:
        kind = message_to_dict(message_chunk_to_message(message))
        role = _role(message, kind["type"])
        told = message.response_metadata
        model = told.get("model_name") or told.get("model") or self._model
        text = str(message.text)
        return NewMessage(
            role=role,
            content=text,
            sender=message.name,
            model_used=model if role == "assistant" else None,
            pipeline_used=self._pipeline if role == "assistant" else None,
            service=self._service,
            payload=_beyond(kind, text),
        )


def _role(message: BaseMessage, kind: str) -> Role:
    if isinstance(message, ChatMessage) and message.role in {*_TYPES, "expert"}:
        return message.role
    role = _ROLES.get(kind)
    if role is None:
        raise InvalidInput(f"messages must be human, ai, system or tool, got {kind!r}")
    return role


def _beyond(kind: dict[str, Any], text: str) -> dict[str, Any]:
    """A message as a dict, without the text, which is stored as such."""
    data = {key: value for key, value in kind["data"].items() if value not in (None, {}, [])}
    if data.get("content") == text:
        del data["content"]
    return {"type": kind["type"], "data": data}


def _kept(message: Message) -> tuple[str, dict[str, Any]]:
    """What :func:`_beyond` made; a payload of the host's own making says nothing of the kind."""
    match message.payload:
        case {"type": str(kind), "data": dict(data)}:
            speaker = data.get("role") if kind == "chat" else _ROLES.get(kind)
            if speaker == message.role:
                return kind, data
    return _TYPES.get(message.role, "chat"), {}


def as_langchain(message: Message) -> BaseMessage:
    """A stored message as LangChain's own; one that the host stored itself too."""
    kind, beyond = _kept(message)
    data = {"content": message.content, **beyond}
    if kind == "chat":
        data.setdefault("role", message.role)
    if kind == "tool":
        data.setdefault("tool_call_id", "")
    data.setdefault("id", str(message.message_id))
    (restored,) = messages_from_dict([{"type": kind, "data": data}])
    return restored

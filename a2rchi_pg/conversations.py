"""Conversations: what was asked and answered, with which model, and what people thought of it.

>>> mine = ConversationRepository(database, owner=Owner(user_id="ada"))
>>> chat = mine.create("Queues")
>>> question = mine.messages.add(
...     chat.conversation_id, NewMessage(role="user", content="Why does my job wait?"))
>>> mine.search("job wai")

A repository made with an owner sees and changes that owner's conversations only, whatever ids it is
given; one made without is the host itself and reaches all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg import _threads, _usage
from a2rchi_pg._comparing import Comparisons
from a2rchi_pg._feedback import Feedback
from a2rchi_pg._messages import Messages
from a2rchi_pg._timing import Timings
from a2rchi_pg._tracing import Traces

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._op import Runner
    from a2rchi_pg._owner import Owner
    from a2rchi_pg._threads import Conversation, Cursor
    from a2rchi_pg._usage import Period, Usage


class ConversationRepository:
    """Conversations and what hangs on them. Making one costs nothing: make one per request.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
        owner: Whose conversations; None is the host itself, which reaches everybody's.

    Attributes:
        messages: What was said: :class:`Messages`.
        feedback: Reactions and comments: :class:`Feedback`.
        timings: How long answers took: :class:`Timings`.
        traces: Agents' runs and tool calls: :class:`Traces`.
        comparisons: A/B comparisons: :class:`Comparisons`.
    """

    def __init__(self, runner: Runner, *, owner: Owner | None = None) -> None:
        self._runner = runner
        self._owner = owner
        self.messages = Messages(runner, owner)
        self.feedback = Feedback(runner, owner)
        self.timings = Timings(runner, owner)
        self.traces = Traces(runner, owner)
        self.comparisons = Comparisons(runner, owner)

    def create(self, title: str | None = None, *, archi_version: str | None = None) -> Conversation:
        """Begin a conversation of the owner's; a user not known yet becomes known.

        Args:
            title: What it is called.
            archi_version: The version of the host, for the record.
        """
        return self._runner.run(_threads.create_conversation(title, archi_version, self._owner))

    async def acreate(
        self, title: str | None = None, *, archi_version: str | None = None
    ) -> Conversation:
        """The asynchronous twin of :meth:`create`."""
        op = _threads.create_conversation(title, archi_version, self._owner)
        return await self._runner.arun(op)

    def get(self, conversation_id: int) -> Conversation | None:
        """A conversation, or None."""
        return self._runner.run(_threads.get_conversation(conversation_id, self._owner))

    async def aget(self, conversation_id: int) -> Conversation | None:
        """The asynchronous twin of :meth:`get`."""
        return await self._runner.arun(_threads.get_conversation(conversation_id, self._owner))

    def page(self, *, limit: int = 50, after: Cursor | None = None) -> list[Conversation]:
        """The owner's conversations, the one last spoken in first.

        Args:
            limit: How many at most.
            after: The ``cursor`` of the last one of the page before; None begins at the start.
        """
        return self._runner.run(_threads.page(limit, after, self._owner))

    async def apage(self, *, limit: int = 50, after: Cursor | None = None) -> list[Conversation]:
        """The asynchronous twin of :meth:`page`."""
        return await self._runner.arun(_threads.page(limit, after, self._owner))

    def search(
        self, words: str, *, limit: int = 50, after: Cursor | None = None
    ) -> list[Conversation]:
        """Like :meth:`page`, of the conversations in which a message holds all these words.

        A word finds those that begin with it. Where there is no word in ``words``, nothing does.

        Args:
            words: What to look for.
            limit: How many at most.
            after: The ``cursor`` of the last one of the page before; None begins at the start.
        """
        return self._runner.run(_threads.search(words, limit, after, self._owner))

    async def asearch(
        self, words: str, *, limit: int = 50, after: Cursor | None = None
    ) -> list[Conversation]:
        """The asynchronous twin of :meth:`search`."""
        return await self._runner.arun(_threads.search(words, limit, after, self._owner))

    def rename(self, conversation_id: int, title: str | None) -> None:
        """Give a conversation another title.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        self._runner.run(_threads.rename_conversation(conversation_id, title, self._owner))

    async def arename(self, conversation_id: int, title: str | None) -> None:
        """The asynchronous twin of :meth:`rename`."""
        await self._runner.arun(_threads.rename_conversation(conversation_id, title, self._owner))

    def delete(self, conversation_id: int) -> bool:
        """Delete a conversation with all that hangs on it; False where there is none of yours."""
        return self._runner.run(_threads.delete_conversation(conversation_id, self._owner))

    async def adelete(self, conversation_id: int) -> bool:
        """The asynchronous twin of :meth:`delete`."""
        return await self._runner.arun(_threads.delete_conversation(conversation_id, self._owner))

    def transfer(self, conversation_id: int, to: Owner) -> None:
        """Give a conversation to another owner, such as the user that a client turned out to be.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        self._runner.run(_threads.transfer(conversation_id, to, self._owner))

    async def atransfer(self, conversation_id: int, to: Owner) -> None:
        """The asynchronous twin of :meth:`transfer`."""
        await self._runner.arun(_threads.transfer(conversation_id, to, self._owner))

    def transfer_all(self, to: Owner) -> int:
        """Give all of the owner's conversations to another; how many those were.

        Raises:
            InvalidInput: If this repository has no owner.
        """
        return self._runner.run(_threads.transfer_all(to, self._owner))

    async def atransfer_all(self, to: Owner) -> int:
        """The asynchronous twin of :meth:`transfer_all`."""
        return await self._runner.arun(_threads.transfer_all(to, self._owner))

    def usage(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        service: str | None = None,
        every: Period | None = None,
    ) -> list[Usage]:
        """How many answers there were, by service, model and pipeline.

        Args:
            since: Only those given from then on.
            until: Only those given before.
            service: Only those of this service.
            every: By ``"hour"``, ``"day"``, ``"week"`` or ``"month"`` as well, in UTC.
        """
        return self._runner.run(_usage.usage(since, until, service, every, self._owner))

    async def ausage(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        service: str | None = None,
        every: Period | None = None,
    ) -> list[Usage]:
        """The asynchronous twin of :meth:`usage`."""
        return await self._runner.arun(_usage.usage(since, until, service, every, self._owner))

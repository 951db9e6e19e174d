"""The door to agents' runs and tool calls; what its methods do stands in ``_traces``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from a2rchi_pg import _traces
from a2rchi_pg._traces import Ending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from a2rchi_pg._op import Runner
    from a2rchi_pg._owner import Owner
    from a2rchi_pg._traces import ToolCall, Trace


class Traces:
    """Runs of agents and their tool calls, as :attr:`ConversationRepository.traces`."""

    def __init__(self, runner: Runner, owner: Owner | None) -> None:
        self._runner = runner
        self._owner = owner

    def start(
        self,
        conversation_id: int,
        pipeline: str,
        *,
        model: str | None = None,
        user_message_id: int | None = None,
    ) -> Trace:
        """Note that an agent begins to work.

        Args:
            conversation_id: The conversation it works in.
            pipeline: The pipeline that runs.
            model: The model that it uses.
            user_message_id: The question, a message of that conversation.

        Raises:
            NotFound: If the conversation or the message isn't there, or is another's.
        """
        op = _traces.start_trace(conversation_id, pipeline, model, user_message_id, self._owner)
        return self._runner.run(op)

    async def astart(
        self,
        conversation_id: int,
        pipeline: str,
        *,
        model: str | None = None,
        user_message_id: int | None = None,
    ) -> Trace:
        """The asynchronous twin of :meth:`start`."""
        op = _traces.start_trace(conversation_id, pipeline, model, user_message_id, self._owner)
        return await self._runner.arun(op)

    def note(self, trace_id: UUID, events: Sequence[Any]) -> None:
        """Append to a run's events: anything that JSON can hold.

        Raises:
            NotFound: If there is no such run, or it is another's.
            Conflict: If it has ended.
        """
        self._runner.run(_traces.note_events(trace_id, events, self._owner))

    async def anote(self, trace_id: UUID, events: Sequence[Any]) -> None:
        """The asynchronous twin of :meth:`note`."""
        await self._runner.arun(_traces.note_events(trace_id, events, self._owner))

    def complete(
        self,
        trace_id: UUID,
        message_id: int,
        *,
        total_tool_calls: int | None = None,
        total_tokens_used: int | None = None,
    ) -> Trace:
        """Note that a run came to an answer.

        Raises:
            NotFound: If the run isn't there or is another's, or the message isn't of its
                conversation.
            Conflict: If it has ended, or the message is another run's.
        """
        ending = Ending(
            status="completed", message_id=message_id,
            total_tool_calls=total_tool_calls, total_tokens_used=total_tokens_used,
        )  # fmt: skip
        return self._runner.run(_traces.end_trace(trace_id, ending, self._owner))

    async def acomplete(
        self,
        trace_id: UUID,
        message_id: int,
        *,
        total_tool_calls: int | None = None,
        total_tokens_used: int | None = None,
    ) -> Trace:
        """The asynchronous twin of :meth:`complete`."""
        ending = Ending(
            status="completed", message_id=message_id,
            total_tool_calls=total_tool_calls, total_tokens_used=total_tokens_used,
        )  # fmt: skip
        return await self._runner.arun(_traces.end_trace(trace_id, ending, self._owner))

    def fail(self, trace_id: UUID, error: str) -> Trace:
        """Note that a run failed, and why.

        Raises:
            NotFound: If there is no such run, or it is another's.
            Conflict: If it has ended.
        """
        ending = Ending(status="failed", error=error)
        return self._runner.run(_traces.end_trace(trace_id, ending, self._owner))

    async def afail(self, trace_id: UUID, error: str) -> Trace:
        """The asynchronous twin of :meth:`fail`."""
        ending = Ending(status="failed", error=error)
        return await self._runner.arun(_traces.end_trace(trace_id, ending, self._owner))

    def cancel(self, trace_id: UUID, *, by: str, reason: str | None = None) -> Trace:
        """Note that a run was cancelled, by whom and why.

        Raises:
            NotFound: If there is no such run, or it is another's.
            Conflict: If it has ended.
        """
        ending = Ending(status="cancelled", by=by, reason=reason)
        return self._runner.run(_traces.end_trace(trace_id, ending, self._owner))

    async def acancel(self, trace_id: UUID, *, by: str, reason: str | None = None) -> Trace:
        """The asynchronous twin of :meth:`cancel`."""
        ending = Ending(status="cancelled", by=by, reason=reason)
        return await self._runner.arun(_traces.end_trace(trace_id, ending, self._owner))

    def cancel_running(
        self, conversation_id: int, *, by: str, reason: str | None = None
    ) -> list[UUID]:
        """Cancel whatever runs in a conversation of yours; the ids of those runs."""
        op = _traces.cancel_traces(conversation_id, by, reason, self._owner)
        return self._runner.run(op)

    async def acancel_running(
        self, conversation_id: int, *, by: str, reason: str | None = None
    ) -> list[UUID]:
        """The asynchronous twin of :meth:`cancel_running`."""
        op = _traces.cancel_traces(conversation_id, by, reason, self._owner)
        return await self._runner.arun(op)

    def get(self, trace_id: UUID) -> Trace | None:
        """A run, or None."""
        return self._runner.run(_traces.get_trace(trace_id, self._owner))

    async def aget(self, trace_id: UUID) -> Trace | None:
        """The asynchronous twin of :meth:`get`."""
        return await self._runner.arun(_traces.get_trace(trace_id, self._owner))

    def of_message(self, message_id: int) -> Trace | None:
        """The one run that came to this answer, or None."""
        return self._runner.run(_traces.trace_of(message_id, self._owner))

    async def aof_message(self, message_id: int) -> Trace | None:
        """The asynchronous twin of :meth:`of_message`."""
        return await self._runner.arun(_traces.trace_of(message_id, self._owner))

    def running(self, conversation_id: int) -> list[Trace]:
        """What runs in a conversation of yours, newest first."""
        return self._runner.run(_traces.running_traces(conversation_id, self._owner))

    async def arunning(self, conversation_id: int) -> list[Trace]:
        """The asynchronous twin of :meth:`running`."""
        return await self._runner.arun(_traces.running_traces(conversation_id, self._owner))

    def add_tool_calls(self, message_id: int, calls: Sequence[ToolCall]) -> None:
        """Store the tools that were called for a message.

        Raises:
            NotFound: If there is no such message, or it is another's.
        """
        if calls:
            self._runner.run(_traces.add_tool_calls(message_id, calls, self._owner))

    async def aadd_tool_calls(self, message_id: int, calls: Sequence[ToolCall]) -> None:
        """The asynchronous twin of :meth:`add_tool_calls`."""
        if calls:
            await self._runner.arun(_traces.add_tool_calls(message_id, calls, self._owner))

    def tool_calls(self, message_id: int) -> list[ToolCall]:
        """The tools that were called for a message, step by step."""
        return self._runner.run(_traces.tool_calls_of(message_id, self._owner))

    async def atool_calls(self, message_id: int) -> list[ToolCall]:
        """The asynchronous twin of :meth:`tool_calls`."""
        return await self._runner.arun(_traces.tool_calls_of(message_id, self._owner))

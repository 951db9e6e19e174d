"""Timing: when each step on the way to an answer was reached."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from a2rchi_pg._arguments import stored_moment
from a2rchi_pg._op import Steps, fetch_one, fetch_value, read, write
from a2rchi_pg._owner import asking, required

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from a2rchi_pg._op import Runner
    from a2rchi_pg._owner import Owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamps:
    """When each step was reached; None where it wasn't, or isn't known.

    Raises:
        InvalidInput: If a time has no zone; names it.
    """

    client_sent_msg_ts: datetime | None = None
    server_received_msg_ts: datetime | None = None
    lock_acquisition_ts: datetime | None = None
    vectorstore_update_ts: datetime | None = None
    query_convo_history_ts: datetime | None = None
    similarity_search_ts: datetime | None = None
    chain_finished_ts: datetime | None = None
    archi_message_ts: datetime | None = None
    insert_convo_ts: datetime | None = None
    finish_call_ts: datetime | None = None
    server_response_msg_ts: datetime | None = None

    def __post_init__(self) -> None:
        for each in fields(Timestamps):
            stored_moment(getattr(self, each.name), each.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing(Timestamps):
    """A message's timestamps, and what follows from them.

    Attributes:
        msg_duration: From the message's receipt to the response, by the server's clock.
    """

    message_id: int
    msg_duration: timedelta | None


@write
def record(message_id: int, times: Timestamps, owner: Owner | None) -> Steps[None]:
    """Note times; those given before stay where none is given now."""
    done = yield from fetch_value(
        """
        INSERT INTO timing AS t (message_id, client_sent_msg_ts, server_received_msg_ts,
            lock_acquisition_ts, vectorstore_update_ts, query_convo_history_ts,
            similarity_search_ts, chain_finished_ts, archi_message_ts, insert_convo_ts,
            finish_call_ts, server_response_msg_ts)
        SELECT m.message_id, %(client_sent_msg_ts)s, %(server_received_msg_ts)s,
            %(lock_acquisition_ts)s, %(vectorstore_update_ts)s, %(query_convo_history_ts)s,
            %(similarity_search_ts)s, %(chain_finished_ts)s, %(archi_message_ts)s,
            %(insert_convo_ts)s, %(finish_call_ts)s, %(server_response_msg_ts)s
        FROM conversations m JOIN conversation_metadata c USING (conversation_id)
        WHERE m.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
        ON CONFLICT (message_id) DO UPDATE SET
            client_sent_msg_ts = coalesce(excluded.client_sent_msg_ts, t.client_sent_msg_ts),
            server_received_msg_ts
                = coalesce(excluded.server_received_msg_ts, t.server_received_msg_ts),
            lock_acquisition_ts = coalesce(excluded.lock_acquisition_ts, t.lock_acquisition_ts),
            vectorstore_update_ts
                = coalesce(excluded.vectorstore_update_ts, t.vectorstore_update_ts),
            query_convo_history_ts
                = coalesce(excluded.query_convo_history_ts, t.query_convo_history_ts),
            similarity_search_ts = coalesce(excluded.similarity_search_ts, t.similarity_search_ts),
            chain_finished_ts = coalesce(excluded.chain_finished_ts, t.chain_finished_ts),
            archi_message_ts = coalesce(excluded.archi_message_ts, t.archi_message_ts),
            insert_convo_ts = coalesce(excluded.insert_convo_ts, t.insert_convo_ts),
            finish_call_ts = coalesce(excluded.finish_call_ts, t.finish_call_ts),
            server_response_msg_ts
                = coalesce(excluded.server_response_msg_ts, t.server_response_msg_ts)
        RETURNING true
        """,
        **{each.name: getattr(times, each.name) for each in fields(Timestamps)},
        **asking(owner, message_id=message_id),
    )
    required(done, "message", message_id)


@read
def get_timing(message_id: int, owner: Owner | None) -> Steps[Timing | None]:
    """A message's timing, or None."""
    return (
        yield from fetch_one(
            """
            SELECT t.* FROM timing t JOIN conversations m USING (message_id)
                JOIN conversation_metadata c USING (conversation_id)
            WHERE t.message_id = %(message_id)s AND owned_by(c, %(user_id)s, %(client_id)s)
            """,
            Timing,
            **asking(owner, message_id=message_id),
        )
    )


class Timings:
    """How long answers took, as :attr:`ConversationRepository.timings`."""

    def __init__(self, runner: Runner, owner: Owner | None) -> None:
        self._runner = runner
        self._owner = owner

    def record(self, message_id: int, times: Timestamps) -> None:
        """Note when steps were reached; what was noted before stays where nothing is given.

        Raises:
            NotFound: If there is no such message, or it is another's.
        """
        self._runner.run(record(message_id, times, self._owner))

    async def arecord(self, message_id: int, times: Timestamps) -> None:
        """The asynchronous twin of :meth:`record`."""
        await self._runner.arun(record(message_id, times, self._owner))

    def get(self, message_id: int) -> Timing | None:
        """When the steps on the way to a message were reached, or None."""
        return self._runner.run(get_timing(message_id, self._owner))

    async def aget(self, message_id: int) -> Timing | None:
        """The asynchronous twin of :meth:`get`."""
        return await self._runner.arun(get_timing(message_id, self._owner))

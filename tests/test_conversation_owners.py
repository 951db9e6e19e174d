"""No id of another's reads or writes anything: every method is tried, by every kind of stranger."""

from __future__ import annotations

import inspect
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import (
    Candidate,
    ConversationRepository,
    NewMessage,
    Owner,
    PostgresChatMessageHistory,
    Timestamps,
    ToolCall,
)
from a2rchi_pg.errors import InvalidInput, NotFound
from tests.conversation_support import everything, new_owner
from tests.database_support import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg import Database
    from tests.conversation_support import Everything

pytestmark = pytest.mark.timeout(60)
TABLES = (
    "conversation_metadata",
    "conversations",
    "feedback",
    "timing",
    "agent_tool_calls",
    "agent_traces",
    "ab_comparisons",
)
PARTS = ("messages", "feedback", "timings", "traces", "comparisons")
# What makes something of one's own, and needs no id for it.
HARMLESS = {"create"}


def methods(repository: ConversationRepository) -> dict[str, Callable[..., Any]]:
    """Every synchronous method of a repository and of its parts."""
    found = {}
    for part in ("", *PARTS):
        door = getattr(repository, part) if part else repository
        for name, method in inspect.getmembers(door, inspect.ismethod):
            if not name.startswith("_") and not inspect.iscoroutinefunction(method):
                found[f"{part}.{name}".lstrip(".")] = method
    return found


def arguments(method: Callable[..., Any], victim: Everything, other: Owner) -> dict[str, Any]:
    """All that it takes, with every id the victim's; a new parameter has to be added here."""
    known = {
        "conversation_id": victim.chat.conversation_id,
        "message_id": victim.answered,
        "user_prompt_message_id": victim.asked,
        "user_message_id": victim.asked,
        "trace_id": victim.trace.trace_id,
        "comparison_id": victim.comparison.comparison_id,
        "a": Candidate(message_id=victim.answered),
        "b": Candidate(message_id=victim.other_answer),
        "message": NewMessage(role="user", content="x"),
        "messages": [NewMessage(role="user", content="x")],
        "calls": [ToolCall(step_number=0, tool_name="x")],
        "times": Timestamps(),
        "events": ["x"],
        "to": other,
        "words": "job",
        "title": "x",
        "reaction": "dislike",
        "preference": "b",
        "text": "x",
        "pipeline": "x",
        "error": "x",
        "by": "x",
    }
    needed = inspect.signature(method).parameters.values()
    optional_ids = {"user_message_id"}
    return {
        p.name: known[p.name]
        for p in needed
        if p.default is inspect.Parameter.empty or p.name in optional_ids
    }


NAMES = sorted(set(methods(ConversationRepository(None))) - HARMLESS)  # type: ignore[arg-type]


def everything_stored(database: Database, conversation_id: int) -> list[Any]:
    """All rows of a conversation's, with their versions."""
    mine = {
        "conversation_metadata": "conversation_id = %(id)s",
        "conversations": "conversation_id = %(id)s",
        "agent_traces": "conversation_id = %(id)s",
        "ab_comparisons": "conversation_id = %(id)s",
    }
    of_messages = (
        "message_id IN (SELECT message_id FROM conversations WHERE conversation_id = %(id)s)"
    )
    return [
        database.run(
            rows(
                f"SELECT t::text, xmin::text FROM {table} t "
                f"WHERE {mine.get(table, of_messages)} ORDER BY 1",
                id=conversation_id,
            )
        )
        for table in TABLES
    ]


@pytest.fixture
def victim_owner() -> Owner:
    return new_owner()


def strangers(victim: Owner) -> list[Owner]:
    return [
        new_owner(),
        Owner(user_id=f"user-{token_hex(6)}"),
        Owner(client_id=f"client-{token_hex(6)}"),
        Owner(client_id=victim.client_id),
        Owner(user_id=f"user-{token_hex(6)}", client_id=victim.client_id),
        Owner(client_id=victim.user_id),
        Owner(user_id=victim.client_id),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_stranger_gets_and_changes_nothing(common: Database, victim_owner: Owner, name: str):
    victim = everything(common, victim_owner)
    before = everything_stored(common, victim.chat.conversation_id)
    assert all(before[:3])
    for stranger in strangers(victim_owner):
        method = methods(ConversationRepository(common, owner=stranger))[name]
        try:
            result = method(**arguments(method, victim, stranger))
        except NotFound:
            result = None
        assert result in (None, False, 0, []), stranger
    assert everything_stored(common, victim.chat.conversation_id) == before


@pytest.mark.parametrize("name", NAMES)
def test_its_owner_and_the_host_get_it(common: Database, victim_owner: Owner, name: str):
    """Or else the test above would show nothing."""
    victim = everything(common, victim_owner)
    mine = ConversationRepository(common, owner=victim_owner)
    host = ConversationRepository(common)
    prepare = {
        "timings.get": lambda: mine.timings.record(victim.answered, Timestamps()),
        "traces.of_message": lambda: mine.traces.complete(victim.trace.trace_id, victim.answered),
    }
    prepare.get(name, lambda: None)()
    reads = {"get", "page", "search", "window", "of_message", "of_conversation", "running", "usage",
             "stats", "tool_calls"}  # fmt: skip
    for repository in (host, mine) if name.rsplit(".", maxsplit=1)[-1] in reads else (mine,):
        method = methods(repository)[name]
        result = method(**arguments(method, victim, victim_owner))
        assert result or name in {"rename", "transfer", "timings.record", "traces.note",
                                  "traces.add_tool_calls"}  # fmt: skip


def test_a_stranger_may_not_mix_its_own_with_anothers(common: Database, victim_owner: Owner):
    victim, own = everything(common, victim_owner), new_owner()
    me = everything(common, own)
    mine = ConversationRepository(common, owner=own)
    before = everything_stored(common, victim.chat.conversation_id)
    for attempt in (
        lambda: mine.comparisons.create(
            me.asked, Candidate(message_id=me.answered), Candidate(message_id=victim.answered)
        ),
        lambda: mine.traces.start(me.chat.conversation_id, "x", user_message_id=victim.asked),
        lambda: mine.traces.complete(me.trace.trace_id, victim.answered),
    ):
        with pytest.raises(NotFound):
            attempt()
    # A boundary that lies elsewhere bounds nothing, and tells nothing.
    assert mine.messages.window(me.chat.conversation_id, before=victim.answered) == []
    assert everything_stored(common, victim.chat.conversation_id) == before


@pytest.mark.parametrize("nobody", ["", 0, False, {}, "ada"])
def test_whoever_is_no_owner_is_not_the_host(common: Database, victim_owner: Owner, nobody: Any):
    """A host that puts its session's empty id in an owner's place must not open every door."""
    victim = everything(common, victim_owner)
    stranger = ConversationRepository(common, owner=nobody)
    with pytest.raises(InvalidInput, match="owner must be an Owner"):
        stranger.get(victim.chat.conversation_id)
    with pytest.raises(InvalidInput, match="owner must be an Owner"):
        stranger.page()


def test_a_history_is_its_owners(common: Database, victim_owner: Owner):
    victim = everything(common, victim_owner)
    before = everything_stored(common, victim.chat.conversation_id)
    for stranger in strangers(victim_owner):
        history = PostgresChatMessageHistory(common, victim.chat.conversation_id, owner=stranger)
        for attempt in (
            history.get_messages,
            history.clear,
            lambda history=history: history.add_user_message("x"),
        ):
            with pytest.raises(NotFound):
                attempt()
    assert everything_stored(common, victim.chat.conversation_id) == before


def test_what_hides_a_conversation_says_nothing_of_it(common: Database, victim_owner: Owner):
    victim = everything(common, victim_owner)
    stranger = ConversationRepository(common, owner=new_owner())
    messages = []
    for id_ in (victim.chat.conversation_id, 2**62):
        with pytest.raises(NotFound) as caught:
            stranger.rename(id_, "x")
        messages.append(str(caught.value).replace(str(id_), "…"))
    assert messages[0] == messages[1]


def test_a_clients_id_is_not_shown(common: Database, victim_owner: Owner):
    assert victim_owner.client_id
    for shown in (everything(common, victim_owner).chat, victim_owner):
        assert victim_owner.client_id not in repr(shown)
    mine = ConversationRepository(common, owner=victim_owner)
    with pytest.raises(InvalidInput, match="to must be an Owner, got a str"):
        mine.transfer_all(victim_owner.client_id)  # type: ignore[arg-type]

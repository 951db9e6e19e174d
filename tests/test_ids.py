"""Every id that a public method takes is refused by its name where no row can have it.

So are the names and numbers that documents come into a collection with.

Nothing is asked of a database: here is none.
"""

from __future__ import annotations

import inspect
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import numpy as np
import pytest

from a2rchi_pg import (
    SYSTEM,
    Candidate,
    CatalogRepository,
    ConfigRepository,
    ConversationRepository,
    KeyResolver,
    KeyRing,
    NewMessage,
    Owner,
    PostgresChatMessageHistory,
    SelectionRepository,
    Timestamps,
    ToolCall,
    UserRepository,
)
from a2rchi_pg._local_key import LocalKey, generate_key
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg._op import Op


class Untouched:
    """A database that must not be asked; operations come as far as their first statement."""

    def run(self, op: Op[Any]) -> NoReturn:
        raise AssertionError(f"{op} asked {next(iter(op))}")

    async def arun(self, op: Op[Any]) -> NoReturn:
        self.run(op)


NOWHERE = Untouched()
RING = KeyRing([LocalKey(generate_key())])
CHAT = ConversationRepository(NOWHERE, owner=Owner(user_id="ada"))
USERS = UserRepository(NOWHERE, RING)
DOORS: dict[str, object] = {
    "conversations": CHAT,
    "messages": CHAT.messages,
    "feedback": CHAT.feedback,
    "timings": CHAT.timings,
    "traces": CHAT.traces,
    "comparisons": CHAT.comparisons,
    "catalog": CatalogRepository(NOWHERE),
    "selection": SelectionRepository(NOWHERE),
    "users": USERS,
    "config": ConfigRepository(NOWHERE),
    "keys": KeyResolver(NOWHERE, RING, deployment={}),
}

NO_WHOLE = ["7", 1.5, 7.0, True, np.True_, np.nan, -(2**63) - 1, 2**63, [7], b"7"]
NO_REVISION = [2**31, -1, *NO_WHOLE]
NO_USER = ["", 5, 1.5, True, b"ada", ["ada"], "a\0", "\ud800", "a" * 2001]
NO_UUID = ["", "7", 7, 1.5, True, b"7", ["7"]]
NO_NAME = ["", 5, True, b"c", ["c"], "a\0", "\ud800"]
NO_SECONDS = ["7", True, -1, np.nan, np.inf, 2**31, [7]]
NO_DOCUMENT = [1.5, True, 2**63, [1.5], [True], [2**63], [b"hash"]]
# What each parameter that names somebody or something is never given.
NO_ID: dict[str, list[Any]] = {
    **dict.fromkeys(("conversation_id", "message_id", "user_message_id"), NO_WHOLE),
    **dict.fromkeys(("user_prompt_message_id", "comparison_id", "document_id"), NO_WHOLE),
    **dict.fromkeys(("messages before", "messages after"), NO_WHOLE),
    **dict.fromkeys(("to_revision", "expected_revision", "old", "new"), NO_REVISION),
    "config before": NO_REVISION,
    **dict.fromkeys(("catalog collection", "catalog owner"), NO_NAME),
    **dict.fromkeys(("catalog lease", "catalog retry_after"), NO_SECONDS),
    **dict.fromkeys(("user_id", "client_id", "user", "anonymous", "authenticated"), NO_USER),
    **dict.fromkeys(("updated_by", "changed_by"), NO_USER),
    "trace_id": NO_UUID,
    **dict.fromkeys(("document", "documents"), NO_DOCUMENT),
    "choices": [{key: True} for key in (1.5, True, 2**63, None)],
}
# What the others are given where all is well.
GOOD: dict[str, Any] = {
    **dict.fromkeys(("conversation_id", "message_id", "comparison_id", "document_id"), 1),
    **dict.fromkeys(("user_prompt_message_id", "to_revision", "old", "new", "chunk_count"), 1),
    **dict.fromkeys(("user_id", "anonymous", "user", "document", "documents", "owner"), "ada"),
    **dict.fromkeys(("text", "title", "error", "by", "pipeline", "collection", "source"), "text"),
    **dict.fromkeys(("updated_by", "changed_by"), SYSTEM),
    "authenticated": "eve",
    "trace_id": UUID(int=7),
    "a": Candidate(message_id=1),
    "b": Candidate(message_id=2),
    "calls": [ToolCall(step_number=0, tool_name="search")],
    "choices": {"hash": True},
    "events": [],
    "key": "temperature",
    "message": NewMessage(role="user", content="?"),
    "messages": [NewMessage(role="user", content="?")],
    "patch": {},
    "preference": "tie",
    "provider": "openai",
    "reaction": "like",
    "role": "user",
    "schedule": "daily",
    "load_static_config source": {"deployment_name": "here", "embedding_model": "m"},
    "times": Timestamps(),
    "to": Owner(user_id="eve"),
}
NOT_NAMES = {("upsert", "document"), ("upsert_many", "documents")}  # these bring whole documents
SAID = {
    **dict.fromkeys(("document", "documents", "choices"), "document"),
    **dict.fromkeys(("updated_by", "changed_by"), "user"),
}


def taking_ids() -> Iterator[tuple[str, str, str]]:
    for door, opened in DOORS.items():
        for method, function in inspect.getmembers(type(opened), inspect.isfunction):
            is_twin = hasattr(opened, f"a{method}")
            for name in inspect.signature(function).parameters if is_twin else ():
                is_id = name in NO_ID or f"{door} {name}" in NO_ID
                if is_id and (method, name) not in NOT_NAMES:
                    yield door, method, name
    listing = ("user_id", "conversation_id", "client_id", "collection")
    yield from (("catalog", "list", name) for name in listing)


@pytest.mark.parametrize("prefix", ["", "a"], ids=["sync", "async"])
@pytest.mark.parametrize(("door", "method", "argument"), list(taking_ids()))
async def test_what_no_id_may_be(prefix: str, door: str, method: str, argument: str):
    called = getattr(DOORS[door], prefix + method)
    parameters = inspect.signature(called).parameters
    needed = {
        name: GOOD.get(f"{method} {name}", GOOD.get(name))
        for name, each in parameters.items()
        if each.default is each.empty and each.kind is not each.VAR_KEYWORD
    }
    optional = argument not in parameters or parameters[argument].default is None
    may_be_none = optional or (method, argument) == ("resolve", "user_id")
    bad = NO_ID.get(argument) or NO_ID[f"{door} {argument}"]
    for value in bad if may_be_none else [None, *bad]:
        with pytest.raises(InvalidInput, match=SAID.get(argument, argument)) as caught:
            result = called(**{**needed, argument: value})
            await result if isawaitable(result) else result
        assert len(str(caught.value)) < 300


def test_every_id_is_tried():
    """A new one needs a line in ``NO_ID``."""
    for door, opened in DOORS.items():
        for method, function in inspect.getmembers(type(opened), inspect.isfunction):
            for name in inspect.signature(function).parameters:
                is_id = name.endswith("_id") and not method.startswith("_")
                assert not is_id or name in NO_ID, (door, method, name)


def test_whoever_asks_has_a_name():
    for value in NO_USER:
        for name in ("user_id", "client_id"):
            with pytest.raises(InvalidInput, match=name):
                Owner(**{name: value})


def test_what_is_made_of_an_id_is_not_made_of_another_thing():
    for value in [None, *NO_WHOLE]:
        with pytest.raises(InvalidInput, match="message_id"):
            Candidate(message_id=value)
        with pytest.raises(InvalidInput, match="conversation_id"):
            PostgresChatMessageHistory(NOWHERE, value)


def test_ids_as_numpy_and_json_have_them():
    """Numbers read from a frame, a run's id read from a message: as good as Python's own."""
    for call in (
        lambda: CHAT.get(np.int64(7)),
        lambda: CHAT.traces.get(str(UUID(int=7))),  # type: ignore[arg-type]  # a UUID, by its type
    ):
        with pytest.raises(AssertionError, match="asked Statement"):
            call()

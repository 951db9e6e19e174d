"""Conversations and what hangs on them; the defects of the system before, by their numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from secrets import token_hex
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import (
    Candidate,
    ConversationRepository,
    Database,
    Flags,
    NewMessage,
    Owner,
    Timestamps,
    ToolCall,
)
from a2rchi_pg.errors import Conflict, InvalidInput, InvalidValue, NotFound
from tests.conversation_support import answer, everything, new_owner, question
from tests.database_support import admin, commands, value
from tests.plugins.stores import Twin

pytestmark = pytest.mark.timeout(60)
ITSELF: list[Any] = []
ITSELF.append(ITSELF)
A_DAY = timedelta(days=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def owner() -> Owner:
    return new_owner()


@pytest.fixture
def mine(common: Database, owner: Owner) -> ConversationRepository:
    return ConversationRepository(common, owner=owner)


def contents(messages: list[Any]) -> list[str]:
    return [message.content for message in messages]


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


# Every way of calling


async def test_a_conversation_from_beginning_to_end(way_in: tuple[str, Database], owner: Owner):
    way, database = way_in
    mine = ConversationRepository(database, owner=owner)
    chats, messages, feedback = Twin(mine, way), Twin(mine.messages, way), Twin(mine.feedback, way)
    traces, timings = Twin(mine.traces, way), Twin(mine.timings, way)
    comparisons = Twin(mine.comparisons, way)

    id_ = (await chats.create("Jobs", archi_version="2.1")).conversation_id
    asked = await messages.add(id_, question())
    run = await traces.start(id_, "agent", model="gpt", user_message_id=asked)
    assert [each.trace_id for each in await traces.running(id_)] == [run.trace_id]
    await traces.note(run.trace_id, [{"step": 1}])
    await traces.note(run.trace_id, [{"step": 2}])
    said, other = await messages.add_many(id_, [answer(), answer("Else", "claude")])
    run = await traces.complete(run.trace_id, said, total_tool_calls=1, total_tokens_used=99)
    assert (run.status, run.events) == ("completed", [{"step": 1}, {"step": 2}])
    assert await traces.get(run.trace_id) == await traces.of_message(said) == run
    assert await traces.cancel_running(id_, by="user") == []

    call = ToolCall(step_number=0, tool_name="find", tool_args={"q": 1}, tool_result="3", ts=NOON)
    await traces.add_tool_calls(said, [call])
    assert await traces.tool_calls(said) == [call]
    await timings.record(said, Timestamps(server_received_msg_ts=minutes(0)))
    await timings.record(said, Timestamps(server_response_msg_ts=minutes(1)))
    assert (await timings.get(said)).msg_duration == timedelta(minutes=1)

    await feedback.react(said, "like")
    await feedback.comment(said, "Thanks", Flags(incorrect=True))
    assert [f.feedback for f in await feedback.of_message(said)] == ["like", "comment"]
    assert await feedback.withdraw(said)
    found = await messages.get(said)
    assert (found.reaction, found.comment_count, found.model_used) == (None, 1, "gpt")

    pair = await comparisons.create(asked, Candidate(message_id=said), Candidate(message_id=other))
    assert await comparisons.of_conversation(id_, pending_only=True) == [pair]
    voted = await comparisons.vote(pair.comparison_id, "a")
    assert await comparisons.get(pair.comparison_id) == voted
    assert (await comparisons.stats())[0].win_rate_a == 1
    assert await comparisons.delete(pair.comparison_id)

    assert [u.model for u in await chats.usage()] == ["claude", "gpt"]
    await chats.rename(id_, "Queues")
    assert (await chats.search("job WAI"))[0] == (await chats.page())[0] == await chats.get(id_)
    assert (await chats.get(id_)).title == "Queues"
    assert contents(await messages.window(id_, limit=2)) == ["The queue is full.", "Else"]
    assert await messages.clear(id_) == 3
    await chats.transfer(id_, owner)
    assert await chats.transfer_all(owner) == 1
    assert await chats.delete(id_)
    assert await chats.get(id_) is None


# Owners


def test_s6_an_owner_sees_its_own_conversations_and_their_counts(common: Database):
    ada, bob = new_owner(), new_owner()
    for owner in (ada, bob):
        everything(common, owner)
    (found,) = ConversationRepository(common, owner=ada).page()
    assert (found.user_id, found.message_count) == (ada.user_id, 3)


def test_s13_history_follows_the_user_from_browser_to_browser(common: Database):
    home = Owner(user_id="s13-ada", client_id="s13-home")
    work = Owner(user_id="s13-ada", client_id="s13-work")
    chat = ConversationRepository(common, owner=home).create()
    assert ConversationRepository(common, owner=work).get(chat.conversation_id)
    # Another user of the browser, or nobody, does not.
    for stranger in (Owner(client_id="s13-home"), Owner(user_id="s13-b", client_id="s13-home")):
        assert ConversationRepository(common, owner=stranger).get(chat.conversation_id) is None
        assert ConversationRepository(common, owner=stranger).page() == []


def test_s13_what_was_begun_before_logging_in_is_there_afterwards(common: Database):
    client = new_owner().client_id
    begun = ConversationRepository(common, owner=Owner(client_id=client)).create("begun")
    both = ConversationRepository(common, owner=Owner(user_id="s13-c", client_id=client))
    later = both.create("later")
    assert [c.title for c in both.page()] == ["later", "begun"]
    assert both.transfer_all(Owner(user_id="s13-c")) == 2
    everywhere = ConversationRepository(common, owner=Owner(user_id="s13-c"))
    assert {c.conversation_id for c in everywhere.page()} == {
        begun.conversation_id,
        later.conversation_id,
    }


def test_an_owner_is_somebody(common: Database):
    for nobody in ({}, {"user_id": ""}, {"client_id": "\0"}):
        with pytest.raises(InvalidInput):
            Owner(**nobody)
    with pytest.raises(InvalidInput, match="whose"):
        ConversationRepository(common).transfer_all(new_owner())


def test_an_unknown_user_becomes_known_with_the_first_conversation(common: Database):
    owner = Owner(user_id=new_owner().user_id)
    assert ConversationRepository(common, owner=owner).create().user_id == owner.user_id
    found = common.run(value("SELECT count(*) FROM users WHERE id = %(id)s", id=owner.user_id))
    assert found == 1


def test_a_user_takes_the_conversations_along(common: Database, owner: Owner):
    everything(common, owner)
    common.run(commands(f"DELETE FROM users WHERE id = '{owner.user_id}'"))
    assert ConversationRepository(common, owner=owner).page() == []


# Listing and searching


def test_pages_join_without_gap_or_repetition(common: Database, mine: ConversationRepository):
    made = [mine.create(str(n)).conversation_id for n in range(7)]
    # As an import leaves them: many of one moment.
    common.run(
        commands(
            "UPDATE conversation_metadata SET last_message_at = created_at + interval '1 h' "
            f"WHERE conversation_id = ANY ('{{{','.join(map(str, made))}}}')",
            f"UPDATE conversation_metadata SET created_at = '{NOON}', last_message_at = '{NOON}' "
            f"WHERE conversation_id IN ({made[1]}, {made[2]}, {made[3]}, {made[4]})",
        )
    )
    seen, cursor = [], None
    while page := mine.page(limit=2, after=cursor):
        seen += [each.conversation_id for each in page]
        cursor = page[-1].cursor
    assert seen == [c.conversation_id for c in mine.page()]
    assert sorted(seen) == sorted(made)


NUMBERED_ELSEWHERE = """
    INSERT INTO users VALUES ('ada');
    INSERT INTO conversation_metadata (conversation_id, user_id)
    SELECT n, 'ada' FROM generate_series(-2, 0) AS n;
    INSERT INTO conversations (conversation_id, message_id, role, sender, content)
    SELECT -2, n, 'user', 'User', n FROM generate_series(-1, 1) AS n;
"""


@pytest.mark.owner
def test_what_another_system_numbered_from_below_zero_is_listed_and_opened(
    dsn: str, database: Database
):
    admin(dsn, NUMBERED_ELSEWHERE)
    mine = ConversationRepository(database, owner=Owner(user_id="ada"))
    first = mine.page(limit=2)
    rest = mine.page(after=first[-1].cursor)
    assert [chat.conversation_id for chat in first + rest] == [-2, 0, -1]
    assert contents(mine.messages.window(-2)) == ["-1", "0", "1"]
    assert contents(mine.messages.window(-2, before=0)) == ["-1"]
    assert mine.messages.get(-1)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("queue", True),
        ("QUEUES are", True),
        ("are queu", True),
        ("O'Brien \\ & | ! ( :*", True),
        ("ünï", True),
        ("eues", False),
        ("queues nowhere", False),
        ("  ", False),
        ("\0", False),
    ],
)
def test_search_finds_messages_that_hold_all_words(
    mine: ConversationRepository, words: str, found: bool
):
    chat = mine.create()
    mine.create()
    mine.messages.add(chat.conversation_id, question("The queues are O'Brien's; Ünïcode."))
    assert [c.conversation_id for c in mine.search(words)] == [chat.conversation_id] * found


def test_a_message_too_long_for_a_tsvector_is_stored(mine: ConversationRepository):
    chat = mine.create()
    words = " ".join(f"w{n:07}-x{n}" for n in range(200_000))
    mine.messages.add(chat.conversation_id, question(words))
    assert mine.messages.window(chat.conversation_id)[0].content == words
    assert mine.search("w0000007")


# Messages


def test_s7_the_newest_window_and_pages_both_ways(mine: ConversationRepository):
    id_ = mine.create().conversation_id
    # Question and answer share a moment, and one comes late with an early time.
    times = [0, 0, 1, 1, 2, 2, 0.5]
    ids = mine.messages.add_many(
        id_, [question(str(n), ts=minutes(t)) for n, t in enumerate(times)]
    )
    in_order = ["0", "1", "6", "2", "3", "4", "5"]
    assert contents(mine.messages.window(id_)) == in_order
    assert contents(mine.messages.window(id_, limit=3)) == in_order[-3:]
    assert contents(mine.messages.window(id_, limit=2, before=ids[3])) == ["6", "2"]
    assert contents(mine.messages.window(id_, limit=2, after=ids[6])) == ["2", "3"]
    assert mine.messages.window(id_, before=ids[0]) == []
    with pytest.raises(InvalidInput, match="not both"):
        mine.messages.window(id_, before=1, after=1)
    with pytest.raises(InvalidInput, match="limit"):
        mine.messages.window(id_, limit=0)


def test_s8_usage_counts_what_assistants_said(mine: ConversationRepository):
    id_ = mine.create().conversation_id
    said = [
        answer(),
        answer(ts=minutes(0)),
        answer("Else", "claude", service="redmine"),
        question(),
    ]
    mine.messages.add_many(id_, [*said, answer(sender="A2rchi"), answer(model=None)])
    counted = {(u.service, u.model): u.message_count for u in mine.usage()}
    assert counted == {("chat", "gpt"): 3, ("redmine", "claude"): 1, ("chat", None): 1}
    assert [u.model for u in mine.usage(service="redmine")] == ["claude"]
    (old,) = mine.usage(since=minutes(0), until=minutes(1), every="hour")
    assert (old.period, old.message_count, old.conversation_count) == (NOON, 1, 1)
    with pytest.raises(InvalidInput, match="every must be one of hour, day, week, month"):
        mine.usage(every="year")  # type: ignore[arg-type]


def test_s10_the_conversation_knows_its_last_message(mine: ConversationRepository):
    chat = mine.create()
    id_ = chat.conversation_id

    def last() -> datetime:
        found = mine.get(id_)
        assert found
        return found.last_message_at

    later = chat.created_at + timedelta(hours=1)
    mine.messages.add_many(id_, [question(ts=later), answer(ts=NOON)])
    assert last() == later
    mine.messages.add(id_, question(ts=NOON))
    assert last() == later
    mine.messages.clear(id_)
    assert last() == chat.created_at


def test_s10_times_without_a_zone_are_refused(mine: ConversationRepository):
    naive = NOON.replace(tzinfo=None)
    for attempt in (
        lambda: question(ts=naive),
        lambda: Timestamps(finish_call_ts=naive),
        lambda: ToolCall(step_number=0, tool_name="t", ts=naive),
        lambda: mine.usage(since=naive),
        lambda: mine.comparisons.stats(until=naive),
        lambda: mine.page(after=(naive, 1)),
    ):
        with pytest.raises(InvalidInput, match="time zone"):
            attempt()


@pytest.mark.parametrize("hours", [-12, 0, 12])
@pytest.mark.parametrize("end", [FIRST, LAST])
def test_a_time_that_could_not_be_read_again_is_not_stored(end: datetime, hours: int):
    """One such message, and neither it nor the list of conversations could be read any more."""
    never = end.replace(tzinfo=timezone(timedelta(hours=hours)))
    for attempt in (
        lambda: question(ts=never),
        lambda: Timestamps(client_sent_msg_ts=never),
        lambda: ToolCall(step_number=0, tool_name="t", ts=never),
    ):
        with pytest.raises(InvalidInput, match="years 1 to 9999"):
            attempt()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("end", [FIRST + A_DAY, LAST - A_DAY])
def test_every_time_that_is_stored_can_be_read_in_every_zone(
    common_dsn: str, mine: ConversationRepository, owner: Owner, end: datetime, zone: str
):
    id_ = mine.create().conversation_id
    said = question(ts=end)
    message_id = mine.messages.add(id_, said)
    with Database(make_conninfo(common_dsn, options=f"-c timezone={zone}")) as elsewhere:
        found = ConversationRepository(elsewhere, owner=owner).messages.get(message_id)
    assert found
    assert found.ts == said.ts


def test_times_that_were_read_are_recorded_again(mine: ConversationRepository):
    said = mine.messages.add(mine.create().conversation_id, question())
    mine.timings.record(said, Timestamps(finish_call_ts=NOON))
    before = mine.timings.get(said)
    assert before
    mine.timings.record(said, before)
    assert mine.timings.get(said) == before


def test_s10_nul_and_surrogates_are_taken_out(mine: ConversationRepository):
    chat = mine.create("a\0b")
    id_ = mine.messages.add(
        chat.conversation_id,
        answer("a\0b\ud800", context="c\0", link="l\0", sender="s\0", payload={"k\0": ["v\0"]}),
    )
    found = mine.messages.get(id_)
    assert found
    assert (found.content, found.context, found.link) == ("ab\ufffd", "c", "l")
    assert (found.sender, found.payload, chat.title) == ("s", {"k": ["v"]}, "ab")
    assert mine.feedback.comment(id_, "x\0").feedback_msg == "x"
    mine.traces.add_tool_calls(
        id_, [ToolCall(step_number=0, tool_name="t\0", tool_args="\0", tool_result="\0r")]
    )
    (call,) = mine.traces.tool_calls(id_)
    assert (call.tool_name, call.tool_args, call.tool_result) == ("t", "", "r")


def test_a_run_may_have_as_many_steps_as_there_are_numbers(mine: ConversationRepository):
    id_ = mine.messages.add(mine.create().conversation_id, answer())
    call = ToolCall(step_number=2**31 - 1, tool_name="t", ts=NOON)
    mine.traces.add_tool_calls(id_, [call])
    assert mine.traces.tool_calls(id_) == [call]


def test_tool_calls_that_were_stored_by_others_can_be_read(dsn: str, database: Database):
    host = ConversationRepository(database)
    id_ = host.messages.add(host.create().conversation_id, answer())
    admin(dsn, "INSERT INTO agent_tool_calls (message_id, step_number, tool_name) "
               "VALUES (%s, 0, ' '), (%s, 1, repeat('x', 600))", id_, id_)  # fmt: skip
    assert [call.tool_name for call in host.traces.tool_calls(id_)] == [" ", "x" * 600]


def test_s12_the_model_is_the_answers_own(mine: ConversationRepository):
    id_ = mine.create().conversation_id
    mine.messages.add_many(id_, [question(), answer("1", "gpt"), answer("2", "claude")])
    found = mine.messages.window(id_)
    assert [m.model_used for m in found] == [None, "gpt", "claude"]
    assert [m.pipeline_used for m in found] == [None, "qa", "qa"]
    with pytest.raises(InvalidInput, match="model_used"):
        question(model_used="gpt")


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"role": "archi"}, "role must be one of user, assistant"),
        ({"content": None}, "texts must be strings"),
        ({"model_used": " "}, "model_used"),
        ({"service": ""}, "service"),
        ({"service": None}, "service"),
        ({"model_used": "m" * 501}, "model_used may have 500 bytes"),
        ({"payload": {"x": object()}}, r"payload\.x"),
        ({"payload": []}, "payload must be a mapping"),
        ({"payload": {"x": ITSELF}}, "payload is nested too deeply, or holds itself"),
        ({"payload": {"x": 10**5000}}, r"payload\.x"),
        ({"ts": "now"}, "ts must be a datetime with a time zone"),
    ],
)
def test_a_message_that_cant_be_stored_is_refused(bad: dict[str, Any], named: str):
    with pytest.raises(InvalidInput, match=named):
        NewMessage(**{"role": "assistant", "content": "x"} | bad)
    with pytest.raises(InvalidInput, match="tool_args"):
        ToolCall(step_number=0, tool_name="x", tool_args=ITSELF)


def test_arguments_of_another_kind_are_refused_first(mine: ConversationRepository):
    for attempt in (
        lambda: mine.page(after="x"),  # type: ignore[arg-type]
        lambda: mine.search("x", after=(datetime(2024, 1, 1), 1)),  # noqa: DTZ001
        lambda: mine.usage(since="yesterday"),  # type: ignore[arg-type]
        lambda: mine.transfer(1, "ann"),  # type: ignore[arg-type]
        lambda: mine.transfer_all("ann"),  # type: ignore[arg-type]
        lambda: mine.page(after=(None, 1)),  # type: ignore[arg-type]
        lambda: mine.traces.start(1, None),  # type: ignore[arg-type]
        lambda: mine.traces.note(uuid4(), {"step": 1}),  # type: ignore[arg-type]
        lambda: ToolCall(step_number=0, tool_name=None),  # type: ignore[arg-type]
        lambda: Flags(incorrect="no"),  # type: ignore[arg-type]
        lambda: mine.comparisons.of_conversation(1, pending_only="no"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInput):
            attempt()


def test_the_longest_names_there_may_be_are_stored(mine: ConversationRepository, common, owner):
    """Together they are one entry of an index, and random ones can't be compressed."""
    names = [token_hex(250) for _ in range(5)]
    model, pipeline, service, *models = names
    id_ = mine.create().conversation_id
    said = answer(model=model, pipeline_used=pipeline, service=service)
    asked, one, other = mine.messages.add_many(id_, [question(), said, said])
    made = mine.comparisons.create(
        asked,
        Candidate(message_id=one, model=models[0]),
        Candidate(message_id=other, model=models[1]),
    )
    assert [made.model_a, made.model_b] == models


def test_a_batch_is_added_whole_or_not_at_all(mine: ConversationRepository):
    id_ = mine.create().conversation_id
    assert mine.messages.add_many(id_, []) == []
    with pytest.raises(NotFound, match="conversation 0"):
        mine.messages.add_many(0, [question(), answer()])
    ids = mine.messages.add_many(id_, [question(str(n)) for n in range(500)])
    assert ids == sorted(ids)
    assert contents(mine.messages.window(id_, limit=500)) == [str(n) for n in range(500)]


# Feedback


def test_s14_a_reaction_takes_the_place_of_the_one_before(mine: ConversationRepository):
    chat = mine.create()
    id_ = mine.messages.add(chat.conversation_id, answer())
    mine.feedback.react(id_, "like")
    mine.feedback.react(id_, "dislike", "wrong", Flags(incorrect=True))
    mine.feedback.comment(id_, "one")
    mine.feedback.comment(id_, "two")
    found = mine.feedback.of_message(id_)
    assert [f.feedback for f in found] == ["dislike", "comment", "comment"]
    assert (found[0].feedback_msg, found[0].incorrect) == ("wrong", True)
    assert mine.feedback.withdraw(id_) is True
    assert mine.feedback.withdraw(id_) is False
    assert [f.feedback_msg for f in mine.feedback.of_message(id_)] == ["one", "two"]
    with pytest.raises(InvalidInput, match="like, dislike"):
        mine.feedback.react(id_, "comment")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="blank"):
        mine.feedback.comment(id_, " ")


# A/B


def test_s9_a_vote_is_cast_once_and_for_something(mine: ConversationRepository, common, owner):
    id_ = everything(common, owner).comparison.comparison_id
    for wrong in ("A", "B", "", None, "both"):
        with pytest.raises(InvalidInput, match="preference must be one of a, b, tie, skip"):
            mine.comparisons.vote(id_, wrong)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="comparison 0"):
        mine.comparisons.vote(0, "a")
    assert mine.comparisons.vote(id_, "skip").preference == "skip"
    with pytest.raises(Conflict, match="voted"):
        mine.comparisons.vote(id_, "a")
    found = mine.comparisons.get(id_)
    assert found
    assert found.preference == "skip"


def test_s11_a_comparison_comes_back_as_it_was_made(mine: ConversationRepository, common, owner):
    e = everything(common, owner)
    made = mine.comparisons.create(
        e.asked,
        Candidate(message_id=e.other_answer, model="mistral", pipeline="agent"),
        Candidate(message_id=e.answered),
        is_config_a_first=False,
    )
    assert mine.comparisons.get(made.comparison_id) == made
    assert (made.model_a, made.pipeline_a) == ("mistral", "agent")
    assert (made.model_b, made.pipeline_b) == ("gpt", "qa")
    assert (made.is_config_a_first, made.preference, made.preference_ts) == (False, None, None)
    of_chat = mine.comparisons.of_conversation(e.chat.conversation_id)
    assert of_chat == [e.comparison, made]


def test_ab_compares_two_answers_to_one_question(mine: ConversationRepository, common, owner):
    here, there = everything(common, owner), everything(common, owner)
    for prompt, a, b in (
        (here.asked, here.answered, there.answered),
        (here.answered, here.answered, here.other_answer),
        (here.asked, here.asked, here.answered),
        (here.asked, here.answered, 0),
    ):
        with pytest.raises(NotFound, match="same"):
            mine.comparisons.create(prompt, Candidate(message_id=a), Candidate(message_id=b))
    with pytest.raises(InvalidInput, match="two messages"):
        mine.comparisons.create(
            here.asked, Candidate(message_id=here.answered), Candidate(message_id=here.answered)
        )


def test_ab_what_waits_for_a_vote_may_be_limited(mine: ConversationRepository, common, owner):
    e = everything(common, owner)
    a, b = Candidate(message_id=e.answered), Candidate(message_id=e.other_answer)
    with pytest.raises(Conflict, match="1 comparisons of this conversation wait"):
        mine.comparisons.create(e.asked, a, b, max_pending=1)
    mine.comparisons.vote(e.comparison.comparison_id, "tie")
    mine.comparisons.create(e.asked, a, b, max_pending=1)
    with pytest.raises(InvalidInput, match="max_pending"):
        mine.comparisons.create(e.asked, a, b, max_pending=0)


def test_ab_statistics_count_every_kind_of_vote(mine: ConversationRepository, common, owner):
    for vote in ("a", "a", "b", "tie", "skip", None):
        id_ = everything(common, owner).comparison.comparison_id
        if vote is not None:
            mine.comparisons.vote(id_, vote)  # type: ignore[arg-type]
    (found,) = mine.comparisons.stats(model_a="gpt", model_b="claude")
    assert (found.total, found.wins_a, found.wins_b, found.ties) == (6, 2, 1, 1)
    assert (found.skips, found.pending) == (1, 1)
    assert (found.win_rate_a, found.win_rate_b) == (0.5, 0.25)
    assert mine.comparisons.stats(model_a="claude") == []
    assert mine.comparisons.stats(until=NOON) == []


def test_ab_there_is_no_rate_without_a_vote(mine: ConversationRepository, common, owner):
    everything(common, owner)
    (found,) = mine.comparisons.stats()
    assert (found.win_rate_a, found.win_rate_b) == (None, None)


# Traces


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
def test_a_run_ends_once(mine: ConversationRepository, common, owner, end: str):
    e = everything(common, owner)
    id_ = e.trace.trace_id
    done = {
        "complete": lambda: mine.traces.complete(id_, e.answered),
        "fail": lambda: mine.traces.fail(id_, "no memory"),
        "cancel": lambda: mine.traces.cancel(id_, by="user", reason="too slow"),
    }
    ended = done[end]()
    assert ended.completed_at
    assert ended.total_duration_ms is not None
    for again in (*done.values(), lambda: mine.traces.note(id_, [1])):
        with pytest.raises(Conflict, match="ended"):
            again()
    assert mine.traces.get(id_) == ended
    expected = {
        "complete": ("completed", e.answered, None, None, None),
        "fail": ("failed", None, "no memory", None, None),
        "cancel": ("cancelled", None, None, "user", "too slow"),
    }[end]
    found = (ended.status, ended.message_id, ended.error, ended.cancelled_by)
    assert (*found, ended.cancellation_reason) == expected


def test_what_runs_in_a_conversation_is_cancelled_together(mine, common, owner):
    e = everything(common, owner)
    second = mine.traces.start(e.chat.conversation_id, "agent")
    running = [trace.trace_id for trace in mine.traces.running(e.chat.conversation_id)]
    assert running == [second.trace_id, e.trace.trace_id]
    cancelled = mine.traces.cancel_running(e.chat.conversation_id, by="admin")
    assert set(cancelled) == set(running)
    assert mine.traces.running(e.chat.conversation_id) == []


def test_s16_a_message_comes_from_one_run(mine: ConversationRepository, common, owner):
    e = everything(common, owner)
    mine.traces.complete(e.trace.trace_id, e.answered)
    other = mine.traces.start(e.chat.conversation_id, "agent")
    with pytest.raises(Conflict):
        mine.traces.complete(other.trace_id, e.answered)
    found = mine.traces.of_message(e.answered)
    assert found
    assert found.trace_id == e.trace.trace_id
    elsewhere = everything(common, owner)
    for wrong in (elsewhere.answered, 0):
        with pytest.raises(NotFound, match="with a message"):
            mine.traces.complete(other.trace_id, wrong)
        with pytest.raises(NotFound, match="with a message"):
            mine.traces.start(e.chat.conversation_id, "agent", user_message_id=wrong)


def test_s16_the_question_of_a_run_has_an_index(common: Database):
    indexed = common.run(
        value(
            "SELECT count(*) FROM pg_index WHERE indexrelid = 'agent_traces_user_message'::regclass"
        )
    )
    assert indexed == 1


# The schema itself


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ab_comparisons SET preference = 'A', preference_ts = now()",
        "UPDATE ab_comparisons SET preference = 'a', preference_ts = NULL",
        "UPDATE ab_comparisons SET response_a_message_id = response_b_message_id",
        "UPDATE agent_traces SET status = 'error', completed_at = now()",
        "UPDATE agent_traces SET status = 'completed'",
        "UPDATE agent_traces SET cancelled_by = 'x'",
        "UPDATE agent_traces SET events = '{}'",
        "UPDATE feedback SET feedback = 'love'",
        "UPDATE conversations SET role = 'archi'",
        "UPDATE conversations SET model_used = 'gpt' WHERE role = 'user'",
        "UPDATE conversation_metadata SET client_id = ''",
    ],
)
def test_s15_the_database_refuses_what_means_nothing(dsn: str, database: Database, statement: str):
    everything(database, new_owner())
    with pytest.raises(psycopg.errors.CheckViolation):
        admin(dsn, statement)
    with pytest.raises(InvalidValue):
        database.run(commands(statement))


def test_s15_the_database_keeps_one_reaction_per_message(dsn: str, database: Database):
    e = everything(database, new_owner())
    insert = "INSERT INTO feedback (message_id, feedback) VALUES (%s, 'dislike')"
    with pytest.raises(psycopg.errors.UniqueViolation):
        admin(dsn, insert, e.answered)


def test_a_conversation_takes_everything_along(dsn: str, database: Database):
    e = everything(database, new_owner())
    repository = ConversationRepository(database)
    repository.timings.record(e.answered, Timestamps())
    repository.delete(e.chat.conversation_id)
    tables = ("conversations", "feedback", "timing", "agent_tool_calls", "agent_traces",
              "ab_comparisons")  # fmt: skip
    assert [admin(dsn, f"SELECT count(*) FROM {t}") for t in tables] == [[(0,)]] * len(tables)


def test_several_repositories_share_a_transaction(common: Database, owner: Owner):
    class Undone(Exception):
        pass

    with pytest.raises(Undone), common.transaction() as transaction:
        mine = ConversationRepository(transaction, owner=owner)
        chat = mine.create()
        mine.messages.add(chat.conversation_id, question())
        raise Undone
    assert ConversationRepository(common, owner=owner).page() == []

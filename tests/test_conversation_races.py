"""Many at once: exactly one vote and one reaction count, and nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from a2rchi_pg import Candidate, ConversationRepository, Database, Owner
from a2rchi_pg.errors import Conflict
from tests.conversation_support import answer, everything, new_owner, question
from tests.database_support import value, wait_until, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from a2rchi_pg import Comparison

pytestmark = pytest.mark.timeout(60)
MANY = 8


@pytest.fixture
def wide(common_dsn: str) -> Iterator[Database]:
    """A connection for each of those who act at once."""
    with Database(common_dsn, min_size=MANY, max_size=MANY) as database:
        yield database


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """What each of many came to, results and conflicts."""
    ready = Barrier(MANY)

    def one(number: int) -> Any:
        ready.wait()
        try:
            return work(number)
        except Conflict as error:
            return error

    with ThreadPoolExecutor(MANY) as threads:
        return list(threads.map(one, range(MANY)))


def won(results: list[Any]) -> list[Any]:
    return [each for each in results if not isinstance(each, Conflict)]


def test_of_many_votes_exactly_one_counts(wide: Database):
    owner = new_owner()
    mine = ConversationRepository(wide, owner=owner)
    for _ in range(5):
        id_ = everything(wide, owner).comparison.comparison_id
        votes = at_once(
            lambda n, id_=id_: mine.comparisons.vote(id_, ("a", "b", "tie", "skip")[n % 4])
        )
        (counted,) = won(votes)
        assert mine.comparisons.get(id_) == counted


def test_of_many_reactions_exactly_one_is_left(wide: Database):
    owner = new_owner()
    mine = ConversationRepository(wide, owner=owner)
    for _ in range(5):
        chat = mine.create()
        id_ = mine.messages.add(chat.conversation_id, answer())
        given = at_once(lambda n, id_=id_: mine.feedback.react(id_, ("like", "dislike")[n % 2]))
        assert len(won(given)) == MANY
        (left,) = mine.feedback.of_message(id_)
        assert left in given


def test_of_many_ends_of_a_run_exactly_one_counts(wide: Database):
    owner = new_owner()
    mine = ConversationRepository(wide, owner=owner)
    e = everything(wide, owner)
    ends = at_once(
        lambda n: (
            mine.traces.complete(e.trace.trace_id, e.answered)
            if n % 2
            else mine.traces.cancel(e.trace.trace_id, by=str(n))
        )
    )
    assert won(ends) == [mine.traces.get(e.trace.trace_id)]


def test_of_many_comparisons_no_more_wait_than_may(wide: Database):
    owner = new_owner()
    mine = ConversationRepository(wide, owner=owner)
    e = everything(wide, owner)

    def compare(_: int) -> Comparison:
        a, b = Candidate(message_id=e.answered), Candidate(message_id=e.other_answer)
        return mine.comparisons.create(e.asked, a, b, max_pending=3)

    assert len(won(at_once(compare))) == 2
    waiting = mine.comparisons.of_conversation(e.chat.conversation_id, pending_only=True)
    assert len(waiting) == 3


def test_many_first_conversations_make_one_user(wide: Database):
    owner = Owner(user_id=new_owner().user_id)
    mine = ConversationRepository(wide, owner=owner)
    assert len(won(at_once(lambda n: mine.create(str(n))))) == MANY
    assert len(mine.page()) == MANY
    assert wide.run(value("SELECT count(*) FROM users WHERE id = %(id)s", id=owner.user_id)) == 1


def test_many_messages_are_all_there_and_the_last_is_known(wide: Database):
    mine = ConversationRepository(wide, owner=new_owner())
    chat = mine.create()
    id_ = chat.conversation_id

    def speak(number: int) -> None:
        for n in range(5):
            ts = chat.created_at + timedelta(seconds=number * 5 + n)
            mine.messages.add(id_, question(ts=ts))

    at_once(speak)
    found = mine.get(id_)
    assert found
    assert found.message_count == MANY * 5
    assert found.last_message_at == chat.created_at + timedelta(seconds=MANY * 5 - 1)


def test_clearing_and_speaking_at_once_leave_the_last_message_known(wide: Database):
    mine = ConversationRepository(wide, owner=new_owner())
    chat = mine.create()
    id_ = chat.conversation_id

    def act(number: int) -> None:
        for n in range(10):
            if number % 4 == 0:
                mine.messages.clear(id_)
            else:
                ts = chat.created_at + timedelta(seconds=number * 10 + n)
                mine.messages.add(id_, question(ts=ts))

    at_once(act)
    found = mine.get(id_)
    assert found
    left = [message.ts for message in mine.messages.window(id_, limit=1000)]
    assert found.last_message_at == max([chat.created_at, *left])


SLOW = """
    CREATE FUNCTION wait_once() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(1);
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait_once BEFORE INSERT ON conversations FOR EACH ROW
    WHEN (NEW.content = 'slow') EXECUTE FUNCTION wait_once();
"""


@pytest.mark.owner
def test_whoever_reads_on_after_the_last_message_misses_none(dsn: str, database: Database):
    """What is stored later stands later, also where it took long to be stored."""
    mine = ConversationRepository(database, owner=new_owner())
    id_ = mine.create().conversation_id
    mine.messages.add(id_, question("first"))
    with psycopg.connect(dsn, autocommit=True) as other, ThreadPoolExecutor(2) as pool:
        other.execute(SLOW)
        other.execute("SELECT pg_advisory_lock(1)")
        slow = pool.submit(mine.messages.add_many, id_, [question("slow"), question("slow too")])
        wait_until(lambda: waiting(dsn) == 1)
        quick = pool.submit(mine.messages.add, id_, question("quick"))
        wait_until(lambda: waiting(dsn) == 2 or quick.done())
        seen = mine.messages.window(id_)
        other.execute("SELECT pg_advisory_unlock(1)")
        slow.result(), quick.result()
    seen += mine.messages.window(id_, after=seen[-1].message_id)
    assert [each.content for each in seen] == ["first", "slow", "slow too", "quick"]


def test_an_older_message_is_the_last_where_the_newer_go_meanwhile(wide: Database, common_dsn: str):
    owner = new_owner()
    mine = ConversationRepository(wide, owner=owner)
    chat = mine.create()
    id_, later = chat.conversation_id, chat.created_at + timedelta(seconds=20)
    earlier = chat.created_at + timedelta(seconds=10)
    mine.messages.add(id_, question(ts=later))
    with ThreadPoolExecutor(1) as pool:
        with wide.transaction() as transaction:
            inside = ConversationRepository(transaction, owner=owner)
            inside.messages.add(id_, question(ts=earlier))
            clearing = pool.submit(mine.messages.clear, id_)
            wait_until(lambda: waiting(common_dsn) == 1 or clearing.done())
        assert clearing.result() == 1
    found = mine.get(id_)
    assert found
    assert (found.message_count, found.last_message_at) == (1, earlier)

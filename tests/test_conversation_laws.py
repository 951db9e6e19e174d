"""Conversations, feedback and A/B as a state machine, against a model of dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from a2rchi_pg import Candidate, ConversationRepository, NewMessage, Owner
from a2rchi_pg.errors import Conflict, NotFound
from tests.conversation_support import new_owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg import Database

pytestmark = pytest.mark.timeout(280)

WORDS = ("queue", "job", "cluster")
MODELS = ("gpt", "claude")
START = datetime(2100, 1, 1, tzinfo=UTC)  # later than any conversation is created
owners = st.sampled_from(["ada", "bob", "browser"])
seconds = st.integers(0, 5)


@dataclass
class Said:
    id: int
    ts: datetime
    role: str
    content: str
    model: str | None
    reaction: str | None = None
    comments: int = 0


@dataclass
class Chat:
    owner: str
    title: str | None
    created: datetime
    said: list[Said] = field(default_factory=list)

    @property
    def in_order(self) -> list[Said]:
        return sorted(self.said, key=lambda m: (m.ts, m.id))

    @property
    def last(self) -> datetime:
        return max([self.created, *(m.ts for m in self.said)])


@dataclass
class Pair:
    chat: int
    models: tuple[str | None, str | None]
    preference: str | None = None


class Conversations(RuleBasedStateMachine):
    """What the repositories of three owners and of the host do, and what the model says."""

    database: Database
    chats = Bundle("chats")
    messages = Bundle("messages")
    pairs = Bundle("pairs")

    def __init__(self) -> None:
        super().__init__()
        names = {"ada": new_owner(), "bob": new_owner(), "browser": new_owner()}
        names["browser"] = Owner(client_id=names["browser"].client_id)
        self.owners = names
        self.by = {n: ConversationRepository(self.database, owner=o) for n, o in names.items()}
        self.model: dict[int, Chat] = {}
        self.pairs_made: dict[int, Pair] = {}

    def allowed(self, who: str, chat: int) -> bool:
        return chat in self.model and self.model[chat].owner == who

    def attempt(self, allowed: bool, work: Callable[[], Any]) -> Any:
        if allowed:
            return work()
        with pytest.raises(NotFound):
            work()
        return None

    @rule(target=chats, who=owners, title=st.none() | st.sampled_from(WORDS))
    def create(self, who: str, title: str | None) -> int:
        made = self.by[who].create(title)
        self.model[made.conversation_id] = Chat(who, title, made.created_at)
        return made.conversation_id

    @rule(chat=chats, who=owners, title=st.sampled_from(WORDS))
    def rename(self, chat: int, who: str, title: str) -> None:
        may = self.allowed(who, chat)
        self.attempt(may, lambda: self.by[who].rename(chat, title))
        if may:
            self.model[chat].title = title

    @rule(chat=chats, who=owners, to=owners)
    def transfer(self, chat: int, who: str, to: str) -> None:
        may = self.allowed(who, chat)
        self.attempt(may, lambda: self.by[who].transfer(chat, self.owners[to]))
        if may:
            self.model[chat].owner = to

    @rule(chat=consumes(chats), who=owners)
    def delete(self, chat: int, who: str) -> None:
        may = self.allowed(who, chat)
        assert self.by[who].delete(chat) is may
        if may:
            del self.model[chat]
            self.forget_pairs_of(chat)

    @rule(chat=chats, who=owners)
    def clear(self, chat: int, who: str) -> None:
        may = self.allowed(who, chat)
        removed = self.attempt(may, lambda: self.by[who].messages.clear(chat))
        if may:
            assert removed == len(self.model[chat].said)
            self.model[chat].said = []
            self.forget_pairs_of(chat)

    def forget_pairs_of(self, chat: int) -> None:
        self.pairs_made = {n: p for n, p in self.pairs_made.items() if p.chat != chat}

    @rule(
        target=messages,
        chat=chats,
        who=owners,
        batch=st.lists(
            st.tuples(seconds, st.sampled_from(WORDS), st.none() | st.sampled_from(MODELS)),
            min_size=1,
            max_size=4,
        ),
    )
    def speak(self, chat: int, who: str, batch: list[tuple[int, str, str | None]]) -> Any:
        new = [
            NewMessage(
                role="assistant" if model else "user",
                content=word,
                model_used=model,
                ts=START + timedelta(seconds=second),
            )
            for second, word, model in batch
        ]
        may = self.allowed(who, chat)
        ids = self.attempt(may, lambda: self.by[who].messages.add_many(chat, new))
        if not may:
            return multiple()
        assert ids == sorted(ids)
        for id_, m in zip(ids, new, strict=True):
            assert m.ts
            self.model[chat].said.append(Said(id_, m.ts, m.role, m.content, m.model_used))
        return multiple(*ids)

    def find(self, message: int) -> tuple[int, Said] | None:
        for number, chat in self.model.items():
            for said in chat.said:
                if said.id == message:
                    return number, said
        return None

    @rule(message=messages, who=owners, reaction=st.sampled_from(["like", "dislike"]))
    def react(self, message: int, who: str, reaction: Any) -> None:
        found = self.find(message)
        may = found is not None and self.allowed(who, found[0])
        self.attempt(may, lambda: self.by[who].feedback.react(message, reaction))
        if may and found:
            found[1].reaction = reaction

    @rule(message=messages, who=owners)
    def withdraw(self, message: int, who: str) -> None:
        found = self.find(message)
        may = found is not None and self.allowed(who, found[0])
        had = may and found is not None and found[1].reaction is not None
        assert self.by[who].feedback.withdraw(message) is had
        if may and found:
            found[1].reaction = None

    @rule(message=messages, who=owners)
    def comment(self, message: int, who: str) -> None:
        found = self.find(message)
        may = found is not None and self.allowed(who, found[0])
        self.attempt(may, lambda: self.by[who].feedback.comment(message, "so"))
        if may and found:
            found[1].comments += 1

    @rule(target=pairs, prompt=messages, a=messages, b=messages, who=owners)
    def compare(self, prompt: int, a: int, b: int, who: str) -> Any:
        if a == b:
            return multiple()
        found = [self.find(prompt), self.find(a), self.find(b)]
        chats = {each[0] for each in found if each}
        may = (
            None not in found
            and len(chats) == 1
            and self.allowed(who, next(iter(chats)))
            and [each[1].role for each in found if each] == ["user", "assistant", "assistant"]
        )
        create = self.by[who].comparisons.create
        made = self.attempt(
            may, lambda: create(prompt, Candidate(message_id=a), Candidate(message_id=b))
        )
        if made is None:
            return multiple()
        models = tuple(each[1].model for each in found if each)[1:]
        self.pairs_made[made.comparison_id] = Pair(chats.pop(), models)  # type: ignore[arg-type]
        return made.comparison_id

    @rule(target=pairs, chat=chats, who=owners)
    def exchange(self, chat: int, who: str) -> Any:
        """A question, two answers and their comparison: rarely met by chance."""
        ids = self.speak(chat, who, [(5, "job", None), (5, "queue", "gpt"), (5, "job", "claude")])
        return self.compare(*ids.values, who) if ids.values else multiple()

    @rule(pair=pairs, who=owners, preference=st.sampled_from(["a", "b", "tie", "skip"]))
    def vote(self, pair: int, who: str, preference: Any) -> None:
        known = self.pairs_made.get(pair)
        may = known is not None and self.allowed(who, known.chat)
        cast = lambda: self.by[who].comparisons.vote(pair, preference)  # noqa: E731
        if may and known and known.preference is not None:
            with pytest.raises(Conflict):
                cast()
        else:
            self.attempt(may, cast)
            if may and known:
                known.preference = preference

    @rule(pair=pairs, who=owners)
    def drop_pair(self, pair: int, who: str) -> None:
        known = self.pairs_made.get(pair)
        may = known is not None and self.allowed(who, known.chat)
        assert self.by[who].comparisons.delete(pair) is may
        if may:
            del self.pairs_made[pair]

    @rule(chat=chats, who=owners, limit=st.integers(1, 4), data=st.data())
    def windows(self, chat: int, who: str, limit: int, data: st.DataObject) -> None:
        if not self.allowed(who, chat):
            return
        expected = [m.id for m in self.model[chat].in_order]
        window = self.by[who].messages.window
        assert [m.message_id for m in window(chat, limit=limit)] == expected[-limit:]
        if expected:
            at = data.draw(st.integers(0, len(expected) - 1))
            before = window(chat, limit=limit, before=expected[at])
            assert [m.message_id for m in before] == expected[:at][-limit:]
            after = window(chat, limit=limit, after=expected[at])
            assert [m.message_id for m in after] == expected[at + 1 :][:limit]

    @rule(who=owners, words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=2))
    def search(self, who: str, words: list[str]) -> None:
        found = {c.conversation_id for c in self.by[who].search(" ".join(w[:3] for w in words))}
        expected = {
            number
            for number, chat in self.model.items()
            if chat.owner == who and any(set(words) <= {m.content} for m in chat.said)
        }
        assert found == expected

    @invariant()
    def everybody_sees_what_is_theirs(self) -> None:
        for who, repository in self.by.items():
            mine = {n: chat for n, chat in self.model.items() if chat.owner == who}
            found = {c.conversation_id: c for c in repository.page(limit=1000)}
            order = [(c.last_message_at, c.conversation_id) for c in found.values()]
            assert order == sorted(order, reverse=True)
            assert {n: (c.title, c.last_message_at, c.message_count) for n, c in found.items()} == {
                n: (chat.title, chat.last, len(chat.said)) for n, chat in mine.items()
            }
            for number, chat in mine.items():
                said = repository.messages.window(number, limit=1000)
                assert [
                    (m.message_id, m.content, m.model_used, m.reaction, m.comment_count)
                    for m in said
                ] == [(m.id, m.content, m.model, m.reaction, m.comments) for m in chat.in_order]
            self.votes_add_up(who, repository)

    def votes_add_up(self, who: str, repository: ConversationRepository) -> None:
        mine = [p for p in self.pairs_made.values() if self.model[p.chat].owner == who]
        found = {(s.model_a, s.model_b): s for s in repository.comparisons.stats()}
        assert set(found) == {p.models for p in mine}
        for models, stats in found.items():
            cast = [p.preference for p in mine if p.models == models]
            a, b, tie = (cast.count(each) for each in ("a", "b", "tie"))
            assert (stats.total, stats.wins_a, stats.wins_b, stats.ties) == (len(cast), a, b, tie)
            assert (stats.skips, stats.pending) == (cast.count("skip"), cast.count(None))
            assert stats.win_rate_a == (a / (a + b + tie) if a + b + tie else None)


def test_conversations_do_what_a_model_of_them_does(common: Database):
    Conversations.database = common
    run_state_machine_as_test(
        Conversations, settings=settings(max_examples=25, stateful_step_count=30, deadline=None)
    )

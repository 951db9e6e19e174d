"""Selection against a dictionary: whatever is done in whatever order, both say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from a2rchi_pg import CatalogRepository, NotFound, SelectionRepository
from a2rchi_pg._scope import visible
from tests.database_support import commands, rows
from tests.plugins.catalogs import hashes, make_conversation, spec

if TYPE_CHECKING:
    from a2rchi_pg import Database

pytestmark = [pytest.mark.servers("full", "plain"), pytest.mark.timeout(300)]

NAMES = ["a", "b", "c", "d"]
names = st.sampled_from(NAMES)
users = st.sampled_from(["ann", "bob"])
OWNERS = {1: "ann", 2: None}
conversations = st.sampled_from([*OWNERS])
choices = st.dictionaries(st.sampled_from([*NAMES, "unknown"]), st.booleans(), max_size=4)


class Model:
    """The three tiers as dictionaries."""

    def __init__(self) -> None:
        self.live: dict[str, bool] = {}  # document -> whether it isn't deleted
        self.system: dict[str, bool] = {}
        self.user: dict[tuple[str, str], bool] = {}
        self.conversation: dict[tuple[int, str], bool] = {}

    def knows(self, documents: Any) -> bool:
        return all(self.live.get(document) for document in documents)

    def is_others(self, conversation: int, user: str | None) -> bool:
        return user is not None and OWNERS.get(conversation) != user

    def sees(self, document: str, user: str | None, conversation: int | None) -> bool:
        here = self.conversation.get((conversation or 0, document))
        if here is not None and (user is None or OWNERS[conversation or 0] in {None, user}):
            return here
        return self.user.get((user or "", document), self.system[document])

    def forget(self, document: str) -> None:
        del self.live[document], self.system[document]
        for tier in (self.user, self.conversation):
            for key in [key for key in tier if key[1] == document]:
                del tier[key]  # type: ignore[arg-type]


def machine(database: Database) -> type[RuleBasedStateMachine]:
    catalog, selection = CatalogRepository(database), SelectionRepository(database)
    for conversation, owner in OWNERS.items():
        make_conversation(database, conversation, owner)

    class Selection(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            database.run(commands("DELETE FROM documents"))
            self.model = Model()

        @rule(document=names)
        def record(self, document: str) -> None:
            catalog.upsert(spec(document))
            self.model.live[document] = True
            self.model.system.setdefault(document, True)

        @rule(document=names)
        def delete(self, document: str) -> None:
            assert catalog.delete(document) == bool(self.model.live.get(document))
            if document in self.model.live:
                self.model.live[document] = False

        @rule(document=names)
        def restore(self, document: str) -> None:
            assert catalog.restore(document) == (self.model.live.get(document) is False)
            if document in self.model.live:
                self.model.live[document] = True

        @rule(document=names)
        def purge(self, document: str) -> None:
            assert catalog.purge(document) == (document in self.model.live)
            if document in self.model.live:
                self.model.forget(document)

        @rule(chosen=choices)
        def set_system(self, chosen: dict[str, bool]) -> None:
            if self.model.knows(chosen):
                assert selection.set_system(chosen) == len(chosen)
                self.model.system |= chosen
            else:
                with pytest.raises(NotFound):
                    selection.set_system(chosen)

        @rule(user=users, chosen=choices)
        def set_user(self, user: str, chosen: dict[str, bool]) -> None:
            if self.model.knows(chosen):
                assert selection.set_user(user, chosen) == len(chosen)
                self.model.user |= {(user, document): on for document, on in chosen.items()}
            else:
                with pytest.raises(NotFound):
                    selection.set_user(user, chosen)

        @rule(conversation=conversations, user=users | st.none(), chosen=choices)
        def set_conversation(
            self, conversation: int, user: str | None, chosen: dict[str, bool]
        ) -> None:
            if self.model.is_others(conversation, user):
                with pytest.raises(NotFound):
                    selection.set_conversation(conversation, chosen, user_id=user)
            elif self.model.knows(chosen):
                assert selection.set_conversation(conversation, chosen, user_id=user) == len(chosen)
                self.model.conversation |= {(conversation, name): on for name, on in chosen.items()}
            else:
                with pytest.raises(NotFound):
                    selection.set_conversation(conversation, chosen, user_id=user)

        @rule(user=users, documents=st.none() | st.lists(names))
        def clear_user(self, user: str, documents: list[str] | None) -> None:
            gone = [
                key
                for key in self.model.user
                if key[0] == user and (documents is None or key[1] in documents)
            ]
            assert selection.clear_user(user, documents) == len(gone)
            for key in gone:
                del self.model.user[key]

        @rule(conversation=conversations, user=users | st.none())
        def clear_conversation(self, conversation: int, user: str | None) -> None:
            if self.model.is_others(conversation, user):
                with pytest.raises(NotFound):
                    selection.clear_conversation(conversation, user_id=user)
                return
            gone = [key for key in self.model.conversation if key[0] == conversation]
            assert selection.clear_conversation(conversation, user_id=user) == len(gone)
            for key in gone:
                del self.model.conversation[key]

        @invariant()
        def all_say_the_same(self) -> None:
            live = sorted(document for document, is_live in self.model.live.items() if is_live)
            for who in [(None, None), ("ann", None), ("ann", 1), ("bob", 1), ("bob", 2), (None, 2)]:
                expected = [document for document in live if self.model.sees(document, *who)]
                assert hashes(selection.effective(*who, enabled=True)) == expected
                every = selection.effective(*who)
                assert hashes(every) == live
                assert [d.resource_hash for d in every.documents if d.effective] == expected
                scope = visible(*who, document="documents.id")
                query = f"SELECT resource_hash FROM documents WHERE {scope.sql} ORDER BY 1"
                found = database.run(rows(query, **scope.params))
                assert [name for (name,) in found] == expected

    return Selection


def test_selection_is_what_a_dictionary_says(database: Database):
    run_state_machine_as_test(
        machine(database),
        settings=settings(
            max_examples=10,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

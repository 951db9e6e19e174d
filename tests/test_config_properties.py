"""The configuration against a model of it: whatever is done, in whatever order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from a2rchi_pg import CLEAR, SYSTEM, ConfigRepository, DynamicConfig
from a2rchi_pg.errors import ConfigConflict, ConfigError
from tests.database_support import admin
from tests.plugins.people import EMPTY

if TYPE_CHECKING:
    from a2rchi_pg import Database

VALUES = {
    "temperature": st.none() | st.floats(0, 2) | st.just(0) | st.just(7),
    "max_tokens": st.none() | st.integers(1, 9) | st.just(-1),
    "system_prompt": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    "use_hybrid_search": st.booleans(),
    "verbosity": st.integers(0, 5) | st.just("loud"),
}
BAD = (7, -1, "loud")
PATCHES = st.fixed_dictionaries({}, optional={k: v | st.just(CLEAR) for k, v in VALUES.items()})
EXPECTED = st.sampled_from(["any", "current", "stale"])


def is_bad(patch: dict[str, Any]) -> set[str]:
    limits = {"temperature": 7, "max_tokens": -1, "verbosity": "loud"}
    return {key for key, bad in limits.items() if key in patch and patch[key] == bad}


def machine(database: Database, dsn: str) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        """``revisions`` is what the table should hold, from 0 on."""

        revisions: list[dict[str, Any]]

        @initialize()
        def begin(self) -> None:
            admin(dsn, EMPTY)
            self.config = ConfigRepository(database, cache_seconds=0)
            self.other = ConfigRepository(database, cache_seconds=0)
            self.revisions = [{}]

        def expecting(self, which: str) -> dict[str, Any]:
            current = len(self.revisions) - 1
            return {
                "any": {},
                "current": {"expected_revision": current},
                "stale": {"expected_revision": current + 1},
            }[which]

        @rule(patch=PATCHES, which=EXPECTED)
        def update(self, patch: dict[str, Any], which: str) -> None:
            given = {"updated_by": SYSTEM, **self.expecting(which)}
            if which == "stale":
                with pytest.raises(ConfigConflict):
                    self.config.update_dynamic_config(patch, **given)
            elif is_bad(patch):
                with pytest.raises(ConfigError) as caught:
                    self.config.update_dynamic_config(patch, **given)
                assert set(caught.value.fields) == is_bad(patch)
            else:
                after = {**self.revisions[-1], **patch}
                self.revisions.append({k: v for k, v in after.items() if v is not CLEAR})
                stored = self.config.update_dynamic_config(patch, **given)
                assert stored.revision == len(self.revisions) - 1

        @rule(data=st.data(), which=EXPECTED)
        def roll_back(self, data: st.DataObject, which: str) -> None:
            to = data.draw(st.integers(0, len(self.revisions) - 1))
            given = {"updated_by": SYSTEM, **self.expecting(which)}
            if which == "stale":
                with pytest.raises(ConfigConflict):
                    self.config.rollback(to, **given)
            else:
                self.config.rollback(to, **given)
                self.revisions.append(self.revisions[to])

        @invariant()
        def every_revision_is_as_it_was_written(self) -> None:
            found = self.other.history()[::-1]
            assert [each.settings for each in found] == self.revisions[1:]

        @invariant()
        def what_holds_is_the_last_one(self) -> None:
            expected = DynamicConfig().model_dump() | self.revisions[-1]
            assert self.other.effective().model_dump() == expected

        @invariant()
        def the_audit_is_the_differences(self) -> None:
            found = {
                (c.revision, c.field): (
                    c.old_value if c.old_set else CLEAR,
                    c.new_value if c.new_set else CLEAR,
                )
                for c in self.other.audit(limit=10_000)
            }
            pairs = zip(self.revisions, self.revisions[1:], strict=False)
            expected = {
                (number, key): (old.get(key, CLEAR), new.get(key, CLEAR))
                for number, (old, new) in enumerate(pairs, 1)
                for key in {*old, *new}
                if old.get(key, CLEAR) != new.get(key, CLEAR)
            }
            assert found == expected

    return Machine


@pytest.mark.timeout(240)
def test_revisions_behave_like_a_list(fresh: Database, common_dsn: str):
    run_state_machine_as_test(
        machine(fresh, common_dsn),
        settings=settings(max_examples=20, stateful_step_count=15, deadline=None),
    )

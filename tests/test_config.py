"""Configuration: validated whole, never overwritten, every change kept with its author."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import Field

from a2rchi_pg import (
    CLEAR,
    SYSTEM,
    ConfigRepository,
    Database,
    DynamicConfig,
    PostgresVectorStore,
    UserRepository,
)
from a2rchi_pg.errors import ConfigConflict, ConfigError, InvalidInput, NotFound, PermissionDenied
from tests.database_support import admin, rows, wait_until, waiting
from tests.plugins.stores import CountingRunner, Twin

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg._op import Op
    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(60)
Config = ConfigRepository[DynamicConfig]


async def test_a_life_of_the_configuration(
    way_in: tuple[str, Database], fresh: Database, admin_id: str
):
    way, database = way_in
    config = Twin(ConfigRepository(database), way)
    assert await config.get_dynamic_config() == DynamicConfig()
    assert await config.get_static_config() is None
    first = await config.update_dynamic_config(
        {"temperature": 0, "system_prompt": "Be brief."}, updated_by=admin_id, note="shorter"
    )
    assert (first.revision, first.changed_by, first.note) == (1, admin_id, "shorter")
    await config.update_source_schedule("web", "daily", updated_by=admin_id)
    assert (await config.get_dynamic_config()).source_schedules == {"web": "0 0 * * *"}
    assert (await config.diff(0, 1))["temperature"] == (None, 0)
    assert (await config.effective()).temperature == 0
    assert (await config.explain("temperature")).layer == "dynamic"
    third = await config.rollback(1, updated_by=SYSTEM, expected_revision=2)
    assert (third.settings, third.changed_by) == (first.settings, None)
    assert [each.revision for each in await config.history()] == [3, 2, 1]
    assert [each.revision for each in await config.history(limit=1, before=3)] == [2]
    changes = [(change.revision, change.field) for change in await config.audit()]
    assert changes == [
        (3, "source_schedules"),
        (2, "source_schedules"),
        (1, "system_prompt"),
        (1, "temperature"),
    ]
    loaded = await config.load_static_config({"deployment_name": "d", "embedding_model": "m"})
    assert await config.get_static_config(force_reload=True) == loaded
    assert await config.is_admin(admin_id)
    assert not await config.is_admin("nobody")


@pytest.fixture
def reading(common_dsn: str, fresh: Database):
    """A database reached by a role that may only read."""
    name = "a2rchi_test_config_reader"
    admin(common_dsn, f"CREATE ROLE {name}")
    admin(common_dsn, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    with Database(make_conninfo(common_dsn, options=f"-c role={name}")) as database:
        yield database
    admin(common_dsn, f"DROP OWNED BY {name}")
    admin(common_dsn, f"DROP ROLE {name}")


def test_c1_c14_reading_takes_no_right_but_to_read(config: Config, reading: Database):
    config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
    with psycopg.connect(reading._settings.conninfo) as other:
        # Whoever reads shares the tables even with a transaction that reads and never ends.
        other.execute("LOCK TABLE dynamic_config IN ACCESS SHARE MODE")
        assert ConfigRepository(reading).get_dynamic_config().verbosity == 1
    with pytest.raises(Exception, match="permission denied"):
        ConfigRepository(reading).update_dynamic_config({"verbosity": 2}, updated_by=SYSTEM)


def test_c2_a_change_and_its_audit_stand_or_fall_together(config: Config, fresh: Database):
    with pytest.raises(NotFound), fresh.transaction() as transaction:
        inside = ConfigRepository(transaction)
        inside.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
        assert [change.field for change in inside.audit()] == ["verbosity"]
        assert inside.get_dynamic_config().verbosity == 1
        inside.rollback(99, updated_by=SYSTEM)
    assert config.audit() == []
    assert config.history() == []
    config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
    (change,) = config.audit(field="verbosity")
    assert (change.old_value, change.old_set, change.new_value) == (None, False, 1)


EVERY = {
    "theme": "dark",
    "active_pipeline": "GradingPipeline",
    "active_model": "x/" + "y" * 190,
    "active_agent_name": "agent",
    "temperature": 1.25,
    "max_tokens": 17,
    "top_p": 0.123456789,
    "top_k": 0,
    "repetition_penalty": 1.5,
    "system_prompt": "",
    "active_condense_prompt": "a",
    "active_chat_prompt": "b",
    "active_system_prompt": "c",
    "num_documents_to_retrieve": 3,
    "use_hybrid_search": False,
    "semantic_weight": 0.25,
    "bm25_weight": 0.75,
    "ingestion_schedule": "*/5 * * * *",
    "source_schedules": {"git": "0 3 * * MON"},
    "verbosity": 0,
}


def test_c3_c4_c5_c12_every_field_is_kept_as_it_was_given(config: Config):
    assert set(EVERY) == set(DynamicConfig.model_fields)
    stored = config.update_dynamic_config(EVERY, updated_by=SYSTEM)
    assert stored.settings == EVERY
    assert config.get_dynamic_config().model_dump() == EVERY
    config.update_dynamic_config({"verbosity": 5}, updated_by=SYSTEM)
    after = config.get_dynamic_config()
    assert after.model_dump() == EVERY | {"verbosity": 5}
    assert type(after.temperature) is type(after.top_p) is float


@pytest.mark.parametrize(
    "patch",
    [
        {"temperature": "0.7", "max_tokens": True, "top_p": math.nan, "top_k": 1.5},
        {"temperature": 5.0, "max_tokens": -1, "num_documents_to_retrieve": 0, "verbosity": 9},
        {"temperature": -0.1, "top_p": 1.1, "top_k": -1, "repetition_penalty": math.inf},
        {"semantic_weight": 1.5, "bm25_weight": -0.5, "use_hybrid_search": 1},
        {"active_agent_name": " ", "active_model": "", "active_pipeline": None},
        {"ingestion_schedule": "99 * * * *", "theme": "pink", "system_prompt": 7},
        {"nonsense": 1, "temprature": 0.5},
    ],
)
def test_c10_every_bad_field_is_named_at_once_and_nothing_written(config: Config, patch):
    with pytest.raises(ConfigError) as caught:
        config.update_dynamic_config(
            {**patch, "verbosity": patch.get("verbosity", 1)}, updated_by=SYSTEM
        )
    assert set(caught.value.fields) == set(patch)
    assert config.history() == []


def test_c10_weights_sum_to_one(config: Config):
    with pytest.raises(ConfigError, match=r"sum to 0\.9: set both"):
        config.update_dynamic_config({"bm25_weight": 0.2}, updated_by=SYSTEM)
    weights = {"bm25_weight": 0.2, "semantic_weight": 0.8}
    config.update_dynamic_config(weights, updated_by=SYSTEM)
    with pytest.raises(ConfigError, match="sum to 1"):
        config.update_dynamic_config({"bm25_weight": CLEAR}, updated_by=SYSTEM)


def test_c11_one_resolver_and_zero_false_and_none_are_values(config: Config, users: UserRepository):
    users.get_or_create("ann")
    config.load_static_config(
        {
            "deployment_name": "d",
            "embedding_model": "m",
            "defaults": {"temperature": 0.2, "top_k": 3, "verbosity": 1},
        }
    )
    config.update_dynamic_config(
        {"temperature": 0, "system_prompt": "free text", "max_tokens": None}, updated_by=SYSTEM
    )
    users.update_preferences("ann", {"active_system_prompt": "mine", "top_k": None})
    mine, ours = config.effective("ann"), config.effective()
    assert (mine.active_system_prompt, mine.system_prompt) == ("mine", "free text")
    assert (ours.active_system_prompt, ours.system_prompt) == ("default", "free text")
    assert (mine.temperature, mine.top_k, mine.max_tokens, mine.verbosity) == (0, None, None, 1)
    assert ours.top_k == 3
    for key in DynamicConfig.model_fields:
        assert config.explain(key, "ann").value == getattr(mine, key)
        assert config.explain(key).value == getattr(ours, key)
    explained = config.explain("temperature", "ann")
    assert explained.layers == {"dynamic": 0, "static": 0.2, "default": 0.7}
    assert config.explain("top_k", "ann").layer == "preference"
    assert config.explain("verbosity", "ann").layer == "static"
    assert config.effective("nobody") == ours
    with pytest.raises(ConfigError, match="nonsense"):
        config.explain("nonsense")


def test_none_is_a_value_and_clear_is_none_at_all(config: Config):
    config.update_dynamic_config({"max_tokens": None, "top_k": 7}, updated_by=SYSTEM)
    config.update_dynamic_config({"top_k": CLEAR}, updated_by=SYSTEM)
    assert config.history()[0].settings == {"max_tokens": None}
    assert config.get_dynamic_config().max_tokens is None
    assert config.get_dynamic_config().top_k == 50
    config.update_dynamic_config({"max_tokens": CLEAR}, updated_by=SYSTEM)
    cleared, set_to_none = (c for c in config.audit(field="max_tokens"))
    assert (cleared.old_set, cleared.new_set, cleared.old_value) == (True, False, None)
    assert (set_to_none.old_set, set_to_none.new_set) == (False, True)


def test_c13_schedules_are_validated_audited_and_kept_apart(config: Config):
    for source, schedule in (("web", "daily"), ("git", "*/10 * * * *"), ("jira", "disabled")):
        config.update_source_schedule(source, schedule, updated_by=SYSTEM)
    expected = {"web": "0 0 * * *", "git": "*/10 * * * *", "jira": ""}
    assert config.get_dynamic_config().source_schedules == expected
    assert len(config.audit(field="source_schedules")) == 3
    for bad in ("sometimes", "* * *", "0 0 30 2 *", "0 0 0 1 1 *", "60 * * * *"):
        with pytest.raises(ConfigError, match=r"source_schedules\.web.*cron"):
            config.update_source_schedule("web", bad, updated_by=SYSTEM)


def test_schedules_set_at_once_are_all_kept(config: Config):
    sources = [f"source {n}" for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        done = [
            threads.submit(config.update_source_schedule, source, "daily", updated_by=SYSTEM)
            for source in sources
        ]
    assert sorted(each.result().revision for each in done) == list(range(1, 9))
    assert set(config.get_dynamic_config().source_schedules) == set(sources)


def test_only_an_admin_changes_the_configuration(
    config: Config, users: UserRepository, admin_id: str
):
    users.get_or_create("ann", auth_provider="sso")
    for who in ("ann", "nobody"):
        for attempt in (
            lambda who: config.update_dynamic_config({"verbosity": 1}, updated_by=who),
            lambda who: config.rollback(0, updated_by=who),
            lambda who: config.update_source_schedule("web", "daily", updated_by=who),
            lambda who: config.load_static_config(
                {"deployment_name": "d", "embedding_model": "m"}, changed_by=who
            ),
        ):
            with pytest.raises(PermissionDenied, match=who):
                attempt(who)
    with pytest.raises(InvalidInput, match="SYSTEM"):
        config.update_dynamic_config({"verbosity": 1}, updated_by=None)  # type: ignore[arg-type]
    assert config.history() == []
    config.update_dynamic_config({"verbosity": 1}, updated_by=admin_id)


def test_an_admin_who_is_one_no_longer_changes_nothing(
    fresh: Database, common_dsn: str, users, admin_id: str
):
    """Taking the role away waits for a change under way, and none begins after it."""
    with fresh.transaction() as transaction:
        ConfigRepository(transaction).update_dynamic_config({"verbosity": 1}, updated_by=admin_id)
        demoting = threading.Thread(
            target=users.set_role, args=(admin_id, "user"), kwargs={"changed_by": SYSTEM}
        )
        demoting.start()
        wait_until(lambda: waiting(common_dsn) == 1)
    demoting.join()
    with pytest.raises(PermissionDenied):
        ConfigRepository(fresh).update_dynamic_config({"verbosity": 2}, updated_by=admin_id)


def test_a_stale_change_is_refused(config: Config):
    config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM, expected_revision=0)
    for change in (
        lambda: config.update_dynamic_config(
            {"verbosity": 2}, updated_by=SYSTEM, expected_revision=0
        ),
        lambda: config.rollback(0, updated_by=SYSTEM, expected_revision=2),
    ):
        with pytest.raises(ConfigConflict) as caught:
            change()
        assert caught.value.current == 1
    assert config.get_dynamic_config().verbosity == 1


def test_of_writers_of_one_revision_exactly_one_wins(config: Config, fresh: Database):
    rounds, writers = 5, 8
    barrier = threading.Barrier(writers)

    def write(name: int) -> list[int]:
        won = []
        for expected in range(rounds):
            barrier.wait(20)
            with suppress(ConfigConflict):
                revision = config.update_dynamic_config(
                    {"active_agent_name": f"{name}"}, updated_by=SYSTEM, expected_revision=expected
                )
                won.append(revision.revision)
            barrier.wait(20)
        return won

    with ThreadPoolExecutor(writers) as threads:
        won = [threads.submit(write, name) for name in range(writers)]
        winners = {n: str(name) for name, each in enumerate(won) for n in each.result()}
    assert sorted(winners) == [1, 2, 3, 4, 5]
    stored = {each.revision: each.settings["active_agent_name"] for each in config.history()}
    assert stored == winners


@pytest.mark.parametrize(
    "call",
    [
        lambda config: config.update_dynamic_config(None, updated_by=SYSTEM),
        lambda config: config.update_dynamic_config("x", updated_by=SYSTEM),
        lambda config: config.update_dynamic_config({}, updated_by=SYSTEM, note=5),
        lambda config: config.update_dynamic_config({}, updated_by=SYSTEM, expected_revision="1"),
        lambda config: config.update_source_schedule([], "daily", updated_by=SYSTEM),
        lambda config: config.rollback("1", updated_by=SYSTEM),
        lambda config: config.rollback(-1, updated_by=SYSTEM),
        lambda config: config.diff(0, 2**40),
        lambda config: config.history(before="1"),
        lambda config: config.audit(since=datetime(2024, 1, 1)),  # noqa: DTZ001
        lambda config: config.audit(since="yesterday"),
        lambda config: config.audit(user="\ud800"),
        lambda config: config.audit(field=7),
        lambda config: config.effective("a\0"),
        lambda config: config.explain("temperature", 7),
    ],
)
def test_arguments_of_another_kind_are_refused_first(config: Config, call: Callable[..., object]):
    with pytest.raises(InvalidInput):
        call(config)
    assert config.history() == []


def test_history_is_looked_through_by_user_field_and_time(config: Config, admin_id: str):
    config.update_dynamic_config({"verbosity": 1, "top_k": 1}, updated_by=SYSTEM)
    config.update_dynamic_config({"verbosity": 2}, updated_by=admin_id)
    assert [change.revision for change in config.audit(user=admin_id)] == [2]
    assert [change.revision for change in config.audit(field="top_k")] == [1]
    assert config.audit(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert len(config.audit(since=datetime.now(UTC) - timedelta(hours=1))) == 3
    assert len(config.audit(limit=2)) == 2
    for missing in (lambda: config.diff(1, 9), lambda: config.rollback(9, updated_by=SYSTEM)):
        with pytest.raises(NotFound, match="9"):
            missing()


def test_a_host_adds_settings_of_its_own(fresh: Database, config: Config):
    class Mine(DynamicConfig):
        greeting: Annotated[str, Field(max_length=5)] = "hello"

    mine = ConfigRepository(fresh, model=Mine, cache_seconds=0)
    mine.update_dynamic_config({"greeting": "hi", "verbosity": 1}, updated_by=SYSTEM)
    assert mine.effective().greeting == "hi"
    with pytest.raises(ConfigError, match="greeting"):
        mine.update_dynamic_config({"greeting": "too long"}, updated_by=SYSTEM)
    # A version that lacks the setting still reads, and goes on from, what the other wrote.
    assert config.get_dynamic_config().verbosity == 1
    with pytest.raises(ConfigError, match="no such setting"):
        config.update_dynamic_config({"greeting": "hi"}, updated_by=SYSTEM)


def test_settings_of_another_version_are_kept_for_it(fresh: Database, config: Config):
    class Later(DynamicConfig):
        voice: str = "calm"

    later = ConfigRepository(fresh, model=Later)
    later.update_dynamic_config({"voice": "loud"}, updated_by=SYSTEM)
    with pytest.raises(ConfigError, match="voice: there is no such setting"):
        config.update_dynamic_config({"voice": "low"}, updated_by=SYSTEM)
    config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
    assert later.get_dynamic_config(force_reload=True).voice == "loud"
    config.update_dynamic_config({"voice": CLEAR}, updated_by=SYSTEM)
    assert later.get_dynamic_config(force_reload=True).voice == "calm"
    with pytest.raises(ConfigError, match="did you mean temperature"):
        config.update_dynamic_config({"temprature": 1}, updated_by=SYSTEM)


def test_c9_what_is_read_is_kept_for_a_moment_and_sent_once(fresh: Database, config: Config):
    counting = CountingRunner(fresh)
    cached = ConfigRepository(counting, cache_seconds=60)  # type: ignore[arg-type]
    config.load_static_config({"deployment_name": "d", "embedding_model": "m"})
    first = cached.get_static_config()
    assert cached.get_static_config() is first
    assert cached.get_dynamic_config() == DynamicConfig()
    assert len(counting.ran) == 1
    config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
    assert cached.get_dynamic_config().verbosity == 3
    assert cached.effective("ann").verbosity == 1
    assert cached.get_dynamic_config().verbosity == 1
    assert cached.get_static_config() is first
    config.load_static_config({"deployment_name": "e", "embedding_model": "m"}, redeploy=True)
    found = cached.get_static_config(force_reload=True)
    assert found
    assert found.deployment_name == "e"
    cached.update_dynamic_config({"verbosity": 2}, updated_by=SYSTEM)
    assert cached.get_dynamic_config().verbosity == 2


def test_a_retriever_searches_as_configured(
    config: Config, users: UserRepository, new_store: NewStore
):
    store: PostgresVectorStore = new_store()
    store.add_texts([f"text {n} of whales" for n in range(9)])
    users.get_or_create("ann")
    config.update_dynamic_config(
        {"num_documents_to_retrieve": 5, "semantic_weight": 0.4, "bm25_weight": 0.6},
        updated_by=SYSTEM,
    )
    users.update_preferences("ann", {"num_documents_to_retrieve": 2})
    retriever = store.as_retriever(**config.effective().search_options())
    assert retriever.search_type == "hybrid"
    assert retriever.search_kwargs == {"semantic_weight": 0.4, "bm25_weight": 0.6}
    assert len(retriever.invoke("whales")) == 5
    assert len(store.as_retriever(**config.effective("ann").search_options()).invoke("x")) == 2
    config.update_dynamic_config({"use_hybrid_search": False}, updated_by=SYSTEM)
    plain = store.as_retriever(**config.effective().search_options())
    assert (plain.search_type, len(plain.invoke("whales"))) == ("similarity", 5)


def test_dashboards_read_the_audit_by_its_old_name(config: Config, fresh: Database):
    config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
    config.load_static_config({"deployment_name": "d", "embedding_model": "m"})
    query = """
        SELECT user_id, config_type, field_name, old_value, new_value FROM config_audit
        WHERE field_name IN ('verbosity', 'embedding_model') ORDER BY config_type
    """
    assert fresh.run(rows(query)) == [
        (None, "dynamic", "verbosity", None, 1),
        (None, "static", "embedding_model", None, "m"),
    ]


def test_what_a_field_for_anything_holds_is_stored_or_refused(fresh: Database):
    class Mine(DynamicConfig):
        options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it

    mine = ConfigRepository(fresh, model=Mine)
    with pytest.raises(InvalidInput, match="nan"):
        mine.update_dynamic_config({"options": {"score": math.nan}}, updated_by=SYSTEM)
    mine.update_dynamic_config({"options": {"score": 0.5}}, updated_by=SYSTEM)
    assert mine.get_dynamic_config().options == {"score": 0.5}


class Meanwhile:
    """A runner that does something while an answer is on its way back, once."""

    def __init__(self, database: Database, doing: Callable[[], object]) -> None:
        self._database = database
        self._doing: Callable[[], object] | None = doing

    def run(self, op: Op[Any]) -> Any:
        answer = self._database.run(op)
        doing, self._doing = self._doing, None
        if doing is not None:
            doing()
        return answer


def test_what_was_read_before_a_change_is_not_kept_after_it(fresh: Database):
    def change() -> None:
        config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)

    config: Config = ConfigRepository(Meanwhile(fresh, change), cache_seconds=3600)  # type: ignore[arg-type]
    assert config.get_dynamic_config().verbosity == 3
    assert config.get_dynamic_config().verbosity == 1


def test_of_two_answers_the_one_asked_for_last_is_kept(fresh: Database, config: Config):
    def change() -> None:
        config.update_dynamic_config({"verbosity": 1}, updated_by=SYSTEM)
        assert cached.get_dynamic_config(force_reload=True).verbosity == 1

    cached: Config = ConfigRepository(Meanwhile(fresh, change), cache_seconds=3600)  # type: ignore[arg-type]
    assert cached.get_dynamic_config().verbosity == 3
    assert cached.get_dynamic_config().verbosity == 1

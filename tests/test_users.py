"""Users: made once however many ask, changed field by field, and never by the wrong person."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from a2rchi_pg import CLEAR, SYSTEM, ConfigRepository, Database, DynamicConfig, UserRepository
from a2rchi_pg._people import list_users
from a2rchi_pg.errors import ConfigError, InvalidInput, NotFound, PermissionDenied
from tests.database_support import admin, commands, rows
from tests.plugins.people import EMPTY
from tests.plugins.stores import Twin

if TYPE_CHECKING:
    from a2rchi_pg import KeyRing, Transaction

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def people(way_in: tuple[str, Database], fresh: Database, ring: KeyRing) -> Twin:
    """The users, reached in each of the three ways."""
    way, database = way_in
    return Twin(UserRepository(database, ring), way)


async def test_a_life_in_the_application(people: Twin):
    anonymous = await people.get_or_create()
    assert anonymous.id.startswith("anon_")
    assert (anonymous.auth_provider, anonymous.preferences) == ("anonymous", {})
    assert await people.get(anonymous.id) == anonymous
    assert await people.get("nobody") is None
    await people.set_api_key(anonymous.id, "openai", "sk-0123456789-abcdef")
    await people.update_preferences(anonymous.id, {"theme": "dark"})
    ann = await people.link(anonymous.id, "ann", display_name="Ann")
    assert (ann.id, ann.auth_provider, ann.preferences) == ("ann", "sso", {"theme": "dark"})
    assert (await people.record_login("ann")).login_count == 1
    assert await people.get_api_key("ann", "openai") == "sk-0123456789-abcdef"
    assert (await people.update_profile("ann", {"email": "ann@x.org"})).email == "ann@x.org"
    assert await people.is_admin("ann") is False
    assert (await people.set_role("ann", "admin", changed_by=SYSTEM)).is_admin
    assert await people.is_admin("ann") is True
    assert [change.new_role for change in await people.role_changes("ann")] == ["admin"]
    assert [user.id for user in await people.list_users()] == ["ann"]
    assert set(await people.export("ann")) >= {"users", "user_api_keys", "user_role_changes"}
    assert (await people.rotate_api_keys()).total == 0
    assert [use.keys for use in await people.api_key_status()] == [1]
    assert [key.provider for key in await people.list_api_keys("ann")] == ["openai"]
    assert await people.delete_api_key("ann", "openai") is True
    assert await people.delete("ann") is True
    assert await people.delete("ann") is False


def test_u1_users_and_configuration_work_through_one_pool(users: UserRepository):
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda n: users.get_or_create(f"user {n % 4}"), range(64)))
    assert len({user.id for user in made}) == 4
    assert len(users.list_users()) == 4


def test_u6_no_operation_needs_a_second_connection(common_dsn: str, fresh, ring: KeyRing):
    with Database(common_dsn, max_size=1, timeout=5) as database:
        users, config = UserRepository(database, ring), ConfigRepository(database)
        old = users.get_or_create().id
        users.set_api_key(old, "openai", "sk-0123456789-abcdef")
        users.update_preferences(old, {"theme": "dark"})
        users.link(old, "ann")
        users.set_role("ann", "admin", changed_by=SYSTEM)
        config.update_dynamic_config({"verbosity": 1}, updated_by="ann")
        assert users.rotate_api_keys().total == 0
        assert config.effective("ann").theme == "dark"
        with database.transaction() as transaction:
            UserRepository(transaction, ring).link(users_own(transaction), "ann")


def users_own(transaction: Transaction) -> str:
    return UserRepository(transaction).get_or_create().id


def test_c1_services_need_no_right_to_change_tables(common_dsn: str, fresh, ring: KeyRing):
    role = "a2rchi_test_service"
    admin(common_dsn, f"CREATE ROLE {role}")
    admin(
        common_dsn, f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"
    )
    try:
        with Database(make_conninfo(common_dsn, options=f"-c role={role}")) as database:
            users, config = UserRepository(database, ring), ConfigRepository(database)
            old = users.get_or_create().id
            users.set_api_key(old, "openai", "sk-0123456789-abcdef")
            users.link(old, "ann")
            users.set_role("ann", "admin", changed_by=SYSTEM)
            config.load_static_config({"deployment_name": "d", "embedding_model": "m"})
            config.update_dynamic_config({"verbosity": 1}, updated_by="ann")
            assert users.export("ann")["user_api_keys"]
            assert config.effective("ann").verbosity == 1
            assert users.delete("ann")
    finally:
        admin(common_dsn, f"DROP OWNED BY {role}")
        admin(common_dsn, f"DROP ROLE {role}")


def test_pages_of_users_come_from_the_index(users: UserRepository, fresh: Database, common_dsn):
    many = "INSERT INTO users (id, created_at) SELECT n, now() - n * interval '1 s' FROM"
    fresh.run(commands(f"{many} generate_series(1, 5000) n"))
    admin(common_dsn, "ANALYZE users")
    last = users.list_users(limit=100)[-1]
    (statement,) = list_users("anonymous", None, 100, (last.created_at, last.id))
    plan = fresh.run(
        rows(f"EXPLAIN {statement.query}", **statement.params)  # type: ignore[str-bytes-safe]
    )
    assert any("users_created" in line for (line,) in plan), plan


def test_the_few_admins_come_from_an_index_of_their_own(fresh: Database, common_dsn: str):
    fresh.run(commands("INSERT INTO users (id, role) SELECT n, CASE WHEN mod(n, 2000) = 0 "
                       "THEN 'admin' ELSE 'user' END FROM generate_series(1, 5000) n"))  # fmt: skip
    admin(common_dsn, "ANALYZE users")
    (statement,) = list_users(None, "admin", 100, None)
    plan = fresh.run(
        rows(f"EXPLAIN {statement.query}", **statement.params)  # type: ignore[str-bytes-safe]
    )
    assert any("users_admins" in line for (line,) in plan), plan


def test_u9_a_dashboards_role_sees_neither_keys_nor_addresses(common_dsn: str, users):
    users.get_or_create("ann", email="ann@x.org")
    role = "a2rchi_test_dashboard"
    admin(common_dsn, f"CREATE ROLE {role}")
    try:
        admin(common_dsn, f"GRANT SELECT ON v_users TO {role}")
        with psycopg.connect(common_dsn, options=f"-c role={role}", autocommit=True) as reader:
            (row,) = reader.execute("SELECT row_to_json(v) FROM v_users v").fetchall()
            assert row[0]["role"] == "user"
            assert not {"id", "email", "display_name", "preferences"} & set(row[0])
            for table in ("users", "user_api_keys", "static_config", "config_audit"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(f"SELECT * FROM {table}")
    finally:
        admin(common_dsn, f"DROP OWNED BY {role}")
        admin(common_dsn, f"DROP ROLE {role}")


def test_u4_zero_none_and_absent_are_three_things(users: UserRepository):
    users.get_or_create("ann")
    patch = {"temperature": 0, "top_k": 0, "max_tokens": None}
    assert users.update_preferences("ann", patch).preferences == patch
    after = users.update_preferences("ann", {"temperature": CLEAR, "theme": "dark"})
    assert after.preferences == {"top_k": 0, "max_tokens": None, "theme": "dark"}
    assert after == users.get("ann")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_preferences_are_what_the_patches_make_of_them(users: UserRepository, data: st.DataObject):
    values = {
        "theme": st.sampled_from(["system", "light", "dark"]),
        "temperature": st.none() | st.floats(0, 2) | st.just(0),
        "max_tokens": st.none() | st.integers(1, 10_000),
        "active_model": st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
        .filter(str.strip)
        .map(lambda name: name[:200]),
        "top_k": st.none() | st.integers(0, 100),
    }
    patches = st.fixed_dictionaries(
        {}, optional={key: each | st.just(CLEAR) for key, each in values.items()}
    )
    user = users.get_or_create()
    expected: dict[str, Any] = {}
    for patch in data.draw(st.lists(patches, max_size=4)):
        expected = {k: v for k, v in {**expected, **patch}.items() if v is not CLEAR}
        assert users.update_preferences(user.id, patch).preferences == expected
    assert users.delete(user.id)


def test_two_patches_at_once_are_both_kept(users: UserRepository):
    users.get_or_create("ann")
    fields = {"temperature": 0.5, "top_p": 0.5, "top_k": 5, "max_tokens": 5, "theme": "dark"}

    def set_one(field: str) -> None:
        users.update_preferences("ann", {field: fields[field]})

    with ThreadPoolExecutor(len(fields)) as threads:
        list(threads.map(set_one, fields))
    found = users.get("ann")
    assert found
    assert found.preferences == fields


def test_every_bad_preference_is_named_at_once(users: UserRepository):
    users.get_or_create("ann")
    patch = {"temperature": 5.0, "max_tokens": -1, "verbosity": 3, "nonsense": 1, "theme": "red"}
    with pytest.raises(ConfigError) as caught:
        users.update_preferences("ann", patch)
    assert set(caught.value.fields) == set(patch)
    assert isinstance(caught.value, ValueError)
    found = users.get("ann")
    assert found
    assert found.preferences == {}


def test_u5_what_is_newly_known_is_kept_and_what_is_not_stays(users: UserRepository):
    first = users.get_or_create("ann", display_name="Ann")
    assert users.get_or_create("ann") == first
    assert users.get_or_create("ann", display_name="Ann") == first
    second = users.get_or_create("ann", auth_provider="sso", email="ann@x.org")
    assert (second.display_name, second.email, second.auth_provider) == ("Ann", "ann@x.org", "sso")
    assert users.get_or_create("ann", auth_provider="anonymous") == second
    assert users.get_or_create("ann", auth_provider="basic").auth_provider == "basic"
    assert users.update_profile("ann", {"display_name": None}).display_name is None
    assert users.update_profile("ann", {}).email == "ann@x.org"


def test_u11_a_full_pool_is_waited_for_no_longer_than_its_timeout(common_dsn: str, fresh):
    with (
        Database(common_dsn, max_size=1, timeout=0.3) as database,
        database.transaction(),
        pytest.raises(Exception, match="timeout"),
    ):
        UserRepository(database).get_or_create("ann")


def test_u12_u13_what_is_written_is_committed_and_no_connection_lost(common_dsn: str, fresh):
    with Database(common_dsn, max_size=2) as database:
        users = UserRepository(database)
        for turn in range(10):
            users.get_or_create(f"user {turn}")
            with pytest.raises(NotFound):
                users.record_login("nobody")
        assert len(UserRepository(fresh).list_users()) == 10


def test_u14_two_databases_are_two(common_dsn: str, fresh):
    with Database(common_dsn, min_size=0) as one, Database(common_dsn, min_size=0) as other:
        assert UserRepository(one).get_or_create("ann") == UserRepository(other).get("ann")
        assert one.pool_stats()["pool_min"] == 0


def test_users_take_part_in_a_larger_transaction(users: UserRepository, fresh: Database):
    with pytest.raises(NotFound), fresh.transaction() as transaction:
        inside = UserRepository(transaction)
        inside.get_or_create("ann")
        inside.record_login("nobody")
    assert users.get("ann") is None


def test_pages_of_users_neither_repeat_nor_skip(users: UserRepository, fresh: Database):
    with fresh.transaction() as transaction:  # one now() for all of them
        inside = UserRepository(transaction)
        made = {inside.get_or_create(auth_provider=p).id for p in ("sso", "anonymous") * 12}
    seen, last = [], None
    while page := users.list_users(limit=5, after=last):
        seen += [user.id for user in page]
        last = page[-1]
    assert len(seen) == len(made)
    assert set(seen) == made
    assert len(users.list_users(auth_provider="sso")) == 12
    assert users.list_users(role="admin") == []


def test_c15_only_an_admin_makes_admins_and_every_change_is_noted(users: UserRepository):
    for name in ("ann", "bob"):
        users.get_or_create(name, auth_provider="sso")
    users.set_role("ann", "admin", changed_by=SYSTEM, note="first")
    with pytest.raises(PermissionDenied, match="'bob'"):
        users.set_role("bob", "admin", changed_by="bob")
    users.set_role("bob", "admin", changed_by="ann")
    users.set_role("bob", "admin", changed_by="ann")
    users.set_role("ann", "user", changed_by="bob")
    with pytest.raises(PermissionDenied):
        users.set_role("bob", "user", changed_by="ann")
    noted = [(c.user_id, c.old_role, c.new_role, c.changed_by) for c in users.role_changes()]
    assert noted == [
        ("ann", "admin", "user", "bob"),
        ("bob", "user", "admin", "ann"),
        ("ann", "user", "admin", None),
    ]
    assert [change.note for change in users.role_changes("ann")] == [None, "first"]


def test_nobody_is_not_the_deployment(users: UserRepository):
    users.get_or_create("ann")
    for nobody in (None, "", 0):
        with pytest.raises(InvalidInput, match="SYSTEM"):
            users.set_role("ann", "admin", changed_by=nobody)  # type: ignore[arg-type]
    assert users.is_admin("ann") is False


@pytest.mark.parametrize(
    "call",
    [
        lambda users: users.get_or_create(""),
        lambda users: users.get_or_create("a\0b"),
        lambda users: users.get_or_create("x" * 3000),
        lambda users: users.get_or_create("ann", auth_provider="facebook"),
        lambda users: users.set_role("ann", "god", changed_by=SYSTEM),
        lambda users: users.update_profile("ann", {"role": "admin"}),
        lambda users: users.list_users(limit=0),
        lambda users: users.link("ann", "ann"),
        lambda users: users.link("anon", "ann", auth_provider="anonymous"),
        lambda users: users.link("anon", "ann", auth_provider=[]),
        lambda users: users.get_or_create("ann", email="a" * 501),
        lambda users: users.update_profile("ann", {"display_name": "a" * 501}),
        lambda users: users.update_profile("ann", None),
        lambda users: users.record_login("\ud800"),
        lambda users: users.delete(7),
        lambda users: users.export("a\0"),
        lambda users: users.is_admin(["ann"]),
        lambda users: users.set_role("ann", "user", changed_by="\ud800"),
        lambda users: users.set_role("ann", "user", changed_by=SYSTEM, note=5),
        lambda users: users.role_changes(""),
        lambda users: users.list_users(after="ann"),
        lambda users: users.list_users(role="god"),
        lambda users: users.list_users(auth_provider="\ud800"),
        lambda users: users.list_users(limit=10**5000),
        lambda users: users.set_api_key("ann", "openai", "sk-0123456789", expires_at="2030"),
        lambda users: users.get_api_key("\ud800", "openai"),
        lambda users: users.list_api_keys(5),
        lambda users: users.delete_api_key("a\0", "openai"),
        lambda users: users.rotate_api_keys(batch_size="5"),
    ],
)
def test_what_can_not_be_stored_is_refused_first(users: UserRepository, call: Any):
    with pytest.raises(InvalidInput):
        call(users)
    assert users.list_users() == []


@pytest.mark.parametrize("method", ["record_login", "export"])
def test_commands_about_nobody_say_so(users: UserRepository, method: str):
    with pytest.raises(NotFound, match="'nobody'"):
        getattr(users, method)("nobody")
    with pytest.raises(NotFound):
        users.update_preferences("nobody", {"theme": "dark"})
    with pytest.raises(NotFound):
        users.update_profile("nobody", {"email": None})


@pytest.mark.owner
def test_everything_about_a_person_is_exported_and_deleted(users: UserRepository, fresh: Database):
    users.get_or_create("ann", email="ann@x.org")
    users.get_or_create("bob", email="bob@x.org")
    users.set_api_key("ann", "openai", "sk-0123456789-abcdef")
    fresh.run(
        commands(
            "CREATE TABLE notes (id int PRIMARY KEY, owner text REFERENCES users)",
            "CREATE TABLE pages (note int REFERENCES notes ON DELETE CASCADE, body text)",
            "INSERT INTO notes VALUES (1, 'ann'), (2, 'bob')",
            "INSERT INTO pages VALUES (1, 'of ann'), (2, 'of bob')",
        )
    )
    try:
        exported = users.export("ann")
    finally:
        fresh.run(commands("DROP TABLE pages, notes"))
    assert exported["users"][0]["email"] == "ann@x.org"
    assert exported["notes"] == [{"id": 1, "owner": "ann"}]
    assert exported["pages"] == [{"note": 1, "body": "of ann"}]
    assert exported["user_api_keys"][0]["last_four"] == "cdef"
    assert "ciphertext" not in exported["user_api_keys"][0]
    assert "bob" not in str(exported)
    assert users.delete("ann")
    assert fresh.run(rows("SELECT user_id FROM user_api_keys")) == []


def test_preferences_of_a_model_of_ones_own(fresh: Database, common_dsn: str):
    class Mine(DynamicConfig):
        personal = DynamicConfig.personal | {"voice"}
        voice: str = "calm"

    users = UserRepository(fresh, model=Mine)
    users.get_or_create("ann")
    assert users.update_preferences("ann", {"voice": "loud"}).preferences == {"voice": "loud"}
    with pytest.raises(ConfigError, match="verbosity"):
        users.update_preferences("ann", {"verbosity": 1})
    admin(common_dsn, EMPTY)


def test_a_model_may_leave_nobody_anything_to_prefer(users: UserRepository, fresh: Database):
    class Strict(DynamicConfig):
        personal = frozenset()

    users.get_or_create("ann")
    with pytest.raises(ConfigError, match="verbosity"):
        UserRepository(fresh, model=Strict).update_preferences("ann", {"verbosity": 1})

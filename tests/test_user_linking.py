"""Two users become one: nothing of either is lost, whatever table it is in and whoever writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a2rchi_pg import CatalogRepository, KeyRing, SelectionRepository, UserRepository
from a2rchi_pg.errors import InvalidInput, MissingReference, PermissionDenied
from tests.database_support import commands, rows
from tests.plugins.catalogs import spec
from tests.plugins.people import new_ring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg import Database

pytestmark = pytest.mark.timeout(120)

# Tables that know nothing of linking, of every shape that a reference to a user has.
TABLES = (
    "CREATE TABLE linked_notes (id int PRIMARY KEY, owner text REFERENCES users)",
    """CREATE TABLE linked_likes (user_id text REFERENCES users, thing int, how text,
        PRIMARY KEY (user_id, thing) INCLUDE (how))""",
    """CREATE TABLE linked_avatars (user_id text UNIQUE REFERENCES users ON DELETE CASCADE,
        how text)""",
    """CREATE TABLE linked_mail (id int PRIMARY KEY, "From" text REFERENCES users,
        "To" text REFERENCES users ON DELETE SET NULL)""",
)
REFERENCES = """
    SELECT conrelid::regclass::text, quote_ident(attname) FROM pg_constraint
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f' AND confrelid = 'users'::regclass AND conparentid = 0
"""


@pytest.fixture
def tables(fresh: Database) -> Iterator[None]:
    fresh.run(commands(*TABLES))
    yield
    fresh.run(commands("DROP TABLE linked_notes, linked_likes, linked_avatars, linked_mail"))


def referring(database: Database, user_id: str) -> int:
    """How many rows of any table refer to a user."""
    return sum(
        database.run(rows(f"SELECT count(*) FROM {table} WHERE {column} = %(id)s", id=user_id))[0][
            0
        ]
        for table, column in database.run(rows(REFERENCES))
    )


def put(database: Database, table: str, *values: Any) -> None:
    given = ", ".join("NULL" if value is None else f"'{value}'" for value in values)
    database.run(commands(f"INSERT INTO {table} VALUES ({given})"))


def things(n: int = 6) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(1, n))


@pytest.mark.owner
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(mine=things(), theirs=things(), both_avatars=st.booleans(), late=things())
def test_no_row_is_lost_while_others_write(
    users: UserRepository, fresh: Database, tables: None, mine, theirs, both_avatars, late
):
    fresh.run(commands("TRUNCATE users CASCADE"))
    old, new = users.get_or_create().id, users.get_or_create("ann", auth_provider="sso").id
    for thing in mine:
        put(fresh, "linked_likes", old, thing, "old")
        put(fresh, "linked_notes", thing, old)
        put(fresh, "linked_mail", thing, old, new)
    for thing in theirs:
        put(fresh, "linked_likes", new, thing, "new")
    put(fresh, "linked_avatars", old, "old")
    if both_avatars:
        put(fresh, "linked_avatars", new, "new")

    def write(thing: int) -> int | None:
        """What a tab that is still anonymous does meanwhile; it is told when it is too late."""
        try:
            put(fresh, "linked_notes", 100 + thing, old)
        except MissingReference:
            return None
        return 100 + thing

    with ThreadPoolExecutor(4) as threads:
        written = [threads.submit(write, thing) for thing in late]
        links = [threads.submit(users.link, old, new) for _ in range(2)]
        assert {link.result().id for link in links} == {new}
    kept = {each.result() for each in written} - {None}

    assert users.get(old) is None
    assert referring(fresh, old) == 0
    likes = dict(fresh.run(rows("SELECT thing, how FROM linked_likes WHERE user_id = 'ann'")))
    assert likes == {**dict.fromkeys(mine, "old"), **dict.fromkeys(theirs, "new")}
    notes = {n for (n,) in fresh.run(rows("SELECT id FROM linked_notes WHERE owner = 'ann'"))}
    assert notes == mine | kept
    mail = fresh.run(rows("""SELECT id FROM linked_mail WHERE "From" = 'ann' AND "To" = 'ann'"""))
    assert {n for (n,) in mail} == mine
    avatars = fresh.run(rows("SELECT user_id, how FROM linked_avatars"))
    assert avatars == [("ann", "new" if both_avatars else "old")]


def test_u2_u3_preferences_profile_and_keys_are_merged_and_ones_own_stay(users: UserRepository):
    old = users.get_or_create(display_name="Visitor", email="visitor@x.org").id
    users.update_preferences(old, {"theme": "dark", "temperature": 0, "top_k": 7})
    for provider in ("openai", "gemini"):
        users.set_api_key(old, provider, f"sk-anonymous-{provider}-0000")
    users.get_or_create("ann", auth_provider="sso", display_name="Ann")
    users.update_preferences("ann", {"top_k": None})
    users.set_api_key("ann", "openai", "sk-of-ann-herself-1111")
    ann = users.link(old, "ann")
    assert ann.preferences == {"theme": "dark", "temperature": 0, "top_k": None}
    assert (ann.display_name, ann.email) == ("Ann", "visitor@x.org")
    assert users.get_api_key("ann", "openai") == "sk-of-ann-herself-1111"
    assert users.get_api_key("ann", "gemini") == "sk-anonymous-gemini-0000"
    assert users.get(old) is None


def test_of_what_both_chose_ones_own_choice_stays(users: UserRepository, fresh: Database):
    CatalogRepository(fresh).upsert_many([spec("both"), spec("old only")])
    selection = SelectionRepository(fresh)
    old = users.get_or_create().id
    selection.set_user(old, {"both": True, "old only": False})
    selection.set_user("ann", {"both": False})
    users.link(old, "ann")
    chosen = {
        each.resource_hash: each.user_default for each in selection.effective("ann").documents
    }
    assert (chosen["both"], chosen["old only"]) == (False, False)


def test_linking_again_changes_nothing(users: UserRepository):
    old = users.get_or_create().id
    once = users.link(old, "ann")
    assert users.link(old, "ann") == once
    assert users.link("anon_never_seen", "ann") == once


def test_a_key_nobody_can_open_is_moved_and_shown_as_such(users: UserRepository, fresh: Database):
    old = users.get_or_create().id
    UserRepository(fresh, new_ring()).set_api_key(old, "openai", "sk-0123456789-abcdef")
    users.set_api_key(old, "gemini", "sk-0123456789-ghijkl")
    users.link(old, "ann")
    shown = [(key.provider, key.last_four, key.state) for key in users.list_api_keys("ann")]
    assert shown == [("gemini", "ijkl", "ok"), ("openai", "cdef", "needs re-entry")]


def test_linking_without_a_key_ring_loses_no_key(users: UserRepository, fresh: Database):
    old = users.get_or_create().id
    users.set_api_key(old, "openai", "sk-0123456789-abcdef")
    with pytest.raises(InvalidInput, match="key ring"):
        UserRepository(fresh).link(old, "ann")
    assert users.get_api_key(old, "openai") == "sk-0123456789-abcdef"
    assert UserRepository(fresh).link(users.get_or_create().id, "bob").id == "bob"


def test_someone_who_logged_in_is_nobody_elses(users: UserRepository):
    users.get_or_create("victim", auth_provider="sso")
    with pytest.raises(PermissionDenied, match="'victim'"):
        users.link("victim", "thief")
    assert users.get("victim")
    assert users.get("thief") is None


def test_who_may_not_be_linked_leaves_no_trace_in_a_larger_transaction(
    users: UserRepository, fresh: Database
):
    users.get_or_create("victim", auth_provider="sso")
    with fresh.transaction() as transaction, suppress(PermissionDenied):
        UserRepository(transaction).link("victim", "thief")
    assert users.get("thief") is None


def test_rights_are_not_inherited(users: UserRepository, admin_id: str):
    users.link(users.get_or_create().id, admin_id)
    assert users.is_admin(admin_id)
    old = users.get_or_create().id
    users.set_role(old, "admin", changed_by=admin_id)
    assert not users.link(old, "ann").is_admin


def test_keys_that_change_meanwhile_are_encrypted_for_the_right_one(fresh: Database, ring: KeyRing):
    """A key is entered while linking has read the one before it."""
    users = UserRepository(fresh, ring)
    old = users.get_or_create().id
    users.set_api_key(old, "openai", "sk-before-0123456789")
    seen = []

    class Meanwhile:
        def run(self, op):
            if op.name == "link" and not seen:
                seen.append(op)
                users.set_api_key(old, "openai", "sk-meanwhile-0123456789")
            return fresh.run(op)

    UserRepository(Meanwhile(), ring).link(old, "ann")  # type: ignore[arg-type]
    assert users.get_api_key("ann", "openai") == "sk-meanwhile-0123456789"

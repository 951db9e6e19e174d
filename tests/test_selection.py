"""Selection: three tiers, of which the narrowest that is set decides."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import (
    CatalogRepository,
    Collections,
    CollectionSpec,
    ConversationRepository,
    Owner,
    SelectionRepository,
    UserRepository,
)
from a2rchi_pg._scope import hidden, visible
from a2rchi_pg.errors import InvalidInput, NotFound
from tests.database_support import commands, rows
from tests.plugins.catalogs import hashes, make_conversation, spec

if TYPE_CHECKING:
    from a2rchi_pg import Database

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def chosen(
    database: Database, catalog: CatalogRepository, selection: SelectionRepository
) -> SelectionRepository:
    """A selection over the documents a to e, and conversations 0 and 7 of ann's."""
    catalog.upsert_many(spec(name) for name in "abcde")
    for number in (0, 7):
        make_conversation(database, number, "ann")
    return selection


def seen(selection: SelectionRepository, *who: Any, **client: Any) -> str:
    return "".join(hashes(selection.effective(*who, enabled=True, **client)))


def stored(selection: SelectionRepository) -> list[tuple[Any, ...]]:
    query = """
        SELECT user_id, document_id, enabled FROM user_document_selection
        UNION ALL SELECT conversation_id::text, document_id, enabled
        FROM conversation_document_selection
        UNION ALL SELECT 'system', id, enabled FROM documents WHERE NOT enabled
        ORDER BY 1, 2
    """
    return selection._runner.run(rows(query))


def test_the_narrowest_tier_that_is_set_decides(chosen: SelectionRepository):
    assert chosen.set_system({"a": False, "b": False}) == 2
    assert chosen.set_user("ann", {"b": True, "c": False}) == 2
    assert chosen.set_conversation(7, {"b": False, "c": True, "d": False}, user_id="ann") == 3
    assert seen(chosen) == "cde"
    assert seen(chosen, "ann") == "bde"
    assert seen(chosen, "ann", 7) == "ce"
    assert seen(chosen, None, 7) == "ce"
    assert seen(chosen, "bob") == seen(chosen, "ann' OR true --") == "cde"
    page = chosen.effective("ann", 7)
    assert [
        (d.resource_hash, d.enabled, d.user_default, d.conversation_override, d.effective)
        for d in page.documents
    ] == [
        ("a", False, None, None, False),
        ("b", False, True, False, False),
        ("c", True, False, True, True),
        ("d", True, None, False, False),
        ("e", True, None, None, True),
    ]
    deciders = [document.decided_by for document in page.documents]
    assert deciders == ["system", "conversation", "conversation", "conversation", "system"]


def test_pages_of_the_selection(chosen: SelectionRepository):
    first = chosen.effective("ann", limit=2)
    assert (hashes(first), first.total) == (["a", "b"], 5)
    assert hashes(chosen.effective("ann", limit=9, after=first.next)) == ["c", "d", "e"]


def test_explain_says_what_decided(chosen: SelectionRepository, catalog: CatalogRepository):
    chosen.set_user("ann", {"a": False})
    chosen.set_conversation(7, {"a": True})
    for who, decided_by, effective in [
        ((), "system", True),
        (("ann",), "user", False),
        (("ann", 7), "conversation", True),
    ]:
        explained = chosen.explain("a", *who)
        assert explained is not None
        assert (explained.decided_by, explained.effective) == (decided_by, effective)
    catalog.delete("a")
    explained = chosen.explain("a", "ann", 7)
    assert explained is not None
    assert (explained.decided_by, explained.effective) == ("deleted", False)
    assert chosen.explain("unknown", "ann", 7) is None
    by_id = chosen.explain(explained.id)
    assert by_id is not None
    assert by_id.resource_hash == "a"


def test_s3_s5_g17_all_or_nothing_and_bad_names_are_named(
    chosen: SelectionRepository, catalog: CatalogRepository
):
    catalog.delete("b")
    before = stored(chosen)
    bad = {"a": False, "unknown": False, "b": False, 99_999: True, "nul\0": True}
    for attempt in (
        lambda: chosen.set_system(bad),
        lambda: chosen.set_user("ann", bad),
        lambda: chosen.set_conversation(7, bad),
    ):
        with pytest.raises(NotFound, match=r"'unknown', 'b', '99999'.*; nothing was stored"):
            attempt()
    assert stored(chosen) == before
    many = {f"x{n}": True for n in range(50)}
    with pytest.raises(NotFound, match="and 40 more"):
        chosen.set_user("ann", many)


def test_what_is_refused_leaves_no_user_behind_in_a_larger_transaction(database: Database):
    with database.transaction() as transaction, suppress(NotFound):
        SelectionRepository(transaction).set_user("zoe", {"unknown": True})
    assert UserRepository(database).get("zoe") is None


def test_a_document_named_twice_gets_the_last_choice(
    chosen: SelectionRepository, catalog: CatalogRepository
):
    document = catalog.get("a")
    assert document is not None
    assert chosen.set_user("ann", {"a": True, document.id: False}) == 1
    assert seen(chosen, "ann") == "bcde"
    assert chosen.set_user("ann", {document.id: False, "a": True}) == 1
    assert seen(chosen, "ann") == "abcde"
    assert chosen.set_user("ann", {}) == 0


def test_clearing_gives_the_word_back_to_the_wider_tier(chosen: SelectionRepository):
    chosen.set_user("ann", dict.fromkeys("abc", False))
    chosen.set_user("bob", {"a": False})
    chosen.set_conversation(7, dict.fromkeys("abd", False))
    assert chosen.clear_user("ann", ["a", "unknown"]) == 1
    assert chosen.clear_user("ann", "a") == 0
    assert seen(chosen, "ann") == "ade"
    assert chosen.clear_user("ann") == 2
    assert (seen(chosen, "ann"), seen(chosen, "bob")) == ("abcde", "bcde")
    assert chosen.clear_conversation(7, ["a"]) == 1
    assert chosen.clear_conversation(7) == 2
    assert seen(chosen, None, 7) == "abcde"


def test_a7_a_conversation_is_its_owners(chosen: SelectionRepository):
    chosen.set_conversation(0, {"a": False}, user_id="ann")
    before = stored(chosen)
    for attempt in (
        lambda: chosen.set_conversation(0, {"a": True}, user_id="bob"),
        lambda: chosen.clear_conversation(0, user_id="bob"),
    ):
        with pytest.raises(NotFound, match="no conversation 0, or it is not yours"):
            attempt()
    assert stored(chosen) == before
    assert (seen(chosen, "bob", 0), seen(chosen, "ann", 0)) == ("abcde", "bcde")
    assert chosen.set_conversation(0, {"b": False}) == 1  # the host has seen to it
    with pytest.raises(NotFound, match="no conversation 8"):
        chosen.set_conversation(8, {"b": False})
    assert chosen.clear_conversation(0, user_id="ann") == 2


def test_a_clients_conversation_is_that_clients(chosen: SelectionRepository, database: Database):
    """Also for somebody who has logged in elsewhere; the host itself chooses for anybody."""
    begun = ConversationRepository(database, owner=Owner(client_id="a browser")).create()
    number = begun.conversation_id
    assert chosen.set_conversation(number, {"a": False}, client_id="a browser") == 1
    before = stored(chosen)
    for stranger in ({"user_id": "bob"}, {"client_id": "another"}):
        with pytest.raises(NotFound, match="or it is not yours"):
            chosen.set_conversation(number, {"a": True}, **stranger)
        with pytest.raises(NotFound, match="or it is not yours"):
            chosen.clear_conversation(number, **stranger)
    assert stored(chosen) == before
    assert (seen(chosen, None, number), seen(chosen, "bob", number)) == ("bcde", "abcde")
    both = {"user_id": "bob", "client_id": "a browser"}
    for who, expected in (
        ({"client_id": "a browser"}, (False, "conversation", 4)),
        (both, (False, "conversation", 4)),
        ({"client_id": "another"}, (True, "system", 5)),
        ({"user_id": "bob", "client_id": "another"}, (True, "system", 5)),
    ):
        asked = {"conversation_id": number, **who}
        found = chosen.explain("a", **asked)
        page = chosen.effective(enabled=True, **asked)
        stats = CatalogRepository(database).stats(**asked)
        assert found is not None
        assert (found.effective, found.decided_by, page.total) == expected
        assert stats.enabled == page.total
    assert chosen.set_conversation(number, {"b": False}, **both) == 1
    assert chosen.clear_conversation(number) == 2


def test_ids_of_users_are_as_long_as_users_may_have_them(chosen: SelectionRepository):
    longest = "é" * 1000
    assert chosen.set_user(longest, {"a": False}) == 1
    assert seen(chosen, longest) == "bcde"


def test_what_is_purged_leaves_no_choice_behind(
    chosen: SelectionRepository, catalog: CatalogRepository
):
    chosen.set_user("ann", {"a": False})
    chosen.set_conversation(7, {"a": False})
    catalog.purge("a")
    assert stored(chosen) == []


def test_choosing_the_same_again_writes_nothing(chosen: SelectionRepository):
    def versions() -> list[tuple[Any, ...]]:
        return chosen._runner.run(
            rows(
                "SELECT ctid, xmin FROM user_document_selection UNION ALL SELECT ctid, xmin FROM "
                "conversation_document_selection UNION ALL SELECT ctid, xmin FROM documents"
            )
        )

    def choose() -> None:
        chosen.set_user("ann", {"a": False})
        chosen.set_conversation(7, {"a": False}, user_id="ann")
        chosen.set_conversation(7, {"a": False})
        chosen.set_system({"b": False})

    choose()
    before = versions()
    choose()
    assert versions() == before


@pytest.mark.servers("embedded")
def test_g18_what_is_no_choice_is_refused(chosen: SelectionRepository):
    wrong: list[tuple[Any, str]] = [
        (lambda: chosen.set_user("", {}), "user_id must be a string of 1 to 2,000 bytes"),
        (lambda: chosen.set_user("a\0", {}), "without NUL"),
        (lambda: chosen.set_user("ann", {"a": "yes"}), "choices are True or False, got 'yes'"),  # type: ignore[dict-item]
        (lambda: chosen.set_user("ann", {1.5: True}), "named by id or resource_hash"),  # type: ignore[dict-item]
        (lambda: chosen.set_user("ann", ["a"]), "choices map documents"),  # type: ignore[arg-type]
        (lambda: chosen.set_conversation("seven", {}), "conversation_id must be a whole number"),  # type: ignore[arg-type]
        (lambda: chosen.effective("ann", True), "conversation_id must be a whole number"),
        (lambda: chosen.effective(conversation_id=2**64), "conversation_id must be a whole number"),
    ]
    for attempt, message in wrong:
        with pytest.raises(InvalidInput, match=message):
            attempt()


def test_s4_v18_both_forms_of_the_scope_agree(
    chosen: SelectionRepository, catalog: CatalogRepository, database: Database
):
    """For every user and conversation, chunk by chunk and as a set, and as the listing says."""
    Collections(database).create(CollectionSpec(name="c", index="none"), 2)
    database.run(
        commands(
            "INSERT INTO document_chunks (collection_id, document_id, id, content, embedding) "
            "SELECT c.id, d.id, d.resource_hash, 'text', '[1,2]' FROM documents d, collections c",
            "INSERT INTO document_chunks (collection_id, id, content, embedding) "
            "SELECT id, 'of no document', 'text', '[1,2]' FROM collections",
        )
    )
    chosen.set_system({"a": False, "b": False, "c": False})
    chosen.set_user("ann", {"a": True, "b": True, "d": False})
    chosen.set_conversation(7, {"b": False, "c": True, "d": True}, user_id="ann")
    catalog.delete("e")
    everybody = [(), ("ann",), ("ann", 7), ("bob", 7), (None, 7), (None, 8)]
    for who, client in product(everybody, (None, "a browser")):
        for include_deleted in (False, True):
            allowed = set(seen(chosen, *who, client_id=client))
            allowed |= {"e"} if include_deleted else set()
            each, off = (
                visible(*who, client_id=client, include_deleted=include_deleted),
                hidden(*who, client_id=client, include_deleted=include_deleted),
            )
            by_row = f"SELECT id FROM document_chunks WHERE {each.sql}"
            by_set = (
                "SELECT id FROM document_chunks "
                f"WHERE document_id IS NULL OR document_id NOT IN ({off.sql})"
            )
            for query, params in ((by_row, each.params), (by_set, off.params)):
                found = {row[0] for row in database.run(rows(query, **params))}
                assert found == {*allowed, "of no document"}, (who, include_deleted, query)

"""Pages, searches, groups and figures of the catalog."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import CatalogRepository, Collections, CollectionSpec, Database
from a2rchi_pg.errors import FilterError, InvalidInput
from tests.database_support import commands
from tests.plugins.catalogs import hashes, make_conversation, spec
from tests.plugins.servers import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg import SelectionRepository
    from tests.plugins.servers import Server, Servers

pytestmark = pytest.mark.timeout(60)


def fill(catalog: CatalogRepository) -> CatalogRepository:
    """Seven documents of every kind of source."""
    catalog.upsert_many(
        [
            spec("w1", display_name="Calendar guide", source_type="web", url="https://A.example/x"),
            spec("w2", display_name="calendar of events", source_type="web",
                 url="https://me:secret@a.example/y?q=1", size_bytes=10),
            spec("w3", display_name="Evil twin", source_type="web", url="https://a.example.evil/"),
            spec("g1", display_name="README", source_type="git", suffix=".md",
                 git_repo="https://git.example/org/repo", metadata={"author": "Ann", "year": 2024}),
            spec("g2", display_name="100% sure_thing", source_type="git", suffix=".py",
                 url="https://git.example/org/repo/blob/main/x.py", metadata={"year": 2020}),
            spec("t1", display_name="A bug", source_type="jira", ticket_id="ABC-1", size_bytes=5),
            spec("l1", display_name="notes", source_type="files", relative_path="docs/notes.txt",
                 source_modified_at=datetime(2030, 1, 1, tzinfo=UTC)),
        ]
    )  # fmt: skip
    return catalog


@pytest.fixture
def library(catalog: CatalogRepository) -> CatalogRepository:
    """Documents of the test's own."""
    return fill(catalog)


@pytest.fixture(scope="module")
def shelf(server: Server, servers: Servers, template: str) -> Iterator[CatalogRepository]:
    """The same documents, for tests that only read."""
    with (
        new_database(server, f"{servers.prefix}_shelf", template) as dsn,
        Database(dsn) as database,
    ):
        yield fill(CatalogRepository(database))


def test_447_totals_are_of_all_pages(shelf: CatalogRepository):
    page = shelf.list(limit=2)
    assert (hashes(page), page.total) == (["g2", "t1"], 7)
    assert shelf.list(limit=2, offset=6).total == 7
    beyond = shelf.list(limit=2, offset=100)
    assert (beyond.documents, beyond.total, beyond.next) == ([], 7, None)
    none = shelf.list(limit=0)
    assert (none.documents, none.total, none.next) == ([], 7, None)
    assert shelf.list(with_total=False).total is None


@pytest.mark.parametrize("sort", ["name", "modified", "added", "size", "relevance"])
@pytest.mark.parametrize("descending", [True, False])
def test_pages_follow_one_another_by_key_as_by_offset(
    shelf: CatalogRepository, sort: Any, descending: bool
):
    view: dict[str, Any] = {"sort": sort, "descending": descending, "search": "e"}
    whole = hashes(shelf.list(**view))
    assert len(whole) == shelf.list(**view).total
    assert len(whole) >= 3 if sort == "relevance" else True
    by_offset = [hashes(shelf.list(**view, limit=1, offset=n))[0] for n in range(len(whole))]
    by_key, after = [], None
    for _ in whole:
        page = shelf.list(**view, limit=1, after=after)
        by_key += hashes(page)
        after = page.next
    assert (by_offset, by_key, after) == (whole, whole, None)


def test_a_page_by_key_misses_nothing_when_documents_come_and_go(library: CatalogRepository):
    first = library.list(limit=3)
    library.delete(hashes(first))
    library.upsert(spec("new", display_name="000"))
    assert hashes(library.list(after=first.next)) == ["w2", "w3", "l1", "g1"]


def test_orders(shelf: CatalogRepository):
    assert hashes(shelf.list(sort="name")) == ["g2", "t1", "w1", "w2", "w3", "l1", "g1"]
    assert hashes(shelf.list(sort="size", limit=2)) == ["w2", "t1"]
    assert hashes(shelf.list(sort="modified", limit=1)) == ["l1"]
    assert len(hashes(shelf.list(sort="added"))) == 7


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("calendar", {"w1", "w2"}),
        ("CALENDAR guide", {"w1"}),
        ("guide calendar", {"w1"}),
        ("abc-1", {"t1"}),
        ("notes.txt", {"l1"}),
        ("docs/notes", {"l1"}),
        ("ann", {"g1"}),
        ("2024", {"g1"}),
        ("sure_thing", {"g2"}),
        ("git.example", {"g1", "g2"}),
        ("nowhere", set()),
        ("   ", set()),
        ("e_th", {"g2"}),
        ("%", None),
        ("' OR true; --", set()),
        ("\\", set()),
        ("zzz & | ! <-> :* (", set()),
        ("nul\0", set()),
    ],
)
def test_g16_free_text_means_itself(shelf: CatalogRepository, server: Server, text: str, found):
    if found is None:  # found inside of words, where there are trigrams
        found = {"g2"} if server.has_trgm else set()
    assert set(hashes(shelf.list(search=text))) == found
    assert shelf.list(search=text).total == len(found)


@pytest.mark.servers("full")
def test_with_trigrams_near_misses_are_found_where_nothing_else_is(library: CatalogRepository):
    assert set(hashes(library.list(search="calender"))) == {"w1", "w2"}
    assert set(hashes(library.list(search="lenda"))) == {"w1", "w2"}
    assert set(hashes(library.list(search="calenadr"))) == {"w1", "w2"}  # at 0.56: not by default
    library.upsert(spec("typo", display_name="the calender"))
    assert hashes(library.list(search="calender")) == ["typo"]


@pytest.mark.servers("embedded", "plain")
def test_without_trigrams_words_are_found_by_their_beginnings(shelf: CatalogRepository):
    assert set(hashes(shelf.list(search="cal"))) == {"w1", "w2"}
    assert hashes(shelf.list(search="alendar")) == []


@pytest.mark.servers("full")
def test_trigrams_that_appear_later_are_taken_up(library: CatalogRepository):
    database = library._runner
    database.run(commands("DROP INDEX documents_trigrams", "DROP EXTENSION pg_trgm"))
    database.run(commands("SELECT build_catalog_indexes()"))
    assert hashes(library.list(search="lendar")) == []
    database.run(commands("SELECT adopt_extensions()", "SELECT build_catalog_indexes()"))
    assert set(hashes(library.list(search="lendar"))) == {"w1", "w2"}


def test_what_stands_in_the_name_comes_first(catalog: CatalogRepository):
    catalog.upsert_many(
        [
            spec("deep", display_name="something", metadata={"about": "whales"}),
            spec("long", display_name="whales and everything else there is"),
            spec("short", display_name="whales"),
        ]
    )
    assert hashes(catalog.list(search="whales")) == ["short", "long", "deep"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"year": {"$gte": 2021}}, {"g1"}),
        ({"author": "Ann", "suffix": ".md"}, {"g1"}),
        ({"author": "Ann", "suffix": ".py"}, set()),
        ({"$or": [{"author": "Ann"}, {"ticket_id": "ABC-1"}, {"url": "https://A.example/x"}]},
         {"g1", "t1", "w1"}),
        ({"size_bytes": {"$exists": True}}, {"w2", "t1"}),
        ({"size_bytes": {"$gt": 5}}, {"w2"}),
        ({"size_bytes": 5}, {"t1"}),
        ({"size_bytes": "5"}, set()),
        ({"source_modified_at": {"$gt": "2029-12-31"}}, {"l1"}),
        ({"source_modified_at": None, "source_type": "local_files"}, set()),
        ({"ingested_at": {"$exists": True}}, set()),
        ({"created_at": {"$lt": "2001-01-01"}}, set()),
        ({"created_at": 5}, set()),
        ({"enabled": False}, set()),
        ({"enabled": True, "suffix": {"$in": [".md", ".py"]}}, {"g1", "g2"}),
        ({"relative_path": {"$like": "docs/%"}}, {"l1"}),
        ({"display_name": {"$contains": "_"}}, {"g2"}),
        ({"origin": "https://a.example"}, {"w1", "w2"}),
        ({"metadata": {"$exists": True}}, set()),
    ],
)  # fmt: skip
def test_g13_g14_g16_filters_on_columns_and_metadata(
    shelf: CatalogRepository, wanted: dict[str, Any], found: set[str]
):
    page = shelf.list(filter=wanted)
    assert (set(hashes(page)), page.total) == (found, len(found))


def test_search_and_filter_hold_together(shelf: CatalogRepository):
    assert hashes(shelf.list(search="calendar", filter={"size_bytes": 10})) == ["w2"]
    assert hashes(shelf.list(search="calendar", source_type="git")) == []


@pytest.mark.servers("embedded")
@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"limit": -1}, "limit must be"),
        ({"limit": 10_001}, "limit must be"),
        ({"limit": None}, "limit must be"),
        ({"offset": -1}, "offset must be"),
        ({"sort": "colour"}, "sort must be one of relevance, name"),
        ({"sort": "relevance"}, "sort must be one of"),
        ({"status": "done"}, "status must be one of pending"),
        ({"source_type": "wiki"}, "source_type must be one of local_files"),
        ({"after": "x"}, "after is the next of a page before"),
        ({"after": "[1]"}, "after is the next of a page before"),
        ({"after": "[" * 100_000}, "after is the next of a page before"),
        ({"after": '["size", true, "1", 1]'}, "sorted by 'size'"),
        ({"user_id": ""}, "user_id must be"),
        ({"conversation_id": "5"}, "conversation_id must be a whole number"),
        ({"search": 5}, "texts must be strings"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    shelf: CatalogRepository, view: dict[str, Any], message: str
):
    with pytest.raises(InvalidInput, match=message):
        shelf.list(**view)
    with pytest.raises(FilterError):
        shelf.list(filter={"$and": 1})


def test_g16_groups_are_origins_and_nothing_that_looks_like_them(shelf: CatalogRepository):
    groups = {(group.source_type, group.origin): group.documents for group in shelf.grouped()}
    assert groups == {
        ("web", "https://a.example"): 2,
        ("web", "https://a.example.evil"): 1,
        ("git", "https://git.example/org/repo"): 2,
        ("ticket", "ABC"): 1,
        ("local_files", "Local files"): 1,
    }
    assert [group.origin for group in shelf.grouped(source_type="jira")] == ["ABC"]
    assert len(shelf.grouped(limit=2)) == 2


def test_groups_with_work_left_come_first(library: CatalogRepository):
    embed(library, ["w1", "w2", "t1"], fails=["g1"])
    groups = library.grouped(collection="c")
    assert [(g.origin, g.actionable) for g in groups] == [
        ("Local files", True),
        ("https://a.example.evil", True),
        ("https://git.example/org/repo", True),
        ("ABC", False),
        ("https://a.example", False),
    ]
    git = groups[2]
    assert (git.pending, git.embedding, git.embedded, git.failed) == (1, 0, 0, 1)


def test_g23_distinct_values_are_counted_and_limited(library: CatalogRepository):
    assert library.distinct("source_type")[0] == ("web", 3)
    assert set(library.distinct("suffix")) == {(".md", 1), (".py", 1)}
    assert library.distinct("git_repo") == [("https://git.example/org/repo", 1)]
    assert len(library.distinct("url", limit=2)) == 2
    assert set(library.distinct("year")) == {(2024, 1), (2020, 1)}
    assert library.distinct("year", filter={"suffix": ".md"}) == [(2024, 1)]
    assert library.distinct("no; DROP TABLE documents") == []
    library.delete("g1")
    assert library.distinct("git_repo") == []
    with pytest.raises(InvalidInput, match="distinct takes"):
        library.distinct("$or")


def embed(catalog: CatalogRepository, documents: list[str], *, fails: list[str] = ()) -> None:  # type: ignore[assignment]
    """Bring documents through every state in the collection ``c``."""
    Collections(catalog._runner).create(CollectionSpec(name="c", index="none"), 2)  # type: ignore[arg-type]
    for taken in catalog.begin("c", [*documents, *fails], owner="me"):
        if taken.resource_hash in fails:
            catalog.fail("c", taken.document_id, "no text", owner="me")
        else:
            catalog.finish("c", taken.document_id, owner="me", chunk_count=4)


def test_states_are_listed_and_counted(library: CatalogRepository):
    embed(library, ["w1", "w2"], fails=["w3"])
    library.begin("c", ["g1"], owner="me")
    expected = {"embedded": {"w1", "w2"}, "failed": {"w3"}, "embedding": {"g1"}}
    expected["pending"] = {"g2", "t1", "l1"}
    for status, documents in expected.items():
        page = library.list(status=status, collection="c")  # type: ignore[arg-type]
        assert (set(hashes(page)), page.total) == (documents, len(documents))
        assert {each.status for each in page.documents} == {status}
    stats = library.stats(collection="c")
    assert stats.by_status == {status: len(found) for status, found in expected.items()}
    assert (stats.documents, stats.chunks, stats.size_bytes) == (7, 8, 15)
    assert (stats.last_sync, stats.last_indexed is None) == (None, False)
    (failed,) = library.list(status="failed").documents
    assert (failed.error, failed.attempts, failed.chunk_count) == ("no text", 1, 0)
    assert library.stats(collection="elsewhere").by_status["pending"] == 7


def test_over_all_collections_the_worst_state_counts(library: CatalogRepository):
    embed(library, ["w1", "w2", "g1"])
    Collections(library._runner).create(CollectionSpec(name="d", index="none"), 2)  # type: ignore[arg-type]
    taken = {each.resource_hash: each for each in library.begin("d", ["w1", "w2"], owner="me")}
    library.fail("d", taken["w1"].document_id, "too long", owner="me")
    assert hashes(library.list(status="failed")) == ["w1"]
    assert hashes(library.list(status="embedding")) == ["w2"]
    assert hashes(library.list(status="embedded")) == ["g1"]
    assert hashes(library.list(status="failed", collection="c")) == []
    assert library.stats().by_status == {"pending": 4, "embedding": 1, "embedded": 1, "failed": 1}
    assert library.stats().chunks == 12


def test_s2_a_listing_knows_every_tier(
    database: Database, library: CatalogRepository, selection: SelectionRepository
):
    make_conversation(database, 5, "ann")
    selection.set_system({"w1": False})
    selection.set_user("ann", {"w1": True, "w2": False})
    selection.set_conversation(5, {"w2": True, "w3": False}, user_id="ann")
    seen: dict[tuple[Any, Any], set[str]] = {
        (None, None): {"w1"},
        ("ann", None): {"w2"},
        ("ann", 5): {"w3"},
        ("bob", None): {"w1"},
        ("bob", 5): {"w1"},
        (None, 5): {"w1", "w3"},
    }
    for (user, conversation), disabled in seen.items():
        who = {"user_id": user, "conversation_id": conversation}
        page = library.list(**who, enabled=False)
        assert (set(hashes(page)), page.total) == (disabled, len(disabled))
        assert not any(each.effective for each in page.documents)
        assert library.list(**who, enabled=True).total == 7 - len(disabled)
        assert all(each.effective for each in library.list(**who, enabled=True).documents)
        stats = library.stats(**who)
        assert (stats.enabled, stats.disabled) == (7 - len(disabled), len(disabled))
    assert library.stats().by_source_type["web"].enabled == 2


def test_an_empty_catalog_has_figures_too(catalog: CatalogRepository):
    stats = catalog.stats()
    assert (stats.documents, stats.chunks, stats.last_sync, stats.by_source_type) == (
        0,
        0,
        None,
        {},
    )
    assert stats.by_status == {"pending": 0, "embedding": 0, "embedded": 0, "failed": 0}
    assert (catalog.grouped(), catalog.distinct("suffix"), catalog.list().documents) == ([], [], [])

"""The catalog: what is recorded, found again, changed, hidden and removed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import (
    CatalogRepository,
    Collections,
    CollectionSpec,
    Database,
    DocumentSpec,
    SelectionRepository,
)
from a2rchi_pg.errors import FilterError, InvalidInput, InvalidValue, Unavailable
from tests.database_support import commands, rows, value
from tests.plugins.catalogs import hashes, make_conversation, spec

if TYPE_CHECKING:
    from a2rchi_pg import CatalogDocument

pytestmark = pytest.mark.timeout(60)
HAN = [chr(code) for code in range(0x4E00, 0x9FFF)]  # three bytes each, and not to be compressed
NOON = datetime(2024, 5, 1, 10, 0, tzinfo=UTC)


def got(catalog: CatalogRepository, resource_hash: str) -> CatalogDocument:
    found = catalog.get_by_hash(resource_hash)
    assert found is not None
    return found


def test_a_document_comes_back_as_it_was_recorded_g15(catalog: CatalogRepository):
    given: dict[str, Any] = {
        "display_name": "Guide",
        "source_type": "git",
        "url": "https://git.example/org/repo/guide.md",
        "ticket_id": "ABC-1",
        "git_repo": "https://git.example/org/repo",
        "git_commit": "c0ffee",
        "suffix": ".md",
        "mime_type": "text/markdown",
        "size_bytes": 2**40,
        "file_path": "/data/git/guide.md",
        "original_path": "guide.md",
        "base_path": "/data/git",
        "relative_path": "guide.md",
        "metadata": {"author": {"name": "Ann"}, "tags": ["a", 1, None]},
        "content_hash": "abc",
        "source_created_at": NOON,
        "source_modified_at": NOON + timedelta(days=1),
        "ingested_at": NOON + timedelta(days=2),
    }
    recorded = catalog.upsert(spec("h", **given))
    found = got(catalog, "h")
    assert {name: getattr(found, name) for name in given} == given
    assert (recorded.id, recorded.resource_hash, recorded.outcome) == (found.id, "h", "added")
    assert (found.enabled, found.deleted_at, found.origin) == (True, None, given["git_repo"])
    assert catalog.get(found.id) == catalog.get("h") == found


def test_only_what_changed_is_written(catalog: CatalogRepository):
    def version() -> list[tuple[Any, ...]]:
        return catalog._runner.run(rows("SELECT ctid, xmin, * FROM documents ORDER BY id"))

    specs = [spec("a", metadata={"n": 1}), spec("b")]
    assert [each.outcome for each in catalog.upsert_many(specs)] == ["added", "added"]
    before = version()
    assert [each.outcome for each in catalog.upsert_many(specs)] == ["unchanged", "unchanged"]
    assert version() == before
    changed = catalog.upsert_many([spec("b"), spec("a", metadata={"n": 2})])
    assert [(r.resource_hash, r.outcome) for r in changed] == [("b", "unchanged"), ("a", "changed")]
    assert got(catalog, "a").updated_at > got(catalog, "a").created_at


def test_of_equal_hashes_the_last_one_counts(catalog: CatalogRepository):
    recorded = catalog.upsert_many([spec("a", url="1"), spec("b"), spec("a", url="2")])
    assert [each.resource_hash for each in recorded] == ["a", "b", "a"]
    assert recorded[0] == recorded[2]
    assert got(catalog, "a").url == "2"
    assert catalog.upsert_many([]) == []


def test_a_batch_is_all_or_nothing(catalog: CatalogRepository):
    with pytest.raises(InvalidInput, match="size_bytes can't be -1"):
        catalog.upsert_many([spec("a"), spec("b", size_bytes=-1)])
    assert catalog.list().total == 0


def test_g11_a_second_sync_keeps_what_it_does_not_know(catalog: CatalogRepository):
    catalog.upsert(spec("a", ingested_at=NOON, content_hash="1", url="old"))
    catalog._runner.run(commands("UPDATE documents SET enabled = false"))
    catalog.upsert(spec("a", display_name="new"))
    found = got(catalog, "a")
    assert (found.ingested_at, found.content_hash, found.enabled) == (NOON, "1", False)
    assert (found.display_name, found.url) == ("new", None)
    assert catalog.stats().last_sync == NOON


WRITTEN = [
    "2024-05-01T12:00:00.000+0200",  # Jira
    "2024-05-01 10:00:00",
    "2024-05-01T10:00:00Z",
    "Wed, 01 May 2024 12:00:00 +0200",
    "Wed, 01 May 2024 10:00:00 GMT",
    1714557600,
    1714557600000,
    "1714557600",
    datetime(2024, 5, 1, 10, 0),  # noqa: DTZ001 - hosts have such, and they mean UTC here
    datetime(2024, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2))),
]


def test_g21_g10_dates_of_every_kind_are_one_time(catalog: CatalogRepository):
    given = [spec(str(n), source_created_at=written) for n, written in enumerate(WRITTEN)]
    catalog.upsert_many(given)
    found = catalog.get_many(each.resource_hash for each in given)
    assert [each.source_created_at for each in found] == [NOON] * len(WRITTEN)


def test_g21_the_sessions_zone_does_not_matter(dsn: str):
    with Database(f"{dsn} options='-c timezone=Asia/Tokyo'") as database:
        catalog = CatalogRepository(database)
        catalog.upsert(spec("a", source_created_at="2024-05-01T12:00:00+0200"))
        catalog.upsert(spec("b", source_modified_at=date(2024, 5, 1)))
        assert got(catalog, "a").source_created_at == NOON
        assert got(catalog, "b").source_modified_at == datetime(2024, 5, 1, tzinfo=UTC)
        page = catalog.list(sort="modified", limit=1)
        rest = catalog.list(sort="modified", limit=1, after=page.next)
        assert hashes(page) + hashes(rest) == ["a", "b"]


@pytest.mark.parametrize(
    "written", ["yesterday", "2024-13-01", True, 1e300, "1" * 400, [], "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_date_is_refused_by_name(written: Any):
    with pytest.raises(InvalidInput, match="source_created_at can't be"):
        spec("a", source_created_at=written)


SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    "links": ("web", {}),
    "files": ("local_files", {}),
    "manual": ("local_files", {}),
    "jira": ("ticket", {"ticket_provider": "jira"}),
    "redmine": ("ticket", {"ticket_provider": "redmine"}),
    "sso": ("sso", {}),
    "wiki": ("unknown", {"original_source_type": "wiki"}),
}


def test_g20_old_words_for_sources(catalog: CatalogRepository):
    catalog.upsert_many(spec(word, source_type=word) for word in SOURCES)
    found = {
        each.resource_hash: (each.source_type, each.metadata)
        for each in catalog.get_many(list(SOURCES))
    }
    assert found == SOURCES
    assert hashes(catalog.list(source_type="links")) == ["links"]
    assert hashes(catalog.list(source_type="jira")) == ["jira", "redmine"]


def test_g9_nul_and_surrogates_are_cleaned_everywhere(catalog: CatalogRepository):
    catalog.upsert(
        spec("a", display_name="a\0b\ud800", url="u\0", metadata={"k\0": ["\0x", "\udfff"]})
    )
    found = got(catalog, "a")
    assert (found.display_name, found.url) == ("ab\ufffd", "u")
    assert found.metadata == {"k": ["x", "\ufffd"]}
    with pytest.raises(InvalidInput, match="without NUL"):
        spec("a\0")


def test_the_longest_of_what_is_indexed_fits(catalog: CatalogRepository):
    letters = Random(1)
    names = ("ticket_id", "git_repo", "suffix", "mime_type")
    longest = {each: "".join(letters.choices(HAN, k=166)) for each in names}
    repository = "".join(letters.choices(HAN, k=400))
    catalog.upsert(spec("a", **longest, source_type="web", url=f"https://{repository}/"))
    assert got(catalog, "a").suffix == longest["suffix"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size_bytes": "many"}, "size_bytes can't be 'many': it takes a whole number"),
        ({"size_bytes": True}, "size_bytes can't be True"),
        ({"size_bytes": 2**63}, "size_bytes can't be"),
        ({"url": 5}, "url can't be 5: it takes text"),
        ({"suffix": "x" * 501}, "up to 500 bytes"),
        ({"mime_type": "語" * 167}, "up to 500 bytes"),
        ({"source_type": None}, "source_type must be a string"),
        ({"metadata": [1]}, "metadata must be a mapping"),
        ({"metadata": {"a": object()}}, r"metadata\.a can't be stored as JSON"),
        ({"metadata": {1: 2}}, "keys of metadata must be strings"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(fields: dict[str, Any], message: str):
    with pytest.raises(InvalidInput, match=message):
        spec("a", **fields)


def test_g10_g13_g14_g15_a_flat_mapping_fills_the_columns():
    made = DocumentSpec.from_metadata(
        "ticket_ABC-1",
        {
            "source_type": "jira",
            "created_at": "2024-05-01T12:00:00.000+0200",
            "modified_at": "some day",
            "path": Path("tickets/ABC-1.txt"),
            "size_bytes": "12",
            "git_commit": "c0ffee",
            "project": "ABC",
            "nothing": None,
            "suffix": "x" * 600,
            "resource_hash": "another",
        },
    )
    assert (made.source_type, made.source_created_at, made.size_bytes) == ("ticket", NOON, 12)
    assert (made.file_path, made.git_commit) == ("tickets/ABC-1.txt", "c0ffee")
    assert made.metadata == {
        "ticket_provider": "jira",
        "modified_at": "some day",
        "project": "ABC",
        "suffix": "x" * 600,
    }
    assert (made.source_modified_at, made.suffix, made.display_name) == (None, None, "ticket_ABC-1")


def test_g12_deleted_is_hidden_and_restored_is_as_it_was(catalog: CatalogRepository):
    catalog.upsert_many([spec("a"), spec("b")])
    collection = with_chunks(catalog, "a")
    assert catalog.delete(["a", "unknown", 99_999]) == 1
    assert catalog.delete("a") == 0
    assert (catalog.get("a"), catalog.get_many(["a", "b"])) == (None, [got(catalog, "b")])
    deleted = catalog.get("a", include_deleted=True)
    assert deleted is not None
    assert deleted.deleted_at is not None
    assert (hashes(catalog.list()), hashes(catalog.list(deleted=True))) == (["b"], ["a"])
    assert catalog.chunks("a") == []
    assert (catalog.stats().documents, catalog.stats().deleted) == (1, 1)

    assert (catalog.restore("a"), catalog.restore("a"), catalog.restore("b")) == (1, 0, 0)
    assert len(catalog.chunks("a")) == 3
    assert catalog.list(search="a", collection=collection).documents[0].status == "embedded"

    catalog.delete("a")
    assert catalog.upsert(spec("a", url="again")).outcome == "restored"
    assert (got(catalog, "a").url, len(catalog.chunks("a"))) == ("again", 3)


def test_purged_is_gone_with_all_that_hung_on_it(catalog: CatalogRepository):
    catalog.upsert_many([spec("a"), spec("b"), spec("c")])
    with_chunks(catalog, "a")
    catalog.delete(["b"])
    assert catalog.purge(filter={}, only_deleted=True) == 1
    assert catalog.purge(["a", "unknown"]) == 1
    assert catalog.get("a", include_deleted=True) is None
    for table in ("document_chunks", "indexed_documents"):
        assert catalog._runner.run(value(f"SELECT count(*) FROM {table}")) == 0
    assert hashes(catalog.list()) == ["c"]


def test_a10_documents_are_deleted_by_a_filter_and_no_pattern(catalog: CatalogRepository):
    catalog.upsert_many([spec("a", git_repo="a_b"), spec("b", git_repo="axb"), spec("c")])
    assert catalog.delete(filter={"git_repo": "a%"}) == 0
    assert catalog.delete(filter={"git_repo": "a_b"}) == 1
    assert catalog.restore(filter={"git_repo": "a_b"}) == 1
    for wrong in ({}, {"documents": "a", "filter": {}}):
        with pytest.raises(InvalidInput, match="either documents"):
            catalog.delete(**wrong)


def test_documents_are_named_by_id_or_hash(catalog: CatalogRepository):
    recorded = catalog.upsert_many([spec("a"), spec("123")])
    first, second = (each.id for each in recorded)
    found = catalog.get_many([second, "a", first, "nul\0", 0, 2**63 - 1, "unknown"])
    assert [each.resource_hash for each in found] == ["123", "a", "a"]
    assert catalog.get(123) is None
    for wrong in (None, 1.5, b"a"):
        with pytest.raises(InvalidInput, match="named by id or resource_hash"):
            catalog.get_many([wrong])  # type: ignore[list-item]
    for number in (True, 2**63):
        with pytest.raises(InvalidInput, match="document must be a whole number"):
            catalog.get_many([number])
    with pytest.raises(InvalidInput, match="resource_hash must be a string"):
        catalog.get_by_hash(5)  # type: ignore[arg-type]


def test_urls_and_names_of_any_length_are_recorded(catalog: CatalogRepository):
    long = "https://a.example/" + "x" * 20_000
    catalog.upsert(spec("a", url=long, display_name="n" * 20_000, relative_path="p" * 9_000))
    assert hashes(catalog.list(filter={"url": long})) == ["a"]


def test_concurrent_writers_of_the_same_documents_agree(catalog: CatalogRepository):
    batches = [
        [
            spec(str(n), display_name=f"by {writer}")
            for n in (range(200) if writer % 2 else range(199, -1, -1))
        ]
        for writer in range(6)
    ]
    with ThreadPoolExecutor(6) as threads:
        recorded = list(threads.map(catalog.upsert_many, batches))
    ids = {each.resource_hash: each.id for each in recorded[0]}
    assert all(ids[each.resource_hash] == each.id for one in recorded for each in one)
    assert catalog.list().total == 200
    assert len({each.display_name for each in catalog.list(limit=200).documents}) == 1


def test_several_repositories_share_a_transaction(catalog: CatalogRepository, database: Database):
    with pytest.raises(ZeroDivisionError), database.transaction() as transaction:
        CatalogRepository(transaction).upsert(spec("a"))
        assert CatalogRepository(transaction).list().total == 1
        1 / 0  # noqa: B018 - it raises
    assert catalog.list().total == 0


def test_g19_making_a_repository_asks_the_database_nothing():
    CatalogRepository(Database("host=127.0.0.1 port=1"))


def test_errors_of_the_filter_language_are_the_catalogs_too(catalog: CatalogRepository):
    with pytest.raises(FilterError, match=r"unknown .*\$near"):
        catalog.delete(filter={"url": {"$near": 1}})


def with_chunks(
    catalog: CatalogRepository, document: str, text: str = "one two three", gap: int = 1
) -> str:
    """A document's chunks in a collection of its own, one a word, as ingestion leaves them."""
    runner = catalog._runner
    assert isinstance(runner, Database)
    Collections(runner).create(CollectionSpec(name="c", index="none"), 2)
    catalog.begin("c", [document], owner="me")
    found = got(catalog, document)
    start = 0
    for index, word in enumerate(text.split()):
        runner.run(
            commands(
                "INSERT INTO document_chunks (collection_id, document_id, chunk_index, start_char, "
                "end_char, id, content, embedding) SELECT id, "
                f"{found.id}, {index}, {start}, {start + len(word)}, '{index}', '{word}', '[1,2]' "
                "FROM collections WHERE name = 'c'"
            )
        )
        start += len(word) + gap
    catalog.finish("c", found.id, owner="me", chunk_count=len(text.split()))
    return "c"


def test_g22_a_preview_is_what_was_read_and_counts_characters(catalog: CatalogRepository):
    catalog.upsert(spec("a", mime_type="application/pdf", size_bytes=9_999_999))
    with_chunks(catalog, "a", "één twee drie")
    whole = catalog.content("a")
    assert whole is not None
    assert (whole.text, whole.truncated, whole.mime_type) == (
        "één\ntwee\ndrie",
        False,
        "application/pdf",
    )
    part = catalog.content("a", max_chars=6)
    assert part is not None
    assert (part.text, part.truncated) == ("één\ntw", True)
    assert catalog.content("unknown") is None
    assert [(c.index, c.text, c.start_char, c.end_char) for c in catalog.chunks("a", limit=2)] == [
        (0, "één", 0, 3),
        (1, "twee", 4, 8),
    ]
    assert [c.text for c in catalog.chunks("a", offset=2)] == ["drie"]
    assert catalog.chunks("a", collection="another") == []


def test_g22_a_preview_ends_where_chunks_that_lie_apart_do_too(catalog: CatalogRepository):
    catalog.upsert(spec("a"))
    with_chunks(catalog, "a", gap=20)
    for most, text, truncated in ((10, "one", True), (30, "one\ntwo", True), (99, None, False)):
        part = catalog.content("a", max_chars=most)
        assert part is not None
        assert (part.text, part.truncated) == (text or "one\ntwo\nthree", truncated)


def test_g22_overlapping_chunks_are_shown_once(catalog: CatalogRepository):
    from a2rchi_pg._preview import joined  # noqa: PLC0415 - the one test of it

    assert joined([["abcd", 0, 4], ["cdef", 2, 6], ["gh", 6, 8], ["jk", 9, 11]]) == "abcdefgh\njk"
    assert joined([["abcdef", 0, 6], ["cd", 2, 4], ["fg", 5, 7]]) == "abcdefg"
    assert joined([["a", None, None], ["b", None, None]]) == "a\nb"
    assert joined([]) == ""


def test_a_server_that_cannot_be_reached_says_so():
    with pytest.raises(Unavailable):
        CatalogRepository(Database("host=127.0.0.1 port=1", timeout=1)).get("a")


@pytest.mark.servers("embedded")
def test_a_writer_past_the_package_meets_the_same_rules(database: Database):
    columns = "resource_hash, display_name, source_type"
    insert = f"INSERT INTO documents ({columns}) VALUES ('a', 'a', 'links')"
    with pytest.raises(InvalidValue):
        database.run(commands(insert))


@pytest.mark.servers("embedded")
async def test_everything_has_a_native_twin(dsn: str):
    async with Database(dsn) as database:
        catalog, selection = CatalogRepository(database), SelectionRepository(database)
        await Collections(database).acreate(CollectionSpec(name="c", index="none"), 2)
        await catalog.aupsert(spec("a"))
        await catalog.aupsert_many([spec("b"), spec("c")])
        (begun,) = await catalog.abegin("c", "a", owner="me")
        await catalog.afinish("c", begun.document_id, owner="me", chunk_count=0)
        assert [each.status for each in await catalog.aingestion("c", "a")] == ["embedded"]
        assert await selection.aset_user("ann", {"a": False}) == 1
        await asyncio.to_thread(make_conversation, database, 7)
        assert await selection.aset_conversation(7, {"a": True}) == 1
        assert hashes(await selection.aeffective("ann", enabled=True)) == ["b", "c"]
        explained = await selection.aexplain("a", "ann", 7)
        assert explained is not None
        assert explained.decided_by == "conversation"
        page = await catalog.alist(search="a", user_id="ann", limit=1)
        assert (hashes(page), page.total) == (["a"], 1)
        assert (await catalog.astats(user_id="ann")).disabled == 1
        assert [group.documents for group in await catalog.agrouped()] == [3]
        assert await catalog.adelete("a") == 1
        assert await catalog.apurge("a") == 1
        assert await catalog.aget("a", include_deleted=True) is None


def test_what_is_no_document_is_refused(catalog: CatalogRepository):
    known = DocumentSpec(resource_hash="a")
    for document in ({"resource_hash": "a"}, None, "a", 5):
        with pytest.raises(InvalidInput, match="DocumentSpec"):
            catalog.upsert(document)  # type: ignore[arg-type]  # as the test says
        with pytest.raises(InvalidInput, match="DocumentSpec"):
            catalog.upsert_many([known, document])  # type: ignore[list-item]  # as above
        with pytest.raises(InvalidInput, match="DocumentSpec"):
            catalog.upsert_many(document)  # type: ignore[arg-type]  # as above
    assert catalog.get("a") is None

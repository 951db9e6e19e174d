"""The older catalog's calls, as its hosts make them, and what its own tests asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import Collections, CollectionSpec, Database, LegacyCatalog
from a2rchi_pg.errors import IllegalTransition, InvalidInput, NotFound
from tests.database_support import commands
from tests.plugins.catalogs import make_conversation

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def service(database: Database, tmp_path: Path) -> LegacyCatalog:
    """Four resources, two of them with files, and conversation 5."""
    make_conversation(database, 5)
    Collections(database).create(CollectionSpec(name="default", index="none"), 2)
    catalog = LegacyCatalog(tmp_path, database)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "1.html").write_text("<p>één</p>")
    (tmp_path / "web" / "2.pdf").write_bytes(b"%PDF-1.7 \xff\xfe")
    for resource_hash, path, metadata in [
        ("1", "web/1.html", {"source_type": "links", "url": "https://a.example/1", "depth": 1}),
        ("2", "web/2.pdf", {"source_type": "web", "url": "https://a.example/2", "size_bytes": "9"}),
        ("jira_A-1", "tickets/A-1.txt", {"source_type": "jira", "ticket_id": "A-1",
         "created_at": "2024-05-01T12:00:00.000+0200", "project": "50%_off"}),
        ("g", "git/x.py", {"source_type": "git", "git_repo": "repo", "visible": True}),
    ]:  # fmt: skip
        assert catalog.upsert_resource(resource_hash, path, metadata) > 0
    return catalog


def test_what_was_recorded_is_known(service: LegacyCatalog, tmp_path: Path):
    known = service.get_metadata_for_hash("jira_A-1")
    assert known == {
        "resource_hash": "jira_A-1",
        "display_name": "jira_A-1",
        "source_type": "ticket",
        "ticket_provider": "jira",
        "ticket_id": "A-1",
        "project": "50%_off",
        "path": "tickets/A-1.txt",
        "created_at": "2024-05-01T10:00:00+00:00",
        "ingestion_status": "pending",
    }
    assert service.get_metadata_for_hash("unknown") is None
    assert service.file_index == service.metadata_index
    assert service.file_index["1"] == "web/1.html"
    assert isinstance(service.get_document_id("1"), int)
    assert service.get_document_id("unknown") is None
    loaded = LegacyCatalog.load_sources_catalog(tmp_path, service._runner)
    assert loaded["1"] == str(tmp_path / "web/1.html")
    service.upsert_resource("1", "web/1.html", service.get_metadata_for_hash("1"))
    assert service.get_metadata_for_hash("1")["depth"] == "1"  # type: ignore[index]


def test_the_scrapers_keyword_calls(service: LegacyCatalog):
    found = service.get_metadata_by_filter("source_type", source_type="web", metadata_keys=["url"])
    assert dict(found) == {"1": {"url": "https://a.example/1"}, "2": {"url": "https://a.example/2"}}
    assert service.get_metadata_by_filter("source_type", "web", ["url"]) == found
    assert service.get_resource_hashes_by_metadata_filter("ticket_id", "A-1") == ["jira_A-1"]


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("size_bytes", None, {"2"}),
        ("size_bytes", "9", {"2"}),
        ("size_bytes", "abc", set()),
        ("modified_at", None, set()),
        ("created_at", None, {"jira_A-1"}),
        ("created_at", "2024-05-01T10:00:00Z", {"jira_A-1"}),
        ("created_at", "abc", set()),
        ("file_path", "git/x.py", {"g"}),
        ("path", "git/x.py", {"g"}),
        ("depth", "1", {"1"}),
        ("depth", None, {"1"}),
        ("visible", "True", {"g"}),
        ("git_repo", None, {"g"}),
        ("ingestion_status", "pending", {"1", "2", "jira_A-1", "g"}),
        ("project", "50%", set()),
        ("depth", "NaN", set()),
    ],
)
@pytest.mark.servers("embedded")
def test_g13_g14_every_field_can_be_asked_for(
    service: LegacyCatalog, field: str, value: Any, found: set[str]
):
    assert set(service.get_resource_hashes_by_metadata_filter(field, value)) == found


def test_search_metadata(service: LegacyCatalog, tmp_path: Path):
    def found(query: str, **options: Any) -> set[str]:
        return {each["hash"] for each in service.search_metadata(query, **options)}

    assert found("") == found("  ", filters={}) == found("", filters=[{}]) == set()
    assert found("a.example", limit=None) == {"1", "2"}
    assert len(found("a.example", limit=1)) == 1
    assert found("", filters={"source_type": "web", "size_bytes": "9"}) == {"2"}
    assert found("", filters=[{"size_bytes": 9}, {"ticket_id": "A-1"}]) == {"2", "jira_A-1"}
    assert found("", filters={"project": "0%_o"}) == {"jira_A-1"}
    assert found("", filters={"project": "%f"}) == found("", filters={"size_bytes": "abc"}) == set()
    assert found("", filters={"depth": "[" * 100_000}) == set()
    (hit,) = service.search_metadata("repo")
    assert (hit["path"], hit["metadata"]["git_repo"]) == (tmp_path / "git/x.py", "repo")


def test_files(service: LegacyCatalog, tmp_path: Path):
    assert list(service.iter_files()) == [("1", tmp_path / "web/1.html")]
    assert service.get_filepath_for_hash("2") == tmp_path / "web/2.pdf"
    assert service.get_filepath_for_hash("g") is None
    document = service.get_document_for_hash("1")
    assert document is not None
    assert (document.page_content, document.metadata["depth"]) == ("<p>één</p>", "1")
    assert service.get_document_for_hash("unknown") is None


def test_g22_content_is_file_then_chunks_then_what_is_known(
    service: LegacyCatalog, database: Database
):
    def content(resource_hash: str, **options: Any) -> tuple[Any, ...]:
        found = service.get_document_content(resource_hash, **options)
        assert found is not None
        return found["source"], found["content"], found["truncated"]

    assert content("1") == ("file", "<p>één</p>", False)
    assert content("1", max_size=5) == ("file", "<p>éé", True)
    source, card, _ = content("2")
    assert source == "metadata"
    assert '"url": "https://a.example/2"' in card
    database.run(
        commands(
            "INSERT INTO document_chunks (collection_id, document_id, chunk_index, id, content, "
            "embedding) SELECT c.id, d.id, 0, 'x', 'of the PDF', '[1,2]' "
            "FROM collections c, documents d WHERE resource_hash = '2'"
        )
    )
    assert content("2") == ("chunks", "of the PDF", False)
    assert service.get_document_chunks("2") == [
        {"index": 0, "text": "of the PDF", "start_char": None, "end_char": None}
    ]
    assert service.get_document_content("unknown") is None


def test_g15_distinct_values(service: LegacyCatalog):
    assert service.get_distinct_metadata(["git_repo", "source_type", "passwords"]) == {
        "git_repo": ["repo"],
        "source_type": ["git", "ticket", "web"],
    }


def test_deleting_and_reviving(service: LegacyCatalog):
    service.delete_resource("1")
    service.delete_resource("1")
    assert (service.get_metadata_for_hash("1"), "1" in service.file_index) == (None, False)
    service.upsert_resource("1", "web/1.html", None)
    assert "1" in service.file_index


def test_conversations_choose(service: LegacyCatalog):
    assert service.is_document_enabled("5", "1")
    assert service.is_document_enabled(5, "unknown")
    service.set_document_enabled("5", "1", False)
    assert service.bulk_set_enabled(5, ["2", "g"], True) == 2
    assert service.get_selection_state(5) == {"1": False, "2": True, "g": True}
    assert (service.get_disabled_hashes("5"), service.get_enabled_hashes(5)) == ({"1"}, {"2", "g"})
    assert (service.is_document_enabled(5, "1"), service.is_document_enabled(6, "1")) == (
        False,
        True,
    )
    with pytest.raises(InvalidInput, match="conversation_id must be a whole number"):
        service.set_document_enabled("five", "1", False)
    with pytest.raises(NotFound, match="'unknown'"):
        service.bulk_set_enabled(5, ["1", "unknown"], True)


def test_listings(service: LegacyCatalog):
    service.set_document_enabled(5, "1", False)
    first = service.list_documents(5, limit=2)
    assert (first["total"], first["enabled_count"], len(first["documents"])) == (4, 3, 2)
    assert (first["has_more"], first["next_offset"]) == (True, 2)
    second = service.list_documents(5, limit=2, offset=2)
    assert (second["has_more"], second["next_offset"]) == (False, None)
    every = service.list_documents(5, limit=None)
    assert (every["limit"], every["total"], every["has_more"]) == (4, 4, False)
    beyond = service.list_documents(5, limit=None, offset=9)
    assert (beyond["documents"], beyond["total"], beyond["has_more"]) == ([], 4, False)
    with pytest.raises(InvalidInput, match="enabled_filter must be one of"):
        service.list_documents(5, enabled_filter="on")
    off = service.list_documents(5, enabled_filter="disabled")
    assert (off["total"], off["enabled_count"]) == (1, 3)
    assert [(d["hash"], d["enabled"]) for d in off["documents"]] == [("1", False)]
    assert service.list_documents(source_type="jira", search="A-1")["total"] == 1


@pytest.mark.servers("embedded")
def test_a_document_of_many_chunks_is_embedded_with_all_of_them(
    service: LegacyCatalog, database: Database
):
    service.update_ingestion_status("1", "embedding")
    document = service.get_document_id("1")
    database.run(
        commands(
            "INSERT INTO document_chunks (collection_id, document_id, chunk_index, id, content, "
            f"embedding) SELECT c.id, {document}, n, n::text, 'page', '[1,2]' "
            "FROM collections AS c, generate_series(1, 10001) AS n"
        )
    )
    service.update_ingestion_status("1", "embedded")
    assert service.get_stats()["total_chunks"] == 10_001


def test_states_go_their_way(service: LegacyCatalog):
    service.update_ingestion_status("1", "embedding")
    assert service.get_stats()["ingestion_in_progress"]
    service.update_ingestion_status("1", "embedded")
    service.update_ingestion_status("2", "failed", "no text")
    with pytest.raises(IllegalTransition):
        service.update_ingestion_status("1", "embedded")
    with pytest.raises(NotFound):
        service.update_ingestion_status("unknown", "embedding")
    with pytest.raises(InvalidInput, match="status must be one of"):
        service.update_ingestion_status("1", "done")  # type: ignore[arg-type]
    failed = service.list_documents_with_status("failed")
    assert [(d["hash"], d["ingestion_error"]) for d in failed["documents"]] == [("2", "no text")]
    counts = {"pending": 2, "embedding": 0, "embedded": 1, "failed": 1}
    assert failed["status_counts"] == service.get_stats()["status_counts"] == counts

    grouped = service.list_documents_grouped(expand="https://a.example")
    site = next(g for g in grouped["groups"] if g["source_name"] == "https://a.example")
    assert (site["total"], site["failed"], site["has_actionable"]) == (2, 1, True)
    assert [each["hash"] for each in site["documents"]] == ["2"]
    assert (service.reset_failed_document("2"), service.reset_failed_document("2")) == (True, False)
    assert service.reset_all_failed_documents() == 0
    assert service.get_stats(5)["by_source_type"]["web"] == {"total": 2, "enabled": 2}

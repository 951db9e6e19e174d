"""A folder into the catalog, and a collection in line with it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_text_splitters import CharacterTextSplitter

from a2rchi_pg import CatalogRepository, Collections, Database, PostgresVectorStore, ingest
from a2rchi_pg._folder import document_of, fingerprint
from a2rchi_pg._loading import load
from a2rchi_pg.errors import InvalidInput
from a2rchi_pg.ingest import IngestProgress, VectorStoreManager, main
from tests.database_support import commands, rows
from tests.plugins.stores import WordModel

pytestmark = pytest.mark.timeout(120)

TEXTS = {
    "whale.md": "# Whales\n\n" + "The whale is a mammal of the sea. " * 60,
    "page.html": "<title>Foxes</title><style>p{}</style><p>A <b>fox</b>es' den<p>and more",
    "code.py": "def answer():\n    return 42\n",
    "sub/table.csv": "name,size\nwhale,30\nfox,1\n",
    "sub/data.json": '{"fox": {"legs": 4}}',
}
CHUNKS = """
    SELECT d.relative_path, c.chunk_index, c.start_char, c.end_char, c.id = d.resource_hash || '-'
        || lpad(c.chunk_index::text, 6, '0'), c.content, c.embedding::text
    FROM document_chunks c JOIN documents d ON d.id = c.document_id ORDER BY 1, 2
"""
STATES = """
    SELECT d.relative_path, i.status, i.chunk_count, i.content_fingerprint = d.content_hash,
           i.leased_by
    FROM indexed_documents i JOIN documents d ON d.id = i.document_id ORDER BY 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "docs"
    for name, text in TEXTS.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


@pytest.fixture
def store(database: Database, model: WordModel) -> PostgresVectorStore:
    return PostgresVectorStore(model, database=database, collection="c")


@pytest.fixture
def manager(store: PostgresVectorStore) -> VectorStoreManager:
    return VectorStoreManager(store, workers=2)


def asked(model: WordModel) -> list[str]:
    """The texts the model was given since it was last asked here."""
    given = [text for batch in model.asked for text in batch]
    model.asked.clear()
    return given


def reasons(manager: VectorStoreManager, database: Database) -> dict[str, str]:
    failed = manager.update_vectorstore().failed
    names = dict(database.run(rows("SELECT resource_hash, display_name FROM documents")))
    return {names[key]: reason for key, reason in failed.items()}


def test_what_others_embedded_is_adopted_and_its_changes_are_noticed(
    manager: VectorStoreManager, database: Database, model: WordModel, folder: Path
):
    manager.add_folder(folder)
    manager.update_vectorstore()
    asked(model)
    fingerprints = "SELECT content_fingerprint, embedding_fingerprint FROM indexed_documents"
    own = sorted(database.run(rows(fingerprints)))
    forget = "UPDATE indexed_documents SET content_fingerprint = NULL, embedding_fingerprint = NULL"
    database.run(commands(forget))
    report = manager.update_vectorstore()
    assert (report.unchanged, asked(model)) == (5, [])
    assert sorted(database.run(rows(fingerprints))) == own
    (folder / "code.py").write_text("def answer():\n    return 43\n")
    manager.add_folder(folder)
    assert manager.update_vectorstore().updated == 1


def test_a_folder_comes_in_and_stays_in_line(
    manager: VectorStoreManager, database: Database, model: WordModel, folder: Path
):
    assert manager.add_folder(folder).added == 5
    steps: list[IngestProgress] = []
    report = manager.update_vectorstore(progress=steps.append)
    assert (report.added, report.updated, report.unchanged, report.failed) == (5, 0, 0, {})
    assert [(step.done, step.total) for step in steps] == [(n, 5) for n in range(1, 6)]
    assert report.chunks == len(database.run(rows(CHUNKS))) == len(asked(model)) > 5
    assert set(report.seconds) == {"fingerprint", "load", "embed", "store"}

    again = manager.add_folder(folder)
    report = manager.update_vectorstore()
    assert (again.unchanged, report.unchanged, report.chunks, asked(model)) == (5, 5, 0, [])

    (folder / "code.py").write_text("def question():\n    return 6 * 9\n")
    (folder / "whale.md").rename(folder / "orca.md")
    (folder / "page.html").unlink()
    changes = manager.add_folder(folder)
    assert (changes.added, changes.changed, changes.removed, changes.unchanged) == (1, 1, 2, 2)
    report = manager.update_vectorstore()
    assert (report.added, report.updated, report.removed, report.unchanged) == (1, 1, 2, 2)
    assert all("whale" in text.lower() or "question" in text for text in asked(model))
    kept = {row[0] for row in database.run(rows(CHUNKS))}
    assert kept == {"code.py", "orca.md", "sub/table.csv", "sub/data.json"}
    assert {row[1] for row in database.run(rows(STATES))} == {"embedded"}

    (folder / "page.html").write_text(TEXTS["page.html"])
    assert manager.add_folder(folder).added == 1, "what was deleted comes back"
    assert manager.update_vectorstore().added == 1


def test_a_narrower_pattern_deletes_only_what_is_gone(manager: VectorStoreManager, folder: Path):
    manager.add_folder(folder)
    manager.update_vectorstore()
    narrow = manager.add_folder(folder, patterns=["*.md"])
    assert (narrow.unchanged, narrow.removed) == (1, 0)
    (folder / "code.py").unlink()
    (folder / "sub/data.json").rename(folder / "sub/.data.json")
    assert manager.add_folder(folder, patterns=["*.md"]).removed == 2
    report = manager.update_vectorstore()
    assert (report.removed, report.unchanged) == (2, 3)


def test_patterns_are_several_strings_and_read_once(manager: VectorStoreManager, folder: Path):
    report = manager.add_folder(folder, patterns=(each for each in ("*.md", "sub/*")))
    assert report.added == 3
    for patterns in ("*.md", b"*.md", 5, None, [5]):
        with pytest.raises(InvalidInput, match="pattern"):
            manager.add_folder(folder, patterns=patterns)  # type: ignore[arg-type]  # as above


def test_g24_chunks_have_places_without_gaps(
    manager: VectorStoreManager, database: Database, folder: Path
):
    manager.add_folder(folder, patterns=["*.md"])
    manager.update_vectorstore()
    chunks = database.run(rows(CHUNKS))
    assert [row[1] for row in chunks] == list(range(len(chunks)))
    assert len(chunks) > 1
    for _, _, start, end, named, content, _ in chunks:
        assert TEXTS["whale.md"][start:end] == content
        assert named
    catalog = CatalogRepository(database)
    whole = catalog.content(catalog.list().documents[0].id)
    assert whole is not None
    assert whole.text.split() == TEXTS["whale.md"].split()


def test_the_search_finds_what_files_say(
    manager: VectorStoreManager, store: PostgresVectorStore, folder: Path
):
    manager.add_folder(folder)
    manager.update_vectorstore()
    (found,) = store.similarity_search("foxes den", k=1)
    assert found.page_content == "A foxes' den\nand more"
    assert found.metadata["title"] == "Foxes"
    assert found.metadata["filename"] == "page.html"
    (row,) = store.similarity_search("name whale size 30", k=1)
    assert row.page_content == "name: whale\nsize: 30\n\nname: fox\nsize: 1"


@pytest.mark.servers("embedded")
def test_a_store_that_was_there_before_searches_by_the_new_indexes(
    manager: VectorStoreManager,
    store: PostgresVectorStore,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
):
    manager.add_folder(folder)
    manager.update_vectorstore()
    indexes = store.explain("whale").indexes
    assert any(name.endswith("_bm25") for name in indexes)
    assert caplog.messages == []


def test_what_a_killed_run_left_without_indexes_gets_them(
    manager: VectorStoreManager, database: Database, folder: Path
):
    def killed(progress: IngestProgress) -> None:
        if progress.done == progress.total:
            raise KeyboardInterrupt

    manager.add_folder(folder)
    with pytest.raises(KeyboardInterrupt):
        manager.update_vectorstore(progress=killed)
    left = Collections(database).get("c")
    assert left is not None
    assert not left.vector_index
    assert manager.update_vectorstore().unchanged == 5
    found = Collections(database).get("c")
    assert found is not None
    assert (found.vector_index, found.lexical == "fts") == (True, False)
    assert found.calibrated_rows > 0


def test_files_that_fail_say_why_and_stop_no_other(
    store: PostgresVectorStore, database: Database, folder: Path
):
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "huge.txt").write_text("x" * 100_001)
    (folder / "nul.txt").write_text("a\0 fox\0 on its way")
    (folder / "old.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (folder / "bad.pdf").write_bytes(b"%PDF-nothing")
    (folder / "bad.docx").write_bytes(b"PK")
    (folder / "broken.txt").symlink_to("/proc/self/mem")  # opens, and can't be read
    manager = VectorStoreManager(store, workers=2, max_bytes=100_000)
    assert manager.add_folder(folder).added == 12
    failed = reasons(manager, database)
    assert "binary" in failed.pop("photo.png")
    assert "100001 bytes" in failed.pop("huge.txt")
    assert "can't be read: Input/output error" in failed.pop("broken.txt")
    assert "PDF" in failed.pop("bad.pdf")
    assert "DOCX" in failed.pop("bad.docx")
    assert failed == {}
    texts = {row[0]: row[5] for row in database.run(rows(CHUNKS))}
    assert texts["nul.txt"] == "a fox on its way"
    assert texts["old.txt"] == "café"
    assert manager.update_vectorstore().waiting == 5, "they wait"
    (folder / "photo.png").write_text("now it says something")
    manager.add_folder(folder)
    assert manager.update_vectorstore().added == 1, "unless they changed"


def test_chunks_that_the_host_added_anew_are_replaced_like_others(
    manager: VectorStoreManager, store: PostgresVectorStore, database: Database, folder: Path
):
    """Found, changed and added without their document, they keep the ids of its chunks."""
    manager.add_folder(folder)
    manager.update_vectorstore()
    before = database.run(rows(CHUNKS))
    found = store.similarity_search("whale fox answer", k=100)
    assert len(found) == len(before)
    store.add_documents([Document(each.page_content, id=each.id) for each in found])
    for name, text in TEXTS.items():
        (folder / name).write_text(text + "\n")
    assert manager.add_folder(folder).changed == 5
    report = manager.update_vectorstore()
    assert (report.updated, report.failed, report.chunks) == (5, {}, len(before))
    assert [row[:2] for row in database.run(rows(CHUNKS))] == [row[:2] for row in before]
    assert store.count() == len(before)


def test_a_suffix_that_no_index_takes_is_none(tmp_path: Path):
    file = tmp_path / os.fsdecode(b"x." + b"\xff" * 250)  # each is stored as three bytes
    file.write_text("text")
    document = document_of(file, None, tmp_path)
    assert document is not None
    assert document.suffix is None


def test_a_name_that_is_no_utf_8_fails_alone(
    manager: VectorStoreManager, database: Database, tmp_path: Path
):
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    (folder / os.fsdecode(b"a\xfe.md")).write_text("a whale")
    (folder / "good.md").write_text("a fox")
    assert manager.add_folder(tmp_path).added == 2
    assert set(reasons(manager, database).values()) == {
        "its name is no UTF-8, so that the catalog can't hold it: rename it"
    }
    (folder / "good.md").unlink()
    assert manager.add_folder(folder).removed == 0, "it is another folder's"
    assert manager.add_folder(tmp_path).removed == 1


def test_a_file_that_is_gone_when_it_is_looked_at_is_no_document(
    manager: VectorStoreManager, folder: Path, monkeypatch
):
    manager.add_folder(folder)

    def removed(path: Path) -> str | None:
        found = fingerprint(path)
        if path.name == "whale.md":
            path.unlink()
        return found

    monkeypatch.setattr(ingest, "fingerprint", removed)
    report = manager.add_folder(folder)
    assert (report.unchanged, report.removed) == (4, 1)


def test_what_another_manager_saw_meanwhile_is_not_taken_for_deleted(
    manager: VectorStoreManager, folder: Path, monkeypatch
):
    def meanwhile(path: Path) -> str | None:
        monkeypatch.setattr(ingest, "fingerprint", fingerprint)
        (folder / "new.md").write_text("new")
        assert manager.add_folder(folder, patterns=["new.md"]).added == 1
        return fingerprint(path)

    manager.add_folder(folder)
    monkeypatch.setattr(ingest, "fingerprint", meanwhile)
    assert manager.add_folder(folder, patterns=["*.py"]).removed == 0
    assert manager.add_folder(folder).unchanged == 6


def test_an_emptied_file_is_a_document_of_no_chunks(
    manager: VectorStoreManager, database: Database, folder: Path
):
    (folder / "blank.html").write_text("<title>Nothing</title><p> ")
    manager.add_folder(folder)
    assert len(manager.update_vectorstore().empty) == 1
    (folder / "whale.md").write_text("")
    assert manager.add_folder(folder).changed == 1
    report = manager.update_vectorstore()
    emptied = "SELECT resource_hash FROM documents WHERE relative_path = 'whale.md'"
    assert (report.updated, report.chunks, report.failed) == (1, 0, {})
    assert [report.empty] == database.run(rows(emptied))
    assert "whale.md" not in {row[0] for row in database.run(rows(CHUNKS))}
    assert ("whale.md", "embedded", 0, True, None) in database.run(rows(STATES))
    report = manager.update_vectorstore()
    assert (report.unchanged, report.waiting, report.empty) == (6, 0, ())
    (folder / "whale.md").write_text("They are back.")
    manager.add_folder(folder)
    assert manager.update_vectorstore().chunks == 1


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("name,size,name\nwhale,30,big\n", "name: whale\nsize: 30\nname: big"),
        ("\na,b\n1,2,3,4\n\n5\n", "a: 1\nb: 2\n3, 4\n\na: 5\nb: "),
        ('a,\n"x\ny",z\n', "a: x\ny\nz"),
        ("a\n", "a\n"),
    ],
)
def test_every_value_of_a_table_is_kept(tmp_path: Path, table: str, text: str):
    path = tmp_path / "table.csv"
    path.write_text(table)
    assert [each.page_content for each in load(path, {})] == [text]


def test_pdf_and_docx_are_read(store: PostgresVectorStore, folder: Path):
    import docx  # noqa: PLC0415
    from pypdf import PdfWriter  # noqa: PLC0415

    written = docx.Document()
    written.add_paragraph("A narwhal swims.")
    written.add_table(1, 2).rows[0].cells[0].text = "tusk"
    written.save(str(folder / "a.docx"))
    blank = PdfWriter()
    blank.add_blank_page(100, 100)
    blank.write(folder / "blank.pdf")
    manager = VectorStoreManager(store)
    manager.add_folder(folder, patterns=["*.docx", "*.pdf"])
    report = manager.update_vectorstore()
    assert (len(report.empty), report.failed) == (1, {})
    (found,) = store.similarity_search("narwhal", k=1)
    assert found.page_content == "A narwhal swims.\ntusk"


def test_another_splitter_or_loader_of_the_hosts(
    manager: VectorStoreManager, store: PostgresVectorStore, folder: Path, model: WordModel
):
    manager.add_folder(folder)
    manager.update_vectorstore()
    asked(model)
    splitter = CharacterTextSplitter(separator=". ", chunk_size=100, chunk_overlap=0)
    other = VectorStoreManager(
        store, splitter=splitter, loaders={".py": lambda path: [Document(f"by {Path(path).name}")]}
    )
    report = other.update_vectorstore()
    assert (report.updated, report.unchanged) == (5, 0)
    assert "by code.py" in asked(model)
    same = CharacterTextSplitter(separator=". ", chunk_size=100, chunk_overlap=0)
    assert VectorStoreManager(store, splitter=same).update_vectorstore().unchanged == 5


class Choosy(WordModel):
    """A model that won't have foxes."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if any("fox" in text for text in texts):
            raise RuntimeError("no foxes")
        return super().embed_documents(texts)


def test_a_text_that_the_model_refuses_fails_alone(database: Database, folder: Path):
    manager = VectorStoreManager(PostgresVectorStore(Choosy(), database=database, collection="c"))
    manager.add_folder(folder)
    report = manager.update_vectorstore()
    assert (report.added, len(report.failed)) == (2, 3)
    assert set(report.failed.values()) == {"RuntimeError: no foxes"}


def test_g1_a_changed_file_is_noticed_without_a_content_hash(
    manager: VectorStoreManager, database: Database, folder: Path
):
    manager.add_folder(folder)
    database.run(commands("UPDATE documents SET content_hash = NULL"))
    assert manager.update_vectorstore().added == 5
    (folder / "code.py").write_text("pass")
    report = manager.update_vectorstore()
    assert (report.updated, report.unchanged) == (1, 4)


def test_g2_two_managers_share_the_work(database: Database, tmp_path: Path):
    names = [f"{n:03}.txt" for n in range(150)]
    for name in names:
        (tmp_path / name).write_text(f"text {name}")
    models = [WordModel(), WordModel()]
    managers = [
        VectorStoreManager(PostgresVectorStore(model, database=database, collection="c"), workers=2)
        for model in models
    ]
    managers[0].add_folder(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(VectorStoreManager.update_vectorstore, managers))
    assert sum(report.added for report in reports) == 150
    assert not any(report.failed or report.updated for report in reports)
    assert sorted(asked(models[0]) + asked(models[1])) == [f"text {name}" for name in names]
    assert len(database.run(rows(CHUNKS))) == 150


async def test_the_twins_do_the_same(manager: VectorStoreManager, folder: Path):
    assert (await manager.aadd_folder(folder)).added == 5
    assert (await manager.aupdate_vectorstore()).added == 5


def test_the_command(dsn: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    given: list[Any] = [str(folder), "--dsn", dsn, "--collection", "c", "--embedding"]
    assert main([*given, "tests.plugins.stores:WordModel"]) == 0
    assert capsys.readouterr().out.startswith("5 added, 0 updated")
    (folder / "empty.txt").touch()
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    assert main([*given, "tests.plugins.stores:WordModel", "--pattern", "*"]) == 1
    shown = capsys.readouterr()
    assert "it is binary" in shown.err
    assert "1 empty, 1 failed" in shown.out
    assert main([*given, "tests.nothing:Here"]) == 2
    assert "MODULE:NAME" in capsys.readouterr().err


def test_what_a_manager_does_not_take(database: Database, store: PostgresVectorStore):
    bad: dict[str, list[Any]] = {
        "splitter": [5, "text", object()],
        "loaders": [5, "text", [".md"], {5: str}],
        "workers": [0, -1, "2", True],
        "batch_size": [0, None, "2"],
        "max_bytes": [0, None, 1.5],
    }
    for name, values in bad.items():
        for value in values:
            with pytest.raises(InvalidInput, match=f"{name} must|a suffix must"):
                VectorStoreManager(store, **{name: value})
    for other in (None, database, "store"):
        with pytest.raises(InvalidInput, match="store must be a PostgresVectorStore"):
            VectorStoreManager(other)  # type: ignore[arg-type]  # as the test says
    with pytest.raises(InvalidInput, match="progress must be a function"):
        VectorStoreManager(store).update_vectorstore(progress="bar")  # type: ignore[arg-type]
    for lease in (0, -1, "60", True, float("nan"), float("inf"), None):
        with pytest.raises(InvalidInput, match="lease must be a number"):
            VectorStoreManager(store, lease=lease)  # type: ignore[arg-type]  # as the test says
    with pytest.raises(InvalidInput, match="no folder"):
        VectorStoreManager(store).add_folder("/nowhere")
    with database.transaction() as transaction, pytest.raises(InvalidInput, match="Database"):
        VectorStoreManager(PostgresVectorStore(WordModel(), database=transaction))

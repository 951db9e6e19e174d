"""Catalogs of every era brought over: whole, provable, resumable, reversible."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256

import pytest

from a2rchi_pg import CatalogRepository, Database
from tests.catalogs_support import fill_index, fill_sqlite, fill_table, page, write_yaml
from tests.database_support import admin
from tests.migration_support import contents
from tests.strikes_support import struck

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(120)]


@pytest.fixture
def migrate(command_line, tmp_path):
    """Runs a command on the catalog in a folder: exit code, output, errors."""

    def run(command: str, *more: str, path=tmp_path):
        return command_line(command, *more, source=("--source", "catalog", "--path", str(path)))

    return run


@pytest.fixture
def documents(dsn: str):
    """What the catalog has, by hash."""

    def get():
        with Database(dsn) as database:
            hashes = [key for (key,) in admin(dsn, "SELECT resource_hash FROM documents")]
            catalog = CatalogRepository(database)
            return {key: catalog.get_by_hash(key) for key in hashes}

    return get


def report(migrate, *arguments: str):
    return json.loads(migrate("report", *arguments, "--json")[1])[0]


def test_m3_a_sqlite_catalog_arrives_with_all_it_knows(migrate, documents, tmp_path):
    file = fill_sqlite(
        tmp_path,
        [
            page(1),
            page(2, source_type="files", created_at="last Tuesday", url=None, display_name="a\0b"),
            page(3, source_type="wiki", extra_json='{"git_repo": "r", "url": "not this one"}'),
            page(4, extra_json="{broken", size_bytes="many"),
        ],
    )
    before = sha256(file.read_bytes()).hexdigest()
    code, out, _ = migrate("run", "--run-id", "one", path=file)
    assert code == 0
    assert "| written | 4 |" in out
    found = documents()
    one, two, three, four = (found[f"{number:012x}"] for number in (1, 2, 3, 4))
    assert (one.display_name, one.source_type, one.url) == (
        "Page 1", "web", "https://example.org/1",
    )  # fmt: skip
    assert (one.file_path, one.suffix, one.size_bytes) == (f"websites/{1:012x}.html", ".html", 1001)
    assert one.source_created_at == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert one.ingested_at == datetime(2026, 1, 20, 8, 30, tzinfo=UTC)
    assert one.metadata == {"project": "naïve", "depth": "2"}
    assert (two.source_type, two.display_name, two.url) == ("local_files", "ab", None)
    assert two.metadata["created_at"] == "last Tuesday"
    assert (three.source_type, three.git_repo, three.url) == (
        "unknown", "r", "https://example.org/3",
    )  # fmt: skip
    assert three.metadata == {"original_source_type": "wiki"}
    assert four.metadata == {"extra_json": "{broken", "size_bytes": "many"}
    notes = {note for _, note, *_ in report(migrate, "--run-id", "one")["notes"]}
    assert any("created_at can't be read" in note and "NUL" in note for note in notes)
    assert any("extra_json is kept as text" in note for note in notes)
    assert migrate("verify", "--run-id", "one", path=file)[:2] == (
        0, "documents: 4 rows compared, 0 differences\n",
    )  # fmt: skip
    assert sha256(file.read_bytes()).hexdigest() == before


def test_odd_rows_stop_nothing(migrate, dsn, documents, tmp_path):
    deep = '{"a": ' + "[" * 5000 + "]" * 5000 + "}"
    fill_sqlite(
        tmp_path,
        [
            page(1, resource_hash="nul\0hash"),
            page(2, resource_hash=""),
            page(3, resource_hash="h" * 5000),
            page(4, extra_json=deep),
            page(5, extra_json='{"n": 1e999}'),
            page(6, display_name="x" * 1_000_000),
        ],
    )
    made = json.loads(migrate("run", "--run-id", "one", "--batch-size", "2", "--json")[1])[0]
    assert made["outcomes"] == {"written": 3, "skipped": 3}
    found = documents()
    assert found.keys() == {"nulhash", f"{4:012x}", f"{6:012x}"}
    assert found[f"{4:012x}"].metadata == {"extra_json": deep}
    assert migrate("verify", "--run-id", "one")[0] == 0


def test_stopped_by_hand_it_says_so_and_goes_on(migrate, dsn, tmp_path):
    fill_sqlite(tmp_path, [page(n) for n in range(40)])

    def stop() -> None:
        raise KeyboardInterrupt

    with struck(stop, 40):
        code, out, errors = migrate("run", "--run-id", "one", "--batch-size", "5")
    assert (code, out) == (130, "")
    assert errors.splitlines()[-1].startswith("stopped: what was stored stays")
    assert 0 < admin(dsn, "SELECT count(*) FROM documents")[0][0] < 40
    assert migrate("run", "--run-id", "one")[0] == 0
    assert admin(dsn, "SELECT count(*) FROM documents") == [(40,)]


def test_an_unfinished_run_goes_on_under_its_own_name_and_that_is_said(migrate, dsn, tmp_path):
    fill_sqlite(tmp_path, [page(n) for n in range(20)])
    migrate("run", "--run-id", "one")
    admin(dsn, "UPDATE migration_runs SET status = 'running'")
    code, _, errors = migrate("run", "--run-id", "two")
    assert (code, errors) == (0, "this went on with run one, which was unfinished\n")
    assert admin(dsn, "SELECT run_id FROM migration_runs") == [("one",)]


@pytest.mark.parametrize("size", ["0", "-1", "x", "100001"])
def test_a_batch_of_no_size_is_wrong_usage(migrate, tmp_path, capsys, size):
    fill_sqlite(tmp_path, [page(1)])
    with pytest.raises(SystemExit) as caught:
        migrate("run", "--batch-size", size)
    assert caught.value.code == 2
    assert "--batch-size: must be a whole number from 1 to 100,000" in capsys.readouterr().err


def test_the_later_sqlite_catalogs_with_a_column_more_are_the_same(migrate, documents, tmp_path):
    file = fill_sqlite(tmp_path, [page(1)])
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("ALTER TABLE resources ADD COLUMN extra_text TEXT")
        connection.execute("UPDATE resources SET extra_text = 'url:https://example.org/1'")
    assert migrate("run")[0] == 0
    assert documents()[f"{1:012x}"].metadata == {"project": "naïve", "depth": "2"}


def test_nothing_is_made_beside_a_catalog_in_wal_mode(migrate, documents, tmp_path):
    file = fill_sqlite(tmp_path, [page(1)])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
    assert migrate("run")[0] == 0
    assert list(tmp_path.iterdir()) == [file]
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("UPDATE resources SET resource_hash = 'new'")
        writer.commit()  # stands in catalog.sqlite-wal until the last connection is closed
        assert migrate("run", "--run-id", "two")[0] == 0
    assert set(documents()) == {f"{1:012x}", "new"}


def test_hashes_of_tickets_are_todays_and_the_old_ones_are_kept(migrate, documents, tmp_path):
    fill_sqlite(
        tmp_path,
        [
            page(1, resource_hash="jira_ABC-1", source_type="jira", ticket_id="ABC-1"),
            page(2, resource_hash="redmine_7", source_type="redmine", ticket_id="7"),
            page(3, resource_hash="jira_ABC-2", source_type="jira"),
            page(4, resource_hash="ticket_ABC-2", source_type="ticket"),
        ],
    )
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])[0]
    assert made["outcomes"] == {"written": 3, "skipped": 1}
    assert made["notes"][0][3] == "jira_ABC-2"
    found = documents()
    assert set(found) == {"ticket_ABC-1", "ticket_7", "ticket_ABC-2"}
    assert found["ticket_ABC-1"].metadata == {
        "project": "naïve",
        "depth": "2",
        "ticket_provider": "jira",
        "original_resource_hash": "jira_ABC-1",
    }
    assert found["ticket_ABC-2"].display_name == "Page 4"
    assert migrate("verify", "--run-id", "one")[0] == 0


def test_a_yaml_index_with_its_metadata_files(migrate, documents, tmp_path):
    about = {
        "display_name": "Grid",
        "source_type": "links",
        "url": "https://grid",
        "size_bytes": "9",
    }
    fill_index(tmp_path, {"123456789012": about, "abc": {"display_name": "Lost"}})
    (tmp_path / "websites/abc.html.meta.yaml").unlink()
    index = tmp_path / "index.yaml"
    index.write_text(index.read_text() + "odd: [1]\n")
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])[0]
    assert made["outcomes"] == {"written": 2, "skipped": 1}
    found = documents()
    assert (found["123456789012"].display_name, found["123456789012"].size_bytes) == ("Grid", 9)
    assert found["abc"].file_path == "websites/abc.html"
    assert {key for *_, key in made["notes"]} == {"abc", "odd"}
    assert migrate("verify", "--run-id", "one")[0] == 0


def test_a_file_whose_aliases_grow_without_end_is_not_taken_in(migrate, documents, tmp_path):
    fill_index(tmp_path, {"abc": {"display_name": "x"}})
    lists = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    bomb = f"a0: &a0 [x]\n{lists}"
    (tmp_path / "websites/abc.html.meta.yaml").write_text(bomb)
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])[0]
    assert made["outcomes"] == {"written": 1}
    assert [note for _, note, *_ in made["notes"]] == ["its metadata file can't be read"]
    (tmp_path / "index.yaml").write_text(bomb)
    code, _, errors = migrate("run", "--run-id", "two")
    assert (code, errors.count("\n"), "aliases grow" in errors) == (1, 1, True)


def test_a_folder_of_the_first_versions(migrate, documents, tmp_path):
    files = ("websites/111111111111.html", "manual_uploads/222222222222.pdf", "jira/jira_A-1.txt")
    for name in (*files, "websites/111111111111.pdf", "vstore/x.bin", "jira/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    write_yaml(tmp_path / "sources.yml", {"111111111111": "https://a", "333333333333": "https://b"})
    write_yaml(tmp_path / "manual_file_hashes.yaml", {"222222222222.pdf": "Thesis.pdf"})
    write_yaml(tmp_path / "tickets.yml", {"jira_A-1.txt": {"url": "https://jira/A-1", "by": "ada"}})
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])[0]
    assert made["outcomes"] == {"written": 3, "skipped": 2}
    assert {key for *_, key in made["notes"]} == {
        "333333333333", "websites/111111111111.pdf",
    }  # fmt: skip
    found = documents()
    web, upload = found["111111111111"], found["222222222222"]
    assert (web.source_type, web.url, web.size_bytes) == ("web", "https://a", 4)
    assert (upload.source_type, upload.display_name) == ("local_files", "Thesis.pdf")
    assert upload.file_path == "manual_uploads/222222222222.pdf"
    ticket = found["ticket_A-1"]
    assert (ticket.source_type, ticket.url) == ("ticket", "https://jira/A-1")
    assert ticket.metadata == {
        "by": "ada", "ticket_provider": "jira", "original_resource_hash": "jira_A-1",
    }  # fmt: skip
    assert migrate("verify", "--run-id", "one")[0] == 0


def test_the_table_in_postgresql_is_a_catalog_too(dsn, documents, source, command_line):
    migrate = partial(command_line, source=("--source", "catalog"))
    code, _, errors = migrate("run")
    assert (code, "holds no catalog: it has no resources.extra_json" in errors) == (1, True)
    fill_table(source, [page(1, file_name="one.html"), page(2, resource_hash="jira_A-1")])
    assert migrate("run", "--run-id", "one")[0] == 0
    assert migrate("verify", "--run-id", "one")[0] == 0
    found = documents()
    assert set(found) == {f"{1:012x}", "ticket_A-1"}
    one = found[f"{1:012x}"]
    assert (one.display_name, one.size_bytes, one.source_type) == ("Page 1", 1001, "web")
    assert one.metadata == {"project": "naïve", "depth": "2", "file_name": "one.html"}
    assert "password" not in admin(dsn, "SELECT location FROM migration_runs")[0][0]


def test_m1_m13_batches_have_no_gaps_where_numbers_do_and_the_last_one_counts(
    migrate, dsn, tmp_path
):
    file = fill_sqlite(tmp_path, [page(n) for n in range(40)])
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM resources WHERE rowid % 3 = 0")
    assert migrate("run", "--run-id", "one", "--batch-size", "10")[0] == 0
    found = report(migrate, "--run-id", "one")
    assert (found["outcomes"], found["run"]["checkpoint"]) == ({"written": 27}, f"{39:012x}")
    code, out, _ = migrate("verify", "--run-id", "one", "--batch-size", "10")
    assert (code, out) == (0, "documents: 27 rows compared, 0 differences\n")


def test_m14_what_came_is_read_again_on_request(migrate, dsn, tmp_path):
    """A run that is under way goes on, where ``--restart`` begins at the beginning."""
    fill_sqlite(tmp_path, [page(n) for n in range(20)])
    migrate("run", "--run-id", "one")
    admin(dsn, "DELETE FROM documents WHERE resource_hash < %s", f"{10:012x}")
    admin(dsn, "UPDATE migration_runs SET status = 'running', checkpoint = %s", f"{15:012x}")
    assert migrate("run", "--run-id", "one", "--resume")[0] == 0
    assert admin(dsn, "SELECT count(*) FROM documents") == [(10,)]
    admin(dsn, "UPDATE migration_runs SET status = 'running', checkpoint = %s", f"{15:012x}")
    assert migrate("run", "--run-id", "one", "--restart")[0] == 0
    assert admin(dsn, "SELECT count(*) FROM documents") == [(20,)]


def test_running_twice_doubles_nothing_and_what_is_there_is_never_overwritten(
    migrate, dsn, tmp_path
):
    fill_sqlite(tmp_path, [page(n) for n in range(20)])
    admin(
        dsn,
        "INSERT INTO documents (resource_hash, display_name) VALUES (%s, 'mine')",
        f"{3:012x}",
    )
    migrate("run", "--run-id", "one")
    first = contents(dsn)
    assert report(migrate, "--run-id", "one")["outcomes"] == {"written": 19, "conflict": 1}
    migrate("run", "--run-id", "one")
    migrate("run", "--run-id", "two")
    assert contents(dsn) == first
    fill_sqlite(tmp_path, [page(20)])
    migrate("run", "--run-id", "two")
    assert report(migrate, "--run-id", "two")["outcomes"] == {
        "kept": 19, "conflict": 1, "written": 1,
    }  # fmt: skip


def test_a_plan_says_what_is_there_already_and_what_can_not_be_stored(migrate, dsn, tmp_path):
    fill_sqlite(tmp_path, [page(n) for n in range(9)])
    migrate("run", "--run-id", "one")
    fill_sqlite(tmp_path, [page(9), page(10, resource_hash="h" * 3000)])
    admin(dsn, "UPDATE documents SET url = 'mine' WHERE resource_hash <= %s", f"{1:012x}")
    before = contents(dsn)
    (plan,) = json.loads(migrate("plan", "--json")[1])
    assert (plan["rows"], plan["sampled"]) == (11, 11)
    assert (plan["present"], plan["conflicts"]) == (9, 2)
    assert list(plan["problems"].values()) == [1]
    assert 0 < plan["megabytes"] < 1
    assert "9 of them are there, 2 with other content" in migrate("plan")[1]
    assert re.search("^  PostgreSQL 17.*, vector 0", migrate("run", "--dry-run")[1], re.MULTILINE)
    assert contents(dsn) == before


def test_verify_names_every_kind_of_damage(migrate, dsn, tmp_path):
    file = fill_sqlite(tmp_path, [page(n) for n in range(10)])
    migrate("run", "--run-id", "one")
    changes = {
        1: "DELETE FROM documents WHERE resource_hash = %s",
        2: "UPDATE documents SET display_name = display_name || '.' WHERE resource_hash = %s",
        3: "UPDATE documents SET metadata = metadata - 'depth' WHERE resource_hash = %s",
        4: "UPDATE documents SET source_created_at = source_created_at + interval '1 microsecond' "
        "WHERE resource_hash = %s",
        5: "UPDATE documents SET deleted_at = now() WHERE resource_hash = %s",
        6: "UPDATE documents SET enabled = false WHERE resource_hash = %s",
        7: "UPDATE documents SET file_path = NULL WHERE resource_hash = %s",
    }
    for number, change in changes.items():
        admin(dsn, change, f"{number:012x}")
    admin(dsn, "INSERT INTO documents (resource_hash, display_name) VALUES ('zzz', 'extra')")
    fill_sqlite(tmp_path, [page(10)])
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM resources WHERE resource_hash = ?", [f"{8:012x}"])
    code, out, _ = migrate("verify", "--run-id", "one", "--json")
    assert code == 4
    assert json.loads(out)[0]["examples"] == {
        "missing": [f"{1:012x}"],
        "different": [f"{n:012x}" for n in range(2, 8)],
        "gone": [f"{8:012x}"],
        "new": [f"{10:012x}"],
        "extra": ["zzz"],
    }


def test_a_rollback_keeps_what_was_changed_or_is_used_since(migrate, dsn, tmp_path):
    fill_sqlite(tmp_path, [page(n) for n in range(5)])
    migrate("run", "--run-id", "one")
    admin(dsn, "UPDATE documents SET url = 'mine' WHERE resource_hash = %s", f"{1:012x}")
    admin(dsn, "INSERT INTO users (id) VALUES ('ada')")
    admin(
        dsn,
        "INSERT INTO user_document_selection (user_id, document_id, enabled) "
        "SELECT 'ada', id, false FROM documents WHERE resource_hash = %s",
        f"{2:012x}",
    )
    code, out, _ = migrate("rollback", "--run-id", "one", "--yes")
    assert (code, out.splitlines()[0]) == (4, "documents: 3 rows removed")
    kept = admin(dsn, "SELECT resource_hash FROM documents ORDER BY 1")
    assert kept == [(f"{1:012x}",), (f"{2:012x}",)]
    assert admin(dsn, "SELECT count(*) FROM user_document_selection") == [(1,)]


def damaged(file) -> None:
    data = bytearray(file.read_bytes())
    data[4096:8192] = os.urandom(4096)
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: folder / "typo", "there is no file or folder"),
        (lambda folder: folder, "holds no catalog"),
        (lambda folder: (folder / "catalog.sqlite").write_text("text" * 999), "not a database"),
        (lambda folder: damaged(fill_sqlite(folder, [page(n) for n in range(99)])), "is damaged"),
        (lambda folder: sqlite3.connect(folder / "catalog.sqlite").execute(
            "CREATE TABLE catalog (id)"), "its tables are: catalog"),
        (lambda folder: write_yaml(folder / "index.yaml", ["a", "list"]), "holds no mapping"),
        (lambda folder: (folder / "index.yaml").write_text("a: [\nb"), "can't be read"),
        (lambda folder: (folder / "index.yaml").mkdir(), "can't be read"),
    ],
)  # fmt: skip
def test_what_is_no_catalog_is_an_error_of_one_line_and_nothing_is_made(
    migrate, dsn, tmp_path, spoil, says
):
    given = spoil(tmp_path)
    before = contents(dsn), sorted(tmp_path.iterdir())
    path = given if isinstance(given, type(tmp_path)) else tmp_path
    code, _, errors = migrate("run", path=path)
    assert (code, errors.count("\n")) == (1, 1)
    assert says in errors
    assert (contents(dsn), sorted(tmp_path.iterdir())) == before
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]


def test_a_locked_catalog_is_an_error_of_one_line(migrate, tmp_path):
    file = fill_sqlite(tmp_path, [page(1)])
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, _, errors = migrate("run")
    assert (code, errors) == (1, f"error: {file} can't be read: database is locked\n")


def test_an_option_of_another_source_is_refused(migrate, tmp_path):
    fill_sqlite(tmp_path, [page(1)])
    code, _, errors = migrate("run", "--host", "localhost")
    assert (code, errors) == (1, "error: --source catalog takes no --host\n")


@pytest.mark.timeout(600)
def test_a_hundred_thousand_documents_arrive_and_compare(migrate, dsn, tmp_path):
    fill_sqlite(tmp_path, [page(n) for n in range(100_000)])
    assert migrate("run", "--run-id", "one", "--batch-size", "5000")[0] == 0
    assert report(migrate, "--run-id", "one")["outcomes"] == {"written": 100_000}
    code, out, _ = migrate("verify", "--run-id", "one", "--batch-size", "5000")
    assert (code, out) == (0, "documents: 100,000 rows compared, 0 differences\n")

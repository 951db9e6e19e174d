"""What was chosen for conversations brought over, to conversations and documents that are here."""

from __future__ import annotations

import json

import pytest

from a2rchi_pg import Database, SelectionRepository
from tests.catalogs_support import choose, fill_sqlite, page
from tests.database_support import admin
from tests.migration_support import contents

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(120)]


@pytest.fixture
def migrate(command_line, tmp_path):
    """Runs a command on ``catalog.sqlite``: exit code, output, errors."""

    def run(command: str, *more: str, source: str = "selections"):
        path = ("--path", str(tmp_path / "catalog.sqlite"))
        return command_line(command, *more, source=("--source", source, *path))

    return run


@pytest.fixture
def chosen(migrate, dsn, tmp_path):
    """Two conversations and ten documents here, and what was chosen for them there."""
    file = fill_sqlite(tmp_path, [*map(page, range(10)), page(10, resource_hash="jira_A-1")])
    choose(
        file,
        [
            *((str(conversation), f"{n:012x}", n % 2) for n in range(8) for conversation in (1, 2)),
            ("1", "jira_A-1", 0),
            ("3", f"{0:012x}", 0),
            ("2", "gone", 0),
            ("draft", f"{0:012x}", 1),
            ("2", f"{8:012x}", 5),
        ],
    )
    migrate("run", source="catalog")
    admin(dsn, "INSERT INTO conversation_metadata (conversation_id) VALUES (1), (2)")
    return file


def test_choices_arrive_and_what_has_no_place_is_counted(migrate, dsn, chosen):
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])[0]
    assert made["outcomes"] == {"written": 17, "skipped": 4}
    assert sorted((note, key) for _, note, _, key in made["notes"]) == [
        ("enabled is neither 0 nor 1", f"2/{8:012x}"),
        ("its conversation has no number", f"draft/{0:012x}"),
        ("its conversation is not here", f"3/{0:012x}"),
        ("its document is not here", "2/gone"),
    ]
    with Database(dsn) as database:
        selection = SelectionRepository(database)
        assert selection.explain("ticket_A-1", None, 1).effective is False
        assert selection.explain("ticket_A-1", None, 2).effective is True
        assert selection.explain(f"{3:012x}", None, 1).conversation_override is True
    assert migrate("verify", "--run-id", "one")[0] == 0


def test_what_had_no_place_comes_with_the_next_run(migrate, dsn, chosen):
    migrate("run", "--run-id", "one")
    admin(dsn, "INSERT INTO conversation_metadata (conversation_id) VALUES (3)")
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])[0]
    assert made["outcomes"] == {"written": 18, "skipped": 3}


def test_what_is_chosen_here_stays_and_a_rollback_takes_what_was_brought(migrate, dsn, chosen):
    admin(
        dsn,
        "INSERT INTO conversation_document_selection (conversation_id, document_id, enabled) "
        "SELECT 1, id, true FROM documents WHERE resource_hash = %s",
        f"{0:012x}",
    )
    before = contents(dsn)
    made = json.loads(migrate("run", "--run-id", "one", "--batch-size", "3", "--json")[1])[0]
    assert made["outcomes"] == {"written": 16, "conflict": 1, "skipped": 4}
    assert migrate("rollback", "--run-id", "one", "--yes")[1] == "selections: 16 rows removed\n"
    assert contents(dsn) == before


def test_verify_names_every_kind_of_damage(migrate, dsn, chosen):
    migrate("run", "--run-id", "one")
    one = (
        "(conversation_id, document_id) = (1, (SELECT id FROM documents WHERE resource_hash = %s))"
    )
    table = "conversation_document_selection"
    admin(dsn, f"DELETE FROM {table} WHERE {one}", f"{1:012x}")
    admin(dsn, f"UPDATE {table} SET enabled = NOT enabled WHERE {one}", f"{2:012x}")
    admin(dsn, f"UPDATE {table} SET updated_at = now() WHERE {one}", f"{3:012x}")
    admin(
        dsn,
        f"INSERT INTO {table} (conversation_id, document_id, enabled) "
        "SELECT 1, id, false FROM documents WHERE resource_hash = %s",
        f"{9:012x}",
    )
    code, out, _ = migrate("verify", "--run-id", "one", "--json")
    assert code == 4
    assert json.loads(out)[0]["examples"] == {
        "missing": [f"1/{1:012x}"],
        "different": [f"1/{2:012x}", f"1/{3:012x}"],
        "extra": [f"1/{9:012x}"],
    }


def test_a_catalog_of_the_time_before_has_none(migrate, dsn, tmp_path):
    fill_sqlite(tmp_path, [page(1)])
    code, _, errors = migrate("run")
    assert (code, errors.count("\n")) == (1, 1)
    assert "its tables are: resources" in errors

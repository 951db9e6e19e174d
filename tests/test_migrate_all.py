"""A whole deployment brought over by one command: its catalog, its Chroma, what was chosen."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg.ingest import VectorStoreManager
from tests.catalogs_support import choose, fill_sqlite, page
from tests.database_support import admin
from tests.migration_support import DIMENSIONS, NAME, contents, fill_chroma, persistent
from tests.origin_support import fill_v1
from tests.plugins.stores import WordModel

pytest.importorskip("chromadb", reason="reads Chroma, an extra")

pytestmark = [
    pytest.mark.servers("embedded"),
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def deployment(tmp_path):
    """Fifty pages with ten chunks each, and one that a conversation doesn't see."""
    fill_chroma(persistent(tmp_path / "vstore"), 500)
    file = fill_sqlite(tmp_path, [page(n) for n in range(50)])
    (tmp_path / "websites").mkdir()
    for number in range(50):
        (tmp_path / "websites" / f"{number:012x}.html").write_text(f"<p>page {number}")
    choose(file, [("1", f"{7:012x}", 0)])
    return tmp_path


@pytest.fixture
def migrate(command_line, deployment):
    source = ("--source", "all", "--path", str(deployment), "--from-collection", NAME)
    return partial(command_line, source=source)


def test_m5_nothing_is_embedded_for_the_move_and_changes_are_noticed(migrate, dsn, deployment):
    admin(dsn, "INSERT INTO conversation_metadata (conversation_id) VALUES (1)")
    assert migrate("run", "--run-id", "one")[0] == 0
    assert migrate("verify", "--run-id", "one")[1].splitlines() == [
        "documents: 50 rows compared, 0 differences",
        f"collection {NAME}: 500 rows compared, 0 differences",
        "selections: 1 rows compared, 0 differences",
    ]
    model = WordModel(DIMENSIONS)
    with Database(dsn) as database:
        store = PostgresVectorStore(model, database=database, collection=NAME)
        manager = VectorStoreManager(store, data_path=deployment, workers=2)
        report = manager.update_vectorstore()
        assert (report.unchanged, report.added, report.updated, report.failed) == (50, 0, 0, {})
        assert (report.removed, model.asked) == (0, [])
        (deployment / "websites" / f"{3:012x}.html").write_text("<p>another page")
        assert manager.update_vectorstore().updated == 1
        assert model.asked == [["another page"]]
        found = store.similarity_search_by_vector(
            np.ones(DIMENSIONS).tolist(), k=500, conversation_id=1
        )
        assert len(found) == 500 - 10 - 10 + 1


def test_m15_one_name_takes_all_of_it_back(migrate, dsn):
    before = contents(dsn)
    assert migrate("run", "--run-id", "one", "--json")[0] == 0
    runs = json.loads(migrate("report", "--json")[1])
    assert [run["run_id"] for run in reversed(runs)] == [
        "one-catalog",
        "one-chroma",
        "one-selections",
    ]
    code, out, _ = migrate("rollback", "--run-id", "one", "--yes")
    assert (code, out.splitlines()) == (0, [
        "selections: 0 rows removed",
        f"collection {NAME}: 500 rows removed with their target",
        "documents: 50 rows removed",
    ])  # fmt: skip
    assert contents(dsn) == before


def test_documents_that_have_chunks_stay_when_the_catalog_alone_is_taken_back(migrate, dsn):
    migrate("run", "--run-id", "one")
    code, out, _ = migrate("rollback", "--run-id", "one-catalog", "--yes")
    assert (code, out.splitlines()[0]) == (4, "documents: 0 rows removed")
    assert admin(dsn, "SELECT count(*) FROM documents") == [(50,)]


def test_damage_in_any_part_is_found_and_named(migrate, dsn):
    admin(dsn, "INSERT INTO conversation_metadata (conversation_id) VALUES (1)")
    migrate("run", "--run-id", "one")
    table = admin(dsn, "SELECT chunk_partition(c) FROM collections c")[0][0]
    chunk, hash_ = f"{0:012x}-{1:06d}", f"{4:012x}"
    admin(dsn, f"DELETE FROM {table} WHERE id = %s", chunk)
    admin(dsn, "UPDATE documents SET url = 'https://x' WHERE resource_hash = %s", hash_)
    admin(dsn, "UPDATE conversation_document_selection SET enabled = true")
    code, out, _ = migrate("verify", "--run-id", "one", "--json")
    assert (code, [each["examples"] for each in json.loads(out)]) == (4, [
        {"different": [hash_]},
        {"missing": [chunk]},
        {"different": [f"1/{7:012x}"]},
    ])  # fmt: skip


@pytest.mark.parametrize("source", ["all", "catalog", "chroma", "selections"])
def test_a_typo_in_a_path_is_an_error_of_one_line(command_line, dsn, tmp_path, source):
    before = contents(dsn)
    path = tmp_path / "typo"
    name = ("--from-collection", NAME) if source in ("all", "chroma") else ()
    for command in ("plan", "run"):
        given = ("--source", source, "--path", str(path), *name)
        code, out, errors = command_line(command, source=given)
        assert (code, out, errors.count("\n")) == (1, "", 1)
        assert str(path) in errors
    assert not path.exists()
    assert contents(dsn) == before
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]


def test_where_one_part_is_missing_nothing_is_brought(migrate, dsn, deployment):
    before = contents(dsn)
    (deployment / "catalog.sqlite").rename(deployment / "other.sqlite")
    code, _, errors = migrate("run")
    assert (code, errors.count("\n")) == (1, 1)
    assert contents(dsn) == before
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]


def test_m15_conversations_come_before_what_was_chosen_for_them(migrate, dsn, deployment, source):
    choose(deployment / "catalog.sqlite", [("7", f"{3:012x}", 0)])
    before = contents(dsn)
    fill_v1(source)
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])
    assert [each["run"]["run_id"] for each in made][:3] == [
        "one-catalog", "one-chroma", "one-postgres-users",
    ]  # fmt: skip
    assert made[-1]["outcomes"] == {"written": 1, "skipped": 1}
    assert migrate("verify", "--run-id", "one")[0] == 0
    assert migrate("rollback", "--run-id", "one", "--yes")[0] == 0
    assert contents(dsn) == before

"""Sources with rows that no system should have written: each counts, and none stops the rest."""

from __future__ import annotations

import json
import random
import string
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest
from psycopg import sql

from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate import OtherDatabase
from a2rchi_pg.migrate._configs import Configs
from tests.catalogs_support import fill_index, fill_sqlite, page, write_yaml
from tests.database_support import admin
from tests.langchain_support import IDS, fill_new, fill_old
from tests.migration_support import contents
from tests.origin_support import CONFIGS, fill_v1, fill_v2

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(120)]


@pytest.fixture
def brought(command_line) -> Callable[..., dict[str, Any]]:
    """Brings a source over, has it verified, and gives what became of its rows by their targets."""

    def run(*source: str, name: str = "one") -> dict[str, Any]:
        code, out, errors = command_line("run", "--run-id", name, "--json", source=source)
        assert (code, errors) == (0, "")
        assert command_line("verify", "--run-id", name, source=source)[0] == 0
        return {each["run"]["target"]: each for each in json.loads(out)}

    return run


@pytest.fixture
def catalog(brought, tmp_path):
    return lambda: brought("--source", "catalog", "--path", str(tmp_path))["documents"]


@pytest.fixture
def docs(brought):
    given = ("--source", "langchain-postgres", "--collection", "docs", "--from-collection")
    return lambda of="docs", **named: brought(*given, of, **named)["collection docs"]


@pytest.fixture
def people(brought):
    return partial(brought, "--source", "postgres", "--timezone", "UTC")


def reasons(report: dict[str, Any]) -> dict[str, int]:
    return {note: rows for _, note, rows, _ in report["notes"]}


def test_every_row_of_a_catalog_counts_where_its_hash_is_missing(catalog, tmp_path):
    """SQLite takes any number of NULLs into a primary key."""
    fill_sqlite(tmp_path, [page(1), *(page(n, resource_hash=None) for n in (2, 3, 4))])
    assert catalog()["outcomes"] == {"written": 1, "skipped": 3}


def test_a_number_that_json_has_not_costs_no_document(catalog, dsn, tmp_path):
    fill_sqlite(tmp_path, [page(1, extra_json='{"score": NaN, "least": [-Infinity]}')])
    assert reasons(catalog()) == {"NaN in extra_json is kept as text": 1}
    assert admin(dsn, "SELECT metadata FROM documents") == [
        ({"score": "NaN", "least": ["-Infinity"]},)
    ]


def test_seconds_since_1970_are_times_however_sqlite_has_them(catalog, dsn, tmp_path):
    times = (1714557600, 1714557600.5, "1714557600", "1714557600500")
    fill_sqlite(tmp_path, [page(n, created_at=time) for n, time in enumerate(times)])
    assert reasons(catalog()) == {}
    moments = "SELECT extract(epoch FROM source_created_at)::float8 FROM documents ORDER BY id"
    assert [moment for (moment,) in admin(dsn, moments)] == [
        1714557600.0, 1714557600.5, 1714557600.0, 1714557600.5,
    ]  # fmt: skip


@pytest.mark.parametrize("extra", ['{"a": [{"b": "\\u0000"}]}', '{"\\ud800": 1}'])
def test_text_that_is_changed_is_counted_wherever_it_stands(catalog, tmp_path, extra):
    fill_sqlite(tmp_path, [page(1, extra_json=extra), page(2)])
    assert reasons(catalog()) == {"NUL characters were removed, or what isn't UTF-8 replaced": 1}


def test_a_day_that_no_calendar_has_is_no_traceback(catalog, command_line, tmp_path):
    fill_index(tmp_path, {"abc": {"display_name": "x"}})
    (tmp_path / "websites/abc.html.meta.yaml").write_text("date: 2024-05-40")
    assert reasons(catalog()) == {"its metadata file can't be read": 1}
    (tmp_path / "index.yaml").write_text("abc: 2024-05-40")
    where = ("--source", "catalog", "--path", str(tmp_path))
    code, _, errors = command_line("run", source=where)
    assert (code, errors.count("\n"), "index.yaml can't be read: day" in errors) == (1, 1, True)


def test_files_of_one_name_in_many_folders_are_all_counted(catalog, tmp_path):
    for folder in ("git", "sso", "websites", "wiki"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "readme.html").write_text("text")
    write_yaml(tmp_path / "sources.yml", {})
    assert catalog()["outcomes"] == {"written": 1, "skipped": 3}


def test_a_number_too_large_for_a_place_is_metadata_alone(docs, dsn, source):
    fill_old(source)
    query = "UPDATE langchain_pg_embedding SET cmetadata = %s WHERE id = %s"
    admin(source, query, '{"chunk_index": 1099511627776}', IDS[0])
    admin(source, query, '{"chunk_index": 7}', IDS[1])
    assert docs()["outcomes"] == {"written": 108}
    places = "SELECT metadata, chunk_index FROM document_chunks WHERE id = ANY(%s) ORDER BY id"
    assert admin(dsn, places, sorted(IDS[:2])) == [
        ({"chunk_index": 2**40}, None),
        ({"chunk_index": 7}, 7),
    ]


def test_a_chunk_at_another_place_of_its_document_is_a_difference(docs, dsn, source, command_line):
    fill_old(source)
    docs()
    admin(dsn, "UPDATE document_chunks SET chunk_index = 3 WHERE id = %s", IDS[4])
    given = ("--source", "langchain-postgres", "--from-collection", "docs")
    code, out, _ = command_line("verify", "--run-id", "one", "--json", source=given)
    (found,) = json.loads(out)
    assert (code, found["target"]) == (4, "collection docs")
    assert found["examples"] == {"misplaced": [IDS[4]]}


def test_metadata_that_is_no_object_costs_its_row_alone(docs, source):
    fill_new(source)
    admin(source, 'UPDATE "My docs" SET langchain_metadata = \'[1]\' WHERE "year" = 2003')
    assert docs("My docs")["outcomes"] == {"written": 119, "skipped": 1}


def test_the_metric_of_vectors_that_are_indexed_as_halves_is_known(command_line, dsn, source):
    fill_new(source)
    given = ("--source", "langchain-postgres", "--from-collection", "My docs")

    def metric_with(index: str) -> str:
        admin(source, f'CREATE INDEX ON "My docs" USING hnsw ((embedding::halfvec(8)) {index})')
        return json.loads(command_line("plan", "--json", source=given)[1])[0]["facts"]["metric"]

    assert metric_with("halfvec_l2_ops") == "l2"
    assert metric_with("halfvec_ip_ops") == "cosine"  # where they don't agree, the default
    admin(source, 'DROP INDEX "My docs_embedding_idx", "My docs_embedding_idx1"')
    assert metric_with("halfvec_ip_ops") == "inner_product"


@pytest.mark.parametrize("name", ["langchain_id", "NULL"])
def test_a_view_whose_ids_name_no_row_is_refused_at_once(command_line, dsn, source, name):
    fill_new(source)
    admin(
        source,
        f'CREATE VIEW docs AS SELECT * FROM "My docs" UNION ALL SELECT {name}, content, embedding, '
        'content_tsv, "year", day, langchain_metadata FROM "My docs" WHERE "year" = 2003',
    )
    given = ("--source", "langchain-postgres", "--from-collection", "docs")
    for command in ("plan", "run"):
        code, _, errors = command_line(command, source=given)
        assert (code, "121 rows and 120 different ids" in errors) == (1, True)
    assert admin(dsn, "SELECT count(*) FROM collections") == [(0,)]


def test_documents_that_get_more_chunks_later_are_counted_anew(docs, dsn, source, command_line):
    admin(dsn, "INSERT INTO documents (resource_hash, display_name) VALUES ('d', '')")
    fill_old(source)
    of_it = 'UPDATE langchain_pg_embedding SET cmetadata = \'{"resource_hash": "d"}\''
    admin(source, f"{of_it} WHERE id = ANY(%s)", IDS[:3])
    docs()
    before = contents(dsn)
    admin(
        source,
        "INSERT INTO langchain_pg_embedding SELECT id || '+', collection_id, embedding, document, "
        "cmetadata FROM langchain_pg_embedding WHERE id = ANY(%s)",
        IDS[:2],
    )
    assert docs(name="two")["outcomes"] == {"kept": 108, "written": 2}
    assert admin(dsn, "SELECT chunk_count FROM indexed_documents") == [(5,)]
    assert command_line("rollback", "--run-id", "two", "--yes")[0] == 0
    assert contents(dsn) == before


def test_vectors_of_another_model_are_not_mixed_in(command_line, dsn, source):
    fill_old(source)
    admin(dsn, "SELECT create_collection('docs', 8, embedding_model => 'a')")
    given = ("--source", "langchain-postgres", "--from-collection", "docs")
    code, _, errors = command_line("run", "--embedding-model", "b", source=given)
    assert (code, "vectors of 'a', not of 'b'" in errors) == (1, True)
    assert command_line("run", "--embedding-model", "a", source=given)[0] == 0


def test_a_message_of_no_conversation_costs_no_other(people, dsn, source):
    fill_v1(source)
    admin(source, "ALTER TABLE conversations ALTER conversation_id DROP NOT NULL")
    admin(source, "UPDATE conversations SET conversation_id = NULL WHERE message_id = 3")
    made = people()
    assert made["table conversation_metadata"]["outcomes"] == {"written": 1}
    assert made["table conversations"]["outcomes"] == {"written": 2, "skipped": 1}
    assert reasons(made["table conversations"])["it has no conversation_id"] == 1


def test_a_reaction_outlives_what_is_none_and_one_without_a_time(people, dsn, source):
    fill_v1(source)
    admin(
        source,
        "INSERT INTO feedback VALUES (2, '2024-07-01 13:00', 'like'), "
        "(2, '2024-07-01 14:00', 'shrug'), (2, 'infinity', 'dislike')",
    )
    found = people()["table feedback"]
    assert reasons(found) == {
        "feedback 'shrug' is none of like, dislike, comment": 1,
        "it has no feedback_ts": 1,
    }
    assert admin(dsn, "SELECT feedback FROM feedback") == [("like",)]


def test_a_comment_that_stands_twice_in_the_target_is_a_difference(
    people, dsn, source, command_line
):
    fill_v1(source)
    admin(source, "INSERT INTO feedback VALUES (2, '2024-07-01 13:00', 'comment', 'so')")
    people()
    admin(
        dsn,
        "INSERT INTO feedback (message_id, feedback_ts, feedback, feedback_msg) "
        "SELECT message_id, feedback_ts, feedback, feedback_msg FROM feedback",
    )
    where = ("--source", "postgres", "--timezone", "UTC")
    code, out, _ = command_line("verify", "--run-id", "one", source=where)
    assert (code, "table feedback: 1 rows compared, 1 differences" in out) == (4, True)


def test_rows_join_nothing_that_only_a_run_taken_back_had_known(dsn, source, command_line):
    fill_v1(source)
    where = ("--source", "postgres", "--timezone", "UTC")
    for name in ("one", "two"):
        assert command_line("run", "--run-id", name, source=where)[0] == 0
    for name in ("two", "one"):
        assert command_line("rollback", "--run-id", name, "--yes")[0] == 0
    admin(dsn, "INSERT INTO conversation_metadata (conversation_id, title) VALUES (7, 'mine')")
    assert command_line("run", "--run-id", "three", source=where)[0] == 0
    assert admin(dsn, "SELECT conversation_id FROM conversations") == [(9,)]


def test_rows_that_a_policy_hides_are_an_error_not_left_behind(dsn, source, command_line):
    fill_v1(source)
    reader = f"reader_{uuid.uuid4().hex[:8]}"
    admin(source, f"CREATE ROLE {reader} LOGIN IN ROLE pg_read_all_data")
    admin(source, "ALTER TABLE conversations ENABLE ROW LEVEL SECURITY")
    admin(source, "CREATE POLICY first ON conversations USING (message_id < 3)")
    where = ("--source", "postgres", "--source-dsn", f"{source} user={reader}")
    try:
        code, _, errors = command_line("run", source=where)
        assert (code, "row-level security policy" in errors) == (1, True)
        assert admin(dsn, "SELECT count(*) FROM conversations") == [(0,)]
    finally:
        admin(source, f"DROP ROLE {reader}")


@pytest.mark.servers("full")  # the old keys are pgcrypto's
def test_names_longer_than_an_index_takes_are_left_out_and_counted(people, dsn, source):
    """Random letters, as an index compresses others."""
    letters = "".join(random.Random(1).choices(string.ascii_letters, k=5000))
    fill_v2(source)
    long = CONFIGS[3].replace("gpt-4o", letters)
    admin(source, "UPDATE configs SET config = %s WHERE config_id = 3", long)
    admin(source, "UPDATE users SET email = %s WHERE id = 'ann'", letters)
    query = "UPDATE conversations SET a2rchi_service = %s WHERE message_id = 4"
    admin(source, query, letters)
    made = people()
    assert reasons(made["table conversations"])["archi_service has more than 500 bytes"] == 1
    (note,) = (note for note in reasons(made["table users"]) if "email" in note)
    assert "its email was left out: it has more than 2,000 bytes" in note
    counts = "SELECT count(*), count(model_used) FROM conversations WHERE conversation_id = 3"
    assert admin(dsn, counts) == [(4, 0)]


@pytest.mark.servers("full")  # the old keys are pgcrypto's
def test_a_vote_without_a_preference_is_none_and_counted(people, dsn, source):
    fill_v2(source)
    admin(
        source,
        "INSERT INTO ab_comparisons VALUES (8, 2, 5, 6, 8, 3, 3, true, NULL, "
        "'2026-01-14 10:00', '2026-01-14 09:00')",
    )
    notes = reasons(people()["table ab_comparisons"])
    assert notes["preference_ts was left out where there is no preference"] == 1
    assert admin(dsn, "SELECT preference_ts FROM ab_comparisons WHERE comparison_id = 8") == [
        (None,)
    ]


def test_half_a_backup_is_none(source, tmp_path):
    fails = sql.SQL("SELECT n AS config_id, 1 / (200 - n) AS config FROM generate_series(1, 200) n")
    configs = Configs(OtherDatabase(source), fails)
    with pytest.raises(MigrationError, match="division by zero"):
        configs.back_up(tmp_path / "configs.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_the_url_of_a_host_is_never_shown(command_line, dsn):
    pytest.importorskip("chromadb", reason="reads Chroma, an extra")
    at = ("--host", "http://ann:hunter2@127.0.0.1", "--port", "1", "--from-collection", "docs")
    code, out, errors = command_line("run", source=("--source", "chroma", *at))
    assert (code, errors.count("\n")) == (1, 1)
    assert "http://127.0.0.1:1/" in errors
    assert "hunter2" not in out + errors

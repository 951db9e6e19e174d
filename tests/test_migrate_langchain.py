"""Collections of langchain-postgres, old and new, brought over bit for bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.database_support import admin
from tests.langchain_support import COMMUNITY, IDS, ROWS, VECTORS, fill_new, fill_old
from tests.migration_support import contents

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(120)]


@pytest.fixture
def migrate(command_line, source):
    """Runs a command on a collection: exit code, output, errors."""

    def run(command: str, *more: str, name: str = "docs"):
        given = ("--source", "langchain-postgres", "--from-collection", name)
        return command_line(command, *more, source=given)

    return run


def stored(dsn: str) -> dict[str, tuple[str, dict, bytes]]:
    table = admin(dsn, "SELECT chunk_partition(c) FROM collections c")[0][0]
    rows = admin(dsn, f"SELECT id, content, metadata, embedding::real[] FROM {table}")
    return {
        id_: (text, about, np.array(vector, dtype=np.float32).tobytes())
        for id_, text, about, vector in rows
    }


def test_an_old_collection_arrives_bit_for_bit_without_its_neighbours(migrate, dsn, source):
    fill_old(source)
    code, _, errors = migrate("run", "--run-id", "one", "--batch-size", "17")
    assert (code, errors) == (0, "")
    assert stored(dsn) == {
        IDS[n]: (f"text {n}", {"n": n, "part": n / 7, "tags": ["a", None]}, VECTORS[n].tobytes())
        for n in range(ROWS)
        if n % 10 != 9
    }
    assert migrate("verify", "--run-id", "one")[:2] == (
        0,
        "collection docs: 108 rows compared, 0 differences\n",
    )
    assert admin(dsn, "SELECT metric FROM collections") == [("cosine",)]


def test_a_table_of_the_new_generation_keeps_its_columns_and_metric(migrate, dsn, source):
    fill_new(source)
    before = contents(dsn)
    code, out, _ = migrate("plan", name="My docs")
    assert (code, "metric: l2" in out) == (0, True)
    assert contents(dsn) == before
    assert migrate("run", "--run-id", "one", name="public.My docs")[0] == 0
    about = {"text": "nul  here", "year": 2007, "day": "2026-01-02", "n": 7}
    assert stored(dsn)[IDS[7]] == ("text 7", about, VECTORS[7].tobytes())
    assert admin(dsn, "SELECT metric FROM collections") == [("l2",)]
    assert migrate("verify", "--run-id", "one", name="public.My docs")[0] == 0
    assert migrate("rollback", "--run-id", "one", "--yes")[0] == 0
    assert contents(dsn) == before


def test_ids_of_its_forerunner_need_not_be_unique(migrate, dsn, source):
    fill_old(source, COMMUNITY)
    admin(source, "UPDATE langchain_pg_embedding SET custom_id = 'it is ' || (cmetadata ->> 'n')")
    admin(
        source,
        "UPDATE langchain_pg_embedding SET custom_id = 'twice' WHERE uuid = ANY(%s::uuid[])",
        IDS[:2],
    )
    admin(source, "UPDATE langchain_pg_embedding SET custom_id = NULL WHERE uuid = %s", IDS[5])
    admin(source, "UPDATE langchain_pg_embedding SET embedding = NULL WHERE uuid = %s", IDS[2])
    admin(source, "UPDATE langchain_pg_embedding SET embedding = '[1,2]' WHERE uuid = %s", IDS[3])
    made = json.loads(migrate("run", "--run-id", "one", "--json")[1])[0]
    assert made["outcomes"] == {"written": 106, "skipped": 2}
    assert {note[3] for note in made["notes"]} == {"it is 2", "it is 3"}
    found = stored(dsn)
    assert {IDS[0], IDS[1], "it is 4", IDS[5]} <= found.keys()
    assert "twice" not in found


def test_damage_is_named_and_a_source_that_changed_since(migrate, dsn, source):
    fill_old(source)
    admin(dsn, "INSERT INTO documents (resource_hash, display_name) VALUES ('other', '')")
    migrate("run", "--run-id", "one")
    table = admin(dsn, "SELECT chunk_partition(c) FROM collections c")[0][0]
    admin(dsn, f"DELETE FROM {table} WHERE id = %s", IDS[1])
    admin(dsn, f"UPDATE {table} SET metadata = '{{}}' WHERE id = %s", IDS[2])
    admin(source, "DELETE FROM langchain_pg_embedding WHERE id = %s", IDS[3])
    admin(dsn, f"UPDATE {table} SET content = content || '.' WHERE id = %s", IDS[4])
    vector = VECTORS[5].copy()
    vector[7] = np.nextafter(vector[7], np.float32(9))
    numbers = json.dumps([float(number) for number in vector])
    admin(dsn, f"UPDATE {table} SET embedding = %s::vector WHERE id = %s", numbers, IDS[5])
    admin(dsn, f"UPDATE {table} SET document_id = (SELECT id FROM documents) WHERE id = %s", IDS[6])
    admin(
        dsn,
        f"INSERT INTO {table} (collection_id, id, content, embedding) "
        f"SELECT collection_id, 'zzz', content, embedding FROM {table} LIMIT 1",
    )
    code, out, _ = migrate("verify", "--run-id", "one", "--json")
    assert (code, json.loads(out)[0]["examples"]) == (4, {
        "missing": [IDS[1]],
        "different": [IDS[2], IDS[4], IDS[5]],
        "misplaced": [IDS[6]],
        "extra": ["zzz"],
        "gone": [IDS[3]],
    })  # fmt: skip


def test_what_is_not_there_or_does_not_fit_is_one_line(migrate, dsn, source, monkeypatch):
    fill_old(source)
    admin(dsn, "SELECT create_collection('short', 4)")
    before = contents(dsn)
    for arguments, name, said in (
        (("--collection", "short"), "docs", "4 dimensions"),
        ((), "typo", "docs, other"),
        ((), "langchain_pg_collection", "no column langchain_id, content, embedding"),
        (("--source-dsn", f"{source} dbname=typo"), "docs", '"typo" does not exist'),
        (("--source-dsn", "postgresql://u:se@cret@h/d"), "docs", "an @ too many"),
        (("--source-dsn", ""), "docs", "--source-dsn"),
    ):
        code, out, errors = migrate("run", *arguments, name=name)
        assert (code, out, errors.count("\n")) == (1, "", 1), errors
        assert said in errors
        assert "cret" not in errors
    assert contents(dsn) == before
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]

"""Chroma collections brought over: whole, provable, resumable, reversible."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import string
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg.migrate import _chroma
from tests.database_support import admin
from tests.plugins.stores import WordModel

pytest.importorskip("chromadb", reason="reads Chroma, an extra")

from tests.migration_support import DIMENSIONS, NAME, contents, fill_chroma, persistent

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.servers("embedded"),
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def chroma(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("chroma")
    fill_chroma(persistent(folder), 2500)
    return folder


@pytest.fixture
def migrate(command_line, chroma: Path):
    """Runs a command on ``chroma``: exit code, output, errors."""

    def run(command: str, *more: str, path: Path = chroma, name: str = NAME):
        source = ("--source", "chroma", "--path", str(path), "--from-collection", name)
        return command_line(command, *more, source=source)

    return run


def partition(dsn: str) -> str:
    return admin(dsn, "SELECT chunk_partition(c) FROM collections c")[0][0]


def test_m7_every_row_arrives_bit_for_bit_and_verify_finds_no_difference(migrate, dsn, chroma):
    assert migrate("run", "--run-id", "one")[0] == 0
    stored = admin(dsn, f"SELECT id, content, metadata, embedding::text FROM {partition(dsn)}")
    known = persistent(chroma).get_collection(NAME, embedding_function=None)
    got = known.get(include=["documents", "metadatas", "embeddings"])
    rows = zip(got["documents"], got["metadatas"], got["embeddings"], strict=True)
    expected = dict(zip(got["ids"], rows, strict=True))
    assert len(stored) == len(expected) == 2500
    for id_, content, metadata, embedding in stored:
        assert (content, metadata) == expected[id_][:2]
        numbers = np.array(json.loads(embedding), dtype=np.float32)
        assert numbers.tobytes() == np.float32(expected[id_][2]).tobytes()
    code, out, _ = migrate("verify", "--run-id", "one")
    assert (code, out) == (0, f"collection {NAME}: 2,500 rows compared, 0 differences\n")


def test_m14_running_twice_doubles_nothing_and_brings_what_is_new(migrate, dsn, tmp_path):
    fill_chroma(persistent(tmp_path), 300)
    migrate("run", "--run-id", "one", path=tmp_path)
    first = contents(dsn)
    assert migrate("run", "--run-id", "one", path=tmp_path)[0] == 0
    assert migrate("run", "--run-id", "two", path=tmp_path)[0] == 0
    assert contents(dsn) == first
    fill_chroma(persistent(tmp_path), 50, start=300)
    _, out, _ = migrate("run", "--run-id", "two", "--json", path=tmp_path)
    assert json.loads(out)[0]["outcomes"] == {"written": 50, "kept": 300}


def test_a_batch_of_more_ids_than_a_statement_takes_is_read_in_pages(
    migrate, tmp_path, monkeypatch
):
    monkeypatch.setattr(_chroma, "PAGE", 7)
    fill_chroma(persistent(tmp_path), 50)
    size = ("--run-id", "one", "--batch-size", "20")
    assert migrate("run", *size, path=tmp_path)[0] == 0
    code, out, _ = migrate("verify", *size, path=tmp_path)
    assert (code, out) == (0, f"collection {NAME}: 50 rows compared, 0 differences\n")


def test_m6_chunks_of_one_file_that_have_no_index_all_arrive(migrate, dsn, tmp_path):
    collection = fill_chroma(persistent(tmp_path), 10)
    collection.add(
        ids=[f"123456789012{n:012}" for n in range(30)],
        documents=[f"part {n}" for n in range(30)],
        metadatas=[{"filename": "123456789012.html", "source": "/x"}] * 30,
        embeddings=np.ones((30, DIMENSIONS), dtype=np.float32),
    )
    admin(dsn, "INSERT INTO documents (resource_hash, display_name) VALUES ('123456789012', '')")
    assert migrate("run", "--run-id", "one", "--batch-size", "7", path=tmp_path)[0] == 0
    found = admin(
        dsn,
        f"SELECT content, chunk_index FROM {partition(dsn)} WHERE document_id IS NOT NULL "
        "ORDER BY id",
    )
    assert found == [(f"part {n}", None) for n in range(30)]
    assert migrate("verify", "--run-id", "one", path=tmp_path)[0] == 0


def test_m7_collections_of_one_chroma_stay_apart(migrate, dsn, tmp_path):
    client = persistent(tmp_path)
    fill_chroma(client, 20)
    fill_chroma(client, 30, name="another")  # under the ids of the first
    assert migrate("run", "--run-id", "one", path=tmp_path)[0] == 0
    assert migrate("run", "--run-id", "two", path=tmp_path, name="another")[0] == 0
    assert admin(
        dsn,
        "SELECT c.name, count(*) FROM document_chunks k JOIN collections c "
        "ON c.id = k.collection_id GROUP BY 1 ORDER BY 1",
    ) == [("another", 30), (NAME, 20)]
    assert migrate("verify", "--run-id", "one", path=tmp_path)[0] == 0


def test_the_searches_find_what_chroma_found(migrate, dsn, chroma):
    migrate("run")
    queries = np.random.default_rng(7).normal(size=(100, DIMENSIONS)).astype(np.float32)
    known = persistent(chroma).get_collection(NAME, embedding_function=None)
    with Database(dsn) as database:
        store = PostgresVectorStore(WordModel(DIMENSIONS), database=database, collection=NAME)
        shared = 0
        for query in queries:
            ours = {d.id for d in store.similarity_search_by_vector(query.tolist(), k=10)}
            theirs = known.query(query_embeddings=[query], n_results=10)["ids"][0]
            shared += len(ours.intersection(theirs))
    assert shared / 1000 >= 0.98


def test_verify_names_every_kind_of_damage(migrate, dsn):
    migrate("run", "--run-id", "one")
    admin(
        dsn,
        "INSERT INTO documents (resource_hash, display_name) VALUES ('other', 'other'), "
        "('000000000009', 'nine')",
    )
    table = partition(dsn)
    ids = [f"{n // 10:012x}-{n % 10:06d}" for n in (5, 15, 25, 35)]
    vector = json.loads(
        admin(dsn, f"SELECT embedding::text FROM {table} WHERE id = %s", ids[2])[0][0]
    )
    vector[3] = float(np.nextafter(np.float32(vector[3]), np.float32(9)))
    admin(dsn, f"DELETE FROM {table} WHERE id = %s", ids[0])
    admin(dsn, f"UPDATE {table} SET content = content || '.' WHERE id = %s", ids[1])
    admin(dsn, f"UPDATE {table} SET embedding = %s::vector WHERE id = %s", str(vector), ids[2])
    admin(
        dsn,
        f"UPDATE {table} SET document_id = "
        "(SELECT id FROM documents WHERE resource_hash = 'other') WHERE id = %s",
        ids[3],
    )
    admin(
        dsn,
        f"INSERT INTO {table} (collection_id, id, content, embedding) "
        f"SELECT collection_id, 'zzz', content, embedding FROM {table} LIMIT 1",
    )
    code, out, _ = migrate("verify", "--run-id", "one", "--json")
    found = json.loads(out)[0]["examples"]
    assert code == 4
    assert found["missing"] == [ids[0]]
    assert found["different"] == ids[1:3]
    assert found["extra"] == ["zzz"]
    assert ids[3] in found["misplaced"]
    assert set(found["misplaced"]) == {ids[3], *(f"000000000009-{n:06d}" for n in range(10))}


def test_m4_chunks_are_linked_to_their_documents_and_old_hashes_of_tickets_too(
    migrate, dsn, tmp_path
):
    collection = fill_chroma(persistent(tmp_path), 10)
    vectors = np.ones((3, DIMENSIONS), dtype=np.float32)
    collection.add(
        ids=["jira_ABC-1-000000", "old1", "old2"],
        documents=["ticket", "page", "file"],
        metadatas=[
            {"resource_hash": "jira_ABC-1"},
            {"filename": "123456789012.html"},
            {"source": "/root/data/manual_uploads/a.pdf", "filename": "a.pdf"},
        ],
        embeddings=vectors,
    )
    admin(
        dsn,
        "INSERT INTO documents (resource_hash, display_name, file_path) VALUES "
        "('ticket_ABC-1', '', NULL), ('123456789012', '', NULL), "
        "('ffffffffffff', '', '/root/data/manual_uploads/a.pdf')",
    )
    assert migrate("run", path=tmp_path)[0] == 0
    linked = admin(
        dsn,
        f"SELECT c.id, d.resource_hash FROM {partition(dsn)} c JOIN documents d "
        "ON d.id = c.document_id ORDER BY 1",
    )
    assert linked == [
        ("jira_ABC-1-000000", "ticket_ABC-1"),
        ("old1", "123456789012"),
        ("old2", "ffffffffffff"),
    ]
    assert admin(dsn, "SELECT status, chunk_count FROM indexed_documents") == [("embedded", 1)] * 3


def test_a_rollback_takes_nothing_that_was_there_or_was_changed_since(migrate, dsn, tmp_path):
    fill_chroma(persistent(tmp_path), 20)
    migrate("run", "--run-id", "one", path=tmp_path)
    fill_chroma(persistent(tmp_path), 10, start=20)
    first = contents(dsn)
    migrate("run", "--run-id", "two", path=tmp_path)
    assert (
        migrate("rollback", "--run-id", "two", "--yes")[1]
        == f"collection {NAME}: 10 rows removed\n"
    )
    assert contents(dsn) == first
    changed = f"{0:012x}-{3:06d}"
    admin(dsn, f"UPDATE {partition(dsn)} SET content = 'mine' WHERE id = %s", changed)
    code, out, _ = migrate("rollback", "--run-id", "one", "--yes")
    assert (code, out.splitlines()[0]) == (4, f"collection {NAME}: 19 rows removed")
    assert changed in out
    assert admin(dsn, f"SELECT id FROM {partition(dsn)}") == [(changed,)]


def test_rows_that_conflict_or_cannot_be_stored_are_left_out_and_named(migrate, dsn, tmp_path):
    collection = fill_chroma(persistent(tmp_path), 20)
    migrate("run", "--run-id", "one", path=tmp_path)
    theirs = f"{0:012x}-{1:06d}"
    collection.update(
        ids=[theirs], documents=["changed at the source"], embeddings=[[1.0] * DIMENSIONS]
    )
    collection.add(ids=["x" * 3000], documents=["long id"], embeddings=[[1.0] * DIMENSIONS])
    collection.add(ids=["silent"], embeddings=[[1.0] * DIMENSIONS])
    made = json.loads(migrate("run", "--run-id", "two", "--json", path=tmp_path)[1])[0]
    assert made["outcomes"] == {"kept": 19, "conflict": 1, "skipped": 1, "written": 1}
    assert [(note[0], note[3][:20]) for note in made["notes"]] == [
        ("conflict", theirs),
        ("skipped", "x" * 20),
        ("written", "silent"),
    ]


def test_odd_ids_and_texts_stop_nothing(migrate, dsn, tmp_path):
    collection = fill_chroma(persistent(tmp_path), 5)
    letters = "".join(random.Random(1).choices(string.ascii_letters, k=5000))
    odd = ["nul\0id", letters, " ", "tab\tnew\nline", "%s %(a)s'; --", "e\u0301é"]
    for id_ in odd:
        collection.add(ids=[id_], documents=["b" * 10], embeddings=[[1.0] * DIMENSIONS])
    collection.add(ids=["long"], documents=["b" * 400_000], embeddings=[[1.0] * DIMENSIONS])
    code, out, _ = migrate("run", "--run-id", "one", "--batch-size", "2", "--json", path=tmp_path)
    made = json.loads(out)[0]
    assert (code, made["outcomes"]) == (0, {"written": 9, "skipped": 3})
    assert {key for *_, key in made["notes"]} == {repr("nul\0id"), letters, "long"}
    assert {id_ for (id_,) in admin(dsn, f"SELECT id FROM {partition(dsn)}")} > set(odd[2:])
    assert migrate("verify", "--run-id", "one", path=tmp_path)[0] == 0
    assert migrate("rollback", "--run-id", "one", "--yes")[0] == 0


@pytest.mark.parametrize("space", ["l2", "ip"])
def test_the_metric_comes_along(migrate, dsn, tmp_path, space):
    fill_chroma(persistent(tmp_path), 10, space=space)
    migrate("run", path=tmp_path)
    expected = {"l2": "l2", "ip": "inner_product"}[space]
    assert admin(dsn, "SELECT metric, dimensions FROM collections") == [(expected, DIMENSIONS)]


def test_m2_a_typo_is_an_error_and_nothing_is_made(migrate, dsn, tmp_path, chroma):
    before = contents(dsn)
    code, _, errors = migrate("run", path=tmp_path / "typo")
    assert (code, errors.count("\n")) == (1, 1)
    assert not (tmp_path / "typo").exists()
    code, _, errors = migrate("run", name="typo")
    assert code == 1
    assert NAME in errors
    (tmp_path / "chroma.sqlite3").write_bytes(b"not a database" * 100)
    assert migrate("run", path=tmp_path)[0] == 1
    assert contents(dsn) == before


def test_m7_a_collection_of_another_length_or_metric_is_refused(migrate, dsn, tmp_path):
    admin(dsn, "SELECT create_collection('short', 4)")
    admin(dsn, "SELECT create_collection('far', 8, metric => 'l2')")
    before = contents(dsn)
    code, _, errors = migrate("run", "--collection", "short")
    assert (code, "4 dimensions" in errors) == (1, True)
    code, _, errors = migrate("run", "--collection", "far")
    assert (code, "measures l2" in errors) == (1, True)
    assert contents(dsn) == before
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]


SCHEMA = "INSERT INTO migrations VALUES ('sysdb', 99, '00099-later.sqlite.sql', '', '')"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (SCHEMA, "written by a newer Chroma (sysdb/00099-later.sqlite.sql)"),
        ("DELETE FROM migrations WHERE rowid = 1", "written by an older Chroma"),
        ("DROP TABLE migrations", "no such table: migrations"),
    ],
)
def test_a_directory_of_another_chroma_is_refused_and_stays_as_it_is(
    migrate, dsn, chroma, tmp_path, change, says
):
    folder = tmp_path / "copy"
    shutil.copytree(chroma, folder)
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as connection, connection:
        connection.execute(change)
    before = contents(dsn), files(folder)
    code, _, errors = migrate("run", path=folder)
    assert (code, errors.count("\n")) == (1, 1)
    assert says in errors
    assert (contents(dsn), files(folder)) == before


def test_a_locked_or_damaged_directory_is_an_error_of_one_line(migrate, dsn, chroma, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(chroma, folder)
    file = folder / "chroma.sqlite3"
    before = contents(dsn)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, _, errors = migrate("run", path=folder)
        assert (code, errors) == (1, f"error: {file} can't be read: database is locked\n")
    data = bytearray(file.read_bytes())
    data[4096 * 2 :] = os.urandom(len(data) - 4096 * 2)
    file.write_bytes(data)
    code, _, errors = migrate("run", path=folder)
    assert (code, errors.count("\n")) == (1, 1), errors
    assert contents(dsn) == before


def files(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

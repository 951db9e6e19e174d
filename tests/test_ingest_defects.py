"""What went wrong in the older manager and does not in this one; others stand by their topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import Collections, CollectionSpec, Database, PostgresVectorStore, ReembedProgress
from a2rchi_pg.errors import A2rchiError, CollectionMismatch, DimensionMismatch
from a2rchi_pg.ingest import IngestProgress, VectorStoreManager
from tests.database_support import backends, rows
from tests.plugins.stores import WordModel

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

COUNTS = """
    SELECT c.name, count(*)
    FROM document_chunks k JOIN collections c ON c.id = k.collection_id GROUP BY 1 ORDER BY 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(70):
        (tmp_path / f"{n}.txt").write_text(f"text {n}")
    return tmp_path


def manager(database: Database, collection: str = "c", dimensions: int = 8) -> VectorStoreManager:
    store = PostgresVectorStore(WordModel(dimensions), database=database, collection=collection)
    return VectorStoreManager(store, workers=8)


def test_g4_many_workers_share_the_pool(dsn: str, folder: Path):
    with Database(dsn, max_size=2, application_name="g4") as database:
        managing = manager(database)
        managing.add_folder(folder)
        seen: set[int] = set()
        report = managing.update_vectorstore(progress=lambda _: seen.update(backends(dsn, "g4")))
    assert report.added == 70
    assert 1 <= len(seen) <= 2


def test_g5_what_stops_an_update_is_raised(dsn: str, database: Database, folder: Path):
    with Database(dsn) as lost:
        managing = manager(lost)
        managing.add_folder(folder)
        with pytest.raises(A2rchiError, match="closed"):
            managing.update_vectorstore(progress=lambda _: lost.close())
    assert [name for name, _ in database.run(rows(COUNTS))] == ["c"], "what was done stays"


def test_g7_dropping_a_collection_leaves_the_others_as_they_are(database: Database, folder: Path):
    first, second = manager(database, "first"), manager(database, "second")
    first.add_folder(folder)
    assert (first.update_vectorstore().added, second.update_vectorstore().added) == (70, 70)
    Collections(database).drop("first")
    assert database.run(rows(COUNTS)) == [("second", 70)]
    assert second.update_vectorstore().unchanged == 70
    assert manager(database, "first").update_vectorstore().added == 70


def test_g25_a_collection_is_as_long_as_its_models_vectors(database: Database, folder: Path):
    managing = manager(database, dimensions=24)
    managing.add_folder(folder)
    assert managing.update_vectorstore().added == 70
    collection = Collections(database).get("c")
    assert collection is not None
    assert collection.dimensions == 24
    (folder / "0.txt").write_text("another text")
    other = manager(database, dimensions=8)
    with pytest.raises(DimensionMismatch, match="24 dimensions"):
        other.add_folder(folder)
        other.update_vectorstore()
    assert database.run(rows(COUNTS)) == [("c", 70)], "nothing was lost"


def test_vectors_of_two_models_are_never_mixed(database: Database, folder: Path):
    managing = manager(database)
    managing.add_folder(folder)
    managing.update_vectorstore()
    (folder / "0.txt").write_text("another text")
    managing.add_folder(folder)
    named = CollectionSpec(name="c", embedding_model="another")
    store = PostgresVectorStore(WordModel(8), database=database, collection=named)
    with pytest.raises(CollectionMismatch, match=r"'WordModel'.* embeds with 'another'.*reembed"):
        VectorStoreManager(store).update_vectorstore()
    assert manager(database).update_vectorstore().updated == 1


def test_a_run_stops_where_its_collection_is_exchanged(database: Database, folder: Path):
    """What it goes on to embed could be stored in neither of the two."""
    managing, done = manager(database), list[str]()
    managing.add_folder(folder)
    manager(database, "other")._settings.store.create_collection()

    def exchange(progress: IngestProgress) -> None:
        done.append(progress.outcome)
        if len(done) == 3:
            Collections(database).swap("c", "other")

    with pytest.raises(CollectionMismatch, match="exchanged while it was being brought up to date"):
        managing.update_vectorstore(progress=exchange)
    assert done == ["added"] * 3
    assert database.run(rows(COUNTS)) == [("other", 3)]
    assert managing.update_vectorstore().added == 70, (
        "it takes the collection that has the name now"
    )


class Renamed(WordModel):
    """Another model, by its name and its number of dimensions."""

    model = "renamed"


def test_what_was_re_embedded_is_not_embedded_again(database: Database, folder: Path):
    managing = manager(database)
    managing.add_folder(folder)
    managing.update_vectorstore()
    old = PostgresVectorStore(WordModel(8), database=database, collection="c")
    model = Renamed(16)

    def changed_meanwhile(progress: ReembedProgress) -> None:
        if progress.done == 50:
            (folder / "0.txt").write_text("changed meanwhile")
            managing.add_folder(folder)
            assert managing.update_vectorstore().updated == 1

    old.reembed(model, collection="new", batch_size=50, progress=changed_meanwhile)
    Collections(database).swap("c", "new")
    model.asked.clear()
    new = PostgresVectorStore(model, database=database, collection="c")
    report = VectorStoreManager(new).update_vectorstore()
    assert (report.unchanged, report.added) == (69, 1)
    assert [text for batch in model.asked for text in batch] == ["changed meanwhile"]
    (folder / "1.txt").unlink()
    (folder / "2.txt").write_text("changed")
    managing = VectorStoreManager(new)
    managing.add_folder(folder)
    report = managing.update_vectorstore()
    assert (report.unchanged, report.updated, report.removed) == (68, 1, 1)
    split = VectorStoreManager(new, splitter_name="another")
    assert split.update_vectorstore().updated == 69, "what another splitter made isn't kept"


def test_another_re_embedding_brings_the_states_up_to_date(database: Database, folder: Path):
    managing = manager(database)
    managing.add_folder(folder)
    managing.update_vectorstore()
    old = PostgresVectorStore(WordModel(8), database=database, collection="c")
    old.reembed(Renamed(16), collection="new")
    (folder / "0.txt").write_text("changed")
    (folder / "1.txt").unlink()
    managing.add_folder(folder)
    managing.update_vectorstore()
    new = old.reembed(Renamed(16), collection="new")
    assert VectorStoreManager(new).update_vectorstore().unchanged == 69
    assert new.count() == old.count() == 69

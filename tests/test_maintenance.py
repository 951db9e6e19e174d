"""Collections that are in use are rebuilt, watched, measured and exchanged."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import (
    Collections,
    CollectionSpec,
    CollectionStats,
    Database,
    InvalidInput,
    NotFound,
    NotInTransaction,
    PermissionDenied,
    PostgresVectorStore,
    _tuning,
)
from a2rchi_pg._op import execute, fetch_tuples, maintenance, read
from a2rchi_pg.errors import CollectionMismatch, Conflict, DatabaseError
from tests.database_support import admin
from tests.plugins.stores import CountingRunner, Twin, WordModel, ask, ids, rows
from tests.test_store_roles import GRANTS, new_role  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from a2rchi_pg import IndexProgress
    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(120)
MAINTAINER = """
    GRANT EXECUTE ON FUNCTION drop_leftover_indexes, rebuild_collection_indexes,
        swap_collections, set_collection_effort TO {role};
"""


def points(count: int, dimensions: int = 32, seed: int = 5) -> Any:
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def filled(store: PostgresVectorStore, count: int = 300) -> PostgresVectorStore:
    texts = [f"chunk {n} word{n % 7}" for n in range(count)]
    store.add_texts(texts, [{"n": n} for n in range(count)], ids=[str(n) for n in range(count)])
    return store


def of(store: PostgresVectorStore) -> Any:
    collection = Collections(store.database).get(store.collection_name)
    assert collection
    return collection


def stats(store: PostgresVectorStore) -> CollectionStats:
    return Collections(store.database).stats(store.collection_name)


def indexes(store: PostgresVectorStore) -> dict[str, tuple[int, bool]]:
    """Each index of a collection: its identity and whether it is valid, by the end of its name."""
    part = of(store).partition
    found = ask(
        store,
        "SELECT indexrelid::regclass::text, indexrelid, indisvalid FROM pg_index "
        "WHERE indrelid = %(part)s::regclass",
        part=part,
    )
    return {name.removeprefix(part): (oid, valid) for name, oid, valid in found}


@pytest.fixture
def collections(way_in: tuple[str, Database]) -> Twin:
    way, database = way_in
    return Twin(Collections(database), way)


# -- operations that no transaction takes ---------------------------------------------------------


@maintenance
def vacuum_and_tell():
    yield from execute("VACUUM collections")
    yield from execute("SET application_name = 'changed by a test'")
    return (yield from fetch_tuples("SHOW application_name"))


@read
def application_name():
    return (yield from fetch_tuples("SHOW application_name"))


async def test_maintenance_runs_outside_a_transaction_and_leaves_nothing(way_in):
    way, database = way_in
    run = Twin(database, way).run
    assert await run(vacuum_and_tell()) == [("changed by a test",)]
    assert await run(application_name()) == [("a2rchi_pg",)]


async def test_maintenance_is_translated_and_not_retried(way_in):
    way, database = way_in
    tries = []

    @maintenance
    def failing():
        tries.append(1)
        yield from execute("DO $$ BEGIN RAISE serialization_failure; END $$")

    with pytest.raises(Conflict):
        await Twin(database, way).run(failing())
    assert len(tries) == 1


async def test_maintenance_inside_a_transaction_is_refused(way_in):
    way, database = way_in
    if way == "native":
        async with database.transaction() as transaction:
            with pytest.raises(NotInTransaction, match="vacuum_and_tell"):
                await transaction.arun(vacuum_and_tell())
        return
    refused = pytest.raises(NotInTransaction, match="vacuum_and_tell")
    with database.transaction() as transaction, refused:
        await Twin(transaction, way).run(vacuum_and_tell())


# -- rebuilding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("online", [True, False])
async def test_reindex_builds_every_index_anew(
    collections: Twin, store: PostgresVectorStore, online: bool
):
    filled(store)
    before, found = indexes(store), ids(store.hybrid_search("word3 chunk 10", k=10))
    await collections.reindex(store.collection_name, online=online)
    after = indexes(store)
    assert before.keys() == after.keys()
    assert all(valid for _, valid in after.values())
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"_embedding", "_bm25" if "_bm25" in before else "_fts"}
    assert ids(store.hybrid_search("word3 chunk 10", k=10)) == found


def test_the_hosts_transaction_drops_and_rebuilds_nothing(
    common: Database, store: PostgresVectorStore
):
    """Rolled back, it would leave a BM25 index that crashes the server at the next search."""
    before = indexes(filled(store))
    with common.transaction() as transaction:
        mine = Collections(transaction)
        for online in (True, False):
            with pytest.raises(NotInTransaction, match=r"drop_leftovers.*on the Database"):
                mine.reindex(store.collection_name, online=online)
        with pytest.raises(NotInTransaction, match="drop_collection"):
            mine.drop(store.collection_name)
        assert mine.get(store.collection_name)  # refused before anything is sent
    assert indexes(store) == before
    assert len(store.bm25_search("word3", k=10)) == 10


def test_a_large_load_in_the_hosts_transaction_leaves_the_indexes(
    common: Database, store: PostgresVectorStore
):
    before = indexes(filled(store, 50))
    for ending in (ZeroDivisionError, None):
        with contextlib.suppress(ZeroDivisionError), common.transaction() as transaction:
            mine = PostgresVectorStore(
                WordModel(), database=transaction, collection=store.collection_name
            )
            mine.add_texts(["word3 late"] * 5001)
            if ending:
                raise ending
        assert indexes(store) == before
        assert store.count() == (50 if ending else 5051)
        assert len(store.bm25_search("late", k=10)) == (0 if ending else 10)


def test_reindex_of_every_kind_of_index(new_store: NewStore):
    for spec in (
        {"index": "ivfflat"},
        {"index": "none"},
        {"element": "bit"},
        {"element": "halfvec", "fields": {"n": "int"}},
    ):
        store = filled(new_store(**spec), 1100)
        before, found = indexes(store), ids(store.similarity_search("word3 chunk", k=5))
        for online in (True, False):
            Collections(store.database).reindex(store.collection_name, online=online)
            assert indexes(store).keys() == before.keys()
        assert len(ids(store.similarity_search("word3 chunk", k=5))) == len(found) == 5


async def test_reindex_builds_what_is_missing(collections: Twin, store: PostgresVectorStore):
    before = indexes(filled(store))
    ask_write(store, "SELECT drop_collection_indexes(%(name)s)", name=store.collection_name)
    assert indexes(store).keys() != before.keys()
    await collections.reindex(store.collection_name)
    assert indexes(store).keys() == before.keys()


def ask_write(store: PostgresVectorStore, query: Any, /, **params: Any) -> None:
    with store.database.transaction() as transaction:  # type: ignore[attr-defined]
        transaction.run(_ask_write(query, **params))


@read
def _ask_write(query: Any, /, **params: Any):
    return (yield from fetch_tuples(query, **params))


def test_nothing_is_lost_while_others_write_and_search(
    common: Database, store: PostgresVectorStore
):
    # Random vectors: among many equal ones HNSW loses its way by itself.
    given = points(2200, 64)
    store.add_embeddings(
        [f"chunk {n} word{n % 7}" for n in range(2000)],
        given[:2000],
        ids=[str(n) for n in range(2000)],
    )
    partition = of(store).partition
    done = threading.Event()
    written: list[str] = []
    missed: list[Any] = []

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            vector = given[2000 + number % 200] + number
            written.extend(
                store.add_embeddings([f"needle {number}"], [vector], ids=[f"new {number}"])
            )
            if number % 5 == 0:
                store.delete([written.pop(-3)])

    def search() -> None:
        while not done.is_set():
            found = (
                len(store.similarity_search("chunk 5 word5", k=10)),
                len(store.bm25_search("word3", k=10)),
                len(store.hybrid_search("word4 chunk", k=10)),
            )
            missed.extend(count for count in found if count != 10)

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(write), pool.submit(search), pool.submit(search)]
        try:
            for _ in range(2):
                Collections(common).reindex(store.collection_name)
                Collections(common).reindex(store.collection_name, online=False)
        finally:
            done.set()
        for other in others:
            other.result()
    assert missed == []
    assert len(written) > 5
    assert of(store).partition == partition
    assert {row.id for row in rows(store)} == {*map(str, range(2000)), *written}
    assert set(ids(store.bm25_search("needle", k=10_000))) == set(written)
    vectors = {row.id: row.embedding for row in rows(store)}
    for id_ in written[-20:]:
        near = store.similarity_search_with_score_by_vector(vectors[id_], k=1)
        assert near[0][1] == pytest.approx(0, abs=1e-6)


@contextlib.contextmanager
def a_snapshot(store: PostgresVectorStore) -> Iterator[None]:
    """A reader of an old state, which an online rebuild waits for at its end."""
    with psycopg.connect(store.database._settings.dsn) as reader:  # type: ignore[attr-defined]
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute(f"SELECT count(*) FROM {of(store).partition}")  # type: ignore[arg-type]
        yield
        reader.rollback()


def leave_a_rebuild_half_done(store: PostgresVectorStore, suffix: str) -> None:
    dsn = store.database._settings.dsn  # type: ignore[attr-defined]
    index = of(store).partition + suffix
    with a_snapshot(store), psycopg.connect(dsn, autocommit=True) as builder:
        builder.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(f"REINDEX INDEX CONCURRENTLY {index}")  # type: ignore[arg-type]


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("kind", ["embedding", "words"])
def test_what_an_interrupted_rebuild_left_is_dropped_first(
    store: PostgresVectorStore, kind: str, online: bool
):
    whole = indexes(filled(store)).keys()
    words = "_bm25" if "_bm25" in whole else "_fts"
    suffix = "_embedding" if kind == "embedding" else words
    for _ in range(2):
        leave_a_rebuild_half_done(store, suffix)
    invalid = {index.name for index in stats(store).indexes if not index.valid}
    assert {name.removeprefix(of(store).partition) for name in invalid} == {
        f"{suffix}_ccnew",
        f"{suffix}_ccnew1",
    }
    assert len(store.hybrid_search("word3 chunk 10", k=10)) == 10
    Collections(store.database).reindex(store.collection_name, online=online)
    assert indexes(store).keys() == whole
    assert all(index.valid for index in stats(store).indexes)


@pytest.mark.servers("embedded", "full")
def test_a_second_bm25_index_changes_nothing_and_reindex_removes_it(
    store: PostgresVectorStore, caplog
):
    """What becomes of a leftover when somebody rebuilds all the indexes there are."""
    filled(store)
    before = store.bm25_search("word3", k=10)
    leave_a_rebuild_half_done(store, "_bm25")
    with psycopg.connect(store.database._settings.dsn, autocommit=True) as connection:  # type: ignore[attr-defined]
        connection.execute(f"REINDEX INDEX {of(store).partition}_bm25_ccnew")  # type: ignore[arg-type]
    assert len(store.hybrid_search("word3 chunk 10", k=10)) == 10
    assert store.bm25_search("word3", k=10) == before
    assert store.bm25_search("word3", k=10, filter={"absent": None}) == before
    assert "can't be used" not in caplog.text
    Collections(store.database).reindex(store.collection_name)
    again = PostgresVectorStore(
        WordModel(), database=store.database, collection=store.collection_name
    )
    assert again.bm25_search("word3", k=10) == before
    assert "can't be used" not in caplog.text
    query = "SELECT to_regclass(%(name)s) IS NULL AS gone"
    assert ask(store, query, name=f"{of(store).partition}_bm25_ccnew") == [(True,)]


async def test_an_invalid_index_is_repaired(collections: Twin, store: PostgresVectorStore):
    filled(store)
    admin(
        collections.target._runner._settings.dsn,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass",
        f"{of(store).partition}_embedding",
    )
    assert not of(store).vector_index
    await collections.reindex(store.collection_name)
    assert of(store).vector_index
    assert all(index.valid for index in stats(store).indexes)


async def test_what_is_not_there_is_not_found(collections: Twin):
    for call in (
        collections.reindex("nothing"),
        collections.reindex("nothing", online=False),
        collections.stats("nothing"),
        collections.tune("nothing"),
    ):
        with pytest.raises(NotFound, match="'nothing'"):
            await call
    assert await collections.build_progress("nothing") is None


# A container's /dev/shm holds 64 MB, a parallel build asks for maintenance_work_mem.
NO_SPACE = """
    CREATE FUNCTION no_space() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('max_parallel_maintenance_workers') <> '0' THEN
            RAISE disk_full USING MESSAGE = 'could not resize shared memory segment';
        END IF;
    END $$;
    CREATE EVENT TRIGGER no_space ON ddl_command_start
        WHEN TAG IN ('CREATE INDEX', 'REINDEX') EXECUTE FUNCTION no_space();
"""


def test_without_shared_memory_indexes_are_built_by_one_process(dsn: str, model: WordModel, caplog):
    admin(dsn, NO_SPACE)
    with Database(dsn) as database:
        store = filled(PostgresVectorStore(model, database=database))
        built = indexes(store)
        assert "_embedding" in built
        for online in (True, False):
            Collections(database).reindex("default", online=online)
            rebuilt = indexes(store)
            assert rebuilt.keys() == built.keys()
            assert rebuilt["_embedding"] != built["_embedding"]
            built = rebuilt
        assert Collections(database).add_field("default", "n", "int")
    assert "without parallel workers" in caplog.text


# -- rights -------------------------------------------------------------------------------------


@pytest.mark.owner
def test_a_role_without_rights_is_told_which(dsn: str, new_role: Any, model: WordModel):
    with Database(new_role(GRANTS)) as application:
        filled(PostgresVectorStore(model, database=application))
        collections = Collections(application)
        for online in (True, False):
            with pytest.raises(PermissionDenied, match=r"EXECUTE on the functions of sql/0006"):
                collections.reindex("default", online=online)
        for call in (
            lambda: collections.tune("default"),
            lambda: collections.swap("default", "default 2"),
        ):
            with pytest.raises((DatabaseError, NotFound)):
                call()
        assert collections.stats("default").rows == 300


@pytest.mark.owner
def test_a_role_without_ddl_rights_rebuilds_offline(dsn: str, new_role: Any, model: WordModel):
    with Database(new_role(GRANTS + MAINTAINER)) as application:
        store = filled(PostgresVectorStore(model, database=application))
        before = indexes(store)
        with pytest.raises(PermissionDenied, match="needs MAINTAIN on its table"):
            Collections(application).reindex("default")
        Collections(application).reindex("default", online=False)
        assert indexes(store)["_embedding"] != before["_embedding"]
        assert Collections(application).tune("default", sample=5).sampled == 5
        filled(PostgresVectorStore(model, database=application, collection="other"), 10)
        Collections(application).swap("default", "other")
        assert Collections(application).stats("default").rows == 10


@pytest.mark.owner
def test_a_role_with_maintain_rebuilds_online(dsn: str, new_role: Any, model: WordModel):
    maintain = "GRANT MAINTAIN ON document_chunks TO {role};"
    with Database(new_role(GRANTS + MAINTAINER + maintain)) as application:
        store = filled(PostgresVectorStore(model, database=application))
        before = indexes(store)
        Collections(application).reindex("default")
        assert indexes(store)["_embedding"] != before["_embedding"]


# -- watching -----------------------------------------------------------------------------------


def progress_of_a_build(
    collections: Collections, name: str, *, online: bool
) -> Iterator[IndexProgress]:
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(collections.reindex, name, online=online)
        while not building.done():
            progress = collections.build_progress(name)
            if progress is not None:
                yield progress
            time.sleep(0.005)
        building.result()


@pytest.mark.owner  # another role's progress is hidden
def test_progress_of_a_build_can_be_watched(dsn: str, common: Database, new_store: NewStore):
    store = new_store()
    given = points(2500, 96)
    store.add_embeddings(["some words"] * 2500, given)
    collections = Collections(common)
    assert collections.build_progress(store.collection_name) is None
    for online, command in ((True, "REINDEX CONCURRENTLY"), (False, "CREATE INDEX")):
        seen: list[IndexProgress] = []
        loading: list[IndexProgress] = []
        while not any(each.done > 0 for each in loading):  # a busy machine may miss one build
            seen += progress_of_a_build(collections, store.collection_name, online=online)
            loading = [each for each in seen if each.phase.startswith("building index")]
        assert {each.command for each in loading} == {command}
        percents = [each.percent for each in seen if each.percent is not None]
        assert percents
        assert all(0 <= percent <= 100 for percent in percents)
    assert collections.build_progress(store.collection_name) is None


async def test_stats_count_rows_bytes_and_indexes(collections: Twin, store: PostgresVectorStore):
    filled(store, 500)
    store.delete([str(n) for n in range(100)])
    found = await collections.stats(store.collection_name)
    part = of(store).partition
    assert found.rows == 400
    assert found.table_bytes == ask(store, "SELECT pg_table_size(%(part)s)", part=part)[0][0]
    assert found.index_bytes == sum(index.size_bytes for index in found.indexes) > 0
    methods = {index.name.removeprefix(part): index.method for index in found.indexes}
    assert methods["_embedding"] == "hnsw"
    assert all(index.valid for index in found.indexes)
    deadline = time.monotonic() + 50
    while (await collections.stats(store.collection_name)).dead_rows < 100:
        assert time.monotonic() < deadline
        ask(store, "SELECT pg_stat_force_next_flush()")  # each session tells in its own time
        time.sleep(0.01)


# -- measuring ----------------------------------------------------------------------------------


def expected_recall(store: PostgresVectorStore, given: Any, ef: int, k: int = 10) -> float:
    """Over all rows, each searched for and itself left out, against numpy."""
    units = given / np.linalg.norm(given, axis=1, keepdims=True)
    hits = 0
    for n, unit in enumerate(units):
        similar = units @ unit
        similar[n] = -np.inf
        exact = {str(m) for m in np.argsort(-similar)[:k]}
        found = store.similarity_search_by_vector(given[n], k=k + 1, ef_search=ef)
        hits += len({id_ for id_ in ids(found) if id_ != str(n)} & exact)
    return hits / (k * len(given))


@pytest.mark.servers("embedded")
def test_tune_measures_the_recall_that_searches_have(
    new_store: NewStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(_tuning.EFFORTS, "hnsw", (100,))
    given = points(1100, 64)
    store = new_store(m=4, ef_construction=8)
    store.add_embeddings([""] * 1100, given, ids=[str(n) for n in range(1100)])
    tuning = Collections(store.database).tune(store.collection_name, sample=1100)
    assert tuning.sampled == 1100
    assert tuning.recall < 1
    assert tuning.recall == pytest.approx(expected_recall(store, given, 100), abs=0.002)


@pytest.mark.servers("embedded", "plain")
async def test_tune_stores_the_least_that_reaches_the_target(
    collections: Twin, new_store: NewStore
):
    given = points(1100, 64)
    store = new_store(m=3, ef_construction=6)
    store.add_embeddings([""] * 1100, given)
    tuning = await collections.tune(store.collection_name, target_recall=0.8, sample=100)
    assert tuning.sampled == 100
    assert [trial.ef_search for trial in tuning.trials] == [40, 64, 100, 150, 200, 400, 800]
    recalls = [trial.recall for trial in tuning.trials]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.8 < recalls[-1]
    assert tuning.reached
    assert tuning.ef_search > max(t.ef_search for t in tuning.trials if t.recall < 0.8)
    assert of(store).ef_search == tuning.ef_search


def test_what_tune_found_is_how_hard_searches_look(common: Database, new_store: NewStore):
    given = points(1200)
    store = new_store()
    store.add_embeddings([""] * 1200, given)
    counting = CountingRunner(common)
    tuning = Collections(common).tune(store.collection_name, sample=10, target_recall=0.5)
    fresh = PostgresVectorStore(WordModel(32), database=counting, collection=store.collection_name)

    def effort(**options: Any) -> str:
        fresh.similarity_search_by_vector(given[0], k=5, **options)
        return next(iter(counting.ran[-1])).params["effort"]

    assert tuning.ef_search == 40
    assert effort() == "40"
    assert effort(ef_search=77) == "77"


def test_tune_says_where_no_effort_reaches_the_target(new_store: NewStore, caplog):
    store = new_store(m=2, ef_construction=4)
    given = points(3000, 128)
    store.add_embeddings([""] * 3000, given)
    tuning = Collections(store.database).tune(store.collection_name, target_recall=1.0, sample=20)
    assert not tuning.reached
    assert tuning.recall == max(trial.recall for trial in tuning.trials) < 1
    assert "no ef_search reaches a recall of 1.0" in caplog.text


def test_tune_sets_the_probes_of_ivfflat(new_store: NewStore):
    store = new_store(index="ivfflat", lists=40)
    given = points(2000)
    store.add_embeddings([""] * 2000, given)
    tuning = Collections(store.database).tune(store.collection_name, sample=20)
    assert [trial.ef_search for trial in tuning.trials][:4] == [1, 2, 4, 8]
    assert tuning.reached
    assert tuning.ef_search > 1
    assert of(store).ef_search == tuning.ef_search


def test_tune_takes_equal_vectors_for_equally_good(new_store: NewStore):
    store = new_store()
    # Eight of each: more than ten would be several elements of the graph, with no way out of them.
    store.add_embeddings([""] * 32, np.repeat(points(4), 8, axis=0))
    tuning = Collections(store.database).tune(store.collection_name, sample=10)
    assert tuning.trials[-1].recall == 1.0


async def test_tune_refuses_what_can_not_be_measured(collections: Twin, new_store: NewStore):
    exact = new_store(index="none")
    exact.add_texts(["text"])
    with pytest.raises(InvalidInput, match="no vector index"):
        await collections.tune(exact.collection_name)
    store = new_store()
    store.add_texts(["text"], ids=["1"])
    store.delete(["1"])
    with pytest.raises(InvalidInput, match="is empty"):
        await collections.tune(store.collection_name)
    for options in ({"k": 0}, {"sample": 0}, {"target_recall": 1.1}, {"target_recall": 0}):
        with pytest.raises(InvalidInput, match=next(iter(options))):
            await collections.tune(store.collection_name, **options)


# -- exchanging ---------------------------------------------------------------------------------


class Named(WordModel):
    """A model with a name, and vectors of its own."""

    def __init__(self, model: str, dimensions: int = 64) -> None:
        super().__init__(dimensions)
        self.model = model


@pytest.fixture
def pair(common: Database) -> Iterator[tuple[str, str]]:
    names = (f"old-{token_hex(4)}", f"new-{token_hex(4)}")
    yield names
    for name in names:
        Collections(common).drop(name)


SEARCHES: list[Callable[[Any, str], Any]] = [
    lambda store, words: store.similarity_search(words, k=3),
    lambda store, words: store.bm25_search(words, k=3),
    lambda store, words: store.hybrid_search(words, k=3),
    lambda store, words: store.similarity_search(words, k=3, filter={"side": {"$exists": True}}),
]


async def test_swap_exchanges_names_and_living_stores_notice(way_in, pair):
    way, database = way_in
    stores = []
    for name in pair:
        spec = CollectionSpec(name=name, fields={"n": "int"})
        store = PostgresVectorStore(WordModel(), database=database, collection=spec)
        texts = [f"whale {n} of {name}" for n in range(40)]
        store.add_texts(texts, [{"side": name, "n": n} for n in range(40)])
        stores.append(store)

    async def sides() -> list[set[str]]:
        """What searches of each store find, often enough for their statements to be prepared."""
        found = []
        for store in stores:
            twin = Twin(store, way)
            hits = [await search(twin, "whale") for search in SEARCHES for _ in range(7)]
            documents = [hit[0] if isinstance(hit, tuple) else hit for some in hits for hit in some]
            assert len(documents) == 3 * len(hits)
            found.append({document.metadata["side"] for document in documents})
        return found

    old, new = pair
    assert await sides() == [{old}, {new}]
    await Twin(Collections(database), way).swap(old, new)
    assert await sides() == [{new}, {old}]
    await Twin(stores[0], way).add_texts(["written later"], [{"side": "later"}], ids=["later"])
    assert [row.id for row in rows(stores[0]) if row.id == "later"] == ["later"]
    assert len(rows(stores[0])) == 41
    await Twin(Collections(database), way).swap(new, old)
    assert await sides() == [{old}, {new}]
    assert ids(stores[1].similarity_search("written later", k=1)) == ["later"]
    assert all(index.valid for store in stores for index in stats(store).indexes)
    assert stores[0].count({"n": {"$gte": 20}}) == 20


def test_noticing_costs_a_search_nothing(common: Database, pair):
    counting = CountingRunner(common)
    old = PostgresVectorStore(WordModel(), database=counting, collection=pair[0])
    old.add_texts(["whale"], ids=["old"])
    PostgresVectorStore(WordModel(), database=common, collection=pair[1]).add_texts(
        ["whale"], ids=["new"]
    )
    old.similarity_search("whale")
    counting.ran.clear()
    assert ids(old.similarity_search("whale")) == ["old"]
    assert [op.name for op in counting.ran] == ["dense"]
    Collections(common).swap(*pair)
    counting.ran.clear()
    assert ids(old.similarity_search("whale")) == ["new"]
    assert [op.name for op in counting.ran] == ["dense", "get_collection", "dense"]
    counting.ran.clear()
    assert ids(old.similarity_search("whale")) == ["new"]
    assert [op.name for op in counting.ran] == ["dense"]


def test_every_write_of_a_living_store_goes_to_the_new_collection(common: Database, pair):
    stores = [PostgresVectorStore(WordModel(), database=common, collection=name) for name in pair]
    for store, name in zip(stores, pair, strict=True):
        store.add_texts([name], [{"side": name}], ids=["1"])
    changes: list[Callable[[PostgresVectorStore], Any]] = [
        lambda store: store.update_metadata({"seen": True}, filter={}),
        lambda store: store.add_texts(["more"], ids=["2"]),
        lambda store: store.delete(["1"]),
    ]
    for change in changes:
        before = [row.version for row in rows(stores[1])]
        Collections(common).swap(*pair)
        change(stores[0])
        Collections(common).swap(*pair)
        assert [row.version for row in rows(stores[1])] != before
    assert [row.metadata for row in rows(stores[0])] == [{"side": pair[0]}]
    assert [row.id for row in rows(stores[1])] == ["2"]


@pytest.mark.parametrize("dimensions", [64, 32])
async def test_a_store_with_the_old_model_does_not_search_the_new_space(way_in, pair, dimensions):
    way, database = way_in
    old = PostgresVectorStore(Named("one"), database=database, collection=pair[0])
    new = PostgresVectorStore(Named("two", dimensions), database=database, collection=pair[1])
    for store in (old, new):
        store.add_texts(["whale"])
    Collections(database).swap(*pair)
    for store, stored in ((old, "two"), (new, "one")):
        for _ in range(2):
            with pytest.raises(CollectionMismatch, match=f"filled by embedding model '{stored}'"):
                await Twin(store, way).similarity_search("whale")
            with pytest.raises(CollectionMismatch):
                await Twin(store, way).add_texts(["more"])
    again = PostgresVectorStore(Named("two", dimensions), database=database, collection=pair[0])
    assert len(again.similarity_search("whale")) == 1


def test_swap_waits_for_writers_and_holds_up_no_one(common: Database, pair):
    stores = [PostgresVectorStore(WordModel(), database=common, collection=name) for name in pair]
    for store in stores:
        filled(store, 50)
    # A search that has to wait for a lock, for longer than a swap tries to get its own, fails.
    impatient = make_conninfo(common._settings.dsn, options="-c lock_timeout=3s")
    with Database(impatient) as database, ThreadPoolExecutor(1) as pool:
        reader = PostgresVectorStore(WordModel(), database=database, collection=pair[0])
        with common.transaction() as transaction:
            writer = PostgresVectorStore(WordModel(), database=transaction, collection=pair[0])
            writer.add_texts(["late"], ids=["late"])
            swapping = pool.submit(Collections(common).swap, *pair)
            until = time.monotonic() + 4
            while time.monotonic() < until:
                assert len(reader.similarity_search("word3", k=5)) == 5
            assert not swapping.done()
        swapping.result()
    assert "late" in {row.id for row in rows(stores[1])}
    assert "late" not in {row.id for row in rows(stores[0])}


def test_swap_is_part_of_the_hosts_transaction(common: Database, pair):
    stores = [PostgresVectorStore(WordModel(), database=common, collection=name) for name in pair]
    for store, name in zip(stores, pair, strict=True):
        store.add_texts([name], ids=[name])
    with pytest.raises(ZeroDivisionError), common.transaction() as transaction:
        Collections(transaction).swap(*pair)
        raise ZeroDivisionError
    assert [ids(store.similarity_search("x")) for store in stores] == [[name] for name in pair]


def test_many_swaps_while_others_search_and_write(common: Database, pair):
    stores = [PostgresVectorStore(WordModel(), database=common, collection=name) for name in pair]
    for store in stores:
        filled(store, 30)
    done = threading.Event()
    written: list[str] = []

    def search(store: PostgresVectorStore) -> None:
        while not done.is_set():
            assert len(store.hybrid_search("word3", k=5)) == 5

    def write() -> None:
        for number in range(10**9):
            if done.is_set():
                return
            written.extend(stores[0].add_texts(["x"], ids=[f"w{number}"]))

    with ThreadPoolExecutor(3) as pool:
        others = [
            pool.submit(search, stores[1]),
            pool.submit(search, stores[0]),
            pool.submit(write),
        ]
        try:
            for _ in range(15):
                Collections(common).swap(*pair)
                time.sleep(0.05)
        finally:
            done.set()
        for other in others:
            other.result()
    kept = [row.id for store in stores for row in rows(store) if row.id.startswith("w")]
    assert set(written) <= set(kept)


async def test_swap_refuses_what_it_can_not_do(collections: Twin, store: PostgresVectorStore):
    filled(store, 3)
    with pytest.raises(NotFound, match="no collection 'nothing'"):
        await collections.swap(store.collection_name, "nothing")
    with pytest.raises(NotFound, match="no collection 'nothing'"):
        await collections.swap("nothing", store.collection_name)
    with pytest.raises(InvalidInput, match="itself"):
        await collections.swap(store.collection_name, store.collection_name)
    assert len(store.similarity_search("word1", k=3)) == 3

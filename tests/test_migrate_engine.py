"""What holds for every source: one run at a time, and none that half happened."""

from __future__ import annotations

import random
import sqlite3
import string
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import Database
from a2rchi_pg._op import execute, fetch_value, write
from a2rchi_pg.errors import A2rchiError, InvalidInput, MigrationError, NotFound
from a2rchi_pg.migrate import (
    CatalogSource,
    DocumentTarget,
    OtherDatabase,
    Row,
    SelectionTarget,
    Survey,
    _engine,
    plan,
    report,
    rollback,
    run,
    verify,
)
from a2rchi_pg.migrate._documents import document_row
from a2rchi_pg.migrate._strangers import Strangers
from tests.catalogs_support import fill_sqlite, page
from tests.database_support import admin, backends, terminate
from tests.migration_support import contents

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(120)]


@pytest.fixture
def source(tmp_path) -> CatalogSource:
    return CatalogSource.open(fill_sqlite(tmp_path, [page(n) for n in range(200)]))


def test_connections_lost_at_any_point_leave_a_run_that_goes_on(dsn, source):
    before = contents(dsn)
    for point in sorted(random.Random(11).sample(range(10, 200, 10), 6)):

        def cut(done: int, total: int, point: int = point) -> None:
            if done == point:
                terminate(dsn, backends(dsn))

        with pytest.raises(A2rchiError), Database(dsn) as database:
            run(database, source, DocumentTarget(), run_id="cut", batch_size=10, progress=cut)
    with Database(dsn) as database:
        run(database, source, DocumentTarget(), run_id="cut", batch_size=10)
        cut_short = report(database, "cut")
        assert cut_short.outcomes == {"written": 200}
        assert verify(database, source, DocumentTarget(), "cut").counts == {}
        assert rollback(database, DocumentTarget(), "cut", batch_size=30).removed == 200
        assert contents(dsn) == before
        run(database, source, DocumentTarget(), run_id="whole")
        assert report(database, "whole").checksum == cut_short.checksum


def test_m15_a_second_run_is_refused_while_one_is_under_way(dsn, source):
    refused = []

    def another(done: int, total: int) -> None:
        with Database(dsn) as other, pytest.raises(MigrationError, match="under way") as error:
            run(other, source, DocumentTarget(), run_id="two")
        refused.append(error)

    with Database(dsn) as database:
        run(database, source, DocumentTarget(), run_id="one", progress=another)
    assert refused
    assert admin(dsn, "SELECT run_id FROM migration_runs") == [("one",)]


def test_a_source_that_fails_midway_leaves_whole_batches_and_the_run_goes_on(dsn, source):
    class Failing(CatalogSource):
        def batches(self, after, size):
            for number, rows in enumerate(super().batches(after, size)):
                if number == 3:
                    raise MigrationError("the source is gone")
                yield rows

    failing = Failing(source._catalog)
    with Database(dsn) as database:
        with pytest.raises(MigrationError, match="gone"):
            run(database, failing, DocumentTarget(), run_id="one", batch_size=20)
        assert admin(dsn, "SELECT count(*) FROM documents") == [(60,)]
        assert report(database, "one").run.status == "running"
        read = []
        run(
            database,
            source,
            DocumentTarget(),
            run_id="one",
            batch_size=20,
            progress=lambda *told: read.append(told),
        )
        # What was read before counts, and was not read again.
        assert read == [(done, 200) for done in range(60, 201, 20)]
        assert report(database, "one").outcomes == {"written": 200}


def test_what_a_rollback_took_of_an_unfinished_run_comes_again(dsn, source):
    """One row was changed since and stays, so the run isn't over: it can be gone on with."""

    def stop(done: int, total: int) -> None:
        if done == 100:
            raise KeyboardInterrupt

    with Database(dsn) as database:
        with pytest.raises(KeyboardInterrupt):
            run(database, source, DocumentTarget(), run_id="one", batch_size=20, progress=stop)
        changed = f"{7:012x}"
        admin(dsn, "UPDATE documents SET url = 'mine' WHERE resource_hash = %s", changed)
        undone = rollback(database, DocumentTarget(), "one")
        assert (undone.removed, undone.stays) == (99, [changed])
        run(database, source, DocumentTarget(), run_id="one")
        assert admin(dsn, "SELECT count(*) FROM documents") == [(200,)]
        found = verify(database, source, DocumentTarget(), "one")
        assert found.examples == {"different": [changed]}


def test_rows_that_could_be_stored_only_then_or_only_now_are_differences(dsn, tmp_path):
    endless = '{"n": 1e999}'
    file = fill_sqlite(tmp_path, [page(1), page(2, extra_json=endless), page(3)])
    source = CatalogSource.open(file)

    def says(number: int, extra: str) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "UPDATE resources SET extra_json = ? WHERE resource_hash = ?",
                [extra, f"{number:012x}"],
            )

    with Database(dsn) as database:
        run(database, source, DocumentTarget(), run_id="one")
        assert report(database, "one").outcomes == {"written": 2, "skipped": 1}
        assert verify(database, source, DocumentTarget(), "one").counts == {}
        says(1, endless)
        says(2, "{}")
        found = verify(database, source, DocumentTarget(), "one")
        assert found.examples == {"new": [f"{2:012x}"], "different": [f"{1:012x}"]}
        run(database, source, DocumentTarget(), run_id="one")
        found = verify(database, source, DocumentTarget(), "one")
        assert found.examples == {"different": [f"{1:012x}"]}


def test_a_source_with_two_rows_of_one_key_is_refused_not_halved(dsn):
    class Twice:
        kind, location = "twice", "/twice"

        def survey(self):
            return Survey(rows=2)

        def batches(self, after, size):
            assert after is None
            about = ({"display_name": "one"}, {"display_name": "another"})
            rows = [document_row("key", "key", each, []) for each in about]
            yield from (rows[start : start + size] for start in range(0, 2, size))

    with Database(dsn) as database:
        for size in (1, 2):
            with pytest.raises(MigrationError, match="/twice has two rows called 'key'"):
                run(database, Twice(), DocumentTarget(), run_id=f"by {size}", batch_size=size)
            rollback(database, DocumentTarget(), f"by {size}")


def test_what_a_batch_can_not_hold_is_an_error_that_says_where_and_what_to_do(dsn, source):
    class Small(DocumentTarget):
        def insert(self, rows):
            yield from execute("SELECT repeat('x', 2000000000)")
            return {row.key for row in rows}

    with Database(dsn) as database, pytest.raises(MigrationError) as caught:
        run(database, source, Small(), run_id="one", batch_size=20)
    assert str(caught.value).startswith("requested length too large (one of the rows from '0000")
    assert f"to '{19:012x}'" in str(caught.value)
    assert "--batch-size" in str(caught.value)


def test_the_time_limits_of_a_server_do_not_end_what_waits_for_the_other_side(dsn, source):
    names = ("idle_in_transaction_session_timeout", "statement_timeout", "transaction_timeout")
    limited = make_conninfo(dsn, options=" ".join(f"-c {name}=1min" for name in names))
    limits = f"SELECT concat_ws(' ', {', '.join(f'current_setting({name!r})' for name in names)})"

    @write
    def asked():
        return (yield from fetch_value(limits))

    with psycopg.connect(limited) as connection:
        assert connection.execute(limits).fetchone() == ("1min 1min 1min",)
    with OtherDatabase(limited).reading() as reader:
        assert reader.value(limits) == "0 0 0"
    with Database(limited) as database:
        with database.transaction() as transaction:
            assert transaction.run(_engine._lock())
            assert transaction.run(asked()) == "0 0 0"
        with database.transaction() as transaction:
            Strangers(transaction, "one", DocumentTarget())
            assert transaction.run(asked()) == "0 0 0"
        assert database.run(asked()) == "1min 1min 1min"


def test_runs_are_told_apart_by_what_they_read(dsn, source, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = CatalogSource.open(fill_sqlite(other, [page(1)]))
    with Database(dsn) as database:
        run(database, source, DocumentTarget(), run_id="one")
        with pytest.raises(MigrationError, match="choose another --run-id"):
            run(database, elsewhere, DocumentTarget(), run_id="one")
        with pytest.raises(MigrationError, match="not of this source"):
            verify(database, elsewhere, DocumentTarget(), "one")
        with pytest.raises(MigrationError, match="not of this source into selections"):
            verify(database, source, SelectionTarget(), "one")
        with pytest.raises(NotFound, match="no run 'two'"):
            rollback(database, DocumentTarget(), "two")


def test_what_no_run_brought_is_told_from_what_is_new_gone_or_of_another_run(dsn, tmp_path):
    def catalog(name: str, *numbers: int) -> CatalogSource:
        (folder := tmp_path / name).mkdir()
        return CatalogSource.open(fill_sqlite(folder, [page(n) for n in numbers]))

    source, other = catalog("source", *range(10, 200, 2)), catalog("other", 1, 501)
    make = (
        "INSERT INTO documents (resource_hash, display_name) "
        "SELECT key, 'x' FROM unnest(%s::text[]) AS key"
    )
    with Database(dsn) as database:
        run(database, source, DocumentTarget(), run_id="one", batch_size=20)
        run(database, other, DocumentTarget(), run_id="two")
        numbers = [3, *range(11, 190, 2), *range(1000, 3500)]
        extra = [f"{number:012x}" for number in numbers]
        admin(dsn, make, [*extra, f"{300:012x}"])
        file = tmp_path / "source" / "catalog.sqlite"
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DELETE FROM resources WHERE resource_hash = ?", [f"{50:012x}"])
            connection.execute(
                "UPDATE resources SET resource_hash = ? WHERE resource_hash = ?",
                [f"{300:012x}", f"{60:012x}"],
            )
        found = verify(database, source, DocumentTarget(), "one", batch_size=20)
    assert found.counts == {"extra": len(extra), "gone": 2, "new": 1, "different": 1}
    assert found.examples["extra"] == extra[:20]
    assert found.examples["gone"] == [f"{50:012x}", f"{60:012x}"]
    assert found.examples["new"] == [f"{300:012x}"]


def test_keys_longer_than_an_index_takes_are_read_compared_and_taken_back(dsn):
    """Random letters, as an index compresses others."""
    chance = random.Random(3)
    long = "".join(chance.choices(string.ascii_letters, k=9000))
    keys = sorted([long[:5000], long[:5001], long[:600], "a", f"{long[:500]}a", f"{long[:500]}b"])

    class Long:
        kind, location = "long", "/" + "".join(chance.choices(string.ascii_letters, k=4000))

        def survey(self):
            return Survey(rows=len(keys))

        def batches(self, after, size):
            left = [key for key in keys if after is None or key > after]
            for start in range(0, len(left), size):
                yield [row(key) for key in left[start : start + size]]

    def row(key: str) -> Row:
        try:
            return document_row(key, key, {"display_name": "x"}, [])
        except InvalidInput as error:
            return Row(key=key, problem=str(error))

    with Database(dsn) as database:
        for restart in (False, True):
            run(
                database,
                Long(),
                DocumentTarget(),
                run_id="long",
                batch_size=2,
                restart=restart,
            )
            assert report(database, "long").outcomes == {"written": 4, "skipped": 2}
        assert verify(database, Long(), DocumentTarget(), "long", batch_size=2).counts == {}
        gone = keys.pop(keys.index(long[:5000]))
        found = verify(database, Long(), DocumentTarget(), "long", batch_size=2)
        assert found.examples == {"gone": [gone]}
        assert max(map(len, report(database, "long").markdown().splitlines())) < 5000
        assert rollback(database, DocumentTarget(), "long", batch_size=2).removed == 4


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b"])
def test_a_name_that_no_run_can_have_is_refused_before_anything_is_read(dsn, source, name):
    with Database(dsn) as database, pytest.raises(InvalidInput, match="a run's name has"):
        run(database, source, DocumentTarget(), run_id=name)
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]


def test_a_target_that_takes_no_writes_shows_before_anything_is_done(dsn, source):
    with Database(make_conninfo(dsn, options="-c default_transaction_read_only=on")) as database:
        for does in (plan, run):
            with pytest.raises(MigrationError, match="the target takes no writes"):
                does(database, source, DocumentTarget(), batch_size=10)
    assert admin(dsn, "SELECT count(*) FROM migration_runs") == [(0,)]

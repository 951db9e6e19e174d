"""What holds for every source: one run at a time, and none that half happened."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from a2rchi_pg import Database
from a2rchi_pg.errors import A2rchiError, MigrationError, NotFound
from a2rchi_pg.migrate import CatalogSource, DocumentTarget, report, rollback, run, verify
from tests.catalogs_support import fill_sqlite, page
from tests.database_support import admin, backends, terminate
from tests.migration_support import contents

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(120)]


@pytest.fixture
def source(tmp_path) -> CatalogSource:
    return CatalogSource.open(fill_sqlite(tmp_path, [page(n) for n in range(200)]))


def test_connections_lost_at_any_point_leave_a_run_that_goes_on(dsn, source):
    before = contents(dsn)
    chance = random.Random(11)
    for _ in range(6):
        point = chance.randrange(10, 200, 10)

        def cut(done: int, total: int, point: int = point) -> None:
            if done == point:
                terminate(dsn, backends(dsn))

        with suppress(A2rchiError), Database(dsn) as database:
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


def test_a_second_run_is_refused_while_one_is_under_way(dsn, source):
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
            progress=lambda done, _: read.append(done),
        )
        assert read[-1] == 140
        assert report(database, "one").outcomes == {"written": 200}


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
        with pytest.raises(NotFound, match="no run 'two'"):
            rollback(database, DocumentTarget(), "two")

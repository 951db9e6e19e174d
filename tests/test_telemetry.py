"""Spans, recorded by OpenTelemetry's own SDK."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg._op import execute, upsert
from a2rchi_pg.errors import Conflict, InvalidValue
from tests.database_support import Letters, admin, commands, value

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(60)]
SECRET = f"hunter{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def recorder() -> InMemorySpanExporter:
    """The SDK sets a provider once in a process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(recorder: InMemorySpanExporter, database: Database):
    """Those finished since the test began, with the database open."""
    recorder.clear()
    return recorder.get_finished_spans


def test_each_operation_is_one_client_span(database: Database, spans):
    database.run(value("SELECT 1"))
    database.run(commands("SELECT 1", "SELECT 2"))
    assert [span.name for span in spans()] == ["a2rchi_pg value", "a2rchi_pg commands"]
    assert {span.kind for span in spans()} == {trace.SpanKind.CLIENT}
    assert dict(spans()[0].attributes) == {
        "db.system.name": "postgresql",
        "db.operation.name": "value",
    }


async def test_in_an_event_loop_too(dsn: str, recorder: InMemorySpanExporter):
    async with Database(dsn) as database:
        recorder.clear()
        await database.arun(value("SELECT 1"))
    assert [span.name for span in recorder.get_finished_spans()] == ["a2rchi_pg value"]


def test_it_is_a_child_of_the_hosts_span(database: Database, spans):
    with trace.get_tracer("host").start_as_current_span("answer a question") as host:
        database.run(value("SELECT 1"))
    ours = spans()[0]
    assert ours.parent is not None
    assert ours.parent.span_id == host.get_span_context().span_id


@pytest.mark.owner
def test_retries_are_within_the_one_span(database: Database, dsn: str, spans):
    admin(dsn, "CREATE SEQUENCE attempts")

    @upsert
    def stumble():
        yield from execute(
            "DO $$ BEGIN IF nextval('attempts') = 1 THEN RAISE SQLSTATE '40001'; END IF; END $$"
        )

    database.run(stumble())
    assert [span.name for span in spans()] == ["a2rchi_pg stumble"]
    assert spans()[0].status.is_ok


@pytest.mark.owner
def test_a_failure_is_marked_and_tells_no_secrets(database: Database, dsn: str, spans):
    admin(dsn, "CREATE TABLE t (word text UNIQUE)")
    admin(dsn, "INSERT INTO t VALUES (%s)", SECRET)
    with pytest.raises(Conflict):
        database.run(value("INSERT INTO t VALUES (%(word)s) RETURNING word", word=SECRET))
    with pytest.raises(InvalidValue):
        database.run(value("SELECT %(word)s::text::integer", word=SECRET))
    assert [span.status.status_code for span in spans()] == [trace.StatusCode.ERROR] * 2
    for span in spans():
        assert SECRET not in span.to_json()


def test_a_store_puts_no_text_and_no_id_into_its_spans(database: Database, spans):
    store = PostgresVectorStore(Letters(), database=database)
    store.add_texts([SECRET], [{"key": SECRET}], ids=[SECRET])
    store.hybrid_search(SECRET, filter={"key": SECRET})
    store.get_by_ids([SECRET])
    assert len(spans()) >= 4
    assert not any(SECRET in span.to_json() for span in spans())


def test_without_opentelemetry_nothing_changes(dsn: str):
    program = """\
import sys
sys.modules["opentelemetry"] = None
import importlib.util
importlib.util.find_spec = lambda name, find=importlib.util.find_spec: (
    None if name == "opentelemetry" else find(name))
from a2rchi_pg import Database
with Database(sys.argv[1]) as database:
    print(database.health().server_version)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, dsn],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("17.")

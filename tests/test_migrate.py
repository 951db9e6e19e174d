"""The migrations as people run them: from a shell, several at once, with psql."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest
from psycopg.conninfo import make_conninfo

from a2rchi_pg import _schema
from a2rchi_pg.database import DSN_VARIABLE
from a2rchi_pg.migrate.__main__ import main
from tests.database_support import admin
from tests.schema_support import FILES, catalog, is_empty, ledger, sql_files

pytestmark = [pytest.mark.servers("embedded"), pytest.mark.timeout(90)]
PROGRAM = [sys.executable, "-m", "a2rchi_pg.migrate", "schema"]


@pytest.fixture
def run(capsys):
    """Runs the command line in this process: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, list[str], list[str]]:
        code = main(arguments)
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err.splitlines()

    return run


def test_applies_what_is_missing_and_says_so(run, empty_dsn: str):
    assert run("schema", "--target", empty_dsn, "--to", "2") == (
        0,
        [f"applied {name}" for name in FILES[:2]],
        [],
    )
    assert run("schema", "--target", empty_dsn)[1] == [f"applied {name}" for name in FILES[2:]]
    assert run("schema", "--target", empty_dsn) == (0, ["the schema is up to date"], [])


def test_a_dry_run_only_says(run, empty_dsn: str):
    code, lines, _ = run("schema", "--target", empty_dsn, "--dry-run")
    assert (code, lines) == (0, [f"would apply {name}" for name in FILES])
    assert is_empty(empty_dsn)


def test_status_lists_every_file_and_its_exit_code_tells_whether_any_is_missing(run, empty_dsn):
    assert run("status", "--target", empty_dsn)[:2] == (3, [f"pending  {name}" for name in FILES])
    run("schema", "--target", empty_dsn, "--to", "1")
    code, lines, _ = run("status", "--target", empty_dsn)
    assert (code, lines[:2]) == (3, [f"applied  {FILES[0]}", f"pending  {FILES[1]}"])
    run("schema", "--target", empty_dsn)
    assert run("status", "--target", empty_dsn)[0] == 0


def test_what_is_found_may_be_had_as_json(psql, run, empty_dsn: str):
    def found(*arguments: str):
        code, lines, errors = run(*arguments, "--target", empty_dsn, "--json")
        assert errors == []
        return code, json.loads("\n".join(lines))

    psql(empty_dsn, sql_files()[0])
    assert found("schema", "--to", "2") == (0, [{"number": 2, "name": FILES[1]}])
    code, files = found("status")
    assert (code, [each["name"] for each in files]) == (3, FILES)
    assert files[:3] == [
        {"number": 1, "name": FILES[0], "state": "applied", "by_hand": True},
        {"number": 2, "name": FILES[1], "state": "applied", "by_hand": False},
        {"number": 3, "name": FILES[2], "state": "pending", "by_hand": False},
    ]
    assert [each["name"] for each in found("schema", "--dry-run")[1]] == FILES[2:]
    assert [each["name"] for each in found("schema")[1]] == FILES[2:]
    assert found("schema") == (0, [])
    assert found("status")[0] == 0


def test_the_target_may_come_from_the_environment(run, empty_dsn: str, monkeypatch):
    monkeypatch.setenv(DSN_VARIABLE, empty_dsn)
    assert run("schema", "--schema", "rag")[0] == 0
    assert run("status", "--schema", "rag")[0] == 0
    assert run("status")[0] == 3


@pytest.mark.parametrize(
    "change", ["port=1", "dbname=nothing", "passwort=hunter2", "host=/nowhere password=hunter2"]
)
@pytest.mark.parametrize("command", ["schema", "status"])
def test_an_error_is_one_line_and_exit_code_1(run, empty_dsn: str, change: str, command: str):
    code, lines, errors = run(command, "--target", f"{empty_dsn} {change}")
    assert (code, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith("error: ")
    assert "hunter2" not in errors[0]


@pytest.mark.parametrize("arguments", [[], ["schema", "--to", "x"], ["drop"]])
def test_wrong_usage_is_exit_code_2(run, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "usage: python -m a2rchi_pg.migrate" in capsys.readouterr().err


@pytest.mark.parametrize("schema", [None, "rag"])
def test_of_several_migrators_each_file_is_applied_by_one(empty_dsn: str, schema):
    named = ["--schema", schema] if schema else []
    started = [
        subprocess.Popen(
            [*PROGRAM, "--target", empty_dsn, *named],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    said = Counter(line for out, _ in ended for line in out.splitlines())
    assert [said[f"applied {name}"] for name in FILES] == [1] * len(FILES)
    assert said["the schema is up to date"] >= 1


def test_a_migrator_that_hangs_is_not_waited_for_for_ever(run, empty_dsn: str, monkeypatch):
    monkeypatch.setattr(_schema, "LOCK_TIMEOUT", 0.3)
    with _schema._connected(empty_dsn, None) as other, _schema._alone(other):  # as it would
        code, _, errors = run("schema", "--target", empty_dsn)
    assert code == 1
    assert "another migrator" in errors[0]
    assert is_empty(empty_dsn)
    assert run("schema", "--target", empty_dsn)[0] == 0


# psql


@pytest.mark.owner
@pytest.mark.servers("embedded", "full", "plain")
def test_psql_in_order_gives_the_identical_schema(psql, dsn: str, empty_dsn: str):
    for file in sql_files():
        psql(empty_dsn, file)
    assert catalog(empty_dsn) == catalog(dsn)
    assert [name for _, name, _ in ledger(empty_dsn)] == FILES


def test_psql_on_another_schema_gives_the_identical_one(psql, dsn: str, empty_dsn: str):
    _schema.migrate(empty_dsn, schema="ours")
    admin(empty_dsn, "CREATE SCHEMA theirs")
    for file in sql_files():
        psql(make_conninfo(empty_dsn, options="-c search_path=theirs,public"), file)

    def unnamed(schema: str):
        return [
            tuple(text.replace(schema, "X") if isinstance(text, str) else text for text in row)
            for row in catalog(empty_dsn, schema)
        ]

    assert unnamed("theirs") == unnamed("ours")


def test_what_psql_applied_is_taken_up_and_shown(psql, run, empty_dsn: str):
    psql(empty_dsn, sql_files()[0])
    code, lines, _ = run("status", "--target", empty_dsn)
    assert (code, lines[0]) == (3, f"applied  {FILES[0]} (by hand)")
    assert run("schema", "--target", empty_dsn)[1] == [f"applied {name}" for name in FILES[1:]]


@pytest.mark.owner
def test_psql_refuses_a_file_it_has_applied_already(psql, dsn: str):
    before = catalog(dsn)
    for file in sql_files():
        with pytest.raises(AssertionError, match=r"already exists|duplicate key"):
            psql(dsn, file)
    assert catalog(dsn) == before

"""The error tree, and the translation of everything psycopg and the server can say."""

from __future__ import annotations

import inspect
import re
import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.errors import __dict__ as names
from psycopg_pool import PoolTimeout

import a2rchi_pg
from a2rchi_pg import errors
from a2rchi_pg._op import execute, fetch_value, read, write
from a2rchi_pg.errors import (
    A2rchiError,
    CommitUnknown,
    Conflict,
    DatabaseError,
    FilterError,
    InvalidValue,
    MissingReference,
    Unavailable,
    translate,
)

if TYPE_CHECKING:
    from a2rchi_pg.database import Database

SERVER_ERRORS = {
    kind.sqlstate: kind
    for kind in names.values()
    if inspect.isclass(kind) and issubclass(kind, psycopg.Error) and kind.sqlstate
}
EXPECTED = {
    "08006": Unavailable,
    "22P02": InvalidValue,
    "23502": InvalidValue,
    "23503": MissingReference,
    "23505": Conflict,
    "23514": InvalidValue,
    "23P01": Conflict,
    "25006": Unavailable,
    "40001": Conflict,
    "40P01": Conflict,
    "42601": DatabaseError,
    "42P01": DatabaseError,
    "53300": Unavailable,
    "55P03": Conflict,
    "57P01": Unavailable,
    "XX000": DatabaseError,
}


def defined() -> list[type[A2rchiError]]:
    return [kind for kind in vars(errors).values() if is_ours(kind)]


def is_ours(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, A2rchiError)


def tree(kind: type, indent: str = "") -> list[str]:
    """The class tree as the module's docstring draws it, in the order of definition."""
    children = [child for child in defined() if child.__bases__[0] is kind]
    lines = []
    for child in children:
        last = child is children[-1]
        lines.append(indent + ("└── " if last else "├── ") + child.__name__)
        lines += tree(child, indent + ("    " if last else "│   "))
    return lines


def test_psycopg_knows_the_states_this_is_about():
    assert len(SERVER_ERRORS) > 200


@pytest.mark.parametrize("state", sorted(SERVER_ERRORS))
def test_every_server_error_becomes_one_of_ours_and_keeps_its_state(state):
    translated = translate(SERVER_ERRORS[state]("any text"))
    assert isinstance(translated, DatabaseError)
    assert translated.sqlstate == state


@pytest.mark.parametrize("state", sorted(EXPECTED))
def test_the_states_a_host_acts_on_have_classes_of_their_own(state):
    assert type(translate(SERVER_ERRORS[state]("any text"))) is EXPECTED[state]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PoolTimeout("x"), Unavailable),
        (psycopg.OperationalError("server closed the connection"), Unavailable),
        (psycopg.InterfaceError("the connection is closed"), Unavailable),
        (psycopg.ProgrammingError("x"), DatabaseError),
        (psycopg.Error(), DatabaseError),
    ],
)
def test_errors_without_a_state_are_translated_too(error, kind):
    assert type(translate(error)) is kind
    assert str(translate(error))


def test_a_lost_commit_is_a_kind_of_unavailable():
    assert issubclass(CommitUnknown, Unavailable)


def test_the_docstring_draws_the_tree_that_there_is():
    drawn = [
        re.sub(r"(── \w+).*", r"\1", line).removeprefix("    ")
        for line in (errors.__doc__ or "").splitlines()
        if "──" in line
    ]
    assert drawn == tree(A2rchiError)


def test_the_docstring_names_every_valueerror():
    marked = re.findall(r"── (\w+) .*\(ValueError\)", errors.__doc__ or "")
    also = [kind.__name__ for kind in defined() if ValueError in kind.__bases__]
    assert marked == also
    assert issubclass(FilterError, ValueError)


def test_every_error_is_exported_at_the_top():
    missing = {kind.__name__ for kind in defined()} - set(a2rchi_pg.__all__)
    assert missing == set()


def test_all_is_sorted_and_every_name_in_it_is_there():
    assert a2rchi_pg.__all__ == sorted(a2rchi_pg.__all__)
    assert all(hasattr(a2rchi_pg, name) for name in a2rchi_pg.__all__)


def test_nothing_public_is_missing_from_all():
    public = {
        name
        for name, value in vars(a2rchi_pg).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public - set(a2rchi_pg.__all__) == set()


SECRET = f"hunter{secrets.token_hex(4)}"
LEAKS = {
    "duplicate key": "INSERT INTO t VALUES (1, %(secret)s), (2, %(secret)s)",
    "missing reference": "INSERT INTO t (id, word, parent) VALUES (1, %(secret)s, 77)",
    "check": "INSERT INTO t VALUES (-1, %(secret)s)",
    "null": "INSERT INTO t VALUES (NULL, %(secret)s)",
    "not a number": "SELECT %(secret)s::text::integer",
    "not a number, with quotes": "SELECT (%(secret)s || '\" is \"' || %(secret)s)::integer",
    "not JSON": "SELECT %(secret)s::text::jsonb",
    "not a date": "SELECT %(secret)s::text::timestamptz",
    "not a vector": "SELECT %(secret)s::text::vector",
    "not a regular expression": "SELECT 'a' ~ (%(secret)s || '(')",
    "syntax": f"SELECT %(secret)s {SECRET} {SECRET}",
}


@pytest.mark.servers("plain")
@pytest.mark.parametrize("query", LEAKS.values(), ids=LEAKS.keys())
def test_no_message_holds_sql_parameters_or_details(database: Database, query: str):
    @write
    def fail():
        yield from execute(
            "CREATE TABLE t (id integer NOT NULL CHECK (id > 0), word text UNIQUE, "
            "parent bigint REFERENCES documents)"
        )
        yield from execute(query, secret=SECRET)

    with pytest.raises(DatabaseError) as caught:
        database.run(fail())
    shown = str(caught.value)
    assert shown
    assert SECRET not in shown
    assert "77" not in shown
    assert "\n" not in shown
    assert isinstance(caught.value.__cause__, psycopg.Error)


@pytest.mark.servers("plain")
def test_a_message_still_says_what_was_wrong(database: Database):
    @read
    def fail():
        return (yield from fetch_value("SELECT '[1,2]'::vector <-> '[1]'"))

    with pytest.raises(InvalidValue, match="different vector dimensions 2 and 1"):
        database.run(fail())

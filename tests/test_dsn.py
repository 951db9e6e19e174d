"""What is taken for a DSN, and that none of its secrets is ever shown."""

from __future__ import annotations

import traceback
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from a2rchi_pg import Database, InvalidInput, SchemaOutOfDate, Unavailable
from a2rchi_pg.database import DSN_VARIABLE

HIDDEN = "hunter2"
# Passwords as they are pasted into a DSN: with what should have been encoded or quoted.
PASTED = st.builds(
    "{}{}{}".format, st.text("@/:?#%&= '\\[],a1"), st.just(HIDDEN), st.text("@/:?=' a1")
)
PLACES = [
    "postgresql://user:{}@host/db",
    "postgresql://user:{}@host:5432,other:5433/db?sslmode=require",
    "postgres://user@corp:{}@host/db",
    "Postgresql://user:{}@host/db",
    "postgresql+psycopg://user:{}@host/db?sslmode=require",
    "mysql://user:{}@host/db?ssl=1",
    "user:{}@host/db",
    "{}",
    "host=host password={}",
    "host=host password={} dbname=db",
    "host=host password='{} dbname=db",
    "host=user:{}@host dbname=db",
    "dbname=postgresql://user:{}@host/db",
]


@given(st.sampled_from(PLACES), PASTED)
@example("postgresql://user:{}@host/db", f"?@/{HIDDEN}")
def test_no_part_of_a_password_is_shown_or_taken_for_a_place(place: str, password: str):
    try:
        said = repr(Database(place.format(password)))
    except InvalidInput as error:
        said = "".join(traceback.format_exception(error))
    assert HIDDEN not in said


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://user:p@host:{HIDDEN}/db",
        f"host=host port={HIDDEN}",
        f"host=host port=5432,{HIDDEN}",
    ],
)
def test_a_port_is_a_number(dsn: str):
    with pytest.raises(InvalidInput, match=r"port is not a number.*%40") as caught:
        Database(dsn)
    assert HIDDEN not in str(caught.value)


@given(st.text())
def test_any_text_is_a_dsn_or_refused_as_one(text: str):
    with suppress(InvalidInput):
        repr(Database(text))


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "service=rag",
        "host=/tmp,@abstract port='5432 ,5433'",
        "postgresql://",
        "postgresql://me:p%40ss%2F@[::1]:5432,other/my%40db?target_session_attrs=read-write",
        "postgres://me:p?#ss:@%2Fvar%2Frun/db?options=-c%20a.b%3Dc@d",
    ],
)
def test_what_libpq_takes_is_taken(dsn: str):
    Database(dsn)


@pytest.mark.parametrize(
    ("dsn", "hint"),
    [
        ("postgresql+psycopg://me@host/db", r"SQLAlchemy.*postgresql://user"),
        ("/data/pg", r"Database\.embedded\(path\)"),
        ("./pg", r"Database\.embedded\(path\)"),
        ("data/pg", r"Database\.embedded\(path\)"),
        ("postgresql://me:p@ss@host/db", "%40"),
    ],
)
def test_a_refusal_says_what_to_write(dsn: str, hint: str):
    with pytest.raises(InvalidInput, match=hint):
        Database(dsn)


@pytest.mark.servers("embedded")
@pytest.mark.parametrize("secret", ["password", "sslpassword"])
def test_the_command_for_an_old_schema_holds_no_secret(empty_dsn: str, secret: str):
    database = Database(make_conninfo(empty_dsn, **{secret: HIDDEN}))
    with pytest.raises(SchemaOutOfDate, match="migrate schema") as caught:
        database.open()
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("host", ["", "/nowhere"], ids=["nothing says where", "PGHOST says where"])
async def test_without_any_dsn_its_variable_is_named(monkeypatch: pytest.MonkeyPatch, host: str):
    for variable in (DSN_VARIABLE, "PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PGPORT", "1")
    if host:
        monkeypatch.setenv("PGHOST", host)
    for opening in (Database().open, Database().aopen):
        with pytest.raises(Unavailable) as caught:
            opened = opening()
            if not isinstance(opened, Database):
                await opened
        assert (DSN_VARIABLE in str(caught.value)) == (not host)

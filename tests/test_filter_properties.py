"""The compiled filters against their specification, on random filters and random metadata.

One statement puts five filters to twenty rows, so an example is a hundred pairs. The default run
is the same every time; ``A2RCHI_PG_TEST_PAIRS=100000`` looks at that many new ones.
"""

from __future__ import annotations

import os
import re
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from a2rchi_pg._content import metadata_json
from a2rchi_pg._filters import CATALOG, OPERATORS, Condition, compile_filter
from tests import filter_oracle
from tests.filter_oracle import matches
from tests.plugins.servers import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

ASKED = os.environ.get("A2RCHI_PG_TEST_PAIRS")
PAIRS = int(ASKED or 12_000)
FILTERS = 5
ROWS = 20
quick = settings(
    max_examples=-(-PAIRS // (FILTERS * ROWS)),
    derandomize=ASKED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
fewer = settings(quick, max_examples=-(-quick.max_examples // 4))
pytestmark = pytest.mark.timeout(max(120, PAIRS // 50))

# -- what is said -----------------------------------------------------------------------------

KEYS = [
    *("a", "b", "a.b", "a.b.c", "b.a", "", ".", "a.", "file-name", "two words", "it's", 'say "x"'),
    *("100%", "%s", "%(filter_0)s", "{}", "{a}", "\\", "a\\b", "--", "a;b", "a.$b", "ключ", "🗝"),
    *("metadata", "id", "k" * 3000),
]
NUMBERS = [
    *(0, 1, -1, 2, 0.0, -0.0, 1.0, 0.5, 0.1, 2**53 + 1, 2.0**53, 2**63, -(2**64), 10**40),
    *(1e308, -1e308, 10**308, 5e-324, 1e-7),
]
STRINGS = [
    *("", "a", "b", "A", "ab", "aXb", "a%b", "a_b", "a\\b", "\\", "%", "_", "é", "É", "ß", "👍"),
    *("1", "1.0", "true", "null", "it's", '"', "a\nb", "{}", "z" * 300, "z" * 300 + "a"),
]
TIMES = [
    *("2024-01-01", "2024-01-01T00:00", "2024-01-01 00:00:00Z", "2024-01-01T02:00:00+02:00"),
    *("2024-06-30T23:59:59.999999", "2024-06-30T24:00:00", "0001-01-01", "9999-12-31T23:59:59"),
]
NOT_TIMES = [
    *("now", "today", "infinity", "2024-13-01", "2024-02-30", "2024-1-1", "2024-01-01T25:00"),
    *("2024-01-01 now", "2024-01-01 10:00 EST", "2024-01-01T10:00:00+16:00", "0000-01-01"),
    *("2024-01-01\n", " 2024-01-01", "20240101", "2024-01-01 BC", "٢٠٢٤-٠١-٠١"),
]
text = st.text(st.characters(min_codepoint=1, max_codepoint=0x24F, exclude_characters="İ"))
keys = st.sampled_from(KEYS) | text.filter(
    lambda key: not key.startswith("$") and key not in CATALOG
)
numbers = (
    st.sampled_from(NUMBERS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
strings = st.sampled_from(STRINGS) | text
paths = st.sampled_from(["a.b", "a.b.c", "b.a", "."])
long = st.sampled_from([length * "é" + end for length in (199, 200, 300) for end in ("", "a", "b")])
zones = st.timedeltas(timedelta(hours=-15), timedelta(hours=15)).map(
    lambda away: timezone(timedelta(seconds=away // timedelta(seconds=1)))
)
moments = (
    st.sampled_from([date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 30)])  # noqa: DTZ001
    | st.dates(date(2, 1, 1), date(9998, 1, 1))
    | st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.none() | zones)  # noqa: DTZ001
)
times = st.sampled_from(TIMES) | moments.map(lambda moment: moment.isoformat())
scalars = st.none() | st.booleans() | numbers | strings | times | st.sampled_from(NOT_TIMES)
plain_keys = st.sampled_from(["a", "b", "c", "a.b", "", "it's"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_keys, inner, max_size=3),
    max_leaves=6,
)

PATTERNS = ["{}", "{}%", "%{}", "%{}%", "_{}", "{}_", "{}\\", "\\{}", "\\%{}", "_%", "%_\\_%"]


def operators(
    operand: st.SearchStrategy[Any],
    bound: st.SearchStrategy[Any],
    part: st.SearchStrategy[Any],
    word: st.SearchStrategy[str],
) -> st.SearchStrategy[dict[str, Any]]:
    """One to three operators on a field, ``$not`` around some of them."""
    many = st.lists(operand, max_size=4) | st.lists(operand, min_size=21, max_size=22)
    takes = {
        **dict.fromkeys(("$eq", "$ne"), operand),
        **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), bound),
        **dict.fromkeys(("$in", "$nin"), many),
        "$between": st.lists(bound, min_size=2, max_size=2),
        "$exists": st.booleans(),
        **dict.fromkeys(
            ("$like", "$ilike"), st.builds(str.format, st.sampled_from(PATTERNS), word)
        ),
        "$contains": part,
    }
    assert takes.keys() == OPERATORS.keys() == filter_oracle.OPERATORS.keys()
    takes = {name: each for name, each in takes.items() if not each.is_empty}
    more = [name for name in ("$contains", "$like") if name in takes] * 4
    names = st.lists(st.sampled_from([*takes, *takes, *more]), min_size=1, max_size=3, unique=True)
    some = names.flatmap(lambda names: st.fixed_dictionaries({n: takes[n] for n in names}))
    return some | some.map(lambda given: {"$not": given})


def combined(fields: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Filters of these fields, put together in every way there is."""
    return st.recursive(
        fields,
        lambda inner: st.one_of(
            st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"$not": inner}),
            st.builds(lambda one, other: {**one, **other}, fields, inner),
        ),
        max_leaves=5,
    )


FAMILIES = [numbers, strings, long, times, values, st.lists(scalars, min_size=1, max_size=3)]
randoms = st.integers(0, 999).map(Random)
Row = tuple[dict[str, Any], int | None]
Case = tuple[list[dict[str, Any]], list[Row]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Filters and rows that speak of the same few keys and values, or nothing would ever match."""
    names = draw(st.lists(paths | keys | keys, min_size=1, max_size=2, unique=True))
    pool = draw(st.one_of(st.lists(of, min_size=2, max_size=5) for of in FAMILIES))
    condition = conditions(pool)
    fields = st.dictionaries(st.sampled_from(names), condition, min_size=1, max_size=2)
    filters = draw(st.lists(combined(fields), min_size=FILTERS, max_size=FILTERS))
    return filters, made_rows(draw(randoms), names, pool)


def conditions(pool: list[Any]) -> st.SearchStrategy[Any]:
    """What can be asked of a field: often about the values of the pool."""
    known = st.sampled_from(pool)
    parts = [*pool, *(part for each in pool if isinstance(each, list) for part in each), "a"]
    scalar = [part for part in parts if isinstance(part, str | bool | int | float)]
    ordered = st.sampled_from([part for part in scalar if not isinstance(part, bool)])
    operand = known | known | known | values | moments
    bound = ordered | ordered | ordered | numbers | strings | times | moments
    plain = operand.filter(lambda value: not isinstance(value, dict))
    words = st.sampled_from([str(part)[:3] for part in scalar] + [str(part) for part in scalar])
    asked = operators(operand, bound, st.sampled_from(scalar) | strings | st.booleans(), words)
    return asked | asked | asked | plain


DECOYS = [None, True, False, 0, 1, "1", "", "a", [], ["a", 1, True], {}, {"b": 1}, "2024-01-01"]


def made_rows(random: Random, names: list[str], pool: list[Any]) -> list[Row]:
    """Rows that have a value under most of the names, as a key or where its path leads."""
    rows: list[Row] = []
    for _ in range(ROWS):
        row: dict[str, Any] = {}
        for name in random.sample(names, random.choice([len(names), len(names), 0])):
            value = random.choice(random.choice([pool, pool, DECOYS]))
            row |= random.choice([flat, deep])(name, value)
            if random.random() < 0.2:
                row |= flat(name, random.choice(pool))
        rows.append((row, None))
    return rows


def flat(key: str, value: Any) -> dict[str, Any]:
    return {key: value}


def deep(key: str, value: Any) -> dict[str, Any]:
    for step in reversed(key.split(".")):
        value = {step: value}
    return value


# -- what comes of it -------------------------------------------------------------------------


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with closing(connect(dsn)) as opened:
        yield opened


def selected(
    connection: psycopg.Connection, conditions: list[Condition], rows: list[Row]
) -> list[list[bool]]:
    """Which rows meet each condition, in one statement."""
    columns, params = [], {}
    for number, condition in enumerate(conditions):
        text = condition.sql.replace("%(filter_", f"%(filter_{number}_")
        columns.append(sql.SQL(f"({text}) IS TRUE"))  # type: ignore[arg-type]
        params |= {
            name.replace("filter_", f"filter_{number}_"): value
            for name, value in condition.params.items()
        }
    query = sql.SQL(
        """
        SELECT {}
        FROM unnest(%(metadatas)s::jsonb[], %(documents)s::bigint[]) WITH ORDINALITY
            AS chunk (metadata, document_id, n)
        ORDER BY n
        """
    )
    found = connection.execute(
        query.format(sql.SQL(", ").join(columns)),
        {
            "metadatas": [metadata_json(metadata) for metadata, _ in rows],
            "documents": [document for _, document in rows],
            **params,
        },
    )
    return [list(column) for column in zip(*found, strict=True)]


OTHERS = [None, True, False, [], ["a"], [1, True, "é"], [["a"], None], {}, {"b": 1}, {"b": None}]
VALUES = [*NUMBERS, *STRINGS, *TIMES, *NOT_TIMES, *OTHERS]
MOMENTS = [date(2024, 1, 1), datetime(2024, 6, 30), datetime(2024, 7, 1, tzinfo=UTC)]  # noqa: DTZ001


def every_operator() -> Iterator[dict[str, Any]]:
    """Every operator with every kind of operand."""
    comparable = (*NUMBERS, *STRINGS, *TIMES, *MOMENTS)
    pairs = [list(pair) for pair in pairwise(comparable)]
    wide = [VALUES[n : n + 25] for n in range(0, len(VALUES), 10)]
    patterns = tuple(form.format(word) for form in PATTERNS for word in STRINGS[:14])
    takes: dict[str, Sequence[Any]] = {
        **dict.fromkeys(("$eq", "$ne"), (*VALUES, *MOMENTS)),
        **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), comparable),
        **dict.fromkeys(("$in", "$nin"), ([], [None], MOMENTS, *wide, *pairs)),
        "$between": pairs,
        "$exists": (True, False),
        **dict.fromkeys(("$like", "$ilike"), patterns),
        "$contains": (*NUMBERS, *STRINGS, True, False),
    }
    assert takes.keys() == OPERATORS.keys() == filter_oracle.OPERATORS.keys()
    return ({"a": {name: operand}} for name, each in takes.items() for operand in each)


@pytest.mark.servers("embedded")
def test_every_operator_means_what_its_specification_says(connection: psycopg.Connection):
    rows: list[Row] = [({}, None), *(({"a": value}, None) for value in VALUES)]
    filters = list(every_operator())
    for start in range(0, len(filters), 100):
        some = filters[start : start + 100]
        found = selected(connection, [compile_filter(each) for each in some], rows)
        for each, met in zip(some, found, strict=True):
            assert met == [matches(each, metadata) for metadata, _ in rows], each


@pytest.mark.servers("embedded")
def test_a_filter_selects_what_its_specification_says(connection: psycopg.Connection):
    @quick
    @given(cases())
    def holds(case: Case) -> None:
        filters, rows = case
        both = [*filters, *({"$not": each} for each in filters)]
        found = selected(connection, [compile_filter(each) for each in both], rows)
        expected = [[matches(each, metadata) for metadata, _ in rows] for each in filters]
        assert found[:FILTERS] == expected
        assert found[FILTERS:] == [[not met for met in each] for each in expected]

    holds()


DOCUMENTS: list[dict[str, Any]] = [
    {"resource_hash": "h1", "display_name": "a", "source_type": "web", "url": "https://a/b_c"},
    {"resource_hash": "h2", "display_name": "A", "source_type": "git", "size_bytes": 0},
    {"resource_hash": "h3", "display_name": "100%", "source_type": "web", "size_bytes": 2**40},
    {
        "resource_hash": "h4",
        "display_name": "é",
        "suffix": ".pdf",
        "size_bytes": 1,
        "source_type": "git",
        "ingested_at": datetime(2024, 1, 1, tzinfo=UTC),
        "source_modified_at": datetime(2024, 6, 30, 23, 59, 59, 999_999, tzinfo=UTC),
    },
]
COLUMN_TEXTS = ["h1", "h4", "a", "A", "é", "web", "git", ".pdf", "https://a/b_c", "1", "2024-01-01"]
COLUMN_NUMBERS = [0, 1, 1.0, 0.5, 2**40, 2.0**40, 2**70, -1]


@st.composite
def column_cases(draw: st.DrawFn) -> Case:
    """Filters on the columns of documents, and chunks that have a document or only metadata."""
    names = draw(st.lists(st.sampled_from(sorted(CATALOG)), min_size=1, max_size=2, unique=True))
    readable = times.filter(lambda text: "24:00" not in text)  # by Python before 3.14
    time, pool = readable | moments, [*COLUMN_TEXTS, *COLUMN_NUMBERS, True, None]
    asked = {
        name: time | operators(time, time, st.nothing(), strings)
        if CATALOG[name] == "timestamptz"
        else conditions(pool)
        for name in names
    }
    fields = st.sampled_from(names).flatmap(lambda name: st.fixed_dictionaries({name: asked[name]}))
    filters = draw(st.lists(combined(fields), min_size=FILTERS, max_size=FILTERS))
    random = draw(randoms)
    rows = made_rows(random, names, [*pool, *TIMES, *NOT_TIMES])
    owners = [None, *range(1, len(DOCUMENTS) + 1)]
    return filters, [(row, random.choice(owners)) for row, _ in rows]


@pytest.mark.servers("embedded")
def test_a_column_of_the_document_stands_in_for_metadata(connection: psycopg.Connection):
    for each in DOCUMENTS:
        query = sql.SQL("INSERT INTO documents ({}) VALUES ({}) RETURNING id").format(
            sql.SQL(", ").join(map(sql.Identifier, each)),
            sql.SQL(", ").join(map(sql.Placeholder, each)),
        )
        assert connection.execute(query, each).fetchone() == (DOCUMENTS.index(each) + 1,)

    @fewer
    @given(column_cases())
    def holds(case: Case) -> None:
        filters, rows = case
        owned = [(row, None if number is None else DOCUMENTS[number - 1]) for row, number in rows]
        both = [*filters, *({"$not": each} for each in filters)]
        found = selected(connection, [compile_filter(each) for each in both], rows)
        expected = [[matches(each, *row) for row in owned] for each in filters]
        assert found[:FILTERS] == expected
        assert found[FILTERS:] == [[not met for met in each] for each in expected]

    holds()


WORDS = {
    *("AND", "OR", "NOT", "IS", "NULL", "true", "false", "ANY", "ARRAY", "LIKE", "ILIKE"),
    *("SELECT", "FROM", "WHERE", "CASE", "WHEN", "THEN", "END", "COLLATE", "C", "coalesce"),
    *("left", "strpos", "jsonb_typeof", "metadata_timestamp", "to_jsonb", "numeric"),
    *("timestamptz", "metadata", "document_id", "documents", "id"),
}
BOUND = re.compile(r"%\((filter_\d+)\)s::(?:text|jsonb|numeric|timestamptz)(?:\[\])?(?![\w\[])")
LITERAL = re.compile(r"'(?:string|number|null|\{\})'|\b(?:0|200)\b")
SYMBOL = re.compile(r"->|#>>|@>|::|>=|<=|[()=<>,\"\s]")


@fewer
@given(cases())
def test_no_key_and_no_value_is_in_the_text(case: Case):
    for each in case[0]:
        condition = compile_filter(each)
        assert set(BOUND.findall(condition.sql)) == set(condition.params)
        rest = SYMBOL.sub(" ", LITERAL.sub(" ", BOUND.sub(" ", condition.sql)))
        assert set(rest.split()) <= WORDS | set(CATALOG)

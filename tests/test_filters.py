"""The filter language, by example: what each operator means, and what is refused and how."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from secrets import token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pytest
from psycopg import sql

from a2rchi_pg import (
    Collections,
    CollectionSpec,
    FilterError,
    PostgresVectorStore,
    _chunks,
    _search,
)
from a2rchi_pg._explain import analysed
from a2rchi_pg._filters import EVERYTHING, MAX_DEPTH, MAX_SIZE, compile_filter
from a2rchi_pg._op import Steps, execute, fetch_tuples, fetch_value, write
from a2rchi_pg.errors import CollectionMismatch, InvalidInput, InvalidValue, NotFound
from tests.plugins.stores import CountingRunner, Twin, WordModel, ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from a2rchi_pg import Database
    from a2rchi_pg._op import Op
    from a2rchi_pg.collections import Collection, FieldType
    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.timeout(60), pytest.mark.servers("embedded")]

BOOKS: dict[str, dict[str, Any]] = {
    "dune": {
        "year": 1965,
        "price": 9.5,
        "title": "Dune",
        "tags": ["desert", "politics", 1],
        "author": {"name": "Frank Herbert", "born": {"year": 1920}},
        "published": "1965-08-01",
        "in print": True,
        "file-name": "dune.pdf",
        "isbn": None,
    },
    "emma": {
        "year": 1815,
        "price": 4,
        "title": "Emma",
        "tags": [],
        "author": {"name": "Jane Austen"},
        "published": "1815-12-23T10:00:00+01:00",
        "in print": False,
        "file-name": "100%_sure.pdf",
    },
    "solaris": {
        "year": "1961",
        "price": True,
        "title": "Solaris",
        "tags": "desert planet",
        "author.name": "Stanisław Lem",
        "author": {"name": "hidden by the key that has the dot"},
        "published": "in the sixties",
        "in print": "true",
        "file-name": "C:\\solaris.pdf",
    },
    "blank": {},
}


@pytest.fixture(scope="module")
def shelf(common: Database) -> Iterator[PostgresVectorStore]:
    """A store of books, named by their ids, that tests only read."""
    spec = CollectionSpec(name=f"shelf-{token_hex(4)}", index="none")
    store = PostgresVectorStore(WordModel(), database=common, collection=spec)
    store.add_texts([*BOOKS], [*BOOKS.values()], ids=[*BOOKS])
    yield store
    Collections(common).drop(spec.name)


def found(store: PostgresVectorStore, filter: Mapping[str, Any] | None) -> str:  # noqa: A002
    """The ids of what a filter lets through; as many as are counted, the rest by its negation."""
    through = ids(store.similarity_search("a book", k=100, filter=filter))
    assert store.count(filter) == len(through)
    if filter is not None:
        assert store.count({"$not": filter}) == store.count() - len(through)
    return " ".join(sorted(filter_out_none(through)))


def filter_out_none(names: list[str | None]) -> list[str]:
    return [name for name in names if name is not None]


EXAMPLES: list[tuple[dict[str, Any] | None, str]] = [
    # Everything.
    (None, "blank dune emma solaris"),
    ({}, "blank dune emma solaris"),
    ({"$and": [{}]}, "blank dune emma solaris"),
    ({"$not": {}}, ""),
    # Equality is typed: a number isn't a string that looks like it, nor a boolean.
    ({"year": 1965}, "dune"),
    ({"year": 1965.0}, "dune"),
    ({"year": "1965"}, ""),
    ({"year": "1961"}, "solaris"),
    ({"price": 1}, ""),
    ({"price": True}, "solaris"),
    ({"in print": True}, "dune"),
    ({"in print": "true"}, "solaris"),
    ({"in print": {"$eq": False}}, "emma"),
    ({"tags": {"$eq": []}}, "emma"),
    ({"tags": ["desert", "politics", 1]}, "dune"),
    ({"tags": ["politics", "desert", 1]}, ""),
    ({"author": {"$eq": {"name": "Jane Austen"}}}, "emma"),
    # What is missing or of another type doesn't meet a condition, so it meets its negation.
    ({"year": {"$ne": 1965}}, "blank emma solaris"),
    ({"year": {"$not": {"$gt": 0}}}, "blank solaris"),
    ({"$not": {"year": {"$gt": 0}}}, "blank solaris"),
    # None is null or missing; $exists tells them apart.
    ({"isbn": None}, "blank dune emma solaris"),
    ({"title": None}, "blank"),
    ({"title": {"$ne": None}}, "dune emma solaris"),
    ({"isbn": {"$exists": True}}, "dune"),
    ({"isbn": {"$exists": False}}, "blank emma solaris"),
    # Order: numbers among numbers, strings among strings, by code point.
    ({"year": {"$gt": 1815}}, "dune"),
    ({"year": {"$gte": 1815}}, "dune emma"),
    ({"year": {"$lt": 1965}}, "emma"),
    ({"year": {"$lte": 1965}}, "dune emma"),
    ({"year": {"$gt": "1900"}}, "solaris"),
    ({"price": {"$gte": 0}}, "dune emma"),
    ({"title": {"$gt": "Dune"}}, "emma solaris"),
    ({"title": {"$lt": "a"}}, "dune emma solaris"),
    ({"title": {"$between": ["Dune", "Emma"]}}, "dune emma"),
    ({"year": {"$between": (1815, 1964.5)}}, "emma"),
    ({"year": {"$between": [10**400, -(10**400)]}}, ""),
    ({"year": {"$between": [-(10**400), 10**400]}}, "dune emma"),
    # Several operators on one field, several fields, a field beside $or.
    ({"year": {"$gt": 1800, "$lt": 1900}}, "emma"),
    ({"year": {"$gt": 1800, "$ne": 1815, "$exists": True}}, "dune"),
    ({"year": {"$gte": 1815}, "price": {"$lt": 5}}, "emma"),
    ({"title": {"$like": "%a%"}, "$or": [{"year": 1815}, {"year": 1965}]}, "emma"),
    ({"$or": [{"year": 1815}, {"title": "Dune"}, {"isbn": 3}]}, "dune emma"),
    ({"$and": [{"year": {"$gt": 1}}, {"year": {"$lt": 1900}}]}, "emma"),
    ({"$not": {"$or": [{"year": 1815}, {"title": "Dune"}]}}, "blank solaris"),
    (
        {"$or": [{"$and": [{"year": 1965}, {"price": 9.5}]}, {"$not": {"title": None}}]},
        "dune emma solaris",
    ),
    # Lists of values.
    ({"year": {"$in": []}}, ""),
    ({"year": {"$in": [1965]}}, "dune"),
    ({"year": {"$in": (1965, "1961", None)}}, "blank dune solaris"),
    ({"year": {"$in": {1815, 1965}}}, "dune emma"),
    ({"tags": {"$in": [[], "desert planet"]}}, "emma solaris"),
    ({"year": {"$nin": [1965, None]}}, "emma solaris"),
    ({"year": {"$nin": []}}, "blank dune emma solaris"),
    # Patterns; a \ takes a wildcard's meaning away.
    ({"title": {"$like": "D%"}}, "dune"),
    ({"title": {"$like": "_mma"}}, "emma"),
    ({"title": {"$like": "d%"}}, ""),
    ({"title": {"$ilike": "d%"}}, "dune"),
    ({"author.name": {"$ilike": "%SŁAW%"}}, "solaris"),
    ({"file-name": {"$like": "100\\%\\_%"}}, "emma"),
    ({"file-name": {"$like": "1%\\%%"}}, "emma"),
    ({"file-name": {"$like": "C:\\\\%"}}, "solaris"),
    ({"file-name": {"$like": "C:\\"}}, ""),
    ({"file-name": {"$like": "\\\0"}}, ""),
    ({"year": {"$like": "19%"}}, "solaris"),
    # $contains: an element of a list, or a part of a string.
    ({"tags": {"$contains": "desert"}}, "dune solaris"),
    ({"tags": {"$contains": "des"}}, "solaris"),
    ({"tags": {"$contains": 1}}, "dune"),
    ({"tags": {"$contains": True}}, ""),
    ({"title": {"$contains": "%"}}, ""),
    ({"file-name": {"$contains": "%_"}}, "emma"),
    # Paths into objects; a key that has the dot comes first.
    ({"author.name": "Jane Austen"}, "emma"),
    ({"author.name": "Stanisław Lem"}, "solaris"),
    ({"author.name": {"$like": "hidden%"}}, ""),
    ({"author.born.year": {"$lt": 1930}}, "dune"),
    ({"author.born.year": None}, "blank emma solaris"),
    ({"author.born": {"$exists": True}}, "dune"),
    ({"title.no.object": {"$exists": True}}, ""),
    # Any text is a key.
    ({"file-name": "dune.pdf"}, "dune"),
    ({"in print": True}, "dune"),
    ({"no such key": {"$exists": True}}, ""),
    ({"": None, ".": None, "'; DROP TABLE x": None, "%s": None}, "blank dune emma solaris"),
    # Times: a date is midnight UTC, and so is a time without a zone taken for UTC.
    ({"published": {"$lt": date(1900, 1, 1)}}, "emma"),
    ({"published": {"$gte": datetime(1815, 12, 23, 9, tzinfo=UTC)}}, "dune emma"),
    ({"published": {"$gt": datetime(1815, 12, 23, 9, tzinfo=UTC)}}, "dune"),
    ({"published": {"$gt": datetime(1815, 12, 23, 9)}}, "dune"),  # noqa: DTZ001
    ({"published": datetime(1965, 8, 1, tzinfo=UTC)}, "dune"),
    ({"published": datetime(1965, 8, 1, 2, tzinfo=timezone(timedelta(hours=2)))}, "dune"),
    (
        {"published": {"$in": [date(1965, 8, 1), date(1999, 1, 1), "in the sixties"]}},
        "dune solaris",
    ),
    ({"published": {"$ne": date(1965, 8, 1)}}, "blank emma solaris"),
    ({"published": {"$between": [date(1965, 1, 1), date(1965, 12, 31)]}}, "dune"),
    # Strings stay strings, whatever they look like.
    ({"published": "1965-08-01"}, "dune"),
    ({"published": "1965-08-01T00:00:00"}, ""),
    ({"published": {"$gt": "1900"}}, "dune solaris"),
    # What numpy and the standard library bring along.
    ({"year": np.int64(1965)}, "dune"),
    ({"year": {"$gt": np.int32(1900)}}, "dune"),
    ({"price": {"$lt": np.float64(9.6), "$gt": np.float32(9.25)}}, "dune"),
    ({"tags": {"$in": [np.array(["desert", "politics"]), np.array([])]}}, "emma"),
    ({"published": {"$lt": np.datetime64("1900-01-01")}}, "emma"),
    ({"title": UUID(int=0)}, ""),
    # NUL can't be stored, so it isn't looked for either.
    ({"ti\0tle": "Du\0ne"}, "dune"),
    ({"title": {"$gte": "D\0une", "$lte": "Dune\ud800"}}, "dune"),
]


@pytest.mark.parametrize(("filter", "expected"), EXAMPLES, ids=lambda value: str(value)[:70])
def test_example(shelf: PostgresVectorStore, filter: dict[str, Any], expected: str):  # noqa: A002
    assert found(shelf, filter) == expected


@pytest.mark.parametrize("length", [0, 1, 19, 20, 21, 22, 1000])
@pytest.mark.parametrize("extra", [[], [None], [date(1965, 8, 1)], [None, date(1965, 8, 1)]])
def test_a_list_of_any_length_means_the_same(shelf: PostgresVectorStore, length: int, extra: list):
    values = [["1815-12-23T10:00:00+01:00", *range(999)][n] for n in range(length)]
    expected = {"blank"} if None in extra else set()
    expected |= {"dune"} if date(1965, 8, 1) in extra else set()
    expected |= {"emma"} if length else set()
    assert found(shelf, {"published": {"$in": values + extra}}) == " ".join(sorted(expected))
    others = " ".join(sorted(BOOKS.keys() - expected))
    assert found(shelf, {"published": {"$nin": values + extra}}) == others


# -- the catalog ------------------------------------------------------------------------------


@write
def new_document(**columns: Any) -> Steps[int]:
    given = {"resource_hash": token_hex(8), "display_name": "a document", **columns}
    query = sql.SQL("INSERT INTO documents ({}) VALUES ({}) RETURNING id").format(
        sql.SQL(", ").join(map(sql.Identifier, given)),
        sql.SQL(", ").join(map(sql.Placeholder, given)),
    )
    return int((yield from fetch_value(query, **given)))


@pytest.fixture(scope="module")
def library(common: Database) -> Iterator[PostgresVectorStore]:
    """Chunks of two documents, whose metadata says something else, and one without a document."""
    spec = CollectionSpec(name=f"library-{token_hex(4)}", index="none")
    store = PostgresVectorStore(WordModel(), database=common, collection=spec)
    page = common.run(
        new_document(
            source_type="web",
            url="https://example.org/a_b",
            size_bytes=2_000,
            ingested_at=datetime(2024, 3, 1, 12, tzinfo=UTC),
        )
    )
    repository = common.run(new_document(source_type="git", git_repo="core", suffix=".md"))
    other = {"source_type": "ticket", "size_bytes": 5, "ingested_at": "2020-01-01", "topic": "x"}
    store.add_texts(["page"], [other], ids=["page"], document_id=page)
    store.add_texts(["repo"], [other], ids=["repo"], document_id=repository)
    store.add_texts(["loose"], [other], ids=["loose"])
    yield store
    Collections(common).drop(spec.name)


COLUMN_EXAMPLES: list[tuple[dict[str, Any], str]] = [
    ({"source_type": "web"}, "page"),
    ({"source_type": "ticket"}, "loose"),
    ({"source_type": {"$ne": "web"}}, "loose repo"),
    ({"source_type": {"$in": ["git", "ticket", None]}}, "loose repo"),
    ({"source_type": {"$in": ["git", *map(str, range(30))]}}, "repo"),
    ({"source_type": {"$like": "%i%"}}, "loose repo"),
    ({"source_type": {"$contains": "it"}}, "repo"),
    ({"source_type": {"$gt": "ticket"}}, "page"),
    ({"source_type": 3}, ""),
    ({"source_type": ["web"]}, ""),
    ({"url": {"$like": "%a\\_b"}}, "page"),
    ({"url": None}, "loose repo"),
    ({"url": {"$exists": True}}, "page"),
    ({"suffix": ".md", "topic": "x"}, "repo"),
    ({"topic": "x"}, "loose page repo"),
    ({"size_bytes": 2000.0}, "page"),
    ({"size_bytes": {"$gte": 5, "$lt": 3_000}}, "loose page"),
    ({"size_bytes": {"$in": [5, *range(1990, 2020)]}}, "loose page"),
    ({"size_bytes": "2000"}, ""),
    ({"size_bytes": None}, "repo"),
    ({"ingested_at": {"$gte": date(2024, 1, 1)}}, "page"),
    (
        {"ingested_at": {"$lt": datetime(2024, 3, 1, 13, tzinfo=timezone(timedelta(hours=1)))}},
        "loose",
    ),
    ({"ingested_at": datetime(2024, 3, 1, 12, tzinfo=UTC)}, "page"),
    # What is asked of a column of times may be written as it is in JSON.
    ({"ingested_at": "2024-03-01T12:00:00Z"}, "page"),
    ({"ingested_at": {"$between": ["2020-01-01", "2024-12-31"]}}, "loose page"),
    ({"ingested_at": {"$in": ["2024-03-01T13:00:00+01:00", "2020-01-01T00:00"]}}, "loose page"),
    ({"ingested_at": {"$exists": False}}, "repo"),
    ({"$or": [{"source_type": "git"}, {"size_bytes": {"$lt": 10}}]}, "loose repo"),
]


@pytest.mark.parametrize(("filter", "expected"), COLUMN_EXAMPLES, ids=lambda value: str(value)[:70])
def test_column_example(library: PostgresVectorStore, filter: dict[str, Any], expected: str):  # noqa: A002
    assert found(library, filter) == expected


# -- every way in -----------------------------------------------------------------------------

SEARCHES: dict[str, dict[str, Any]] = {
    "similarity_search": {},
    "similarity_search_with_score": {},
    "similarity_search_with_relevance_scores": {},
    "bm25_search": {},
    "hybrid_search": {},
    "max_marginal_relevance_search": {"fetch_k": 9},
}


@pytest.mark.servers("embedded", "plain")
@pytest.mark.parametrize("name", SEARCHES)
async def test_every_search_honours_filters(twin: Twin, name: str):
    texts = ["a red fox", "a red hen", "a red cow"]
    await twin.add_texts(texts, [{"legs": 4}, {"legs": 2}, {"legs": 4}], ids=["fox", "hen", "cow"])
    search = getattr(twin, name)
    assert set(ids(await search("red", k=9, filter={"legs": 4}, **SEARCHES[name]))) == {
        "fox",
        "cow",
    }
    assert ids(await search("red", k=9, filter={"legs": {"$lt": 3}}, **SEARCHES[name])) == ["hen"]
    assert await search("red", k=9, filter={"legs": 3}, **SEARCHES[name]) == []


@pytest.mark.parametrize("kind", ["similarity", "mmr", "bm25", "hybrid"])
def test_a_retriever_honours_filters(store: PostgresVectorStore, kind: str):
    store.add_texts(["a red fox", "a red hen"], [{"legs": 4}, {"legs": 2}], ids=["fox", "hen"])
    options = {"filter": {"legs": {"$in": [2, 3]}}, "k": 5}
    retriever = store.as_retriever(search_type=kind, search_kwargs=options)
    assert ids(retriever.invoke("red")) == ["hen"]


async def test_count_and_delete_honour_filters(twin: Twin):
    texts = ["fox", "hen", "cow"]
    await twin.add_texts(texts, [{"legs": 4}, {"legs": 2}, {}], ids=texts)
    assert await twin.count({"legs": {"$gte": 2}}) == 2
    await twin.delete(filter={"legs": {"$ne": 4}})
    assert ids(await twin.similarity_search("fox", k=9)) == ["fox"]


# -- what is refused --------------------------------------------------------------------------

LOOP: list[Any] = []
LOOP.append(LOOP)


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        inner = {"$not": inner}
    return inner


MALFORMED: list[tuple[Any, str]] = [
    ("a", "must map keys to conditions, got 'a'"),
    ([{"a": 1}], "must map keys to conditions"),
    ({1: 2}, "keys are strings, got 1"),
    ({None: 2}, "keys are strings, got None"),
    ({"$nor": [{}]}, "unknown '$nor': here can stand $and, $or, $not or a key"),
    ({"$eq": 1}, "unknown '$eq'"),
    ({"a": {"$near": 1}}, r"unknown '$near' on 'a': known are $eq, $ne, $gt, $gte, $lt, $lte, $in"),
    ({"a": {"$EQ": 1}}, "unknown '$EQ'"),
    ({"a": {"$gt": 1, "b": 2}}, "'a' takes a value or operators, got {'$gt': 1, 'b': 2}"),
    ({"a": {"b": 2}}, "dotted keys"),
    ({"a": {}}, "'a' takes a value or operators, got {}"),
    ({"a": {3: 2}}, "'a' takes a value or operators"),
    ({"a": MappingProxyType({})}, "'a' takes a value or operators"),
    ({"a": {"$not": 3, "$in": 4}}, "$in on 'a' takes a list of values, got 4"),
    ({"$and": []}, "$and takes a non-empty list of filters, got []"),
    ({"$or": []}, "$or takes a non-empty list of filters"),
    ({"$or": {"a": 1}}, "$or takes a non-empty list of filters"),
    ({"$or": [1]}, "must map keys to conditions, got 1"),
    ({"$not": []}, "must map keys to conditions, got []"),
    ({"a": {"$gt": None}}, "$gt on 'a' takes a finite number, a string or a date, got None"),
    ({"a": {"$lte": True}}, "$lte on 'a' takes a finite number, a string or a date, got True"),
    ({"a": {"$lt": [1]}}, "$lt on 'a' takes a finite number"),
    ({"a": {"$gte": {"b": 1}}}, "$gte on 'a' takes a finite number"),
    ({"a": {"$between": [1]}}, "$between on 'a' takes a list of two bounds, got [1]"),
    ({"a": {"$between": [1, None]}}, "$between on 'a' takes a finite number"),
    ({"a": {"$between": "ab"}}, "$between on 'a' takes a list of two bounds"),
    ({"a": {"$in": "abc"}}, "$in on 'a' takes a list of values, got 'abc'"),
    ({"a": {"$nin": {"b": 1}}}, "$nin on 'a' takes a list of values"),
    ({"a": {"$exists": 1}}, "$exists on 'a' takes True or False, got 1"),
    ({"a": {"$like": 1}}, "$like on 'a' takes a pattern with % and _, got 1"),
    ({"a": {"$ilike": None}}, "$ilike on 'a' takes a pattern"),
    (
        {"a": {"$contains": None}},
        "$contains on 'a' takes a string, a number or a boolean, got None",
    ),
    ({"a": {"$contains": [1]}}, "$contains on 'a' takes a string"),
    ({"a": {"$contains": date(2024, 1, 1)}}, "$contains on 'a' takes a string"),
    (
        {"price": float("nan")},
        "$eq on 'price' takes strings, finite numbers, booleans, dates, None",
    ),
    ({"price": {"$gt": float("inf")}}, "$gt on 'price' takes strings, finite numbers"),
    ({"price": {"$in": [1, float("-inf")]}}, "$in on 'price' takes"),
    ({"price": np.float32("nan")}, "$eq on 'price' takes"),
    ({"a": object()}, "$eq on 'a' takes strings, finite numbers"),
    ({"a": {"$eq": {1: 2}}}, "$eq on 'a' takes"),
    ({"a": b"bytes"}, "$eq on 'a' takes"),
    ({"a": {"$eq": 10**5000}}, "$eq on 'a' takes"),
    ({"a": {"$gt": 10**5000}}, "a number of thousands of digits"),
    ({"a": LOOP}, "$eq on 'a' takes"),
    ({"a": np.datetime64("NaT", "s")}, "$eq on 'a' takes"),
    ({"a": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))}, "$eq on 'a' takes"),
    ({"ingested_at": "yesterday"}, "$eq on 'ingested_at' takes dates and times, or strings in ISO"),
    ({"ingested_at": {"$in": ["2024-01-01", ""]}}, "$in on 'ingested_at' takes dates"),
    (nested(MAX_DEPTH + 1), f"nested {MAX_DEPTH} levels at most"),
    ({"a." * MAX_DEPTH: 1}, f"may have {MAX_DEPTH} steps at most"),
    ({"$or": [{"a": n} for n in range(MAX_SIZE)]}, f"may hold {MAX_SIZE} keys and values at most"),
]


@pytest.mark.parametrize(("filter", "words"), MALFORMED, ids=[words for _, words in MALFORMED])
def test_what_is_malformed_is_named_with_what_is_accepted(filter: Any, words: str):  # noqa: A002
    with pytest.raises(FilterError, match=re.escape(words)) as caught:
        compile_filter(filter)
    assert len(str(caught.value)) < 400


def test_a_self_nested_operator_is_refused():
    condition: dict[str, Any] = {}
    condition["$not"] = condition
    with pytest.raises(FilterError, match="nested"):
        compile_filter({"a": condition})


def test_a_small_filter_that_unfolds_endlessly_is_refused():
    each: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        each = {"$and": [each, each]}
    with pytest.raises(FilterError, match="keys and values at most"):
        compile_filter(each)


@pytest.mark.parametrize("given", [nested(MAX_DEPTH), {"." * (MAX_DEPTH - 1): {"$gt": 1}}])
def test_what_is_just_small_enough_is_answered(shelf: PostgresVectorStore, given: dict[str, Any]):
    assert shelf.count(given) == 0


def test_a_thousand_alternatives_are_answered(shelf: PostgresVectorStore):
    every = {"$or": [{"year": {"$gt": year}, "title": "Dune"} for year in range(1000)]}
    assert found(shelf, every) == "dune"


async def test_a_malformed_filter_never_reaches_the_server(common: Database, model: WordModel):
    runner = CountingRunner(common)
    store = PostgresVectorStore(model, database=runner, collection="never made")
    for way in ("sync", "async"):
        twin = Twin(store, way)
        calls = [getattr(twin, name)("q", filter={"a": {"$x": 1}}) for name in SEARCHES]
        calls += [twin.count({"a": {"$x": 1}}), twin.delete(filter={"a": {"$x": 1}})]
        for call in calls:
            with pytest.raises(FilterError, match=r"unknown '\$x'"):
                await call
    assert runner.ran == []
    assert model.asked == []


def test_filters_of_one_shape_are_one_text():
    one = compile_filter({"a": 1, "b.c": {"$gt": "x"}, "$or": [{"d": [1]}, {"source_type": "web"}]})
    other = compile_filter(
        {"%s'--": "it's", "y.z": {"$gt": ""}, "$or": [{"": []}, {"source_type": "git"}]}
    )
    assert one.sql == other.sql
    assert one.params != other.params
    assert compile_filter({"$and": [{}, {}]}).sql == f"({EVERYTHING.sql} AND {EVERYTHING.sql})"


# -- indexes ----------------------------------------------------------------------------------

FIELDS: dict[str, FieldType] = {
    "year": "int",
    "price": "float",
    "title": "text",
    "published": "date",
    "draft": "bool",
    "author.name": "text",
    "author.born": "date",
    'it\'s a "key" %s': "int",
    "back\\slash": "float",
}


@write
def filled(collection: Collection, rows: int) -> Steps[None]:
    """Rows whose metadata has every field, all of them different."""
    query = sql.SQL(
        """
        INSERT INTO {} (collection_id, id, content, embedding, metadata)
        SELECT %(collection)s, n::text, 'text ' || n,
            ARRAY[mod(n, 7) + 1, mod(n, 11), mod(n, 13)]::vector,
            jsonb_build_object('year', n, 'price', n / 10.0, 'title', 'title ' || n,
                'published', timestamp '2000-01-01' + n * interval '1 hour', 'draft', mod(n, 2) = 0,
                'author', jsonb_build_object('name', repeat('x', 300) || n, 'born',
                    (timestamp '1900-01-01' + n * interval '1 hour')::text),
                'it''s a "key" %%s', n, 'back\\slash', n)
        FROM generate_series(1, %(rows)s) AS n
        """
    )
    yield from execute(
        query.format(sql.Identifier(collection.partition)), collection=collection.id, rows=rows
    )


@write
def analyzed(collection: Collection) -> Steps[None]:
    yield from execute(sql.SQL("ANALYZE {}").format(sql.Identifier(collection.partition)))


@pytest.fixture(scope="module")
def declared(common: Database) -> Iterator[Collection]:
    """Some thousand rows in a collection with declared fields and all its indexes."""
    collections = Collections(common)
    name = f"declared-{token_hex(4)}"
    made = collections.create(CollectionSpec(name=name, fields=FIELDS), 3)
    common.run(filled(made, 4000))
    collections.build_indexes(name)
    common.run(analyzed(made))
    collection = collections.get(name)
    assert collection
    yield collection
    collections.drop(name)


def indexes_used(database: Database, op: Op[Any]) -> set[str]:
    """The indexes that an operation's statement reads, as their comments name them."""
    nodes = [database.run(analysed(op))["Plan"]]
    for node in nodes:
        nodes += node.get("Plans", ())
    ran = {node["Index Name"] for node in nodes if "Index Name" in node and node["Actual Loops"]}
    return {database.run(_comment(name)) or name.split("_", 3)[3] for name in ran}


@write
def _comment(index: str) -> Steps[str | None]:
    query = "SELECT obj_description(%(index)s::regclass, 'pg_class')"
    return (yield from fetch_value(query, index=index))


@write
def tuples(query: Any, **params: Any) -> Steps[list[Any]]:
    return (yield from fetch_tuples(query, **params))


MANY_X = "x" * 300
RANGES: list[tuple[str, dict[str, Any]]] = [
    ("year", {"$gte": 10, "$lt": 20}),
    ("year", {"$between": [10, 19.5]}),
    ("price", {"$gt": 399.0}),
    ("title", {"$gt": "title 3990", "$lt": "title 3999"}),
    ("title", {"$between": ["title 3990", "title 3999"]}),
    ("published", {"$lt": date(2000, 1, 2)}),
    ("published", {"$gt": datetime(2000, 6, 15, tzinfo=UTC)}),
    ("published", {"$eq": datetime(2000, 1, 1, 10, tzinfo=UTC)}),
    ("author.born", {"$lt": date(1900, 1, 2)}),
    ('it\'s a "key" %s', {"$lt": 10}),
    ("back\\slash", {"$lt": 10}),
]


@pytest.mark.parametrize(("key", "asked"), RANGES, ids=str)
def test_a_range_of_a_declared_field_is_read_from_its_index(
    common: Database, declared: Collection, key: str, asked: dict[str, Any]
):
    condition = compile_filter({key: asked})
    counting = _chunks.count(declared, condition)
    assert indexes_used(common, counting) == {key}
    assert 0 < common.run(counting) < 100
    vector = np.array([1, 2, 3], np.float32)
    searching = _search.dense(declared, vector, 10, condition=condition)
    assert key in indexes_used(common, searching)
    assert len(common.run(searching)) == min(10, common.run(counting))


def test_long_strings_are_told_apart_beyond_what_the_index_holds(
    common: Database, declared: Collection
):
    for asked, expected in (
        ({"$lte": MANY_X + "10"}, 2),
        ({"$lt": MANY_X + "10"}, 1),
        ({"$gt": MANY_X + "9"}, 110),
        ({}, 4000),
    ):
        condition = compile_filter({"author.name": {"$gte": MANY_X, **asked}})
        assert common.run(_chunks.count(declared, condition)) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"year": 10},
        {"draft": True, "title": "title 10"},
        {"author.name": MANY_X + "10"},
        {"title": {"$in": ["title 10", "title 20"]}},
        {"$or": [{"title": "title 10"}, {"year": 20}]},
    ],
    ids=lambda asked: str(asked)[:40],
)
def test_equality_is_read_from_the_gin_index(
    common: Database, declared: Collection, asked: dict[str, Any]
):
    (used,) = indexes_used(common, _chunks.count(declared, compile_filter(asked)))
    assert used.endswith("metadata_idx")


def test_fields_are_remembered_and_indexed(common: Database, declared: Collection):
    assert declared.fields == FIELDS
    indexed = {key for key, kind in FIELDS.items() if kind != "bool"}
    query = """
        SELECT obj_description(indexrelid, 'pg_class') FROM pg_index
        WHERE indrelid = %(part)s::regclass AND indexrelid::regclass::text LIKE '%%_field_%%'
    """
    assert {row[0] for row in common.run(tuples(query, part=declared.partition))} == indexed


async def test_a_field_can_be_declared_later(twin: Twin, common: Database):
    await twin.add_texts([f"text {n}" for n in range(40)], [{"n": n} for n in range(40)])
    name = twin.target.collection_name
    collections = Twin(Collections(twin.target.database), twin.way)
    assert await collections.add_field(name, "n", "int") is True
    assert await collections.add_field(name, "n", "int") is False
    collection = await collections.get(name)
    assert collection.fields == {"n": "int"}
    assert await twin.count({"n": {"$lt": 10}}) == 10
    with pytest.raises(CollectionMismatch, match=r"field 'n' of .* is declared as 'int'"):
        await collections.add_field(name, "n", "text")
    with pytest.raises(NotFound, match="there is no collection 'nowhere'"):
        await collections.add_field("nowhere", "n", "int")
    with pytest.raises(InvalidInput, match="must be one of int, float, text, date, bool; got 'x'"):
        await collections.add_field(name, "m", "x")


def test_a_value_too_long_for_an_index_is_stored_all_the_same(new_store: NewStore):
    store = new_store(fields={"text": "text"})
    noise = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(20_000))
    store.add_texts(["a"], [{"text": noise}], ids=["1"])
    assert store.count({"text": {"$gte": noise}}) == 1
    assert store.count({"text": {"$gt": noise}}) == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([("a", "int")], "fields must map keys to types"),
        ({"year": "integer"}, "fields['year'] must be one of int, float, text, date, bool"),
        ({"year": int}, "fields['year'] must be one of"),
        ({"": "int"}, "1 to 1000 characters"),
        ({"$x": "int"}, "not start with $"),
        ({3: "int"}, "got 3"),
        ({"k" * 1001: "int"}, "1 to 1000 characters"),
        ({"a\0": "int"}, "no NUL"),
        ({"." * MAX_DEPTH: "int"}, f"{MAX_DEPTH} steps at most"),
    ],
)
def test_fields_that_can_not_be_are_named(fields: Any, words: str):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        CollectionSpec(fields=fields)


def test_a_collection_that_lacks_a_field_is_another(common: Database, new_store: NewStore):
    store = new_store(index="none", fields={"a": "int", "b": "text"})
    store.add_texts(["text"])
    name, collections = store.collection_name, Collections(common)
    collections.create(CollectionSpec(name=name, index="none", fields={"a": "int"}), 64)
    for asked, words in (
        ({"a": "float"}, "field 'a' is int"),
        ({"c": "int"}, "'c' is not declared"),
    ):
        with pytest.raises(CollectionMismatch, match=words):
            collections.create(CollectionSpec(name=name, index="none", fields=asked), 64)


@pytest.mark.parametrize("fields", ['{"a": "x"}', '{"a": 1}', "[]", '{"a": null}'])
def test_the_database_refuses_types_it_does_not_know(common: Database, fields: str):
    with pytest.raises(InvalidValue):
        common.run(tuples("SELECT create_collection('bad', 3, fields => %(f)s::jsonb)", f=fields))

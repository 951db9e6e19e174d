"""The protocol of operations, with plain Python playing the server."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from psycopg.rows import tuple_row

from a2rchi_pg import DocumentSpec, _document_rows
from a2rchi_pg._op import (
    Op,
    Statement,
    execute,
    fetch,
    fetch_one,
    fetch_tuples,
    fetch_value,
    read,
    upsert,
    write,
)


@dataclass(frozen=True, kw_only=True)
class Word:
    text: str


class Server:
    """Answers from a script, in order, and remembers what it was asked."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.asked: list[Statement] = []

    def run(self, op):
        steps, answer = iter(op), None
        try:
            while True:
                self.asked.append(steps.send(answer))
                answer = self._answers.pop(0)
        except StopIteration as stop:
            return stop.value


@read
def find(text: str):
    return (yield from fetch_one("SELECT text FROM words WHERE text = %(text)s", Word, text=text))


@write
def rename(old: str, new: str):
    """Give a word another spelling."""
    word = yield from find(old)
    if word is None:
        return False
    yield from execute("UPDATE words SET text = %(new)s", new=new)
    return True


@upsert
def store(text: str):
    yield from execute("INSERT INTO words VALUES (%(text)s)", text=text)


def test_an_operation_says_what_to_run_and_makes_its_result_of_the_rows():
    server = Server([Word(text="whale")])
    assert server.run(find("whale")) == Word(text="whale")
    (statement,) = server.asked
    assert statement.query == "SELECT text FROM words WHERE text = %(text)s"
    assert statement.params == {"text": "whale"}


def test_describing_work_does_none_of_it():
    started = []

    @write
    def late():
        started.append(True)
        yield from execute("SELECT 1")

    op = late()
    assert started == []
    Server([]).run(op)
    assert started == [True]


def test_an_operation_can_be_started_again_from_the_beginning():
    op = rename("old", "new")
    first, second = iter(op), iter(op)
    assert next(first).params == {"text": "old"}
    assert next(second).params == {"text": "old"}
    assert Server([Word(text="old")], []).run(op) is True
    assert Server([]).run(op) is False


def test_an_operation_is_part_of_a_larger_one_by_yield_from():
    server = Server([Word(text="old")], [])
    assert server.run(rename("old", "new")) is True
    assert [statement.params for statement in server.asked] == [{"text": "old"}, {"new": "new"}]


def test_what_comes_next_may_depend_on_the_answer():
    server = Server([])
    assert server.run(rename("missing", "new")) is False
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("op", "read_only", "retry_conflicts"),
    [(find("a"), True, False), (rename("a", "b"), False, False), (store("a"), False, True)],
    ids=["read", "write", "upsert"],
)
def test_the_decorators_say_what_may_be_tried_again(op: Op, read_only, retry_conflicts):
    assert (op.read_only, op.retry_conflicts) == (read_only, retry_conflicts)


def test_an_operation_carries_its_functions_name_and_docstring():
    assert rename("a", "b").name == "rename"
    assert rename.__doc__ == "Give a word another spelling."


def test_no_repr_shows_what_was_bound():
    assert repr(rename("secret", "hidden")) == "<Op rename>"
    assert "secret" not in repr(next(iter(find("secret"))))


@pytest.mark.parametrize(
    ("steps", "rows", "result"),
    [
        (fetch("q", Word), [Word(text="a"), Word(text="b")], [Word(text="a"), Word(text="b")]),
        (fetch("q", Word), [], []),
        (fetch_one("q", Word), [Word(text="a"), Word(text="b")], Word(text="a")),
        (fetch_one("q", Word), [], None),
        (fetch_value("q"), [(7, 8), (9, 10)], 7),
        (fetch_value("q"), [], None),
        (fetch_tuples("q"), [(1, 2)], [(1, 2)]),
        (execute("q"), [(1,)], None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_helper_makes_of_the_rows_what_it_promises(steps, rows, result):
    assert Server(rows).run(steps) == result


def test_records_are_made_by_column_name_and_the_rest_stay_tuples():
    assert next(fetch("q", Word)).row_factory is not tuple_row
    assert next(fetch_tuples("q")).row_factory is tuple_row
    assert next(fetch_value("q")).row_factory is tuple_row


def test_many_documents_are_written_in_one_order_whoever_writes(monkeypatch: pytest.MonkeyPatch):
    """Batch by batch, or two writers that hold a batch each would wait for one another's."""
    monkeypatch.setattr(_document_rows, "BATCH", 2)
    order = [["B", "a"], ["c", "d"], ["é"]]
    answers = [
        [
            _document_rows.Recorded(id=n, resource_hash=each, outcome="added")
            for n, each in enumerate(batch)
        ]
        for batch in order
    ]
    server = Server(*answers)
    specs = [DocumentSpec(resource_hash=each) for each in "dBcéa"]
    recorded = server.run(_document_rows.upsert_documents(specs))
    assert [each.resource_hash for each in recorded] == list("dBcéa")
    sent = [statement.params["documents"].obj for statement in server.asked]
    assert [[row["resource_hash"] for row in batch] for batch in sent] == order

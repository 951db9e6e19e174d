"""Small operations, and what the tests of the database do to its connections."""

from __future__ import annotations

import time
import zlib
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from langchain_core.embeddings import Embeddings

from a2rchi_pg._op import execute, fetch_tuples, fetch_value, read, write
from tests.roles_support import as_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@read
def value(query: str, **params: Any):
    """The first value that a query returns."""
    return (yield from fetch_value(query, **params))


@read
def rows(query: str, **params: Any):
    return (yield from fetch_tuples(query, **params))


@write
def commands(*queries: str):
    """Several statements in one transaction."""
    for query in queries:
        yield from execute(query)


def admin(dsn: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement as the owner, on a connection of its own, within ten seconds."""
    owner = as_owner(dsn)
    with closing(psycopg.connect(owner, autocommit=True, connect_timeout=10)) as connection:
        connection.execute("SET statement_timeout = '10s'")
        cursor = connection.execute(query, parameters or None)
        return cursor.fetchall() if cursor.description else []


def terminate(dsn: str, pids: Iterable[int]) -> None:
    """End backends, and wait until they are gone."""
    ended = admin(dsn, "SELECT bool_and(pg_terminate_backend(p, 5000)) FROM unnest(%s) p", [*pids])
    assert ended == [(True,)]


def backends(dsn: str, application_name: str = "a2rchi_pg") -> list[int]:
    """The server processes of a database's connections."""
    found = admin(
        dsn,
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = %s",
        application_name,
    )
    return [pid for (pid,) in found]


ENDLESS = "SELECT pg_sleep(3600)"
WAIT = "SELECT pg_advisory_xact_lock_shared(1)"


@contextmanager
def nobody_gets_on(dsn: str) -> Iterator[None]:
    """Whoever runs ``WAIT`` waits until this is over."""
    with closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        yield


def waiting(dsn: str) -> int:
    """How many sessions of a database wait for a lock."""
    return admin(
        dsn,
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )[0][0]


def running(dsn: str, query: str) -> int:
    """How many sessions of a database run a statement."""
    return admin(
        dsn,
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND state = 'active' AND query = %s",
        query,
    )[0][0]


def wait_until(condition: Callable[[], object], seconds: float = 50.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


class Letters(Embeddings):
    """Counts the letters of a text: a real, tiny embedding that needs no model."""

    dimensions = 26

    def embed_query(self, text: str) -> list[float]:
        small = text.lower()
        return [1.0 + small.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


class Scattered(Embeddings):
    """A direction of its own for every text, and always the same one."""

    def embed_query(self, text: str) -> list[float]:
        generator = np.random.default_rng(zlib.crc32(text.encode()))
        return list(generator.standard_normal(32))

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

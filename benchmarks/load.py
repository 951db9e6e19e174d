"""Many clients of the HTTP endpoints at once, against one: over real HTTP, with a pool of ten.

    python benchmarks/load.py                             64 clients for a minute
    python benchmarks/load.py --clients 8 --seconds 10    fewer, and shorter
    python benchmarks/load.py --dsn postgresql://…        on a server of yours

uvicorn and its application are a process of their own, clients are threads of this one, each a
person with a conversation and a connection that is kept. A client asks the next question as soon
as it has the answer, so with more clients than the machine has cores each waits for the others.
Exit code 1 where an answer is neither a success nor a 503, or a connection isn't given back.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np
import psycopg
import uvicorn
from _common import database, drop_database, percentile
from _data import Dataset
from fastapi import FastAPI, Request
from langchain_core.embeddings import Embeddings

from a2rchi_pg import CatalogRepository, Database, DocumentSpec, EmbeddedPostgres, _schema
from a2rchi_pg.api import create_router
from a2rchi_pg.vectorstore import PostgresVectorStore

if TYPE_CHECKING:
    from collections.abc import Iterator

POOL, DOCUMENTS, APPLICATION = 10, 200, "a2rchi_pg load"
WORDS = 8
SETTLED_SECONDS = 10


class HashedWords(Embeddings):
    """Costs next to nothing, so that what is measured is not the model."""

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        vector = np.full(384, 1e-3)
        for word in text.split():
            vector[crc32(word.encode()) % 384] += 1
        return (vector / np.linalg.norm(vector)).tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector of length 1 for each text."""
        return [self.embed_query(text) for text in texts]


class Answer(NamedTuple):
    """What became of one request."""

    what: str
    status: int
    milliseconds: float


class Client:
    """One person, with a conversation."""

    def __init__(self, port: int, number: int, vocabulary: list[str]) -> None:
        self._http = HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"x-user": f"user-{number}", "content-type": "application/json"}
        self._random, self._vocabulary = Random(number), vocabulary
        _, made = self._send("POST", "/conversations", {"title": "load"})
        self._talk = f"/conversations/{made['conversation_id']}"

    def for_seconds(self, seconds: float) -> list[Answer]:
        """Ask until the time is up."""
        end, answers = perf_counter() + seconds, list[Answer]()
        while perf_counter() < end:
            for what, method, path, body in self._turn():
                start = perf_counter()
                status, _ = self._send(method, path, body)
                answers.append(Answer(what, status, (perf_counter() - start) * 1000))
        self._http.close()
        return answers

    def _turn(self) -> Iterator[tuple[str, str, str, Any]]:
        """What a page of a chat asks for when somebody asks something."""
        question = " ".join(self._random.choices(self._vocabulary, k=WORDS))
        yield "say something", "POST", f"{self._talk}/messages", {"content": question}
        yield "search, hybrid", "POST", "/search", {"query": question, "k": 5}
        yield "last messages", "GET", f"{self._talk}/messages?limit=20", None
        yield "conversations", "GET", "/conversations?limit=20", None
        yield "documents", "GET", "/documents?limit=50", None
        yield "settings", "GET", "/config/effective", None

    def _send(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        sent = None if body is None else json.dumps(body)
        self._http.request(method, f"/api/v2{path}", sent, self._headers)
        response = self._http.getresponse()
        return response.status, json.loads(response.read())


def fill(dsn: str, chunks: int) -> list[str]:
    """Documents with chunks; the words that are in them."""
    _schema.migrate(dsn)
    data = Dataset.made(Path(".cache/benchmarks"), chunks)
    words = set[str]()
    with Database(dsn) as opened:
        store = PostgresVectorStore(HashedWords(), database=opened)
        catalog = CatalogRepository(opened)
        for number, batch in enumerate(data.batches(-(-chunks // DOCUMENTS))):
            spec = DocumentSpec(
                resource_hash=f"document-{number}",
                display_name=f"Document {number}",
                source_type="web",
            )
            store.add_texts(batch.texts, ids=batch.ids, document_id=catalog.upsert(spec).id)
            words.update(word for text in batch.texts for word in text.split())
    return sorted(words)


def serve(dsn: str, port: int) -> None:
    """The application, in the process that this is called in."""
    opened = Database(dsn, max_size=POOL, application_name=APPLICATION)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        async with opened:
            yield

    def who(request: Request) -> str | None:
        return request.headers.get("x-user")

    app = FastAPI(lifespan=lifespan)
    store = PostgresVectorStore(HashedWords(), database=opened)
    app.include_router(create_router(opened, current_user=who, store=store))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def started(dsn: str, stack: ExitStack) -> int:
    """The port of a new application, which answers by now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(dsn, port))
    process.start()
    stack.callback(process.join)
    stack.callback(process.terminate)
    while True:
        sleep(0.1)
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.exitcode is not None:
                sys.exit("the application ended before it answered")
        else:
            return port


def asked(port: int, clients: int, seconds: float, vocabulary: list[str]) -> list[Answer]:
    """Everything that so many clients were answered."""
    with ThreadPoolExecutor(clients) as threads:
        people = list(threads.map(lambda n: Client(port, n, vocabulary), range(clients)))
        return [
            each
            for answers in threads.map(lambda person: person.for_seconds(seconds), people)
            for each in answers
        ]


def held(dsn: str) -> int:
    """Connections of the application that are still at work after everybody has gone."""
    states: list[tuple[str]] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(SETTLED_SECONDS):
            states = connection.execute(
                "SELECT state FROM pg_stat_activity WHERE application_name = %s", [APPLICATION]
            ).fetchall()
            if all(state == "idle" for (state,) in states) and len(states) <= POOL:
                return 0
            sleep(1)
    return sum(state != "idle" for (state,) in states) + max(0, len(states) - POOL)


def report(alone: list[Answer], together: list[Answer], clients: int, seconds: float) -> None:
    """A row for each request, and how the answers fared."""
    print(f"{'':16} {'requests':>9} {'p50 ms':>8} {'p99 ms':>8} {'of one':>8} {'p99 ratio':>10}")
    times: dict[str, list[list[float]]] = defaultdict(lambda: [[], []])
    for side, answers in enumerate((alone, together)):
        for each in answers:
            times[each.what][side].append(each.milliseconds)
    times["all"] = [[each.milliseconds for each in answers] for answers in (alone, together)]
    for what, (one, many) in times.items():
        p99, alone99 = percentile(many, 99), percentile(one, 99)
        print(
            f"{what:16} {len(many):9,} {percentile(many, 50):8.1f} {p99:8.1f} {alone99:8.1f} "
            f"{p99 / alone99:10.1f}"
        )
    print(f"{clients} clients: {len(together) / seconds:,.0f} requests a second")
    print("answers:", *(f"{n:,} x {status}" for status, n in sorted(_statuses(together).items())))


def _statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(each.status for each in answers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--chunks", type=int, default=5_000)
    parser.add_argument("--dsn", help="a server of yours; a database is made and dropped there")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        server = arguments.dsn
        if server is None:
            server = stack.enter_context(EmbeddedPostgres(Path(".cache/load"))).dsn
        dsn = database(server, "a2rchi_load")
        stack.callback(drop_database, server, "a2rchi_load")
        vocabulary = fill(dsn, arguments.chunks)
        port = started(dsn, stack)
        asked(port, 1, 2, vocabulary)  # what is made on first use
        alone = asked(port, 1, arguments.seconds / 4, vocabulary)
        together = asked(port, arguments.clients, arguments.seconds, vocabulary)
        report(alone, together, arguments.clients, arguments.seconds)
        leaked = held(dsn)
        print(f"connections not given back: {leaked}")
    wrong = [each for each in together if each.status >= 300 and each.status != 503]
    sys.exit(1 if wrong or leaked else 0)


if __name__ == "__main__":
    main()

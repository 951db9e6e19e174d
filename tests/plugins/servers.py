"""Real PostgreSQL 17 servers, and databases on them.

A test that asks for ``server``, or for anything that stands on it, runs once per server;
``@pytest.mark.servers("embedded", …)`` names the ones it is about. ``A2RCHI_PG_TEST_DSN``
(a role that may create databases) puts one server of your own in their place: tests about
servers unlike yours are then deselected.

With ``A2RCHI_PG_TEST_ROLE=a2rchi_application`` the databases have the roles of sql/roles.sql and
are reached as that one; tests marked ``owner``, which make tables or roles, are then left out.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from a2rchi_pg import _schema
from a2rchi_pg.database import Database
from a2rchi_pg.embedded import EmbeddedPostgres
from a2rchi_pg.errors import A2rchiError
from tests.plugins.trees import TreeError, one_at_a_time, tree
from tests.roles_support import ROLE, acting, make_roles

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

EXTERNAL = os.environ.get("A2RCHI_PG_TEST_DSN")
# Durability is tested on servers of their own: these only have to be fast.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "synchronous_commit": "off",
}

LOG_LINES = 30  # of the server's log, where it went away


class Extensions(NamedTuple):
    """What a server has beyond pgvector."""

    bm25: bool
    trgm: bool
    pgcrypto: bool


EXPECTED = {
    "embedded": Extensions(bm25=True, trgm=False, pgcrypto=False),
    "full": Extensions(bm25=True, trgm=True, pgcrypto=True),
    "plain": Extensions(bm25=False, trgm=False, pgcrypto=False),
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: where it is, what it has and, where it is ours, its log."""

    name: str
    dsn: str
    log: Path | None
    has_bm25: bool
    has_trgm: bool
    has_pgcrypto: bool


class Servers:
    """Starts each server when it is first asked for; all stop with the session."""

    def __init__(self) -> None:
        self._until_the_end = ExitStack()
        self._servers: dict[str, Server] = {}
        self._templates: dict[str, str] = {}
        self.prefix = f"a2rchi_test_{secrets.token_hex(4)}"

    def get(self, name: str) -> Server:
        if name not in self._servers:
            dsn, log = (EXTERNAL, None) if name == "external" else self._start(name)
            has = probe(dsn, log)
            self._servers[name] = Server(
                name=name,
                dsn=dsn,
                log=log,
                has_bm25=has.bm25,
                has_trgm=has.trgm,
                has_pgcrypto=has.pgcrypto,
            )
        return self._servers[name]

    def template(self, server: Server) -> str:
        if server.name not in self._templates:
            name = f"{self.prefix}_template"
            self._until_the_end.enter_context(new_database(server, name))
            made = make_conninfo(server.dsn, dbname=name)
            _schema.migrate(made)
            if ROLE:
                make_roles(made)
            self._templates[server.name] = name
        return self._templates[server.name]

    def close(self) -> None:
        self._until_the_end.close()

    def _start(self, name: str) -> tuple[str, Path]:
        path = self._until_the_end.enter_context(passable_folder())
        try:
            embedded = EmbeddedPostgres(path / name, binaries=tree(name), settings=SETTINGS)
            dsn = self._until_the_end.enter_context(embedded).dsn
            return dsn, embedded.path / "postgres.log"
        except (A2rchiError, TreeError) as error:
            pytest.exit(f"server {name!r} can't be started: {error}", returncode=3)


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Unlike pytest's tmp_path, one that the account a root's server runs under may enter."""
    with tempfile.TemporaryDirectory(prefix="a2rchi-pg-tests-") as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path


def connect(dsn: str, log: Path | None = None) -> psycopg.Connection:
    """An autocommit connection; a server that can't be reached ends the whole run."""
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        last = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log else []
        said = "\n".join([f"the test server can't be reached: {error}", *last])
        pytest.exit(said, returncode=3)


def probe(dsn: str, log: Path | None = None) -> Extensions:
    with closing(connect(dsn, log)) as connection:
        row = connection.execute(
            """SELECT bool_or(name = 'pg_textsearch')
                      AND current_setting('shared_preload_libraries') ~ 'pg_textsearch',
                      bool_or(name = 'pg_trgm'), bool_or(name = 'pgcrypto')
               FROM pg_available_extensions"""
        ).fetchone()
    assert row is not None
    return Extensions(*row)


@contextmanager
def new_database(server: Server, name: str, template: str = "template1") -> Iterator[str]:
    """A database that is gone afterwards, whoever is still connected to it."""
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
    with closing(connect(server.dsn, server.log)) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield make_conninfo(server.dsn, dbname=name)
    finally:
        with closing(connect(server.dsn, server.log)) as connection:
            connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with closing(Servers()) as running:
        yield running


@pytest.fixture(scope="session")
def server(servers: Servers, request: pytest.FixtureRequest) -> Server:
    """Each of the servers in turn."""
    return servers.get(request.param)


@pytest.fixture(scope="session")
def template(servers: Servers, server: Server) -> str:
    """The name of a database with the schema applied, to be cloned and never changed."""
    return servers.template(server)


@pytest.fixture
def dsn(server: Server, servers: Servers, template: str) -> Iterator[str]:
    """A database of the test's own, with the schema."""
    name = f"{servers.prefix}_{secrets.token_hex(4)}"
    with new_database(server, name, template) as conninfo:
        yield acting(conninfo)


@pytest.fixture
def empty_dsn(server: Server, servers: Servers) -> Iterator[str]:
    """A database of the test's own, without the schema."""
    with new_database(server, f"{servers.prefix}_{secrets.token_hex(4)}") as conninfo:
        yield conninfo


@pytest.fixture
def database(dsn: str) -> Iterator[Database]:
    with Database(dsn) as opened:
        yield opened


@pytest.fixture
def server_path() -> Iterator[Path]:
    """Where a test may start an embedded server of its own."""
    with passable_folder() as folder:
        yield folder / "pg"


@pytest.fixture(scope="session")
def psql() -> Callable[[str, Path], str]:
    """Runs a file as a person would, and returns what psql printed."""
    with one_at_a_time():
        program = shutil.which("psql") or _install_psql()

    def run(dsn: str, file: Path) -> str:
        command = [program, "-X", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def _install_psql() -> str:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        for arguments in (["update"], ["install", "-y", "postgresql-client"]):
            subprocess.run(["apt-get", "-q", *arguments], timeout=600, check=True)
    return shutil.which("psql") or pytest.fail("psql is missing: install postgresql-client")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "owner: acts as the owner, and so never as another role")
    config.addinivalue_line("markers", "servers(*names): the servers this test is about")
    config.addinivalue_line("markers", "xdist_group(name): tests that run in one process")
    if hasattr(config, "workeroutput"):
        config.pluginmanager.register(Worker(config))


class Worker:
    """Under pytest-xdist: what ends the run in one process ends it in all, and is said."""

    def __init__(self, config: pytest.Config) -> None:
        self.output: dict[str, object] = config.workeroutput  # type: ignore[attr-defined]

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.output["ended"] = str(excinfo.value)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if ended := getattr(node, "workeroutput", {}).get("ended"):
        pytest.exit(ended, returncode=3)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        names = ["external"] if EXTERNAL else _named(metafunc.definition)
        metafunc.parametrize("server", names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    out = [i for i in items if ROLE and i.get_closest_marker("owner")]
    if EXTERNAL:
        has = probe(EXTERNAL)
        out += [i for i in items if i.get_closest_marker("servers") and not _is_like(has, i)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, a test that needs a server runs or fails."""
    report = yield
    needs_server = "server" in getattr(item, "fixturenames", ())
    xfailed = hasattr(report, "wasxfail")
    if os.environ.get("CI") == "true" and needs_server and report.skipped and not xfailed:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


def _named(item: pytest.Item) -> list[str]:
    marker = item.get_closest_marker("servers")
    return list(marker.args) if marker else list(EXPECTED)


def _is_like(has: Extensions, item: pytest.Item) -> bool:
    return any(EXPECTED[name] == has for name in _named(item))

"""What the benchmarks share: the server, the machine's name, times, percentiles."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

K, CANDIDATES, EF_SEARCH = 10, 50, 100
CACHE = Path(".cache/benchmarks")
PACKAGES = (
    "a2rchi_pg",
    "psycopg",
    "asyncpg",
    "SQLAlchemy",
    "numpy",
    "langchain-core",
    "langchain-postgres",
    "langchain-chroma",
    "chromadb",
    "langchain-pgvec-textsearch",
)


def timed(work: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    """Milliseconds taken, and the result."""
    start = perf_counter()
    result = work(*args)
    return (perf_counter() - start) * 1000, result


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(np.asarray(values), share))


def recall(found: Sequence[str], exact: Sequence[str]) -> float:
    """The share of the right answers that was found; 1 where there are none."""
    return len(set(found) & set(exact)) / len(exact) if exact else 1.0


def database(dsn: str, name: str, *, extensions: bool = True) -> str:
    """The DSN of a new, empty database on the same server."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        identifier = sql.Identifier(name)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
    made = make_conninfo(dsn, dbname=name)
    if extensions:
        with psycopg.connect(made, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute("CREATE EXTENSION pg_textsearch")
    return made


def drop_database(dsn: str, name: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        identifier = sql.Identifier(name)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


def settle(dsn: str) -> None:
    """Do now what autovacuum and the checkpointer would do soon, outside anybody's time."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def address(dsn: str) -> dict[str, str]:
    """User, database, socket and port, for clients that want a URL."""
    parts = conninfo_to_dict(dsn)
    return {key: str(parts[key]) for key in ("user", "dbname", "host", "port") if key in parts}


def environment(dsn: str, rows: int) -> dict[str, Any]:
    """What a reader must know about where the figures come from."""
    with psycopg.connect(dsn) as connection:
        extensions = connection.execute(
            "SELECT name, default_version FROM pg_available_extensions"
            " WHERE name IN ('vector', 'pg_textsearch')"
        ).fetchall()
        settings = ("server_version", "shared_buffers", "maintenance_work_mem", "fsync")
        told = {name: connection.execute(f"SHOW {name}").fetchone() for name in settings}  # type: ignore[arg-type]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "rows": rows,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: value[0] for name, value in told.items() if value},
        **dict(extensions),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

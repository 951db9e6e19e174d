"""The server: its version, its extensions and what is known against theirs, its memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from a2rchi_pg._op import Steps, fetch, fetch_tuples, write
from a2rchi_pg._schema import MINIMUM_SERVER
from a2rchi_pg.doctor._finding import Finding, Severity, identifier, literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PRELOADED = "pg_textsearch"
_BUSY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bug:
    """What is wrong with an extension before a version."""

    extension: str
    before: tuple[int, ...]
    severity: Severity
    problem: str


_BUGS = (
    _Bug(
        extension="vector",
        before=(0, 8, 0),
        severity="error",
        problem="has no iterative scans: a filtered search finds too little",
    ),
    _Bug(
        extension="vector",
        before=(0, 8, 4),
        severity="note",
        problem="lacks corrections of how HNSW indexes are vacuumed",
    ),
    _Bug(
        extension=PRELOADED,
        before=(0, 6),
        severity="error",
        problem="crashes the server where a savepoint is rolled back after a BM25 search",
    ),
    _Bug(
        extension=PRELOADED,
        before=(1, 4),
        severity="note",
        problem="is not crash-safe: after an unclean stop BM25 indexes have to be rebuilt "
        "(the embedded server does so by itself)",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extension:
    """An extension that the server offers, the database has, or both."""

    name: str
    installed: str | None
    offered: str | None


@write
def server() -> Steps[list[Finding]]:
    """The server's version, whether it can be written to, and its connections.

    What other roles' sessions are is hidden from most roles; that they are there is not.
    """
    ((version, shown, name, read_only, used, most),) = yield from fetch_tuples(
        """
        SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
               current_database(),
               pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
               (SELECT count(*) FROM pg_stat_activity
                WHERE datid IS NOT NULL
                    AND coalesce(backend_type, 'client backend') = 'client backend'),
               current_setting('max_connections')::integer
                   - current_setting('superuser_reserved_connections')::integer
                   - coalesce(current_setting('reserved_connections', true)::integer, 0)
        """
    )
    found = list[Finding]()
    if version < MINIMUM_SERVER:
        found.append(
            Finding(
                check="server_version",
                severity="error",
                problem="PostgreSQL 17 or later is needed",
                evidence=f"server_version is {shown}",
                remedy="pg_upgrade",
            )
        )
    if read_only:
        found.append(
            Finding(
                check="read_only",
                severity="warning",
                problem="nothing can be written: a standby, or made so by a setting",
                evidence="pg_is_in_recovery() or default_transaction_read_only",
                remedy=f"ALTER DATABASE {identifier(name)} RESET default_transaction_read_only; "
                "or use the primary",
            )
        )
    if used > _BUSY * most:
        found.append(
            Finding(
                check="connections",
                severity="warning",
                problem="the server is about to run out of connections",
                evidence=f"{used} of {most} are in use",
                remedy="lower Database(max_size=…), put PgBouncer in front, or raise "
                "max_connections",
            )
        )
    return found


@write
def extensions() -> Steps[list[Finding]]:
    """What is installed, what could be, and what is known against the versions."""
    known = yield from fetch(
        """
        SELECT wanted.name, extversion AS installed, default_version AS offered
        FROM unnest(ARRAY['vector', 'pg_textsearch', 'pg_trgm', 'pgcrypto'])
            WITH ORDINALITY AS wanted (name, place)
        LEFT JOIN pg_available_extensions AS a ON a.name = wanted.name
        LEFT JOIN pg_extension AS e ON e.extname = wanted.name
        ORDER BY place
        """,
        _Extension,
    )
    # Hidden from those who may not read all settings; a library in use was loaded.
    shown = yield from fetch_tuples(
        "SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'"
    )
    listed = shown[0][0] if shown else PRELOADED
    libraries = [name for each in listed.split(",") if (name := each.strip(' "'))]
    return [finding for each in known for finding in _about(each, libraries)]


def _about(extension: _Extension, libraries: Sequence[str]) -> Iterator[Finding]:
    name, installed, offered = extension.name, extension.installed, extension.offered
    if installed is None:
        yield from _absent(name, offered)
        return
    if name == PRELOADED and name not in libraries:
        wanted = ", ".join(map(literal, [*libraries, name]))
        yield Finding(
            check="preload",
            severity="error",
            problem="pg_textsearch is installed and not preloaded: BM25 searches fail",
            evidence=f"shared_preload_libraries is {','.join(libraries) or 'empty'}",
            remedy=f"ALTER SYSTEM SET shared_preload_libraries = {wanted}; then restart",
        )
    if offered is not None and _numbers(installed) < _numbers(offered):
        spilled = "SELECT bm25_spill_index(…) for every BM25 index; " if name == PRELOADED else ""
        yield Finding(
            check="extension_update",
            severity="warning",
            problem=f"{name} on the disk is newer than {name} in this database",
            evidence=f"installed {installed}, offered {offered}",
            remedy=f"{spilled}ALTER EXTENSION {name} UPDATE;",
        )
    for bug in _BUGS:
        if bug.extension == name and _numbers(installed) < bug.before:
            fixed = ".".join(map(str, bug.before))
            yield Finding(
                check="extension_bug",
                severity=bug.severity,
                problem=f"{name} {installed} {bug.problem}",
                evidence=f"mended in {fixed}",
                remedy=f"install {name} {fixed} or later, then ALTER EXTENSION {name} UPDATE;",
            )
            return


def _absent(name: str, offered: str | None) -> Iterator[Finding]:
    if name == "vector":
        yield Finding(
            check="extension_missing",
            severity="error",
            problem="pgvector is not installed in this database",
            evidence=f"the server offers {offered or 'none'}",
            remedy="apt-get install postgresql-17-pgvector; then CREATE EXTENSION vector;",
        )
    elif offered is not None:
        yield Finding(
            check="extension_unused",
            severity="warning",
            problem=f"the server offers {name}, and this database doesn't use it",
            evidence=f"{name} {offered} is available",
            remedy="SELECT adopt_extensions(); SELECT build_catalog_indexes(); and then "
            "SELECT build_collection_indexes(name) FROM collections;",
        )
    else:
        yield Finding(
            check="extension_missing",
            severity="note",
            problem=f"the server has no {name}: something simpler takes its place",
            evidence=f"pg_available_extensions has no {name}",
            remedy=f"install {name}, then SELECT adopt_extensions();",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


@write
def memory() -> Steps[list[Finding]]:
    """Whether vector indexes fit where they are built and read."""
    ((buffers, building, largest, total),) = yield from fetch_tuples(
        """
        SELECT pg_size_bytes(current_setting('shared_buffers')),
               pg_size_bytes(current_setting('maintenance_work_mem')),
               coalesce(max(size), 0), coalesce(sum(size), 0)::bigint
        FROM (
            SELECT pg_relation_size(own_relation(chunk_partition(c) || '_embedding')) AS size
            FROM collections AS c
        ) AS index
        """
    )
    found = list[Finding]()
    if largest > building:
        found.append(
            Finding(
                check="maintenance_work_mem",
                severity="warning",
                problem="rebuilding the largest vector index won't fit into memory, and take hours",
                evidence=f"the index has {largest:,} bytes, maintenance_work_mem {building:,}",
                remedy=f"ALTER SYSTEM SET maintenance_work_mem = '{_megabytes(2 * largest)}MB'; "
                "SELECT pg_reload_conf();",
            )
        )
    if total > buffers:
        found.append(
            Finding(
                check="shared_buffers",
                severity="warning",
                problem="the vector indexes don't fit into shared_buffers: searches read the disk",
                evidence=f"the indexes have {total:,} bytes, shared_buffers {buffers:,}",
                remedy=f"ALTER SYSTEM SET shared_buffers = '{_megabytes(2 * total)}MB'; then "
                "restart, on a machine of four times that memory; or use collections with "
                "element='halfvec' or 'bit'",
            )
        )
    return found


def _megabytes(size: int) -> int:
    return -(-size // 2**20)

"""Looking after a collection that is in use: rebuilding, watching, exchanging names.

The flows here ask for nothing but operations, several one after the other, as a rebuild
takes longer than a transaction should.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from a2rchi_pg import _search
from a2rchi_pg._chunks import rendered
from a2rchi_pg._indexes import NO_SPACE, build_indexes, one_by_one, rebuild
from a2rchi_pg._op import (
    Op,
    Steps,
    drop,
    execute,
    fetch,
    fetch_one,
    fetch_tuples,
    fetch_value,
    identifier,
    maintenance,
    read,
    write,
)
from a2rchi_pg.collections import Collection, get_collection
from a2rchi_pg.errors import Conflict, DatabaseError, InvalidInput, NotFound, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from a2rchi_pg._flow import Flow

logger = logging.getLogger("a2rchi_pg.collections")

_INTERNAL, _MAY_NOT = "XX", "42501"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexProgress:
    """How far a build has come, of the index that is being built now.

    Attributes:
        index: Its name; None while it can't be seen yet from another connection.
        command: ``"CREATE INDEX"``, ``"REINDEX CONCURRENTLY"``, ….
        phase: PostgreSQL's name of what it is at.
        done: Units of this phase done.
        total: Units there are; 0 where the phase doesn't say.
        unit: ``"tuples"`` or ``"blocks"`` of the table.
    """

    index: str | None
    command: str
    phase: str
    done: int
    total: int
    unit: str

    @property
    def percent(self) -> float | None:
        """How much of the phase is done; None where it doesn't say."""
        return min(100.0, 100 * self.done / self.total) if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """One index of a collection.

    Attributes:
        valid: False where a build was interrupted: it costs writers and serves nobody.
        scans: How often it was read since the statistics were reset.
    """

    name: str
    method: str
    size_bytes: int
    valid: bool
    scans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionStats:
    """What a collection holds and takes up.

    Attributes:
        rows: Chunks, counted.
        row_estimate: Chunks as of the last ANALYZE or VACUUM, which is what the planner goes by;
            -1 before the first.
        dead_rows: About how many deleted chunks wait for VACUUM.
        table_bytes: Size of the table with its TOAST.
        index_bytes: Size of all indexes.
        indexes: Each index, by name.
    """

    rows: int
    row_estimate: int
    dead_rows: int
    table_bytes: int
    index_bytes: int
    indexes: tuple[IndexStats, ...]


# -- rebuilding ---------------------------------------------------------------------------------


def reindex(name: str, *, online: bool) -> Flow[None]:
    """Rebuild the vector and the lexical index, and build what is missing."""
    try:
        yield from _reindex(name, online=online)
    except DatabaseError as error:
        if error.sqlstate != _MAY_NOT:
            raise
        raise PermissionDenied(_needed(name, error, online=online)) from error


def _reindex(name: str, *, online: bool) -> Flow[None]:
    collection = yield from existing(name)
    yield drop_leftovers(name)
    if not online:
        yield from one_by_one(name, rebuild, ("vectors", "words"))
        yield from build_indexes(name)
        return
    suffixes = ["_embedding", "_bm25", "_fts"]
    if (yield from _is_broken(collection)):
        logger.warning("the BM25 index of %r is broken and is built anew", name)
        yield from one_by_one(name, rebuild, ("words",))
        suffixes.remove("_bm25")
    for index in (yield built_indexes(collection, suffixes)):
        yield from _rebuild_online(collection, index)
    yield from build_indexes(name)


def _needed(name: str, error: DatabaseError, *, online: bool) -> str:
    functions = "EXECUTE on the functions of sql/0006_maintenance.sql"
    if not online:
        return f"rebuilding the indexes of {name!r} needs {functions} ({error})"
    return (
        f"rebuilding the indexes of {name!r} online needs MAINTAIN on its table and {functions} "
        f"({error}); with online=False it needs the latter alone"
    )


def _is_broken(collection: Collection) -> Flow[bool]:
    """Whether the BM25 index can't be read, asked for words that are there.

    An insert may then hang on it for good, so a rebuild had better not wait for one to end.
    """
    if collection.lexical != "bm25":
        return False
    words = " ".join((yield some_texts(collection)))
    try:
        yield _search.lexical(collection, words, 1)
    except DatabaseError as error:
        if (error.sqlstate or "").startswith(_INTERNAL):
            return True
        raise
    return False


def _rebuild_online(collection: Collection, index: sql.Identifier) -> Flow[None]:
    try:
        yield rebuild_online(collection, index, parallel=True)
    except DatabaseError as error:
        if error.sqlstate != NO_SPACE:
            raise
        # Parallel workers share memory in /dev/shm, which containers keep small.
        logger.warning("rebuilding %s without parallel workers: %s", index.as_string(), error)
        yield drop_leftovers(collection.name)
        yield rebuild_online(collection, index, parallel=False)


@maintenance
def rebuild_online(collection: Collection, index: sql.Identifier, *, parallel: bool) -> Steps[None]:
    """Rebuild one index while its table is read and written.

    Not a new index under another name: two BM25 indexes on a column are one too many for searches
    that name theirs, and this way the second is never seen.
    """
    if not parallel:
        yield from execute("SET max_parallel_maintenance_workers = 0")
    busy = sql.SQL("SELECT {}({}::regclass)").format(
        identifier(collection.schema, "is_rebuilt"), sql.Literal(collection.table.as_string())
    )
    if (yield from fetch_value(busy)):
        raise Conflict(f"somebody else is rebuilding the indexes of {collection.name!r}")
    yield from execute(sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(index))


@drop
def drop_leftovers(name: str) -> Steps[list[str]]:
    """Drop what interrupted rebuilds left behind; the names."""
    dropped = yield from fetch_value("SELECT drop_leftover_indexes(%(name)s)", name=name)
    if dropped:
        logger.warning("dropped what an interrupted rebuild left: %s", ", ".join(dropped))
    return list(dropped)


@read
def built_indexes(collection: Collection, suffixes: Sequence[str]) -> Steps[list[sql.Identifier]]:
    """Those of a collection's indexes that are there, valid or not, by qualified names."""
    found = yield from fetch_tuples(
        """
        SELECT nspname, relname
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
        WHERE c.oid IN (SELECT own_relation(%(partition)s || suffix)
                      FROM unnest(%(suffixes)s::text[]) AS suffix)
        ORDER BY relname
        """,
        partition=collection.partition,
        suffixes=list(suffixes),
    )
    return [identifier(*names) for names in found]


@read
def some_texts(collection: Collection) -> Steps[list[str]]:
    """The beginnings of a few chunks."""
    query = rendered("SELECT left(content, 200) FROM {partition} LIMIT 5", collection)
    return [text for (text,) in (yield from fetch_tuples(query))]


# -- watching -----------------------------------------------------------------------------------


@read
def build_progress(name: str) -> Steps[IndexProgress | None]:
    """How far the build of an index of the collection has come; None where there is none."""
    return (
        yield from fetch_one(
            """
            SELECT c.relname AS index, p.command, p.phase,
                   CASE WHEN tuples_total > 0 OR blocks_total = 0
                        THEN tuples_done ELSE blocks_done END AS done,
                   CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END AS total,
                   CASE WHEN tuples_total > 0 OR blocks_total = 0
                        THEN 'tuples' ELSE 'blocks' END AS unit
            FROM collections AS collection
            JOIN pg_stat_progress_create_index AS p
                ON p.datname = current_database()
                AND p.relid = own_relation(chunk_partition(collection))
            LEFT JOIN pg_class AS c ON c.oid = p.index_relid
            WHERE collection.name = %(name)s
            """,
            IndexProgress,
            name=name,
        )
    )


@write
def stats(name: str) -> Steps[CollectionStats]:
    """What a collection holds and takes up; counts its rows."""
    collection = yield from get_collection(name)
    if collection is None:
        raise NotFound(f"there is no collection {name!r}")
    partition = {"partition": collection.partition}
    counted = yield from fetch_value(rendered("SELECT count(*) FROM {partition}", collection))
    (sizes,) = yield from fetch_tuples(_SIZES, **partition)
    indexes = yield from fetch(_INDEXES, IndexStats, **partition)
    return CollectionStats(
        rows=counted,
        row_estimate=sizes[0],
        dead_rows=sizes[1],
        table_bytes=sizes[2],
        index_bytes=sizes[3],
        indexes=tuple(indexes),
    )


_SIZES = """
    SELECT reltuples::bigint, coalesce(pg_stat_get_dead_tuples(oid), 0),
           pg_table_size(oid), pg_indexes_size(oid)
    FROM pg_class WHERE oid = own_relation(%(partition)s)
"""
_INDEXES = """
    SELECT relname AS name, amname AS method, pg_relation_size(c.oid) AS size_bytes,
           indisvalid AS valid, pg_stat_get_numscans(c.oid) AS scans
    FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    WHERE indrelid = own_relation(%(partition)s)
    ORDER BY relname
"""


# -- exchanging ---------------------------------------------------------------------------------


def swap(name: str, other: str) -> Op[None]:
    """Exchange the names of two collections."""
    if name == other:
        raise InvalidInput(f"a collection can't be swapped with itself, got {name!r} twice")
    return _swap(name, other)


@write
def _swap(name: str, other: str) -> Steps[None]:
    for each in (name, other):
        if (yield from get_collection(each)) is None:
            raise NotFound(f"there is no collection {each!r}")
    query = "SELECT swap_collections(%(name)s, %(other)s)"
    yield from execute(query, name=name, other=other)


def existing(name: str) -> Flow[Collection]:
    """The collection of that name, which must be there."""
    collection = yield get_collection(name)
    if collection is None:
        raise NotFound(f"there is no collection {name!r}")
    return collection  # type: ignore[no-any-return]  # the driver sends what the operation returns

"""The indexes of a collection, each kind built, rebuilt and dropped in a transaction of its own.

A build may fail for what its rows hold: a number too large for float16, a text too long for
full-text search. What can't be built must not take the others with it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, LiteralString, TypeAlias

from a2rchi_pg._op import Steps, drop, execute, fetch_value, write
from a2rchi_pg.errors import Conflict, DatabaseError, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Op

IndexedPart: TypeAlias = Literal["vectors", "words", "fields"]

logger = logging.getLogger("a2rchi_pg.collections")

NO_SPACE = "53100"
_GONE = ("P0002", "42P01")


def build_indexes(name: str) -> Flow[list[str]]:
    """Build the indexes a collection wants and lacks; their names."""
    return (yield from one_by_one(name, build, ("vectors", "words", "fields")))


def one_by_one(
    name: str, make: Callable[[str, IndexedPart, bool], Op[list[str]]], kinds: Sequence[IndexedPart]
) -> Flow[list[str]]:
    """Build each kind, whether or not another one fails; the names of what was built.

    Raises:
        Conflict: If somebody else is building them.
        DatabaseError: If some failed; says which and why.
    """
    built = list[str]()
    failed = dict[str, DatabaseError]()
    for kind in kinds:
        try:
            built += yield from _with_or_without_workers(name, make, kind)
        except Unavailable:
            raise
        except DatabaseError as error:
            if error.sqlstate in _GONE:
                raise NotFound(f"there is no collection {name!r}") from error
            failed[kind] = error
    if failed:
        first = next(iter(failed.values()))
        reasons = "; ".join(f"on {kind}: {error}" for kind, error in failed.items())
        in_use = all(isinstance(error, Conflict) for error in failed.values())
        raise (Conflict if in_use else DatabaseError)(
            f"indexes of {name!r} can't be built ({reasons}); all others are there",
            sqlstate=first.sqlstate,
        ) from first
    return built


def _with_or_without_workers(
    name: str, make: Callable[[str, IndexedPart, bool], Op[list[str]]], kind: IndexedPart
) -> Flow[list[str]]:
    try:
        return (yield make(name, kind, True))  # type: ignore[no-any-return]  # what the op returns
    except DatabaseError as error:
        if error.sqlstate != NO_SPACE:
            raise
        # Parallel workers share memory in /dev/shm, which containers keep small.
        logger.warning("building the indexes of %r without parallel workers: %s", name, error)
    return (yield make(name, kind, False))  # type: ignore[no-any-return]  # as above


@write
def build(name: str, kind: IndexedPart, parallel: bool) -> Steps[list[str]]:
    """Build the indexes of a kind that a collection lacks."""
    query = "SELECT build_collection_indexes(%(name)s, %(kinds)s)"
    return (yield from _call(query, name, kind, parallel))


@drop
def rebuild(name: str, kind: IndexedPart, parallel: bool) -> Steps[list[str]]:
    """Build the indexes of a kind anew, as the functions' owner."""
    query = "SELECT rebuild_collection_indexes(%(name)s, %(kinds)s)"
    return (yield from _call(query, name, kind, parallel))


def _call(query: LiteralString, name: str, kind: IndexedPart, parallel: bool) -> Steps[list[str]]:
    if not parallel:
        yield from execute("SET LOCAL max_parallel_maintenance_workers = 0")
    return list((yield from fetch_value(query, name=name, kinds=[kind])))


@drop
def drop_indexes(name: str) -> Steps[bool]:
    """Drop the vector and the lexical index before a large load, unless they are being rebuilt."""
    query = "SELECT drop_collection_indexes(%(name)s)"
    return bool((yield from fetch_value(query, name=name)))

"""The ledger of migrations: what became of each row.

A key may be longer than an index takes: the ledger's index knows the first 500 characters of it and
a hash. What is asked of keys is asked of these first, then of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._op import execute, fetch_tuples, fetch_value, own_sql, read, write
from a2rchi_pg.migrate._runs import advance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from a2rchi_pg._op import Steps
    from a2rchi_pg.migrate._source import Row, Target


@write
def store(
    run_id: str, target: Target[Any], rows: Sequence[Row[Any]], after: str | None
) -> Steps[None]:
    """One batch, what became of it, and the checkpoint: all of it or nothing."""
    yield from advance(run_id, after, rows[-1].key)
    sound = [row for row in rows if row.problem is None]
    problems = {row.key: row.problem for row in rows if row.problem is not None}
    problems |= yield from target.refused(sound)
    good = [row for row in sound if row.key not in problems]
    written = yield from target.insert(good)
    there = yield from target.digests([row.key for row in good if row.key not in written])
    yield from execute(
        """
        INSERT INTO migration_rows AS m (run_id, key, outcome, digest, note)
        SELECT %(run_id)s, * FROM unnest(
            %(keys)s::text[], %(outcomes)s::text[], %(digests)s::bytea[], %(notes)s::text[])
        ON CONFLICT (run_id, left(key, 500), hashtextextended(key, 0)) DO UPDATE
        SET outcome = excluded.outcome, digest = excluded.digest, note = excluded.note
        WHERE m.outcome <> 'written' OR excluded.outcome = 'written'
        """,
        run_id=run_id,
        keys=[row.key for row in rows],
        outcomes=[_outcome(row, problems, written, there) for row in rows],
        digests=[None if row.key in problems else row.digest for row in rows],
        notes=[problems.get(row.key) or "; ".join(row.notes) or None for row in rows],
    )


def _outcome(
    row: Row[Any], problems: dict[str, str], written: set[str], there: dict[str, bytes]
) -> str:
    if row.key in problems:
        return "skipped"
    if row.key in written:
        return "written"
    return "kept" if there.get(row.key) == row.digest else "conflict"


@read
def outcomes(run_id: str) -> Steps[dict[str, int]]:
    """How many rows came to what."""
    query = "SELECT outcome, count(*) FROM migration_rows WHERE run_id = %(run_id)s GROUP BY 1"
    return dict((yield from fetch_tuples(query, run_id=run_id)))


@read
def counted(run_id: str, upto: str | None) -> Steps[int]:
    """How many of its rows the run has read, up to its checkpoint."""
    if upto is None:
        return 0
    query = own_sql(
        "SELECT count(*) FROM migration_rows WHERE run_id = %(run_id)s AND {upto}"
    ).format(upto=_upto(upto, "upto"))
    return int((yield from fetch_value(query, run_id=run_id, upto=upto)))


@read
def notes(run_id: str) -> Steps[list[tuple[str, str, int, str]]]:
    """Outcome, note, how many rows have it, and the first of them."""
    query = """
        SELECT outcome, coalesce(note, 'another row has this key'), count(*), min(key)
        FROM migration_rows
        WHERE run_id = %(run_id)s AND (note IS NOT NULL OR outcome = 'conflict')
        GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
    """
    return (yield from fetch_tuples(query, run_id=run_id))


@read
def checksum(run_id: str) -> Steps[str]:
    """One fingerprint of all that was copied, the same for the same rows whatever the batches."""
    query = """
        SELECT encode(sha256(coalesce(string_agg(digest, '' ORDER BY key), '')), 'hex')
        FROM migration_rows WHERE run_id = %(run_id)s AND outcome IN ('written', 'kept')
    """
    return str((yield from fetch_value(query, run_id=run_id)))


def recorded(run_id: str, keys: Sequence[str]) -> Steps[dict[str, str]]:
    """What became of those of the keys that the run has read."""
    query = """
        SELECT key, outcome FROM migration_rows
        WHERE run_id = %(run_id)s AND left(key, 500) = ANY(%(starts)s::text[])
            AND key IN (SELECT unnest(%(keys)s::text[]))
    """
    return dict((yield from fetch_tuples(query, run_id=run_id, **_these(keys))))


def brought(location: str, target: str, keys: Iterable[str]) -> Steps[set[str]]:
    """Those of the keys whose rows in a target came from that place, by a run that stands."""
    query = """
        SELECT m.key FROM migration_rows AS m JOIN migration_runs AS r USING (run_id)
        WHERE r.location = %(location)s AND r.target = %(target)s
            AND m.outcome IN ('written', 'kept') AND r.status <> 'rolled_back'
            AND left(m.key, 500) = ANY(%(starts)s::text[])
            AND m.key IN (SELECT unnest(%(keys)s::text[]))
    """
    found = yield from fetch_tuples(query, location=location, target=target, **_these(keys))
    return {key for (key,) in found}


def unseen(run_id: str, keys: Sequence[str], low: str | None, high: str | None) -> Steps[list[str]]:
    """Keys after ``low`` up to ``high`` that the run read and the source doesn't have now."""
    query = own_sql("""
        SELECT key FROM migration_rows
        WHERE run_id = %(run_id)s AND {after} AND {upto}
            AND key NOT IN (SELECT unnest(%(keys)s::text[]))
        ORDER BY key
    """).format(after=_after(low, "low"), upto=_upto(high, "high"))
    found = yield from fetch_tuples(query, run_id=run_id, keys=list(keys), low=low, high=high)
    return [key for (key,) in found]


@write
def undo(run_id: str, target: Target[Any], after: str | None, size: int) -> Steps[Undone]:
    """Take back the next rows of a run, those that are still as it wrote them."""
    query = own_sql("""
        SELECT key, digest FROM migration_rows
        WHERE run_id = %(run_id)s AND outcome = 'written' AND {after}
        ORDER BY left(key, 500), key LIMIT %(size)s
    """).format(after=_after(after, "after"))
    rows = dict((yield from fetch_tuples(query, run_id=run_id, after=after, size=size)))
    there = yield from target.digests(list(rows))
    same = [key for key, digest in there.items() if digest == bytes(rows[key])]
    gone = yield from target.delete(same)
    kept = sorted(there.keys() - gone)
    yield from execute(
        """
        DELETE FROM migration_rows WHERE run_id = %(run_id)s
            AND left(key, 500) = ANY(%(starts)s::text[])
            AND key IN (SELECT unnest(%(keys)s::text[]))
        """,
        run_id=run_id,
        **_these(rows.keys() - set(kept)),
    )
    return Undone(last=max(rows, default=None), rows=len(rows), removed=len(gone), kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """A batch that was taken back: its last key, and what was changed since and so stays."""

    last: str | None
    rows: int
    removed: int
    kept: list[str]


# No condition where there is no bound: one with OR would look at every row of a run.
def _after(key: str | None, name: str) -> sql.Composed:
    condition = 'left(key, 500) >= left({key}, 500) COLLATE "C" AND key > {key} COLLATE "C"'
    return own_sql("true" if key is None else condition).format(key=sql.Placeholder(name))


def _upto(key: str | None, name: str) -> sql.Composed:
    condition = 'left(key, 500) <= left({key}, 500) COLLATE "C" AND key <= {key} COLLATE "C"'
    return own_sql("true" if key is None else condition).format(key=sql.Placeholder(name))


def _these(keys: Iterable[str]) -> dict[str, list[str]]:
    whole = sorted(keys)
    return {"keys": whole, "starts": [key[:500] for key in whole]}

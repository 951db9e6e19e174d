"""What is in a target though no run brought it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg._op import execute, fetch_tuples, write
from a2rchi_pg.migrate._reading import PATIENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from a2rchi_pg._op import Runner, Steps
    from a2rchi_pg.migrate._source import Target

# One pass: the target is read and sorted once, by the server, which keeps what was found.
_DECLARE = """
    DECLARE strangers NO SCROLL CURSOR FOR
    SELECT key COLLATE "C" FROM ({keys}) AS there
    WHERE NOT EXISTS (
        SELECT FROM migration_rows AS m JOIN migration_runs AS r USING (run_id)
        WHERE m.key = there.key COLLATE "C" AND (r.run_id = %(run_id)s
            OR r.target = %(target)s AND m.outcome = 'written'))
    ORDER BY 1
"""


class Strangers:
    """Keys that neither this run has read nor another one written, in the order of code points.

    Args:
        transaction: What holds them while it is open.
        run_id: The run that is verified.
        target: Where they are looked for.
    """

    def __init__(self, transaction: Runner, run_id: str, target: Target[Any]) -> None:
        transaction.run(_declare(run_id, target))
        self._keys = _fetched(transaction)
        self._next = next(self._keys, None)

    def upto(self, high: str | None) -> Iterator[str]:
        """Those not given yet that don't come after ``high``, or all where that is None."""
        while self._next is not None and (high is None or self._next <= high):
            yield self._next
            self._next = next(self._keys, None)


def _fetched(transaction: Runner) -> Iterator[str]:
    while page := transaction.run(_page()):
        yield from page


@write
def _declare(run_id: str, target: Target[Any]) -> Steps[None]:
    yield from execute(PATIENT)
    yield from execute("SET LOCAL cursor_tuple_fraction = 1")  # all rows will be asked for
    query = sql.SQL(_DECLARE).format(keys=target.keys())
    yield from execute(query, run_id=run_id, target=target.name)


@write
def _page() -> Steps[list[str]]:
    return [key for (key,) in (yield from fetch_tuples("FETCH 1000 FROM strangers"))]

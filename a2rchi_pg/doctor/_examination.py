"""All checks, in the order in which one makes sense only after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from a2rchi_pg import _flow
from a2rchi_pg.doctor import _contents, _indexes, _plans, _recall, _server
from a2rchi_pg.doctor._ledger import ledger
from a2rchi_pg.doctor._pooler import pooler

if TYPE_CHECKING:
    from a2rchi_pg._connection import ConnectionSettings
    from a2rchi_pg._flow import Flow
    from a2rchi_pg.database import Database
    from a2rchi_pg.doctor._finding import Finding
    from a2rchi_pg.keyring import KeyRing

SAMPLE = 20
TARGET = 0.95
_SQL = ("SELECT ", "CREATE ", "DELETE ", "UPDATE ", "ANALYZE ")  # where names may be unqualified


def examine(
    database: Database,
    *,
    keyring: KeyRing | None = None,
    sample: int = SAMPLE,
    target_recall: float = TARGET,
) -> list[Finding]:
    """Look at a database, and say what is wrong.

    Args:
        database: Made with ``check_schema=False``, so that a wrong schema is a finding.
        keyring: What users' keys should open with.
        sample: Chunks that are searched for in each collection to measure recall.
        target_recall: The least that is good enough.

    Returns:
        What was found, the worst first.
    """
    settings = database._settings  # noqa: SLF001 - how the host's own connections are made
    flow = _examine(keyring, settings, sample, target_recall)
    found = [*pooler(settings), *_flow.run(flow, None, database)]
    order = ("error", "warning", "note")
    found.sort(key=lambda finding: order.index(finding.severity))
    return [_to_be_run(finding, settings) for finding in found]


def _to_be_run(finding: Finding, settings: ConnectionSettings) -> Finding:
    """A finding whose remedy does the same in whoever's session."""
    if settings.schema is None or not finding.remedy.startswith(_SQL):
        return finding
    remedy = f"SET search_path TO {settings.search_path}; {finding.remedy}"
    return replace(finding, remedy=remedy)


def _examine(
    keyring: KeyRing | None, settings: ConnectionSettings, sample: int, target: float
) -> Flow[list[Finding]]:
    found: list[Finding] = [*(yield _server.server()), *(yield _server.extensions())]
    schema_findings = yield ledger(settings)
    found += schema_findings
    if not any(finding.check == "schema_behind" for finding in schema_findings):
        for check in (
            _indexes.schema_indexes(),
            _indexes.collection_indexes(),
            _indexes.invalid_indexes(),
            _indexes.dead_rows(),
            _indexes.swollen_indexes(),
            _contents.orphans(),
            _contents.drift(),
        ):
            found += yield check
        found += yield from _contents.keys(keyring)
        if not any(each.check == "collection_table_missing" for each in found):
            found += yield _server.memory()
            found += yield from _plans.plans()
            found += yield from _recall.recall(sample, target)
    return found

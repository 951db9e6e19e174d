"""The schema's ledger against the files that this version ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg._op import Steps, write
from a2rchi_pg._schema import command, migrations, read_ledger
from a2rchi_pg.doctor._finding import Finding

if TYPE_CHECKING:
    from a2rchi_pg._connection import ConnectionSettings


@write
def ledger(settings: ConnectionSettings) -> Steps[list[Finding]]:
    """Files that are missing, unknown or edited."""
    applied = {row.number: row for row in (yield from read_ledger(settings.schema))}
    shipped = {migration.number: migration for migration in migrations()}
    found = list[Finding]()
    if missing := [name.name for number, name in shipped.items() if number not in applied]:
        found.append(
            Finding(
                check="schema_behind",
                severity="error",
                problem="the schema is older than this version of a2rchi_pg",
                evidence=f"not applied: {', '.join(missing)}",
                remedy=command(settings),
            )
        )
    if unknown := [row.name for number, row in applied.items() if number not in shipped]:
        found.append(
            Finding(
                check="schema_ahead",
                severity="error",
                problem="the schema is newer than this version of a2rchi_pg",
                evidence=f"not shipped: {', '.join(unknown)}",
                remedy="pip install --upgrade a2rchi_pg",
            )
        )
    edited = [
        row.name
        for number, row in applied.items()
        if number in shipped and row.checksum not in {None, shipped[number].checksum}
    ]
    if edited:
        found.append(
            Finding(
                check="schema_edited",
                severity="error",
                problem="schema files were edited after they were applied, or this database was "
                "made by others",
                evidence=f"the ledger's SHA-256 differs: {', '.join(edited)}",
                remedy="restore the files of the version that was applied; changes go into new "
                "ones",
            )
        )
    return found

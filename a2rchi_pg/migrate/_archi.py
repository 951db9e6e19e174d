"""An older A2rchi's PostgreSQL: which tables come over, and from where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import sql

from a2rchi_pg.migrate import _archi_rows
from a2rchi_pg.migrate._archi_tables import (
    ALL,
    COMPARISONS,
    CONVERSATIONS,
    FEEDBACK,
    KEYS,
    MESSAGES,
    TIMING,
    TOOL_CALLS,
    TRACES,
    USERS,
)
from a2rchi_pg.migrate._configs import Configs
from a2rchi_pg.migrate._selected import TIERS, SelectionTarget
from a2rchi_pg.migrate._selections import SelectionSource, Stored
from a2rchi_pg.migrate._tables import TableSource, TableTarget

if TYPE_CHECKING:
    from a2rchi_pg.migrate._origin import Origin
    from a2rchi_pg.migrate._selected import Tier
    from a2rchi_pg.migrate._source import Source, Target
    from a2rchi_pg.migrate._tables import Mapper


def sides(origin: Origin) -> list[tuple[Source[Any], Target[Any]]]:
    """What is read and where it goes, in the order in which rows refer to one another."""
    return [*_tables(origin), *map(partial(_choices, origin), TIERS)]


def _choices(origin: Origin, tier: Tier) -> tuple[SelectionSource, SelectionTarget]:
    database = origin.database

    def stored() -> list[Stored]:
        with database.reading() as reader:
            return [Stored(**row) for row in reader.fetch(origin.query(tier.table))]

    return (
        SelectionSource(f"postgres-{tier.table}", database.location, stored, tier),
        SelectionTarget(tier, database.location),
    )


def _tables(origin: Origin) -> list[tuple[TableSource, TableTarget]]:
    configs = configs_of(origin)
    mappers: dict[str, Mapper] = {
        USERS.name: _archi_rows.user,
        KEYS.name: lambda row: ({**row, "format": "pgcrypto"}, []),
        CONVERSATIONS.name: _archi_rows.conversation,
        MESSAGES.name: lambda row: _archi_rows.message(row, configs),
        FEEDBACK.name: _archi_rows.feedback,
        TIMING.name: _archi_rows.timing,
        TOOL_CALLS.name: _archi_rows.tool_call,
        TRACES.name: lambda row: _archi_rows.trace(row, configs),
        COMPARISONS.name: lambda row: _archi_rows.comparison(row, configs),
    }

    def facts() -> dict[str, str]:
        return {
            "PostgreSQL": str(origin.database.version),
            "tables": ", ".join(origin.tables),
            "time zone": origin.timezone,
            **configs.facts(),
        }

    return [
        (
            TableSource(
                f"postgres-{table.name}",
                origin.database,
                table,
                origin.query(table.name),
                mappers[table.name],
                facts=facts if table is MESSAGES else dict,
            ),
            TableTarget(table, origin.database.location),
        )
        for table in ALL
    ]


def configs_of(origin: Origin) -> Configs:
    """The configurations of a database."""
    return Configs(origin.database, origin.query("configs"))


def untold(origin: Origin, configs: Configs) -> int:
    """How many answers, those of comparisons included, have a configuration that tells no model."""
    messages = origin.query("conversations"), origin.query("ab_comparisons")
    query = sql.SQL("""
        SELECT conf_id, count(*) AS rows FROM (
            SELECT conf_id FROM ({0}) AS m WHERE NOT issue AND model_used IS NULL
                AND lower(sender) = ANY (%(senders)s)
            UNION ALL SELECT config_a_id FROM ({1}) AS c WHERE model_a IS NULL
            UNION ALL SELECT config_b_id FROM ({1}) AS c WHERE model_b IS NULL
        ) AS t GROUP BY conf_id
    """).format(*messages)
    senders = [sender for sender, role in _archi_rows.ROLES.items() if role == "assistant"]
    with origin.database.reading() as reader:
        found = reader.fetch(query, senders=senders)
    return sum(
        each["rows"]
        for each in found
        if (known := configs.of(each["conf_id"])) is None or known.model is None
    )

"""Bring a database's schema up to date, and data over from other stores.

``python -m a2rchi_pg.migrate`` from a shell.
"""

from a2rchi_pg._schema import Applied, Migration, migrate, migrations, status
from a2rchi_pg.migrate._catalog import CatalogSource
from a2rchi_pg.migrate._chroma import ChromaSource
from a2rchi_pg.migrate._chunks import ChunkTarget
from a2rchi_pg.migrate._documents import DocumentTarget
from a2rchi_pg.migrate._engine import RolledBack, rollback, run
from a2rchi_pg.migrate._langchain import LangchainSource
from a2rchi_pg.migrate._plan import Plan, plan
from a2rchi_pg.migrate._reading import OtherDatabase
from a2rchi_pg.migrate._report import Report, report
from a2rchi_pg.migrate._runs import Run
from a2rchi_pg.migrate._selected import SelectionTarget
from a2rchi_pg.migrate._selections import SelectionSource
from a2rchi_pg.migrate._source import Row, Source, Survey, Target
from a2rchi_pg.migrate._verify import Differences, verify

__all__ = [
    "Applied",
    "CatalogSource",
    "ChromaSource",
    "ChunkTarget",
    "Differences",
    "DocumentTarget",
    "LangchainSource",
    "Migration",
    "OtherDatabase",
    "Plan",
    "Report",
    "RolledBack",
    "Row",
    "Run",
    "SelectionSource",
    "SelectionTarget",
    "Source",
    "Survey",
    "Target",
    "migrate",
    "migrations",
    "plan",
    "report",
    "rollback",
    "run",
    "status",
    "verify",
]

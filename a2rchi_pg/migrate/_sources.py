"""The sources that the command line knows: the options of each, and both sides it opens."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg.collections import CollectionSpec
from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate import _archi
from a2rchi_pg.migrate._archi_tables import TABLES
from a2rchi_pg.migrate._catalog import CatalogSource
from a2rchi_pg.migrate._chroma import ChromaSource
from a2rchi_pg.migrate._chunks import ChunkTarget
from a2rchi_pg.migrate._documents import DocumentTarget
from a2rchi_pg.migrate._files import is_folder
from a2rchi_pg.migrate._langchain import LangchainSource
from a2rchi_pg.migrate._origin import Origin
from a2rchi_pg.migrate._reading import DSN_VARIABLE, OtherDatabase
from a2rchi_pg.migrate._selected import OF_USERS, SelectionTarget
from a2rchi_pg.migrate._selections import SelectionSource, has_selections
from a2rchi_pg.migrate._tables import target_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2rchi_pg.collections import Metric
    from a2rchi_pg.migrate._runs import Run
    from a2rchi_pg.migrate._source import Source, Target

Sides: TypeAlias = "tuple[Source[Any], Target[Any]]"
TOKEN = "A2RCHI_PG_CHROMA_TOKEN"  # noqa: S105 - a variable's name

# What each option is to argparse. One that isn't given isn't passed on.
OPTIONS: dict[str, dict[str, Any]] = {
    "--path": {
        "help": "chroma: its directory, the one with chroma.sqlite3; "
        "catalog, selections: catalog.sqlite, or the folder that was DATA_PATH; "
        "all: that folder, with Chroma in its vstore unless --host says where"
    },
    "--host": {"help": "chroma: or the host of its server"},
    "--port": {"type": int, "help": "chroma: the server's port (default: 8000)"},
    "--ssl": {"action": "store_true", "help": f"chroma: https; a token is read from ${TOKEN}"},
    "--tenant": {"help": "chroma: the server's tenant (default: default_tenant)"},
    "--database": {"help": "chroma: the tenant's database (default: default_database)"},
    "--from-collection": {
        "metavar": "NAME",
        "help": "chroma, langchain-postgres: the collection to read",
    },
    "--collection": {
        "metavar": "NAME",
        "help": "chroma, langchain-postgres: the one to fill (default: of the same name)",
    },
    "--embedding-model": {
        "metavar": "NAME",
        "help": "chroma, langchain-postgres: recorded with a collection that is made",
    },
    "--metric": {
        "choices": ["cosine", "l2", "inner_product"],
        "help": "langchain-postgres: how its vectors are compared (default: as their index does)",
    },
    "--source-dsn": {
        "metavar": "DSN",
        "help": "catalog, postgres, langchain-postgres, all: the old database "
        f"(default: ${DSN_VARIABLE})",
    },
    "--timezone": {
        "metavar": "ZONE",
        "help": "postgres, all: the zone of its times, which name none (default: the server's)",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of source.

    Attributes:
        options: Those of ``OPTIONS`` that it takes.
        sides: What is read and where it goes, in the order in which it is brought over; takes the
            options by their names, those that were given.
    """

    options: tuple[str, ...]
    sides: Callable[..., list[Sides]]


def _chroma(
    path: str | None = None,
    host: str | None = None,
    port: int = 8000,
    *,
    ssl: bool = False,
    tenant: str = "default_tenant",
    database: str = "default_database",
    from_collection: str | None = None,
    collection: str | None = None,
    embedding_model: str | None = None,
) -> list[Sides]:
    if from_collection is None:
        raise MigrationError("say which collection to read: --from-collection")
    if path is not None and host is None:
        source = ChromaSource.directory(path, from_collection)
    elif host is not None and path is None:
        source = ChromaSource.server(
            host,
            port,
            collection=from_collection,
            tenant=tenant,
            database=database,
            token=os.environ.get(TOKEN),
            ssl=ssl,
        )
    else:
        raise MigrationError("say where Chroma is: either --path or --host")
    spec = CollectionSpec(
        name=collection or from_collection, metric=source.metric, embedding_model=embedding_model
    )
    return [(source, ChunkTarget(spec, source.dimensions))]


def _catalog(path: str | None = None, source_dsn: str | None = None) -> list[Sides]:
    if path is not None and source_dsn is not None:
        raise MigrationError("say where the catalog is: either --path or --source-dsn")
    if path is None and (dsn := source_dsn or os.environ.get(DSN_VARIABLE)):
        return [(CatalogSource.table(OtherDatabase(dsn)), DocumentTarget())]
    return [(CatalogSource.open(_needed(path)), DocumentTarget())]


def _selections(path: str | None = None, *, location: str | None = None) -> list[Sides]:
    target = SelectionTarget(location=location)
    return [(SelectionSource.open(_needed(path)), target)]


def _langchain(
    source_dsn: str | None = None,
    from_collection: str | None = None,
    collection: str | None = None,
    embedding_model: str | None = None,
    metric: Metric | None = None,
) -> list[Sides]:
    if from_collection is None:
        raise MigrationError("say which collection to read: --from-collection")
    source = LangchainSource(other_database(source_dsn), from_collection, metric=metric)
    name = collection or from_collection
    spec = CollectionSpec(name=name, metric=source.metric, embedding_model=embedding_model)
    return [(source, ChunkTarget(spec, source.dimensions))]


def _postgres(source_dsn: str | None = None, timezone: str | None = None) -> list[Sides]:
    return [*_archi.sides(Origin(other_database(source_dsn), timezone))]


def other_database(dsn: str | None) -> OtherDatabase:
    """The database to read, by its DSN or else the environment's."""
    return OtherDatabase(os.environ.get(DSN_VARIABLE, "") if dsn is None else dsn)


def _needed(path: str | None) -> str:
    if path is None:
        raise MigrationError("say where the catalog is: --path")
    return path


def _all(
    path: str | None = None,
    host: str | None = None,
    source_dsn: str | None = None,
    timezone: str | None = None,
    **chroma: Any,
) -> list[Sides]:
    folder = Path(_needed(path))
    vectors = folder / "vstore" if is_folder(folder / "vstore") else folder
    where: dict[str, Any] = {"path": str(vectors)} if host is None else {"host": host}
    dsn = os.environ.get(DSN_VARIABLE) if source_dsn is None else source_dsn
    said = [] if dsn is None and timezone is None else _postgres(dsn, timezone)
    came_from = said[0][0].location if said else None
    chosen = _selections(path, location=came_from) if has_selections(folder) else []
    return [*_catalog(path), *_chroma(**where, **chroma), *said, *chosen]


_CHROMA = (
    "--path",
    "--host",
    "--port",
    "--ssl",
    "--tenant",
    "--database",
    "--from-collection",
    "--collection",
    "--embedding-model",
)
KINDS = {
    "catalog": Kind(options=("--path", "--source-dsn"), sides=_catalog),
    "chroma": Kind(options=_CHROMA, sides=_chroma),
    "selections": Kind(options=("--path",), sides=_selections),
    "postgres": Kind(options=("--source-dsn", "--timezone"), sides=_postgres),
    "langchain-postgres": Kind(
        options=(
            "--source-dsn",
            "--from-collection",
            "--collection",
            "--embedding-model",
            "--metric",
        ),
        sides=_langchain,
    ),
    "all": Kind(options=(*_CHROMA, "--source-dsn", "--timezone"), sides=_all),
}
# What a run's record says it wrote to, by its first word.
TARGETS: dict[str, Callable[[str], Target[Any]]] = {
    "documents": lambda _: DocumentTarget(),
    "selections": lambda name: SelectionTarget(OF_USERS) if name else SelectionTarget(),
    "collection": lambda name: ChunkTarget(CollectionSpec(name=name), 1),
    "table": lambda name: target_named(name, TABLES),
}


def add_options(command: argparse.ArgumentParser) -> None:
    """``--source``, and the options of all sources."""
    command.add_argument("--source", required=True, choices=list(KINDS))
    group = command.add_argument_group("where it is, and where it goes")
    for flag, about in OPTIONS.items():
        group.add_argument(flag, default=argparse.SUPPRESS, **about)


def sides(arguments: argparse.Namespace) -> list[Sides]:
    """What is to be read and where it goes.

    Raises:
        MigrationError: If a source isn't there, or an option is none of its kind.
    """
    kind = KINDS[arguments.source]
    given = {flag: vars(arguments)[_name(flag)] for flag in OPTIONS if _name(flag) in arguments}
    if strange := sorted(given.keys() - set(kind.options)):
        raise MigrationError(f"--source {arguments.source} takes no {', '.join(strange)}")
    return kind.sides(**{_name(flag): value for flag, value in given.items()})


def target_of(run: Run) -> Target[Any]:
    """What a recorded run wrote to."""
    word, _, name = run.target.partition(" ")
    if word not in TARGETS:
        raise MigrationError(f"run {run.run_id} went into {run.target}: only its own program knows")
    return TARGETS[word](name)


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")

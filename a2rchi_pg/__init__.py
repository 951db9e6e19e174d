"""One PostgreSQL 17 as the whole data layer of a RAG application.

>>> from a2rchi_pg import Database, PostgresVectorStore
>>> with Database.embedded("./data") as database:
...     store = PostgresVectorStore(model, database=database)
...     store.add_texts(["Paris is in France."])
...     store.hybrid_search("capital of France")
"""

from a2rchi_pg._administration import Collections
from a2rchi_pg._explain import Explanation
from a2rchi_pg._fusion import FusionName
from a2rchi_pg._hybrid import HybridHit
from a2rchi_pg._inspection import MetadataField
from a2rchi_pg._maintenance import CollectionStats, IndexProgress, IndexStats
from a2rchi_pg._op import Op, Runner
from a2rchi_pg._options import Filter
from a2rchi_pg._reembedding import ReembedProgress
from a2rchi_pg._transaction import Transaction
from a2rchi_pg._tuning import Trial, Tuning
from a2rchi_pg.collections import Collection, CollectionSpec, Element, FieldType, IndexKind, Metric
from a2rchi_pg.database import Database, Health
from a2rchi_pg.embedded import EmbeddedPostgres
from a2rchi_pg.errors import (
    A2rchiError,
    CollectionMismatch,
    CommitUnknown,
    Conflict,
    DatabaseError,
    DimensionMismatch,
    EmbeddedError,
    FilterError,
    InvalidInput,
    InvalidValue,
    MigrationError,
    MissingReference,
    NotFound,
    NotInTransaction,
    NotOpen,
    PartialWrite,
    PermissionDenied,
    SchemaOutOfDate,
    Unavailable,
)
from a2rchi_pg.retriever import PostgresRetriever
from a2rchi_pg.vectorstore import PostgresVectorStore

__all__ = [
    "A2rchiError",
    "Collection",
    "CollectionMismatch",
    "CollectionSpec",
    "CollectionStats",
    "Collections",
    "CommitUnknown",
    "Conflict",
    "Database",
    "DatabaseError",
    "DimensionMismatch",
    "Element",
    "EmbeddedError",
    "EmbeddedPostgres",
    "Explanation",
    "FieldType",
    "Filter",
    "FilterError",
    "FusionName",
    "Health",
    "HybridHit",
    "IndexKind",
    "IndexProgress",
    "IndexStats",
    "InvalidInput",
    "InvalidValue",
    "MetadataField",
    "Metric",
    "MigrationError",
    "MissingReference",
    "NotFound",
    "NotInTransaction",
    "NotOpen",
    "Op",
    "PartialWrite",
    "PermissionDenied",
    "PostgresRetriever",
    "PostgresVectorStore",
    "ReembedProgress",
    "Runner",
    "SchemaOutOfDate",
    "Transaction",
    "Trial",
    "Tuning",
    "Unavailable",
    "__version__",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reads a file; most never ask

        return version("a2rchi_pg")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

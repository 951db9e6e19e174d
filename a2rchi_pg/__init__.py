"""One PostgreSQL 17 as the whole data layer of a RAG application.

>>> from a2rchi_pg import Database, PostgresVectorStore
>>> with Database.embedded("./data") as database:
...     store = PostgresVectorStore(model, database=database)
...     store.add_texts(["Paris is in France."])
...     store.hybrid_search("capital of France")
"""

from a2rchi_pg._administration import Collections
from a2rchi_pg._api_keys import ApiKey
from a2rchi_pg._catalog_stats import CatalogStats, DocumentGroup, SourceStats
from a2rchi_pg._comparisons import Candidate, Comparison, ComparisonStats
from a2rchi_pg._document_rows import Recorded
from a2rchi_pg._documents import CatalogDocument, DocumentSpec
from a2rchi_pg._explain import Explanation
from a2rchi_pg._feedback import FeedbackEntry, Flags
from a2rchi_pg._fusion import FusionName
from a2rchi_pg._hybrid import HybridHit
from a2rchi_pg._ingestion import Ingestion
from a2rchi_pg._inspection import MetadataField
from a2rchi_pg._layers import Explained
from a2rchi_pg._legacy_catalog import LegacyCatalog
from a2rchi_pg._listing import ListOptions
from a2rchi_pg._local_key import LocalKey
from a2rchi_pg._maintenance import CollectionStats, IndexProgress, IndexStats
from a2rchi_pg._messages import Message, NewMessage
from a2rchi_pg._op import Op, Runner
from a2rchi_pg._options import Filter
from a2rchi_pg._owner import Owner
from a2rchi_pg._pages import DocumentPage, ListedDocument
from a2rchi_pg._people import RoleChange, User
from a2rchi_pg._preview import DocumentChunk, DocumentContent
from a2rchi_pg._reembedding import ReembedProgress
from a2rchi_pg._revisions import FieldChange, Revision
from a2rchi_pg._rights import SYSTEM
from a2rchi_pg._rotation import KeyUse, Rotation
from a2rchi_pg._settings import CLEAR, DynamicConfig, StaticConfig
from a2rchi_pg._threads import Conversation
from a2rchi_pg._timing import Timestamps, Timing
from a2rchi_pg._traces import ToolCall, Trace
from a2rchi_pg._transaction import Transaction
from a2rchi_pg._tuning import Trial, Tuning
from a2rchi_pg._usage import Usage
from a2rchi_pg.catalog import CatalogRepository
from a2rchi_pg.chat_history import PostgresChatMessageHistory
from a2rchi_pg.collections import Collection, CollectionSpec, Element, FieldType, IndexKind, Metric
from a2rchi_pg.config import ConfigRepository
from a2rchi_pg.conversations import ConversationRepository
from a2rchi_pg.database import Database, Health
from a2rchi_pg.embedded import EmbeddedPostgres
from a2rchi_pg.errors import (
    A2rchiError,
    CollectionMismatch,
    CommitUnknown,
    ConfigConflict,
    ConfigError,
    Conflict,
    DatabaseError,
    DecryptionError,
    DimensionMismatch,
    EmbeddedError,
    FilterError,
    IllegalTransition,
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
from a2rchi_pg.key_resolver import KeyResolver, ResolvedKey
from a2rchi_pg.keyring import ExternalKey, KeyRing, Sealed
from a2rchi_pg.retriever import PostgresRetriever
from a2rchi_pg.selection import SelectionRepository
from a2rchi_pg.users import UserRepository
from a2rchi_pg.vectorstore import PostgresVectorStore

__all__ = [
    "CLEAR",
    "SYSTEM",
    "A2rchiError",
    "ApiKey",
    "Candidate",
    "CatalogDocument",
    "CatalogRepository",
    "CatalogStats",
    "Collection",
    "CollectionMismatch",
    "CollectionSpec",
    "CollectionStats",
    "Collections",
    "CommitUnknown",
    "Comparison",
    "ComparisonStats",
    "ConfigConflict",
    "ConfigError",
    "ConfigRepository",
    "Conflict",
    "Conversation",
    "ConversationRepository",
    "Database",
    "DatabaseError",
    "DecryptionError",
    "DimensionMismatch",
    "DocumentChunk",
    "DocumentContent",
    "DocumentGroup",
    "DocumentPage",
    "DocumentSpec",
    "DynamicConfig",
    "Element",
    "EmbeddedError",
    "EmbeddedPostgres",
    "Explained",
    "Explanation",
    "ExternalKey",
    "FeedbackEntry",
    "FieldChange",
    "FieldType",
    "Filter",
    "FilterError",
    "Flags",
    "FusionName",
    "Health",
    "HybridHit",
    "IllegalTransition",
    "IndexKind",
    "IndexProgress",
    "IndexStats",
    "Ingestion",
    "InvalidInput",
    "InvalidValue",
    "KeyResolver",
    "KeyRing",
    "KeyUse",
    "LegacyCatalog",
    "ListOptions",
    "ListedDocument",
    "LocalKey",
    "Message",
    "MetadataField",
    "Metric",
    "MigrationError",
    "MissingReference",
    "NewMessage",
    "NotFound",
    "NotInTransaction",
    "NotOpen",
    "Op",
    "Owner",
    "PartialWrite",
    "PermissionDenied",
    "PostgresChatMessageHistory",
    "PostgresRetriever",
    "PostgresVectorStore",
    "Recorded",
    "ReembedProgress",
    "ResolvedKey",
    "Revision",
    "RoleChange",
    "Rotation",
    "Runner",
    "SchemaOutOfDate",
    "Sealed",
    "SelectionRepository",
    "SourceStats",
    "StaticConfig",
    "Timestamps",
    "Timing",
    "ToolCall",
    "Trace",
    "Transaction",
    "Trial",
    "Tuning",
    "Unavailable",
    "Usage",
    "User",
    "UserRepository",
    "__version__",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reads a file; most never ask

        return version("a2rchi_pg")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

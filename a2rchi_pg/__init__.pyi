# The public names and where they are; __init__.py loads each when it is first asked for.

from ._administration import Collections
from ._api_keys import ApiKey
from ._catalog_stats import CatalogStats, DocumentGroup, SourceStats
from ._comparisons import Candidate, Comparison, ComparisonStats
from ._document_rows import Recorded
from ._documents import CatalogDocument, DocumentSpec
from ._explain import Explanation
from ._feedback import FeedbackEntry, Flags
from ._fusion import FusionName
from ._hybrid import HybridHit
from ._index_records import Reconciled
from ._ingestion import Ingestion
from ._inspection import MetadataField
from ._layers import Explained
from ._legacy_catalog import LegacyCatalog
from ._listing import ListOptions
from ._local_key import LocalKey
from ._maintenance import CollectionStats, IndexProgress, IndexStats
from ._messages import Message, NewMessage
from ._op import Op, Runner
from ._options import Filter
from ._owner import Owner
from ._pages import DocumentPage, ListedDocument
from ._people import RoleChange, User
from ._preview import DocumentChunk, DocumentContent
from ._reembedding import ReembedProgress
from ._revisions import FieldChange, Revision
from ._rights import SYSTEM
from ._rotation import KeyUse, Rotation
from ._settings import CLEAR, DynamicConfig, StaticConfig
from ._threads import Conversation
from ._timing import Timestamps, Timing
from ._traces import ToolCall, Trace
from ._transaction import Transaction
from ._tuning import Trial, Tuning
from ._updating import IngestProgress, IngestReport
from ._usage import Usage
from .catalog import CatalogRepository
from .chat_history import PostgresChatMessageHistory
from .collections import Collection, CollectionSpec, Element, FieldType, IndexKind, Metric
from .config import ConfigRepository
from .connector import VectorstoreConnector
from .conversations import ConversationRepository
from .database import Database, Health
from .embedded import EmbeddedPostgres
from .errors import (
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
from .indexing import PostgresRecordManager
from .ingest import FolderReport, VectorStoreManager
from .key_resolver import KeyResolver, ResolvedKey
from .keyring import ExternalKey, KeyRing, Sealed
from .prompts import PromptKind, Prompts
from .retriever import PostgresRetriever
from .selection import SelectionRepository
from .users import UserRepository
from .vectorstore import PostgresVectorStore

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
    "FolderReport",
    "FusionName",
    "Health",
    "HybridHit",
    "IllegalTransition",
    "IndexKind",
    "IndexProgress",
    "IndexStats",
    "IngestProgress",
    "IngestReport",
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
    "PostgresRecordManager",
    "PostgresRetriever",
    "PostgresVectorStore",
    "PromptKind",
    "Prompts",
    "Reconciled",
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
    "VectorStoreManager",
    "VectorstoreConnector",
    "__version__",
]

__version__: str

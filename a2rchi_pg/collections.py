"""Collections: what they are made with, and the operations that make, list and drop them.

The door to them, the class ``Collections``, stands in ``_administration``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from psycopg.types.json import Jsonb

from a2rchi_pg._arguments import number, one_of, whole
from a2rchi_pg._content import clean_text
from a2rchi_pg._filters import MAX_DEPTH
from a2rchi_pg._op import Op, Steps, drop, fetch, fetch_one, fetch_value, identifier, read, write
from a2rchi_pg.errors import CollectionMismatch, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import sql

Metric: TypeAlias = Literal["cosine", "l2", "inner_product"]
IndexKind: TypeAlias = Literal["hnsw", "ivfflat", "none"]
Element: TypeAlias = Literal["vector", "halfvec", "bit"]
FieldType: TypeAlias = Literal["int", "float", "text", "date", "bool"]

_METRIC_ALIASES = {"ip": "inner_product", "euclidean": "l2"}
# pgvector's limits for an index on each element type.
MAX_INDEXED_DIMENSIONS = {"vector": 2000, "halfvec": 4000, "bit": 16000}
MAX_NAME = 200
MAX_KEY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSpec:
    """How a collection is to be made.

    Args:
        name: Its name, unique in the database.
        metric: ``"cosine"``, ``"l2"`` or ``"inner_product"`` (``"euclidean"``, ``"ip"`` too).
        index: ``"hnsw"``, ``"ivfflat"`` (built once there are 1,000 rows) or ``"none"`` (exact).
        element: What the index stores: ``"vector"`` (float32, up to 2,000 dimensions),
            ``"halfvec"`` (float16, up to 4,000) or ``"bit"`` (one bit a dimension, re-ranked
            exactly). Chunks keep their full float32 vectors whatever it is.
        m: HNSW links per node, 2 to 100.
        ef_construction: HNSW candidates while building, at least ``2 * m`` and at most 1,000.
        lists: IVFFlat lists; None takes a thousandth of the rows.
        text_config: Name of a PostgreSQL text search configuration: the language of the text.
        k1: BM25 term saturation, 0.1 to 10.
        b: BM25 length normalisation, 0 to 1.
        embedding_model: Recorded with the collection; None takes the embedding object's own name.
        fields: Metadata fields that filters ask for ranges of, and their types: ``{"year": "int",
            "author.name": "text"}``. ``"int"``, ``"float"``, ``"text"`` and ``"date"`` get an index
            of their own; equality has one without being declared, and so has ``"bool"``.

    Raises:
        InvalidInput: If a value is outside these ranges; names the field.
    """

    name: str = "default"
    metric: Metric = "cosine"
    index: IndexKind = "hnsw"
    element: Element = "vector"
    m: int = 16
    ef_construction: int = 64
    lists: int | None = None
    text_config: str = "english"
    k1: float = 1.2
    b: float = 0.75
    embedding_model: str | None = None
    fields: Mapping[str, FieldType] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", _METRIC_ALIASES.get(self.metric, self.metric))
        one_of(self.metric, "metric", (*get_args(Metric), *_METRIC_ALIASES))
        one_of(self.index, "index", get_args(IndexKind))
        one_of(self.element, "element", get_args(Element))
        if not self.name.strip() or len(self.name) > MAX_NAME or clean_text(self.name) != self.name:
            raise InvalidInput(f"name must be 1 to {MAX_NAME} characters, got {self.name!r}")
        whole(self.m, "m", 2, 100)
        whole(self.ef_construction, "ef_construction", max(4, 2 * self.m), 1000)
        whole(1 if self.lists is None else self.lists, "lists", 1, 32768)
        number(self.k1, "k1", 0.1, 10)
        number(self.b, "b", 0, 1)
        if not hasattr(self.fields, "items"):
            raise InvalidInput(f"fields must map keys to types, got {self.fields!r}")
        for key, kind in self.fields.items():
            _check_field(key, kind)

    def check_dimensions(self, dimensions: int) -> None:
        """Raise where no index of this kind can be built on vectors that long."""
        limit = MAX_INDEXED_DIMENSIONS[self.element]
        if self.index != "none" and dimensions > limit:
            fitting = [e for e, most in MAX_INDEXED_DIMENSIONS.items() if dimensions <= most]
            ways = " or ".join([*(f"element={e!r}" for e in fitting), "index='none'"])
            raise InvalidInput(
                f"an index on element={self.element!r} takes at most {limit} dimensions, the "
                f"vectors have {dimensions}: use CollectionSpec({ways})"
            )
        # By direction alone IVFFlat can't tell one number from another.
        directed = self.metric != "l2" and self.element != "bit"
        if self.index == "ivfflat" and dimensions == 1 and directed:
            raise InvalidInput(
                f"index='ivfflat' takes at least 2 dimensions where the metric is {self.metric!r}: "
                "use CollectionSpec(index='hnsw' or index='none')"
            )


def _plain(value: object) -> object:
    """PostgreSQL stores the name of a text configuration in its shortest form."""
    return value.lower().removeprefix("pg_catalog.") if isinstance(value, str) else value


def _check_field(key: object, kind: object) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or key.startswith("$"):
        raise InvalidInput(
            f"keys of fields must be 1 to {MAX_KEY} characters and not start with $, got {key!r}"
        )
    if clean_text(key) != key or key.count(".") >= MAX_DEPTH:
        raise InvalidInput(
            f"keys of fields hold no NUL or surrogates and {MAX_DEPTH} steps at most, got {key!r}"
        )
    one_of(kind, f"fields[{key!r}]", get_args(FieldType))


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A collection as it stands in the database.

    Attributes:
        schema: The schema that its tables are in.
        partition: Name of the table that holds its chunks.
        vector_index: Whether its vector index has been built.
        lexical: What words are ranked by: ``"bm25"``, an index of pg_textsearch; ``"words"``, BM25
            computed in SQL where that is missing; ``"fts"``, PostgreSQL's full-text search while
            there is no index for either.
        ef_search: How hard searches look that don't say, as :meth:`Collections.tune` set it.
        rows: About how many chunks it has, as last sampled or by the server's statistics.
        calibrated_rows: How many those were when it was last sampled for hybrid search.
    """

    id: int
    name: str
    embedding_model: str | None
    dimensions: int
    metric: Metric
    element: Element
    index: IndexKind
    m: int
    ef_construction: int
    lists: int | None
    text_config: str
    k1: float
    b: float
    schema: str
    partition: str
    vector_index: bool
    lexical: Literal["bm25", "words", "fts"]
    rows: int = field(compare=False)
    calibrated_rows: int = field(compare=False)
    fields: Mapping[str, FieldType] = field(hash=False)
    ef_search: int | None = field(compare=False)

    @property
    def table(self) -> sql.Identifier:
        """The partition, never one of the same name in another schema of the search_path."""
        return identifier(self.schema, self.partition)

    @property
    def bm25_index(self) -> str:
        """Name of the BM25 index, with its schema where pg_textsearch 0.6 can read that."""
        plain = re.fullmatch("[a-z_][a-z0-9_]*", self.schema)
        return f"{self.schema}.{self.partition}_bm25" if plain else f"{self.partition}_bm25"

    def is_of_another_model(self, name: str | None) -> bool:
        """Whether a model of another name filled it; not where either has none."""
        return bool(name and self.embedding_model and name != self.embedding_model)

    def check_matches(self, spec: CollectionSpec) -> None:
        """Raise where ``spec`` asks for what this collection, being filled, can't become.

        Raises:
            CollectionMismatch: Names each field with both values.
        """
        fixed = ("metric", "element", "index", "m", "ef_construction", "text_config")
        differ = [
            f"{name} is {getattr(self, name)!r}, asked for {getattr(spec, name)!r}"
            for name in fixed
            if _plain(getattr(self, name)) != _plain(getattr(spec, name))
        ]
        differ += [
            f"field {key!r} is {self.fields.get(key, 'not declared (see add_field)')}, "
            f"asked for {kind!r}"
            for key, kind in spec.fields.items()
            if self.fields.get(key) != kind
        ]
        if differ:
            raise CollectionMismatch(
                f"collection {self.name!r} exists with other settings: {'; '.join(differ)}. "
                "Pass its name alone to use it as it is, or choose another name"
            )


_SELECT = """
    SELECT c.id, c.name, c.embedding_model, c.dimensions, c.metric, c.element,
           c.index_kind AS index, c.m, c.ef_construction,
           coalesce(c.lists, (SELECT option_value::integer
                              FROM pg_class AS i, pg_options_to_table(i.reloptions)
                              WHERE i.oid = own_relation(chunk_partition(c) || '_embedding')
                                AND option_name = 'lists')) AS lists,
           c.text_config, c.k1, c.b,
           c.fields, c.ef_search, chunk_partition(c) AS partition,
           (SELECT nspname FROM pg_class AS t JOIN pg_namespace AS n ON n.oid = t.relnamespace
            WHERE t.oid = 'collections'::regclass) AS schema,
           EXISTS (SELECT FROM pg_index
                   WHERE indexrelid = own_relation(chunk_partition(c) || '_embedding')
                     AND indisvalid) AS vector_index,
           CASE WHEN own_relation(chunk_partition(c) || '_bm25') IS NOT NULL THEN 'bm25'
                WHEN own_relation(chunk_partition(c) || '_fts') IS NOT NULL THEN 'words'
                ELSE 'fts' END AS lexical,
           greatest(k.row_estimate, 0, (
               SELECT reltuples FROM pg_class WHERE oid = own_relation(chunk_partition(c))
           ))::bigint AS rows,
           coalesce(k.row_estimate, 0) AS calibrated_rows
    FROM collections c LEFT JOIN collection_calibration k ON k.collection_id = c.id
"""


@read
def get_collection(name: str) -> Steps[Collection | None]:
    """The collection of that name, or None."""
    return (yield from fetch_one(_SELECT + "WHERE c.name = %(name)s", Collection, name=name))


@read
def list_collections() -> Steps[list[Collection]]:
    """Every collection, by name."""
    return (yield from fetch(_SELECT + "ORDER BY c.name", Collection))


@write
def ensure_collection(spec: CollectionSpec, dimensions: int) -> Steps[Collection]:
    """The collection of ``spec``'s name, made where it is missing; safe against a race."""
    given = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "embedding_model"}
    create = """
        SELECT create_collection(
            name => %(name)s, dimensions => %(dimensions)s, embedding_model => %(model)s,
            metric => %(metric)s, element => %(element)s, index_kind => %(index)s, m => %(m)s,
            ef_construction => %(ef_construction)s, lists => %(lists)s,
            text_config => %(text_config)s, k1 => %(k1)s::real, b => %(b)s::real,
            fields => %(fields)s)
    """
    given |= {
        "fields": Jsonb(dict(spec.fields)),
        "dimensions": dimensions,
        "model": spec.embedding_model,
    }
    collection = None
    while collection is None:  # what was there a moment ago may be dropped by now
        yield from fetch_value(create, **given)
        collection = yield from get_collection(spec.name)
    return collection


@drop
def drop_collection(name: str) -> Steps[bool]:
    """Drop a collection with its chunks; False where there is none of that name."""
    return bool((yield from fetch_value("SELECT drop_collection(%(name)s)", name=name)))


@write
def calibrate(name: str) -> Steps[int]:
    """Sample a collection for hybrid search; about how many rows it has."""
    return int((yield from fetch_value("SELECT calibrate_collection(%(name)s)", name=name)))


def add_field(name: str, key: str, kind: FieldType) -> Op[bool]:
    """Declare a metadata field and build its index; False where it is declared already."""
    _check_field(key, kind)
    return _add_field(name, key, kind)


@write
def _add_field(name: str, key: str, kind: FieldType) -> Steps[bool]:
    collection = yield from get_collection(name)
    if collection is None:
        raise NotFound(f"there is no collection {name!r}")
    declared = collection.fields.get(key, kind)
    if declared != kind:
        raise CollectionMismatch(f"field {key!r} of {name!r} is declared as {declared!r}")
    query = "SELECT add_collection_field(%(name)s, %(key)s, %(kind)s)"
    return bool((yield from fetch_value(query, name=name, key=key, kind=kind)))

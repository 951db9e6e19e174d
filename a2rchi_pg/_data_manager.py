"""What a host's ``data_manager`` section asks of chunks and searches, and what is of no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from a2rchi_pg._arguments import number, one_of, whole
from a2rchi_pg._settings import DynamicConfig, StaticConfig, validated
from a2rchi_pg.collections import CollectionSpec
from a2rchi_pg.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

SearchType: TypeAlias = Literal["hybrid", "similarity", "bm25"]

_RETRIEVERS = {
    "hybrid": "hybrid_retriever",
    "similarity": "semantic_retriever",
    "bm25": "bm25_retriever",
}
_COUNT = "num_documents_to_retrieve"
_WEIGHTS = {"bm25_weight", "semantic_weight"}
_KNOWN = {
    "collection_name", "embedding_name", "embedding_class_map", "embedding_dimensions",
    "distance_metric", "chunk_size", "chunk_overlap", "parallel_workers", "use_hybrid_search",
    "bm25", "retrievers", "reset_collection", "stemming", _COUNT, *_WEIGHTS,
    "sources",  # the host's own business
}  # fmt: skip
_KNOWN_OF = {
    "bm25": {"k1", "b"},
    "retrievers.hybrid_retriever": {_COUNT, *_WEIGHTS, "bm25_k1", "bm25_b"},
    "retrievers.semantic_retriever": {_COUNT},
    "retrievers.bm25_retriever": {_COUNT, "k1", "b"},
}


def collection_of(config: StaticConfig) -> CollectionSpec:
    """The collection as it is asked for, with its BM25 parameters.

    Raises:
        ConfigError: If they are out of range.
    """
    manager, usual = config.data_manager_config, CollectionSpec()
    hybrid, lexical = at(manager, "retrievers", "hybrid_retriever"), at(manager, "bm25")
    lexical = {**lexical, **at(manager, "retrievers", "bm25_retriever")}
    k1 = hybrid.get("bm25_k1", lexical.get("k1", usual.k1))
    b = hybrid.get("bm25_b", lexical.get("b", usual.b))
    try:
        return CollectionSpec(
            name=config.collection,
            metric=config.distance_metric,
            embedding_model=config.embedding_model,
            k1=number(k1, "k1", 0.1, 10),
            b=number(b, "b", 0, 1),
        )
    except InvalidInput as error:
        raise ConfigError({"data_manager": f"BM25: {error}"}) from error


def workers_of(config: StaticConfig) -> int | None:
    """How many threads load and split; None leaves it to the manager.

    Raises:
        ConfigError: If it is no such number.
    """
    given = config.data_manager_config.get("parallel_workers")
    try:
        return None if given is None else whole(given, "parallel_workers", 1)
    except InvalidInput as error:
        raise ConfigError({"data_manager.parallel_workers": str(error)}) from error


def retrieval_of(config: StaticConfig, search_type: SearchType | None = None) -> dict[str, Any]:
    """Arguments for ``as_retriever``: what is asked for that kind of search, or for the default.

    Raises:
        ConfigError: If a number or a weight is out of range.
    """
    settings = validated(DynamicConfig, config.defaults)
    default = "hybrid" if settings.use_hybrid_search else "similarity"
    kind = one_of(search_type or default, "search_type", _RETRIEVERS)
    own = at(config.data_manager_config, "retrievers", _RETRIEVERS[kind]).get(_COUNT)
    changed = {"use_hybrid_search": kind == "hybrid"} | ({} if own is None else {_COUNT: own})
    options = validated(DynamicConfig, config.defaults | changed).search_options()
    return options | {"search_type": kind}


def without_effect(config: StaticConfig) -> Iterator[str]:
    """Settings that are not heeded here, each with what to do instead."""
    manager = config.data_manager_config
    if manager.get("reset_collection"):
        yield (
            "data_manager.reset_collection: a collection is brought up to date and never emptied "
            "(Collections.drop does that)"
        )
    if at(manager, "stemming").get("enabled"):
        yield "data_manager.stemming: BM25 stems by the collection's text_config, chunks stay whole"
    name = config.embedding_model
    if at(manager, "embedding_class_map", name).get("query_embedding_instructions"):
        yield (
            f"data_manager.embedding_class_map.{name}.query_embedding_instructions: give the "
            "connector an embedding=… whose embed_query adds them"
        )
    unknown = [f"data_manager.{key}" for key in manager if key not in _KNOWN]
    for path, known in _KNOWN_OF.items():
        given = at(manager, *path.split("."))
        unknown += [f"data_manager.{path}.{key}" for key in given if key not in known]
    others = set(at(manager, "retrievers")) - set(_RETRIEVERS.values())
    unknown += [f"data_manager.retrievers.{key}" for key in sorted(map(str, others))]
    for each in unknown:
        yield f"{each}: not known"


def at(given: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A section of a section, empty where there is none."""
    section: Any = given
    for name in names:
        section = section.get(name) if isinstance(section, Mapping) else None
    return section if isinstance(section, Mapping) else {}

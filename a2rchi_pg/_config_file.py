"""A deployment's ``config.yaml`` as a :class:`StaticConfig`, without its secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2rchi_pg._content import jsonable
from a2rchi_pg._settings import StaticConfig, validated
from a2rchi_pg.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

_SECTIONS = {"services", "data_manager", "global", "archi", "a2rchi"}
_METRICS = {"ip": "inner_product", "euclidean": "l2"}
_SECRET_KEY = re.compile(
    r"(^|[_-])(password|passwd|pwd|passphrase|secret|token|credential"
    r"|(api|private|access|secret|signing|encryption)[_-]?key)s?$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bsk-\w{16}|\bgh[pousr]_\w{20}|://[^/\s:@]*:(?!\$)[^/\s@]+@"
)
# A reference; or a token of a language model, as in "pad_token: <pad>".
_REFERENCE = re.compile(r"\$\{?\w+\}?|(env|file|secret|vault):\S+|<[^<>]*>|\[[^]]*\]")


def read_static_config(source: str | PathLike[str] | Mapping[str, Any]) -> StaticConfig:
    """The configuration in a YAML file, or in what was read from one.

    It may have the fields of :class:`StaticConfig`, or the sections ``global``, ``services``,
    ``data_manager`` and ``archi`` of a deployment's ``config.yaml``.

    Raises:
        ConfigError: If it can't be read, a field is wrong, or a secret stands in it; names every
            field, none of the values.
    """
    given = source if isinstance(source, Mapping) else _load(Path(source))
    secrets = dict.fromkeys(_secrets(given, ""), _ADVICE)
    if secrets:
        raise ConfigError(secrets)
    fields = _from_sections(given) if _SECTIONS & set(given) else dict(given)
    try:
        fields = {str(key): jsonable(value, str(key)) for key, value in fields.items()}
    except InvalidInput as error:
        raise ConfigError({"config": str(error)}) from error
    metric = fields.get("distance_metric")
    if isinstance(metric, str):
        fields["distance_metric"] = _METRICS.get(metric, metric)
    return validated(StaticConfig, fields)


_ADVICE = (
    "holds a secret, and secrets are never stored: put a reference in its place, as in ${NAME} or "
    "file:/run/secrets/name"
)


def _load(path: Path) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - slow to import, and needed once a deployment

    try:
        loaded = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError({str(path): "can't be read"}) from error
    except yaml.YAMLError:  # its text repeats the file's, and with it a secret
        raise ConfigError({str(path): "is not YAML"}) from None
    if not isinstance(loaded, Mapping):
        raise ConfigError({str(path): "must hold a mapping"})
    return loaded


def _secrets(value: object, path: str, *, named: bool = False) -> Iterator[str]:
    """Where text stands that is a secret, by the name of its key or by its own looks."""
    match value:
        case Mapping():
            for key, each in value.items():
                here = f"{path}.{key}" if path else str(key)
                yield from _secrets(each, here, named=_SECRET_KEY.search(str(key)) is not None)
        case list() | tuple():
            for position, each in enumerate(value):
                yield from _secrets(each, f"{path}[{position}]", named=named)
        case str() if value.strip() and not _REFERENCE.fullmatch(value.strip()):
            if named or _SECRET_VALUE.search(value):
                yield path


def _from_sections(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a config.yaml of sections holds, wherever; the sections stay whole."""
    general, services = _section(given, "global"), _section(given, "services")
    manager = _section(given, "data_manager")
    archi = _section(given, "archi") or _section(given, "a2rchi")
    chat, store = _section(services, "chat_app"), _section(services, "vectorstore")
    embedding = manager.get("embedding_name")
    template = manager.get("collection_name", "default_collection")
    found = {
        "deployment_name": given.get("name"),
        "config_version": given.get("config_version"),
        "data_path": general.get("DATA_PATH"),
        "prompts_path": general.get("PROMPTS_PATH"),
        "collection": f"{template}_with_{embedding}",
        "embedding_model": embedding,
        "embedding_dimensions": manager.get("embedding_dimensions"),
        "distance_metric": store.get("distance_metric", manager.get("distance_metric")),
        "chunk_size": manager.get("chunk_size"),
        "chunk_overlap": manager.get("chunk_overlap"),
        "available_pipelines": archi.get("pipelines"),
        "auth_enabled": _section(chat, "auth").get("enabled"),
        "sources_config": manager.get("sources"),
        "services_config": services,
        "data_manager_config": manager,
        "archi_config": archi,
        "global_config": general,
        **_providers(chat),
        "defaults": _defaults(general, chat, manager),
    }
    return {key: value for key, value in found.items() if value is not None}


def _providers(chat: Mapping[str, Any]) -> dict[str, list[str]]:
    providers = _section(chat, "providers")
    models = [
        f"{provider}/{model}"
        for provider, about in providers.items()
        if isinstance(about, Mapping)
        for model in about.get("models") or ()
    ]
    return {"available_providers": list(providers), "available_models": models}


def _defaults(
    general: Mapping[str, Any], chat: Mapping[str, Any], manager: Mapping[str, Any]
) -> dict[str, Any]:
    """Run-time settings that stand in the file."""
    provider = chat.get("default_provider", chat.get("provider"))
    model = chat.get("default_model", chat.get("model"))
    hybrid = {**manager, **_section(_section(manager, "retrievers"), "hybrid_retriever")}
    found = {
        "active_pipeline": chat.get("agent_class", chat.get("pipeline")),
        "active_model": f"{provider}/{model}" if provider and model else model,
        "num_documents_to_retrieve": hybrid.get("num_documents_to_retrieve"),
        "use_hybrid_search": manager.get("use_hybrid_search"),
        "semantic_weight": hybrid.get("semantic_weight"),
        "bm25_weight": hybrid.get("bm25_weight"),
        "verbosity": general.get("verbosity"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _section(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = given.get(name)
    return section if isinstance(section, Mapping) else {}

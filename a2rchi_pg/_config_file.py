"""A deployment's ``config.yaml`` as a :class:`StaticConfig`, without its secrets."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2rchi_pg._arguments import shown
from a2rchi_pg._content import jsonable
from a2rchi_pg._settings import StaticConfig, validated
from a2rchi_pg.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

_SECTIONS = {"services", "data_manager", "global", "archi", "a2rchi"}
_METRICS = {"ip": "inner_product", "euclidean": "l2"}
_SECRET_KEY = re.compile(
    r"(password|passwd|pwd|passphrase|secret|credential"
    r"|(api|private|access|secret|signing|encryption)[_-]?key)s?$"
    r"|(^|[_-]|(?-i:[a-z](?=T)))tokens?$",
    re.IGNORECASE,
)
_NUMBER_KEY = re.compile("(password|passwd|pwd|passphrase)$", re.IGNORECASE)
# Known by what providers begin them with, and by where they stand in addresses and headers.
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bsk-(?=[\w-]*\d)[\w-]{16}|\b(gh[pousr]|github_pat|hf)_\w{20}"
    r"|\bglpat-[\w-]{16}|\bxox[abeprs]-[\w-]{10}|\b(AKIA|ASIA)[A-Z\d]{16}|\bAIza[\w-]{30}"
    r"|\bBearer\s+(?!\$)\S{16}|\bpassword=(?!\$)[^\s&]|://[^/\s:@]*:(?!\$)[^/\s@]+@"
)
_MAX_VALUES = 100_000
_MAX_DEPTH = 100
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
    given = source if isinstance(source, Mapping) else _load(source)
    _check_size(given)
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
    'holds a secret, and secrets are never stored: put a reference in its place, as in "${NAME}" '
    'or "file:/run/secrets/name", in quotes'
)


def _load(source: object) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - slow to import, and needed once a deployment

    if not isinstance(source, str | os.PathLike):
        raise InvalidInput(f"a configuration is a path or a mapping, got {shown(source)}")
    path = Path(source)
    try:
        loaded = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError({str(path): "can't be read"}) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Without its text, which repeats the file's, and with it a secret.
        mark = getattr(error, "problem_mark", None)
        where = f": see line {mark.line + 1}" if mark else ""
        raise ConfigError({str(path): f"is not YAML that can be read{where}"}) from None
    if not isinstance(loaded, Mapping):
        raise ConfigError({str(path): "must hold a mapping"})
    return loaded


def _check_size(given: Mapping[str, Any]) -> None:
    """Refuse what holds itself, or grows without end: an alias in YAML costs a few bytes."""
    waiting: list[tuple[object, int]] = [(given, 0)]
    for count in itertools.count(1):
        if not waiting:
            return
        value, depth = waiting.pop()
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ConfigError(
                {"config": f"holds more than {_MAX_VALUES:,} values, or {_MAX_DEPTH} in each other"}
            )
        if isinstance(value, Mapping):
            value = [*value.values()]
        if isinstance(value, list | tuple):
            waiting += [(each, depth + 1) for each in value]


def _secrets(value: object, path: str, *, named: bool = False) -> Iterator[str]:
    """Where something stands that is a secret, by the name of its key or by its own looks."""
    match value:
        case Mapping():
            for key, each in value.items():
                here = f"{path}.{key}" if path else str(key)
                kind = _NUMBER_KEY if isinstance(each, int | float | date) else _SECRET_KEY
                yield from _secrets(each, here, named=kind.search(str(key)) is not None)
        case list() | tuple():
            for position, each in enumerate(value):
                yield from _secrets(each, f"{path}[{position}]", named=named)
        case str() if value.strip() and not _REFERENCE.fullmatch(value.strip()):
            if named or _SECRET_VALUE.search(value):
                yield path
        case bool():
            return
        case int() | float() | date() | bytes() | set() if named:
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
    models = []
    for provider in providers:
        named = _section(providers, provider).get("models") or []
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise ConfigError({f"providers.{provider}.models": "must be a list of names"})
        models += [f"{provider}/{name}" for name in named]
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
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ConfigError({name: "must be a mapping"})
    return section

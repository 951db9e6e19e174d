"""What can be configured: the fields, their ranges and their defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from a2rchi_pg._arguments import mapping
from a2rchi_pg._content import jsonable
from a2rchi_pg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ModelT = TypeVar("ModelT", bound=BaseModel)

_WORDS = {
    "disabled": "",
    "hourly": "0 * * * *",
    "every_6h": "0 */6 * * *",
    "daily": "0 0 * * *",
}
_CRON_FIELDS = 5
_TOLERANCE = 1e-3


class _Clear(Enum):
    CLEAR = "not set"

    def __repr__(self) -> str:
        return "CLEAR"


# In a patch: the field is no longer set, and follows the layer below. None is a value like others.
CLEAR: Final = _Clear.CLEAR


def _schedule(value: str) -> str:
    """A cron expression of five fields; the words of the interface stand for some of them."""
    expression = _WORDS.get(value.strip(), value.strip())
    if not expression:
        return ""
    if len(expression.split()) != _CRON_FIELDS:
        raise PydanticCustomError(
            "cron",
            "must be a cron expression of five fields, empty, or one of {words}",
            {"words": ", ".join(_WORDS)},
        )
    try:
        CronSim(expression, datetime.now(UTC))
    except CronSimError as error:
        raise PydanticCustomError(
            "cron", "is no cron expression: {problem}", {"problem": str(error)}
        ) from error
    return expression


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Weight = Annotated[float, Field(ge=0, le=1)]
Schedule = Annotated[str, AfterValidator(_schedule)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        frozen=True,
        ser_json_inf_nan="constants",  # to be refused: where a field admits anything, it were null
    )


class DynamicConfig(_Settings):
    """What can be changed while the application runs. Extend it with fields of your own.

    None, where a field admits it, is a decision: the provider's own value, or no prompt. A field
    that is not set follows the layer below it.

    Attributes:
        personal: The fields that users may set for themselves, as preferences.
    """

    personal: ClassVar[frozenset[str]] = frozenset(
        {
            "theme",
            "active_model",
            "temperature",
            "max_tokens",
            "top_p",
            "top_k",
            "num_documents_to_retrieve",
            "active_condense_prompt",
            "active_chat_prompt",
            "active_system_prompt",
        }
    )

    theme: Literal["system", "light", "dark"] = "system"
    active_pipeline: Name = "QAPipeline"
    active_model: Name = "openai/gpt-4o"
    active_agent_name: Name | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.7
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = 4096
    top_p: Annotated[float, Field(ge=0, le=1)] | None = 0.9
    top_k: Annotated[int, Field(ge=0, le=100_000)] | None = 50
    repetition_penalty: Annotated[float, Field(ge=0, le=10)] | None = 1.0
    system_prompt: str | None = None
    active_condense_prompt: Name = "default"
    active_chat_prompt: Name = "default"
    active_system_prompt: Name = "default"
    num_documents_to_retrieve: Annotated[int, Field(ge=1, le=1000)] = 10
    use_hybrid_search: bool = True
    semantic_weight: Weight = 0.7
    bm25_weight: Weight = 0.3
    ingestion_schedule: Schedule = ""
    source_schedules: dict[Name, Schedule] = Field(default_factory=dict)
    verbosity: Annotated[int, Field(ge=0, le=5)] = 3

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = self.semantic_weight + self.bm25_weight
        if abs(total - 1) > _TOLERANCE:
            raise PydanticCustomError(
                "weights",
                "semantic_weight and bm25_weight must sum to 1, they sum to {total}: set both",
                {"total": round(total, 6)},
            )
        return self

    def search_options(self) -> dict[str, Any]:
        """Arguments for ``PostgresVectorStore.as_retriever``: how many documents, and how."""
        if not self.use_hybrid_search:
            return {"search_type": "similarity", "k": self.num_documents_to_retrieve}
        return {
            "search_type": "hybrid",
            "k": self.num_documents_to_retrieve,
            "semantic_weight": self.semantic_weight,
            "bm25_weight": self.bm25_weight,
        }


class StaticConfig(_Settings):
    """What is decided when the application is deployed.

    Attributes:
        collection: The collection that holds the vectors.
        embedding_dimensions: None leaves it to the model.
        available_pipelines: What ``active_pipeline`` may be; anything, where it is empty.
        available_models: What ``active_model`` may be; anything, where it is empty.
        defaults: Values for ``DynamicConfig``'s fields, for as long as nobody sets them.
    """

    deployment_name: Name
    config_version: Name = "2.0.0"
    data_path: str = "/root/data/"
    prompts_path: str | None = None
    collection: Name = "default"
    embedding_model: Name
    embedding_dimensions: Annotated[int, Field(ge=1, le=16_000)] | None = None
    distance_metric: Literal["cosine", "l2", "inner_product"] = "cosine"
    chunk_size: Annotated[int, Field(ge=1)] = 1000
    chunk_overlap: Annotated[int, Field(ge=0)] = 150
    available_pipelines: list[Name] = Field(default_factory=list)
    available_models: list[Name] = Field(default_factory=list)
    available_providers: list[Name] = Field(default_factory=list)
    auth_enabled: bool = True
    session_lifetime_days: Annotated[int, Field(ge=1)] = 30
    defaults: dict[str, Any] = Field(default_factory=dict)
    sources_config: dict[str, Any] = Field(default_factory=dict)
    services_config: dict[str, Any] = Field(default_factory=dict)
    data_manager_config: dict[str, Any] = Field(default_factory=dict)
    archi_config: dict[str, Any] = Field(default_factory=dict)
    global_config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.chunk_overlap >= self.chunk_size:
            raise PydanticCustomError("chunks", "chunk_overlap must be smaller than chunk_size")
        return self

    def not_offered(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Which settings name a pipeline or model that there isn't, and what there is."""
        offered = {
            "active_pipeline": self.available_pipelines,
            "active_model": self.available_models,
        }
        return {
            name: f"must be one of {', '.join(names)}; got {settings[name]!r}"
            for name, names in offered.items()
            if names and name in settings and settings[name] not in names
        }

    def check_available(self, settings: Mapping[str, Any]) -> None:
        """Raise where a pipeline or model is set that this deployment doesn't offer.

        Raises:
            ConfigError: Names each of them, and what there is.
        """
        problems = self.not_offered(settings)
        if problems:
            raise ConfigError(problems)


def validated(model: type[ModelT], values: Mapping[str, Any], *, strict: bool = True) -> ModelT:
    """The values as a model.

    Raises:
        ConfigError: Names every field that is wrong, none of the values.
    """
    try:
        return model.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        problems = {
            ".".join(map(str, each["loc"])) or model.__name__: _said(each["type"], each["msg"])
            for each in details
        }
        raise ConfigError(problems) from None


def _said(kind: str, message: str) -> str:
    return "there is no such setting" if kind == "extra_forbidden" else message


def patched(
    model: type[ModelT],
    settings: Mapping[str, Any],
    patch: Mapping[str, Any],
    *,
    below: Mapping[str, Any],
    only: Iterable[str] | None = None,
) -> dict[str, Any]:
    """What is set after a patch: absent fields stay as they are, CLEAR ones are no longer set.

    Args:
        model: What the fields may hold.
        settings: What is set before.
        patch: What changes.
        below: What holds where nothing is set, other than the model's own defaults.
        only: The fields that may be set at all.

    Raises:
        ConfigError: If the outcome is not valid; names every field that is wrong.
    """
    patch = mapping(patch, "patch")
    fields = model.model_fields if only is None else only
    cleared = {key for key, value in patch.items() if value is CLEAR}
    strangers = [k for k in patch if k not in fields and not (k in cleared and k in settings)]
    problems = {str(key): unknown(key, fields) for key in strangers}
    given = {k: v for k, v in patch.items() if k not in cleared and k not in strangers}
    # What only another version of the model knows is kept for it.
    kept = {k: v for k, v in settings.items() if k not in patch}
    base = validated(model, {**known(model, below), **known(model, kept)}, strict=False)
    try:
        after = validated(model, {**dict(base), **given})
    except ConfigError as error:
        raise ConfigError(problems | error.fields) from None
    if problems:
        raise ConfigError(problems)
    dumped = after.model_dump(mode="json", include=set(given))
    return {**kept, **{key: jsonable(value, key) for key, value in dumped.items()}}


def unknown(key: object, fields: Iterable[str]) -> str:
    """What is said of a setting that isn't there."""
    near = get_close_matches(str(key), list(fields), 1)
    return "there is no such setting" + (f", did you mean {near[0]}?" if near else "")


def known(model: type[BaseModel], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that this version of the model knows; another version may have set more."""
    return {key: value for key, value in settings.items() if key in model.model_fields}

"""Which value holds: a user's preference, or else what was set at run time, at deployment, or not.

A setting is looked for in that order, and the first that sets it wins, whatever its value: zero,
False and None are values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from psycopg.rows import class_row

from a2rchi_pg._arguments import shown
from a2rchi_pg._op import Statement, Steps, read
from a2rchi_pg._settings import DynamicConfig, StaticConfig, known, unknown, validated
from a2rchi_pg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

ConfigT = TypeVar("ConfigT", bound=DynamicConfig)
Layer: TypeAlias = Literal["preference", "dynamic", "static", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Where a setting's value comes from.

    Attributes:
        value: The one that holds.
        layer: Which layer it is from.
        layers: Every layer that sets it, the strongest first.
    """

    key: str
    value: Any
    layer: Layer
    layers: dict[Layer, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Both configurations as they were at one moment; a revision of 0 is none."""

    static_revision: int = 0
    static: StaticConfig | None = None
    dynamic_revision: int = 0
    dynamic: Mapping[str, Any] = field(default_factory=dict)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The run-time settings that the deployment decided."""
        return {} if self.static is None else self.static.defaults

    def check_available(self, settings: Mapping[str, Any]) -> None:
        """Raise where a pipeline or model is set that the deployment doesn't offer."""
        if self.static is not None:
            self.static.check_available(settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    static_revision: int
    static_settings: dict[str, Any] | None
    dynamic_revision: int
    dynamic_settings: dict[str, Any] | None
    preferences: dict[str, Any]


@read
def read_layers(have: Layers, user: str | None = None) -> Steps[tuple[Layers, dict[str, Any]]]:
    """Both configurations and a user's preferences; what is known already is not sent again."""
    query = """
        SELECT coalesce(s.revision, 0) AS static_revision,
               CASE WHEN s.revision <> %(static)s THEN s.settings END AS static_settings,
               coalesce(d.revision, 0) AS dynamic_revision,
               CASE WHEN d.revision <> %(dynamic)s THEN d.settings END AS dynamic_settings,
               coalesce((SELECT preferences FROM users WHERE id = %(user)s::text), '{}')
                   AS preferences
        FROM (SELECT) AS always
        LEFT JOIN (SELECT revision, settings FROM static_config
                   ORDER BY revision DESC LIMIT 1) AS s ON true
        LEFT JOIN (SELECT revision, settings FROM dynamic_config
                   ORDER BY revision DESC LIMIT 1) AS d ON true
    """
    params = {"static": have.static_revision, "dynamic": have.dynamic_revision, "user": user}
    statement = Statement(query=query, params=params, row_factory=class_row(_Row))
    (row,) = yield statement
    return _merged(have, row), row.preferences


def _merged(have: Layers, row: _Row) -> Layers:
    static, dynamic = have.static, have.dynamic
    if row.static_revision != have.static_revision:
        given = row.static_settings
        static = None if given is None else _stored_static(given)
    if row.dynamic_revision != have.dynamic_revision:
        dynamic = row.dynamic_settings or {}
    return Layers(
        static_revision=row.static_revision,
        static=static,
        dynamic_revision=row.dynamic_revision,
        dynamic=dynamic,
    )


def _stored_static(settings: Mapping[str, Any]) -> StaticConfig:
    return validated(StaticConfig, known(StaticConfig, settings), strict=False)


def resolve(model: type[ConfigT], layers: Layers, preferences: Mapping[str, Any]) -> ConfigT:
    """The settings that hold.

    Raises:
        ConfigError: If what is stored is not valid for this model; names every field.
    """
    personal = _personal(model, layers, preferences)
    values = {**layers.defaults, **layers.dynamic, **personal}
    return validated(model, known(model, values), strict=False)


def _personal(
    model: type[DynamicConfig], layers: Layers, preferences: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The preferences that count: nobody keeps a model that the deployment no longer offers."""
    gone = {} if layers.static is None else layers.static.not_offered(preferences)
    return {k: v for k, v in preferences.items() if k in model.personal and k not in gone}


def explain(
    model: type[DynamicConfig], layers: Layers, preferences: Mapping[str, Any], key: str
) -> Explained:
    """Where one setting's value comes from.

    Raises:
        ConfigError: If there is no such setting.
    """
    if key not in list(model.model_fields):
        raise ConfigError({shown(key): unknown(key, model.model_fields)})
    default = model.model_fields[key].get_default(call_default_factory=True, validated_data={})
    sources: list[tuple[Layer, Mapping[str, Any]]] = [
        ("preference", _personal(model, layers, preferences)),
        ("dynamic", layers.dynamic),
        ("static", layers.defaults),
        ("default", {key: default}),
    ]
    found: dict[Layer, Any] = {name: values[key] for name, values in sources if key in values}
    layer, value = next(iter(found.items()))
    return Explained(key=key, value=value, layer=layer, layers=found)

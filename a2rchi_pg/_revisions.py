"""The configuration's revisions: appended, never changed.

A revision is the one before it with a change, validated as a whole. Two writers of the same one are
told apart by the primary key: the loser looks at what the winner wrote, and decides again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.types.json import Jsonb

from a2rchi_pg._arguments import MAX_INTEGER, moment, string, user_id_of, whole
from a2rchi_pg._content import clean_text
from a2rchi_pg._layers import Layers, read_layers, resolve
from a2rchi_pg._op import Steps, fetch, fetch_one, fetch_tuples, read, write
from a2rchi_pg._rights import Actor, actor_id, check_admin, clean_note
from a2rchi_pg._settings import DynamicConfig, StaticConfig, patched
from a2rchi_pg.errors import ConfigConflict, ConfigError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_STATIC = sql.Identifier("static_config")
_DYNAMIC = sql.Identifier("dynamic_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One revision of a configuration.

    Attributes:
        settings: What was set; a field that is absent followed the layer below.
        changed_by: A user's id; None is the deployment itself.
    """

    revision: int
    settings: dict[str, Any]
    changed_by: str | None
    changed_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """What one revision changed of one field.

    Attributes:
        old_set: Whether it was set before.
        new_set: Whether it is set since.
    """

    revision: int
    field: str
    old_value: Any
    new_value: Any
    old_set: bool
    new_set: bool
    changed_by: str | None
    changed_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What a collection that holds chunks was filled with."""

    name: str
    embedding_model: str | None
    dimensions: int
    metric: str


def _append(
    table: sql.Identifier,
    revision: int,
    settings: Mapping[str, Any],
    actor: Actor,
    note: str | None,
) -> Steps[Revision | None]:
    """Store a revision; None where another writer had the number first."""
    query = sql.SQL(
        """
        INSERT INTO {} (revision, settings, changed_by, note)
        VALUES (%(revision)s, %(settings)s, %(actor)s, %(note)s)
        ON CONFLICT (revision) DO NOTHING
        RETURNING revision, settings, changed_by, changed_at, note
        """
    ).format(table)
    given = {"revision": revision, "settings": Jsonb(dict(settings)), "note": clean_note(note)}
    return (yield from fetch_one(query, Revision, actor=actor_id(actor), **given))


def _append_dynamic(
    change: Callable[[Layers], Mapping[str, Any]],
    actor: Actor,
    expected: int | None,
    note: str | None,
) -> Steps[Revision]:
    _check_change(actor, expected)
    yield from check_admin(actor)
    while True:
        layers, _ = yield from read_layers(Layers())
        current = layers.dynamic_revision
        if expected is not None and current != expected:
            raise ConfigConflict(expected=expected, current=current)
        stored = yield from _append(_DYNAMIC, current + 1, change(layers), actor, note)
        if stored is not None:
            return stored


@write
def update(
    model: type[DynamicConfig],
    patch: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    actor: Actor,
    expected: int | None,
    note: str | None,
) -> Steps[Revision]:
    """Append what a patch makes of the settings; the patch is made of those there are."""

    def change(layers: Layers) -> Mapping[str, Any]:
        settings = {**layers.defaults, **layers.dynamic}
        changes = patch(settings)
        after = patched(model, layers.dynamic, changes, below=layers.defaults)
        layers.check_available({key: after[key] for key in changes if key in after})
        return after

    return (yield from _append_dynamic(change, actor, expected, note))


@write
def roll_back(
    model: type[DynamicConfig], to: int, actor: Actor, expected: int | None, note: str | None
) -> Steps[Revision]:
    """Append an earlier revision's settings as a new one; to 0 clears all."""
    _numbered(to, "to_revision")
    _check_change(actor, expected)
    target = None if to == 0 else (yield from revision(to))
    if target is None and to != 0:
        raise NotFound(f"there is no revision {to} of the configuration")
    settings = {} if target is None else target.settings

    def change(layers: Layers) -> Mapping[str, Any]:
        layers.check_available(settings)
        resolve(model, Layers(static=layers.static, dynamic=settings), {})
        return settings

    return (yield from _append_dynamic(change, actor, expected, note or f"back to {to}"))


@read
def revision(number: int) -> Steps[Revision | None]:
    """One revision of the run-time configuration, or None."""
    query = """
        SELECT revision, settings, changed_by, changed_at, note FROM dynamic_config
        WHERE revision = %(number)s
    """
    return (yield from fetch_one(query, Revision, number=number))


@read
def history(limit: int, before: int | None) -> Steps[list[Revision]]:
    """Revisions, newest first."""
    query = """
        SELECT revision, settings, changed_by, changed_at, note FROM dynamic_config
        WHERE %(before)s::integer IS NULL OR revision < %(before)s
        ORDER BY revision DESC LIMIT %(limit)s
    """
    last = None if before is None else _numbered(before, "before")
    return (yield from fetch(query, Revision, limit=limit, before=last))


def _check_change(actor: Actor, expected: int | None) -> None:
    actor_id(actor)
    if expected is not None:
        _numbered(expected, "expected_revision")


def _numbered(revision: object, name: str) -> int:
    return whole(revision, name, 0, MAX_INTEGER)


@read
def diff(old: int, new: int) -> Steps[dict[str, tuple[Any, Any]]]:
    """Each field that two revisions differ in, with both values; None also where it isn't set."""
    query = """
        WITH old AS (SELECT settings FROM dynamic_config WHERE revision = %(old)s
                     UNION ALL SELECT '{}' WHERE %(old)s = 0),
             new AS (SELECT settings FROM dynamic_config WHERE revision = %(new)s
                     UNION ALL SELECT '{}' WHERE %(new)s = 0)
        SELECT old.settings, new.settings FROM old, new
    """
    given = {"old": _numbered(old, "old"), "new": _numbered(new, "new")}
    rows = yield from fetch_tuples(query, **given)
    if not rows:
        raise NotFound(f"there is no revision {old} or no revision {new} of the configuration")
    ((before, after),) = rows
    return {
        key: (before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if key not in before or key not in after or before[key] != after[key]
    }


@read
def audit(
    user: str | None, field: str | None, since: datetime | None, limit: int
) -> Steps[list[FieldChange]]:
    """What was changed, newest first."""
    query = """
        SELECT revision, field_name AS field, old_value, new_value,
               old_value IS NOT NULL AS old_set, new_value IS NOT NULL AS new_set,
               user_id AS changed_by, changed_at, note
        FROM config_audit
        WHERE config_type = 'dynamic'
            AND (%(user)s::text IS NULL OR user_id = %(user)s)
            AND (%(field)s::text IS NULL OR field_name = %(field)s)
            AND (%(since)s::timestamptz IS NULL OR changed_at >= %(since)s)
        ORDER BY revision DESC, field_name LIMIT %(limit)s
    """
    given = {
        "user": None if user is None else user_id_of(user, "user"),
        "field": None if field is None else clean_text(string(field, "field")),
        "since": moment(since, "since"),
    }
    return (yield from fetch(query, FieldChange, limit=limit, **given))


@write
def load_static(
    model: type[DynamicConfig],
    config: StaticConfig,
    actor: Actor,
    *,
    redeploy: bool,
    note: str | None,
) -> Steps[StaticConfig]:
    """Store a deployment's configuration, if it is another one than that in force."""
    settings = config.model_dump(mode="json")
    yield from check_admin(actor)
    while True:
        layers, _ = yield from read_layers(Layers())
        if layers.static == config:
            return config
        yield from _refuse_contradiction(layers.static, config)
        if layers.static is not None and not redeploy:
            raise ConfigError(_differences(layers.static, config))
        config.check_available({**config.defaults, **layers.dynamic})
        patched(model, {}, config.defaults, below={})
        resolve(model, Layers(static=config, dynamic=layers.dynamic), {})
        number = layers.static_revision + 1
        if (yield from _append(_STATIC, number, settings, actor, note)) is not None:
            return config


def _differences(old: StaticConfig, new: StaticConfig) -> dict[str, str]:
    return {
        name: "differs from what was deployed; pass redeploy=True to deploy it anew"
        for name in StaticConfig.model_fields
        if getattr(old, name) != getattr(new, name)
    }


def _refuse_contradiction(old: StaticConfig | None, new: StaticConfig) -> Steps[None]:
    """Raise where the vectors that are stored were made with other settings.

    Another collection's name is no way around it, unless that one has been filled already.
    """
    query = """
        SELECT name, embedding_model, dimensions, metric FROM collections c
        WHERE name = ANY (%(names)s)
            AND EXISTS (SELECT FROM document_chunks WHERE collection_id = c.id)
    """
    names = [new.collection, *([] if old is None else [old.collection])]
    stored = {each.name: each for each in (yield from fetch(query, _Stored, names=names))}
    filled = next((stored[name] for name in names if name in stored), None)
    if filled is None:
        return
    problems = _contradictions(filled, old, new)
    if problems:
        raise ConfigError(problems)


def _contradictions(filled: _Stored, old: StaticConfig | None, new: StaticConfig) -> dict[str, str]:
    pairs: dict[str, tuple[Any, Any]] = {
        "embedding_dimensions": (filled.dimensions, new.embedding_dimensions or filled.dimensions),
        "distance_metric": (filled.metric, new.distance_metric),
    }
    # A deployment and an embedding object may each call the model by a name of their own: what the
    # file called it before is compared with what it calls it now.
    if old is not None and filled.name == old.collection:
        pairs["embedding_model"] = (old.embedding_model, new.embedding_model)
    elif filled.embedding_model is not None and (names := _names(new)):
        same = filled.embedding_model in names
        pairs["embedding_model"] = (
            filled.embedding_model,
            filled.embedding_model if same else new.embedding_model,
        )
    return {
        name: f"is {was!r} in the vectors of collection {filled.name!r}, the configuration says "
        f"{now!r}: fill a new collection first, with PostgresVectorStore(old_model, "
        f"collection={filled.name!r}).reembed(new_model, collection=…), and name it here"
        for name, (was, now) in pairs.items()
        if was != now
    }


def _names(config: StaticConfig) -> set[str]:
    """What the embedding object may call its model; empty where the file doesn't say."""
    known = config.data_manager_config.get("embedding_class_map", {})
    about = known.get(config.embedding_model) if isinstance(known, dict) else None
    if about is None:
        return {config.embedding_model}
    kwargs = about.get("kwargs") if isinstance(about, dict) else None
    loaded = kwargs if isinstance(kwargs, dict) else {}
    names = {str(loaded[key]) for key in ("model", "model_name") if key in loaded}
    return names and {config.embedding_model, *names}

"""What an older system's configurations say about who answered: YAML of three shapes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from psycopg import sql

from a2rchi_pg.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from a2rchi_pg.migrate._reading import OtherDatabase

# By what a pipeline may call the model that writes its answers, the most telling first.
ROLES = ("chat_model", "agent_model", "final_grade_model", "image_processing_model")


class Answerer(NamedTuple):
    """Who answers by a configuration; None is what it doesn't tell."""

    model: str | None = None
    pipeline: str | None = None


def answerer(config: object) -> Answerer:
    """The model and the pipeline of a configuration, by whichever shape it has."""
    chat = _at(config, "services", "chat_app")
    if _at(chat, "default_model") or _at(chat, "model"):
        return _by_provider(chat)
    if _at(config, "a2rchi", "pipeline_map"):
        return _by_pipeline(config, chat)
    if _at(config, "chains", "chain"):
        chain = _at(config, "chains", "chain")
        classes = _at(chain, "MODEL_CLASS_MAP")
        return Answerer(_model(classes, _at(chain, "MODEL_NAME")), "QAPipeline")
    return Answerer(None, _text(_at(chat, "agent_class")) or _text(_at(chat, "pipeline")))


def _by_provider(chat: object) -> Answerer:
    provider = _text(_at(chat, "default_provider")) or _text(_at(chat, "provider"))
    model = _text(_at(chat, "default_model")) or _text(_at(chat, "model"))
    pipeline = _text(_at(chat, "agent_class")) or _text(_at(chat, "pipeline"))
    return Answerer(f"{provider}/{model}" if provider and model else None, pipeline)


def _by_pipeline(config: object, chat: object) -> Answerer:
    named = _at(config, "a2rchi", "pipelines")
    first = named[0] if isinstance(named, list) and named else None
    pipeline = _text(_at(chat, "pipeline")) or _text(first)
    required = _at(config, "a2rchi", "pipeline_map", pipeline, "models", "required")
    keys = [key for role in ROLES if (key := _text(_at(required, role)))]
    classes = _at(config, "a2rchi", "model_class_map")
    return Answerer(_model(classes, keys[0]) if keys else None, pipeline)


def _model(classes: object, key: object) -> str | None:
    """The model that a class is given by its arguments; the class alone doesn't tell."""
    kwargs = _at(classes, key, "kwargs")
    names = (_text(_at(kwargs, name)) for name in ("model_name", "base_model", "model"))
    return next(filter(None, names), None)


def _at(value: object, *path: object) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


class Configs:
    """The ``configs`` table: read once, when it is first asked for; equal texts are read once.

    Args:
        database: Where it is.
        table: It, as a query of ``config_id``, ``config_name`` and ``config``.
    """

    def __init__(self, database: OtherDatabase, table: sql.Composable) -> None:
        self._database, self._table = database, table
        self._answerers: dict[int, Answerer] | None = None
        self._texts = self._unreadable = 0

    def of(self, config_id: int | None) -> Answerer | None:
        """Who answers by a configuration; None where there is none of that number."""
        return None if config_id is None else self._all().get(config_id)

    def facts(self) -> dict[str, str]:
        """What there is, for a plan."""
        every = self._all()
        untold = sum(each.model is None for each in every.values())
        return {
            "configurations": f"{len(every):,}, {self._texts:,} of them different",
            "that can't be read": f"{self._unreadable:,}",
            "that tell no model": f"{untold:,}",
        }

    def back_up(self, file: Path) -> int:
        """Write all of it to a new file, one JSON object a line, that only its owner may read.

        Raises:
            MigrationError: If the file exists or can't be written.
        """
        try:
            opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(opened, "w", encoding="utf-8") as out:
                    return self._write(out)
            except BaseException:
                file.unlink()  # half of it would pass for the whole
                raise
        except OSError as error:
            raise MigrationError(f"{file} can't be written: {error.strerror}") from error

    def _write(self, out: TextIO) -> int:
        query = sql.SQL("SELECT * FROM ({}) AS t ORDER BY config_id").format(self._table)
        rows = 0
        with self._database.reading() as reader:
            for batch in reader.stream(query, 100):
                rows += len(batch)
                out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch)
        return rows

    def _all(self) -> Mapping[int, Answerer]:
        if self._answerers is None:
            query = sql.SQL("""
                SELECT min(config) AS config, array_agg(config_id) AS ids
                FROM ({}) AS t WHERE config_id IS NOT NULL GROUP BY md5(config)
            """).format(self._table)
            found = dict[int, Answerer]()
            with self._database.reading() as reader:
                for batch in reader.stream(query, 100):
                    for row in batch:
                        found |= dict.fromkeys(row["ids"], self._read(row["config"]))
            self._answerers = found
        return self._answerers

    def _read(self, text: str | None) -> Answerer:
        import yaml  # noqa: PLC0415 - slow to import

        self._texts += 1
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            config = yaml.load(text or "", loader)  # noqa: S506 - a safe one
        except (yaml.YAMLError, ValueError, RecursionError):  # its message would quote secrets
            config = None
        if not isinstance(config, dict):
            self._unreadable += 1
        return answerer(config)

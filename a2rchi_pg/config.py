"""Configuration: what was deployed, what was set since, and which value holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from a2rchi_pg import _revisions
from a2rchi_pg._arguments import page_size, string
from a2rchi_pg._config_file import read_static_config
from a2rchi_pg._config_reading import ConfigReader
from a2rchi_pg._layers import ConfigT
from a2rchi_pg._rights import SYSTEM, Actor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from os import PathLike

    from a2rchi_pg._flow import Flow
    from a2rchi_pg._revisions import FieldChange, Revision
    from a2rchi_pg._settings import StaticConfig


class ConfigRepository(ConfigReader[ConfigT]):
    """The configuration of an application.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
        model: What can be set at run time: ``DynamicConfig`` or an extension of it.
        cache_seconds: How long what was read is used without asking whether it is still in force.
            With a user's preferences it is always asked, in the same statement.
    """

    def load_static_config(
        self,
        source: str | PathLike[str] | Mapping[str, Any],
        *,
        changed_by: Actor = SYSTEM,
        redeploy: bool = False,
        note: str | None = None,
    ) -> StaticConfig:
        """Put a deployment's configuration in force; does nothing where it is already.

        Args:
            source: Path of a ``config.yaml``, or what was read from one. References to secrets, as
                in ``${NAME}``, stay references; secrets themselves are refused.
            changed_by: The admin who does it, or the deployment itself.
            redeploy: Put it in force although it differs from what was deployed before.
            note: Why.

        Raises:
            ConfigError: If it can't be read or is not valid, differs without ``redeploy``, or
                contradicts the vectors that are stored; names every such field.
            PermissionDenied: If ``changed_by`` is a user and no admin.
        """
        config = read_static_config(source)
        return self._do(self._load(config, changed_by, redeploy, note))

    async def aload_static_config(
        self,
        source: str | PathLike[str] | Mapping[str, Any],
        *,
        changed_by: Actor = SYSTEM,
        redeploy: bool = False,
        note: str | None = None,
    ) -> StaticConfig:
        """The asynchronous twin of :meth:`load_static_config`."""
        config = read_static_config(source)
        return await self._ado(self._load(config, changed_by, redeploy, note))

    def update_dynamic_config(
        self,
        patch: Mapping[str, Any],
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """Change settings: a key that is absent stays, ``CLEAR`` follows the deployment again.

        Args:
            patch: The settings that change.
            updated_by: The admin who does it, or ``SYSTEM``: the deployment itself.
            expected_revision: The revision the change was made for; None takes any.
            note: Why.

        Returns:
            The new revision.

        Raises:
            ConfigError: If the outcome is not valid; names every field that is wrong.
            ConfigConflict: If there is another revision than that expected.
            PermissionDenied: If ``updated_by`` is a user and no admin.
        """
        return self._do(self._update(lambda _: patch, updated_by, expected_revision, note))

    async def aupdate_dynamic_config(
        self,
        patch: Mapping[str, Any],
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """The asynchronous twin of :meth:`update_dynamic_config`."""
        return await self._ado(self._update(lambda _: patch, updated_by, expected_revision, note))

    def update_source_schedule(
        self, source: str, schedule: str, *, updated_by: Actor, note: str | None = None
    ) -> Revision:
        """Set when one source is collected, and leave the others.

        Args:
            source: Its name.
            schedule: A cron expression of five fields, ``""`` or ``"disabled"`` for never, or
                ``"hourly"``, ``"every_6h"`` or ``"daily"``.
            updated_by: The admin who does it, or ``SYSTEM``.
            note: Why.

        Raises:
            ConfigError: If it is no schedule.
            PermissionDenied: If ``updated_by`` is a user and no admin.
        """
        return self._do(self._update(_scheduled(source, schedule), updated_by, None, note))

    async def aupdate_source_schedule(
        self, source: str, schedule: str, *, updated_by: Actor, note: str | None = None
    ) -> Revision:
        """The asynchronous twin of :meth:`update_source_schedule`."""
        return await self._ado(self._update(_scheduled(source, schedule), updated_by, None, note))

    def rollback(
        self,
        to_revision: int,
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """Set everything as an earlier revision had it, as a new revision; 0 is before the first.

        Raises:
            NotFound: If there is no such revision.
            ConfigError: If it is not valid any more.
            ConfigConflict: If there is another revision than that expected.
            PermissionDenied: If ``updated_by`` is a user and no admin.
        """
        return self._do(self._roll_back(to_revision, updated_by, expected_revision, note))

    async def arollback(
        self,
        to_revision: int,
        *,
        updated_by: Actor,
        expected_revision: int | None = None,
        note: str | None = None,
    ) -> Revision:
        """The asynchronous twin of :meth:`rollback`."""
        return await self._ado(self._roll_back(to_revision, updated_by, expected_revision, note))

    def history(self, *, limit: int = 100, before: int | None = None) -> list[Revision]:
        """Revisions, newest first; ``before`` is the last one of the page before."""
        return self._runner.run(_revisions.history(page_size(limit), before))

    async def ahistory(self, *, limit: int = 100, before: int | None = None) -> list[Revision]:
        """The asynchronous twin of :meth:`history`."""
        return await self._runner.arun(_revisions.history(page_size(limit), before))

    def diff(self, old: int, new: int) -> dict[str, tuple[Any, Any]]:
        """Each setting that two revisions differ in, with both values; 0 is before the first.

        Raises:
            NotFound: If there is no such revision.
        """
        return self._runner.run(_revisions.diff(old, new))

    async def adiff(self, old: int, new: int) -> dict[str, tuple[Any, Any]]:
        """The asynchronous twin of :meth:`diff`."""
        return await self._runner.arun(_revisions.diff(old, new))

    def audit(
        self,
        *,
        user: str | None = None,
        field: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[FieldChange]:
        """Who changed which setting, from what to what, newest first."""
        return self._runner.run(_revisions.audit(user, field, since, page_size(limit)))

    async def aaudit(
        self,
        *,
        user: str | None = None,
        field: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[FieldChange]:
        """The asynchronous twin of :meth:`audit`."""
        return await self._runner.arun(_revisions.audit(user, field, since, page_size(limit)))

    def _load(
        self, config: StaticConfig, actor: Actor, redeploy: bool, note: str | None
    ) -> Flow[StaticConfig]:
        loaded: StaticConfig = yield _revisions.load_static(
            self._model, config, actor, redeploy=redeploy, note=note
        )
        self._forget()
        return loaded

    def _update(
        self,
        patch: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        actor: Actor,
        expected: int | None,
        note: str | None,
    ) -> Flow[Revision]:
        stored: Revision = yield _revisions.update(self._model, patch, actor, expected, note)
        self._forget()
        return stored

    def _roll_back(
        self, to: int, actor: Actor, expected: int | None, note: str | None
    ) -> Flow[Revision]:
        stored: Revision = yield _revisions.roll_back(self._model, to, actor, expected, note)
        self._forget()
        return stored


def _scheduled(source: str, schedule: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    string(source, "source")

    def patch(settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"source_schedules": {**settings.get("source_schedules", {}), source: schedule}}

    return patch

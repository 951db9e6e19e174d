"""Whose key a request to a provider is made with: the user's own, or the deployment's."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from a2rchi_pg._api_keys import check_provider, opened, use
from a2rchi_pg._flow import Flow, arun, run
from a2rchi_pg.keyring import setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from a2rchi_pg._api_keys import StoredKey
    from a2rchi_pg._op import Runner
    from a2rchi_pg.keyring import KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedKey:
    """A key to make a request with, and whose it is."""

    key: str = field(repr=False)
    source: Literal["user", "deployment"]


class KeyResolver:
    """Finds the key for a user's request.

    A user's own key is used or nothing is: where it has expired or can't be decrypted, the request
    isn't made at the deployment's expense instead.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
        keyring: What users' keys are encrypted with.
        deployment: Keys by provider; None reads ``OPENAI_API_KEY`` for ``openai`` and so on from
            the environment, or the file that ``OPENAI_API_KEY_FILE`` names.
    """

    def __init__(
        self, runner: Runner, keyring: KeyRing, *, deployment: Mapping[str, str] | None = None
    ) -> None:
        self._runner = runner
        self._keyring = keyring
        self._deployment = (
            None
            if deployment is None
            else {check_provider(name): key for name, key in deployment.items()}
        )

    def resolve(self, user_id: str | None, provider: str) -> ResolvedKey | None:
        """The key to use, or None where there is none; ``user_id`` is None for nobody.

        Raises:
            DecryptionError: If the user's key can't be decrypted.
            InvalidInput: If the deployment's stands in a file that can't be read.
        """
        return run(self._resolve(user_id, provider), None, self._runner)

    async def aresolve(self, user_id: str | None, provider: str) -> ResolvedKey | None:
        """The asynchronous twin of :meth:`resolve`."""
        return await arun(self._resolve(user_id, provider), None, self._runner)

    def _resolve(self, user_id: str | None, provider: str) -> Flow[ResolvedKey | None]:
        named = check_provider(provider)
        stored: StoredKey | None = None if user_id is None else (yield use(user_id, named))
        if stored is None:
            key = self._of_deployment(named)
            return ResolvedKey(key=key, source="deployment") if key else None
        if stored.expired:
            return None
        return ResolvedKey(key=opened(self._keyring, stored), source="user")

    def _of_deployment(self, provider: str) -> str | None:
        if self._deployment is not None:
            return self._deployment.get(provider)
        name = provider.upper().replace("-", "_").replace(".", "_") + "_API_KEY"
        return setting(os.environ, name).strip()

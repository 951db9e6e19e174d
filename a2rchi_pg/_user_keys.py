"""The half of :class:`UserRepository` that is about the keys users bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from a2rchi_pg import _api_keys, _flow, _rotation
from a2rchi_pg._arguments import stored_moment, user_id_of
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from a2rchi_pg._api_keys import ApiKey
    from a2rchi_pg._flow import Flow
    from a2rchi_pg._op import Runner
    from a2rchi_pg._rotation import KeyUse, Rotation
    from a2rchi_pg.keyring import KeyRing

T = TypeVar("T")


class UserKeys:
    """Stores, opens, lists and rotates keys."""

    def __init__(self, runner: Runner, keyring: KeyRing | None) -> None:
        self._runner = runner
        self._keyring = keyring

    def set_api_key(
        self, user_id: str, provider: str, key: str, *, expires_at: datetime | None = None
    ) -> None:
        """Encrypt and store a user's own key for a provider, in place of the one there may be.

        Raises:
            NotFound: If there is no such user.
            InvalidInput: If the key is none or only a mask of one, or there is no key ring.
        """
        self._do(self._put(user_id, provider, key, expires_at))

    async def aset_api_key(
        self, user_id: str, provider: str, key: str, *, expires_at: datetime | None = None
    ) -> None:
        """The asynchronous twin of :meth:`set_api_key`."""
        await self._ado(self._put(user_id, provider, key, expires_at))

    def get_api_key(self, user_id: str, provider: str) -> str | None:
        """A user's key, to be used; None where there is none or it has expired.

        Raises:
            DecryptionError: If it can't be decrypted: the user has to enter it again.
        """
        return self._do(self._get(user_id, provider))

    async def aget_api_key(self, user_id: str, provider: str) -> str | None:
        """The asynchronous twin of :meth:`get_api_key`."""
        return await self._ado(self._get(user_id, provider))

    def delete_api_key(self, user_id: str, provider: str) -> bool:
        """Delete a key, which takes no key ring; False where there is none."""
        return self._runner.run(_api_keys.delete(user_id, _api_keys.check_provider(provider)))

    async def adelete_api_key(self, user_id: str, provider: str) -> bool:
        """The asynchronous twin of :meth:`delete_api_key`."""
        return await self._runner.arun(
            _api_keys.delete(user_id, _api_keys.check_provider(provider))
        )

    def list_api_keys(self, user_id: str) -> list[ApiKey]:
        """What may be shown of a user's keys, by provider."""
        return self._do(_api_keys.listing(self._ring(), user_id))

    async def alist_api_keys(self, user_id: str) -> list[ApiKey]:
        """The asynchronous twin of :meth:`list_api_keys`."""
        return await self._ado(_api_keys.listing(self._ring(), user_id))

    def rotate_api_keys(
        self,
        *,
        batch_size: int = _rotation.DEFAULT_BATCH,
        dry_run: bool = False,
        progress: Callable[[Rotation], None] | None = None,
    ) -> Rotation:
        """Bring every stored key onto the ring's first key; those of pgcrypto too.

        Each batch is a transaction, so keys can be read and written meanwhile, and a rotation that
        was interrupted goes on where it stopped when called again.

        Args:
            batch_size: Keys per transaction.
            dry_run: Write nothing, and say what would be done.
            progress: Called after each batch.
        """
        return self._do(
            _rotation.rotate(
                self._ring(), batch_size=batch_size, dry_run=dry_run, progress=progress
            )
        )

    async def arotate_api_keys(
        self,
        *,
        batch_size: int = _rotation.DEFAULT_BATCH,
        dry_run: bool = False,
        progress: Callable[[Rotation], None] | None = None,
    ) -> Rotation:
        """The asynchronous twin of :meth:`rotate_api_keys`."""
        return await self._ado(
            _rotation.rotate(
                self._ring(), batch_size=batch_size, dry_run=dry_run, progress=progress
            )
        )

    def api_key_status(self) -> list[KeyUse]:
        """How many stored keys each key of a ring encrypts."""
        return self._runner.run(_rotation.status())

    async def aapi_key_status(self) -> list[KeyUse]:
        """The asynchronous twin of :meth:`api_key_status`."""
        return await self._runner.arun(_rotation.status())

    def _do(self, flow: Flow[T]) -> T:
        return _flow.run(flow, None, self._runner)

    async def _ado(self, flow: Flow[T]) -> T:
        return await _flow.arun(flow, None, self._runner)

    def _ring(self) -> KeyRing:
        if self._keyring is None:
            raise InvalidInput("users' keys need a key ring: UserRepository(…, KeyRing.from_env())")
        return self._keyring

    def _put(
        self, user_id: str, provider: str, key: str, expires_at: datetime | None
    ) -> Flow[None]:
        named, secret = _api_keys.check_provider(provider), _api_keys.check_secret(key)
        stored_moment(expires_at, "expires_at")
        return _api_keys.put(self._ring(), user_id_of(user_id), named, secret, expires_at)

    def _get(self, user_id: str, provider: str) -> Flow[str | None]:
        return _api_keys.get(self._ring(), user_id, _api_keys.check_provider(provider))

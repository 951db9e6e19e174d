"""Keys that people bring for providers: how they are stored, listed and used.

The database sees ciphertext only. A key is encrypted before an operation begins and decrypted after
it ended, so that no connection is held while a key management service answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from a2rchi_pg._arguments import shown, user_id_of
from a2rchi_pg._op import Steps, fetch, fetch_one, fetch_value, read, write
from a2rchi_pg.errors import DecryptionError, InvalidInput, NotFound
from a2rchi_pg.keyring import Format, KeyRing, Sealed

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._flow import Flow

KeyState: TypeAlias = Literal["ok", "expired", "needs re-entry"]

_PROVIDER = re.compile("[a-z0-9][a-z0-9_.-]{0,63}")
# What interfaces show in place of a key.
_MASK = re.compile("[•●*∗…]{2}|…|\\.{3}|^[xX*•]+$|redacted|masked|hidden", re.IGNORECASE)
_MAX_KEY = 8192
_SHOWN, _SHOWN_OF = 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What may be shown of a key.

    Attributes:
        last_four: Its last characters; empty for a key so short that they would tell much.
        state: ``"needs re-entry"`` where it can't be decrypted any more.
    """

    provider: str
    last_four: str
    created_at: datetime
    rotated_at: datetime | None
    last_used_at: datetime | None
    expires_at: datetime | None
    state: KeyState


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as it stands in its row."""

    user_id: str
    provider: str
    ciphertext: bytes = field(repr=False)
    format: Format
    key_id: str | None
    last_four: str | None
    created_at: datetime
    rotated_at: datetime | None
    last_used_at: datetime | None
    expires_at: datetime | None
    expired: bool

    @property
    def sealed(self) -> Sealed:
        """What the key ring opens."""
        return Sealed(ciphertext=bytes(self.ciphertext), format=self.format, key_id=self.key_id)


def check_provider(provider: object) -> str:
    """The name of a provider, in lower case.

    Raises:
        InvalidInput: If it is no name.
    """
    if not isinstance(provider, str) or not _PROVIDER.fullmatch(provider.lower()):
        raise InvalidInput(
            "a provider must be 1 to 64 letters, digits and _.-, and begin with one of the first "
            f"two; got {shown(provider)}"
        )
    return provider.lower()


def check_secret(secret: object) -> str:
    """A key to store.

    Raises:
        InvalidInput: If it is none, or the mask that stood in its place; the text never shows it.
    """
    if not isinstance(secret, str) or not secret.strip() or len(secret) > _MAX_KEY:
        raise InvalidInput(f"a key must be a string of 1 to {_MAX_KEY} characters")
    if not secret.isprintable():
        raise InvalidInput("a key holds no line breaks or control characters")
    if _MASK.search(secret):
        raise InvalidInput("this is the mask that is shown in place of a key, not the key")
    return secret.strip()


def last_four(secret: str) -> str:
    """What may be shown of a key."""
    return secret[-_SHOWN:] if len(secret) >= _SHOWN_OF else ""


def opened(ring: KeyRing, stored: StoredKey) -> str:
    """The key itself.

    Raises:
        DecryptionError: If it can't be decrypted; says whose and for what it is.
    """
    try:
        return ring.open(stored.sealed, user_id=stored.user_id, provider=stored.provider)
    except DecryptionError as error:
        raise DecryptionError(
            f"the key of user {stored.user_id!r} for {stored.provider} has to be entered again: "
            f"{error}"
        ) from None


def put(
    ring: KeyRing, user_id: str, provider: str, secret: str, expires_at: datetime | None
) -> Flow[None]:
    """Encrypt and store a key in place of the one there may be."""
    sealed = ring.seal(secret, user_id=user_id, provider=provider)
    yield _store(user_id, provider, sealed, last_four(secret), expires_at)


def get(ring: KeyRing, user_id: str, provider: str) -> Flow[str | None]:
    """A key to use, or None."""
    stored: StoredKey | None = yield use(user_id, provider)
    return None if stored is None or stored.expired else opened(ring, stored)


def listing(ring: KeyRing, user_id: str) -> Flow[list[ApiKey]]:
    """What may be shown of a user's keys; one that can't be decrypted spoils no other."""
    stored: list[StoredKey] = yield all_of(user_id)
    return [_shown(ring, each) for each in stored]


def _shown(ring: KeyRing, stored: StoredKey) -> ApiKey:
    state: KeyState = "expired" if stored.expired else "ok"
    ending = stored.last_four or ""
    try:
        ending = last_four(opened(ring, stored))
    except DecryptionError:
        state = "needs re-entry"
    return ApiKey(
        provider=stored.provider,
        last_four=ending,
        created_at=stored.created_at,
        rotated_at=stored.rotated_at,
        last_used_at=stored.last_used_at,
        expires_at=stored.expires_at,
        state=state,
    )


@write
def _store(
    user_id: str, provider: str, sealed: Sealed, ending: str, expires_at: datetime | None
) -> Steps[None]:
    query = """
        INSERT INTO user_api_keys
            (user_id, provider, ciphertext, format, key_id, last_four, expires_at)
        SELECT id, %(provider)s, %(ciphertext)s, %(format)s, %(key_id)s, %(last_four)s,
               %(expires_at)s
        FROM users WHERE id = %(user_id)s
        ON CONFLICT (user_id, provider) DO UPDATE
        SET ciphertext = excluded.ciphertext, format = excluded.format, key_id = excluded.key_id,
            last_four = excluded.last_four, expires_at = excluded.expires_at,
            created_at = now(), rotated_at = NULL, last_used_at = NULL
        RETURNING true
    """
    stored = yield from fetch_value(
        query,
        user_id=user_id,
        provider=provider,
        ciphertext=sealed.ciphertext,
        format=sealed.format,
        key_id=sealed.key_id,
        last_four=ending,
        expires_at=expires_at,
    )
    if not stored:
        raise NotFound(f"there is no user {user_id!r}")


@write
def use(user_id: str, provider: str) -> Steps[StoredKey | None]:
    """A key's row; that it is used is noted once a minute, not with every question asked."""
    query = """
        WITH noted AS (
            UPDATE user_api_keys SET last_used_at = now()
            WHERE user_id = %(user_id)s AND provider = %(provider)s
                AND coalesce(last_used_at, '-infinity') < now() - interval '1 minute'
        )
        SELECT user_id, provider, ciphertext, format, key_id, last_four, created_at, rotated_at,
               last_used_at, expires_at, coalesce(expires_at <= now(), false) AS expired
        FROM user_api_keys WHERE user_id = %(user_id)s AND provider = %(provider)s
    """
    return (yield from fetch_one(query, StoredKey, user_id=user_id_of(user_id), provider=provider))


@read
def all_of(user_id: str) -> Steps[list[StoredKey]]:
    """The rows of a user's keys."""
    query = """
        SELECT user_id, provider, ciphertext, format, key_id, last_four, created_at, rotated_at,
               last_used_at, expires_at, coalesce(expires_at <= now(), false) AS expired
        FROM user_api_keys WHERE user_id = %(user_id)s ORDER BY provider
    """
    return (yield from fetch(query, StoredKey, user_id=user_id_of(user_id)))


@write
def delete(user_id: str, provider: str) -> Steps[bool]:
    """Delete a key; False where there was none."""
    query = """
        DELETE FROM user_api_keys WHERE user_id = %(user_id)s AND provider = %(provider)s
        RETURNING true
    """
    return bool((yield from fetch_value(query, user_id=user_id_of(user_id), provider=provider)))

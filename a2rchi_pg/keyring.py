"""Encryption of the keys that people bring, and nothing else: no database, no configuration.

Each secret is encrypted with AES-256-GCM under a data key of its own, and that under a key of the
ring. Whom and what it is for is authenticated with it: copied into another person's row, or another
provider's, it can't be opened. A secret looks like this::

    version (1 byte) | length, id of the ring's key | length, wrapped data key | nonce | sealed
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from a2rchi_pg import _openpgp
from a2rchi_pg._local_key import KEY_BYTES, NONCE_BYTES, PURPOSE, LocalKey, decrypt
from a2rchi_pg.errors import DecryptionError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

Format: TypeAlias = Literal["aesgcm", "pgcrypto"]

KEY_VARIABLE = "BYOK_ENCRYPTION_KEY"
LEGACY_VARIABLE = "BYOK_LEGACY_KEY"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An encrypted secret: what is stored.

    Attributes:
        key_id: The ring's key it is encrypted with; None where the system before this one did it.
    """

    ciphertext: bytes = field(repr=False)
    format: Format
    key_id: str | None


class RingKey(Protocol):
    """A key that wraps data keys, here or in a key management service."""

    @property
    def id(self) -> str:
        """What tells it from other keys; stored with what it wraps."""
        ...

    def wrap(self, data_key: bytes) -> bytes:
        """The data key, encrypted."""
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """The data key again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalKey:
    """A key that never leaves a key management service.

    Args:
        id: Its name, 1 to 100 characters.
        wrap: Asks the service to encrypt 32 bytes.
        unwrap: Asks it to decrypt them again, and raises ``DecryptionError`` for what it didn't
            encrypt: that key is then shown as one to be entered again. Whatever else it raises ends
            the operation. Called for every secret that is opened, on the calling thread and with no
            connection held.
    """

    id: str
    wrap: Callable[[bytes], bytes] = field(repr=False)
    unwrap: Callable[[bytes], bytes] = field(repr=False)


class KeyRing:
    """The keys that secrets are encrypted with: the first encrypts, every one of them decrypts.

    Args:
        keys: Newest first.
        legacy: Passphrases that open what pgcrypto encrypted before this package, however weak;
            nothing is ever encrypted with them.
        write_format: ``"pgcrypto"`` goes on writing what ``pgp_sym_decrypt`` reads, for a system
            that still has to. It is bound to neither user nor provider: someone who can write to
            the table can pass one person's key off as another's.

    Raises:
        InvalidInput: If there is no key, one is there twice, or the first can't write that format.
    """

    def __init__(
        self,
        keys: Sequence[RingKey],
        *,
        legacy: Sequence[str] = (),
        write_format: Format = "aesgcm",
    ) -> None:
        self._keys = {key.id: key for key in keys}
        if not keys or len(self._keys) < len(keys):
            raise InvalidInput("a key ring needs at least one key, and each of them once")
        if not all(0 < len(key.id.encode()) <= 100 for key in keys):  # noqa: PLR2004
            raise InvalidInput("the id of a key must have 1 to 100 bytes")
        if write_format not in {"aesgcm", "pgcrypto"}:
            raise InvalidInput(f"write_format must be aesgcm or pgcrypto, got {write_format!r}")
        if write_format == "pgcrypto" and not isinstance(keys[0], LocalKey):
            raise InvalidInput("only a key of this process can write pgcrypto's format")
        self._current = keys[0]
        self._legacy = tuple(legacy)
        self._format: Format = write_format

    def __repr__(self) -> str:
        return f"<KeyRing {', '.join(self._keys)}>"

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, write_format: Format = "aesgcm"
    ) -> Self:
        """The ring that the environment describes.

        ``BYOK_ENCRYPTION_KEY`` holds one key or several, newest first, separated by commas or line
        breaks; ``BYOK_ENCRYPTION_KEY_FILE`` names a file of them instead. ``BYOK_LEGACY_KEY`` or
        ``BYOK_LEGACY_KEY_FILE`` is the old system's passphrase, where it was another one.

        Raises:
            InvalidInput: If neither is set, both are, or a key is too weak.
        """
        environ = os.environ if environ is None else environ
        keys = re.split(r"[,\s]*[,\n][,\s]*", setting(environ, KEY_VARIABLE).strip(", \n\r\t"))
        legacy = setting(environ, LEGACY_VARIABLE).strip("\r\n")
        if keys == [""]:
            raise InvalidInput(
                f"{KEY_VARIABLE} (or {KEY_VARIABLE}_FILE) is not set: make a key with "
                "`python -m a2rchi_pg.keys generate`"
            )
        return cls(
            [LocalKey(key) for key in keys],
            legacy=legacy.splitlines(),
            write_format=write_format,
        )

    @property
    def ids(self) -> list[str]:
        """The ids of its keys, the one that encrypts first."""
        return list(self._keys)

    @property
    def current(self) -> tuple[Format, str]:
        """The format that is written now, and the id of the key that writes."""
        return self._format, self._current.id

    def seal(self, secret: str, *, user_id: str, provider: str) -> Sealed:
        """Encrypt a secret for this person and provider alone."""
        plaintext = secret.encode("utf-8", "surrogatepass")
        if self._format == "pgcrypto" and isinstance(self._current, LocalKey):
            ciphertext = _openpgp.encrypt(plaintext, self._current.text)
        else:
            ciphertext = _seal(self._current, plaintext, _binding(user_id, provider))
        return Sealed(ciphertext=ciphertext, format=self._format, key_id=self._current.id)

    def open(self, sealed: Sealed, *, user_id: str, provider: str) -> str:
        """The secret again.

        Raises:
            DecryptionError: If its key is not in the ring, or it was damaged or sealed for someone
                or something else.
        """
        if sealed.format == "pgcrypto":
            plaintext = self._open_pgcrypto(sealed)
        else:
            plaintext = self._open(sealed.ciphertext, _binding(user_id, provider))
        try:
            return plaintext.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise DecryptionError("the stored key is not text") from None

    def _open(self, ciphertext: bytes, binding: bytes) -> bytes:
        version, rest = ciphertext[:1], ciphertext[1:]
        key_id, rest = _split(rest, 1)
        wrapped, rest = _split(rest, 2)
        key = self._keys.get(key_id.decode("utf-8", "replace"))
        if version != bytes([_VERSION]) or key is None:
            raise DecryptionError("the stored key is encrypted with a key that the ring lacks")
        data_key = key.unwrap(wrapped)
        if len(data_key) != KEY_BYTES:
            raise DecryptionError("the stored key has no data key that opens it")
        header = ciphertext[: len(ciphertext) - len(rest)]
        return decrypt(AESGCM(data_key), rest, header + binding)

    def _open_pgcrypto(self, sealed: Sealed) -> bytes:
        local = [key for key in self._keys.values() if isinstance(key, LocalKey)]
        local.sort(key=lambda key: key.id != sealed.key_id)
        for passphrase in (*(key.text for key in local), *self._legacy):
            try:
                return _openpgp.decrypt(sealed.ciphertext, passphrase)
            except DecryptionError:
                continue
        raise DecryptionError("no key of the ring opens what pgcrypto encrypted")


def _seal(key: RingKey, plaintext: bytes, binding: bytes) -> bytes:
    data_key, nonce = AESGCM.generate_key(256), os.urandom(NONCE_BYTES)
    header = bytes([_VERSION]) + _joined(key.id.encode(), 1) + _joined(key.wrap(data_key), 2)
    return header + nonce + AESGCM(data_key).encrypt(nonce, plaintext, header + binding)


def _binding(user_id: str, provider: str) -> bytes:
    """Whom and what a secret is for, so that no two pairs look the same."""
    parts = (user_id.encode("utf-8", "surrogatepass"), provider.encode())
    return PURPOSE + b"".join(_joined(part, 4) for part in parts)


def _joined(part: bytes, size: int) -> bytes:
    return len(part).to_bytes(size) + part


def _split(data: bytes, size: int) -> tuple[bytes, bytes]:
    end = size + int.from_bytes(data[:size])
    return data[size:end], data[end:]


def setting(environ: Mapping[str, str], name: str) -> str:
    """A variable's value, or what stands in the file that ``…_FILE`` names."""
    value, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if value and file:
        raise InvalidInput(f"set {name} or {name}_FILE, not both")
    if not file:
        return value
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the file {name}_FILE names can't be read: {file}") from error

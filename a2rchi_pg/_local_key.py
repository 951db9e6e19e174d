"""An encryption key held in this process: how it is written, and what it may not be."""

from __future__ import annotations

import base64
import binascii
import os
import re
from functools import cached_property
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from a2rchi_pg._arguments import UNSTORABLE
from a2rchi_pg.errors import DecryptionError, InvalidInput

PURPOSE = b"a2rchi_pg api key"
KEY_BYTES = 32
NONCE_BYTES = 12
_MIN_CHARACTERS = 32
_MIN_DISTINCT = 10
_EXAMPLES = re.compile(
    "change.?me|change.?this|example|password|passphrase|secret|your.?key", re.IGNORECASE
)


class LocalKey:
    """A key held in this process, made of 32 random bytes or of a long passphrase.

    Args:
        text: 32 bytes as base64 or hexadecimal, or a passphrase of 32 characters and more.

    Raises:
        InvalidInput: If it is short, repeats itself or comes from an example.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._raw = _decoded(text)
        _refuse_weak(text, self._raw)

    def __repr__(self) -> str:
        return f"<LocalKey {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an encryption key is not pickled, as that would show it: make it anew")

    @cached_property
    def _material(self) -> bytes:
        if self._raw is not None:
            return self._raw
        # A fixed salt: the id has to be the same in every process.
        return Scrypt(salt=PURPOSE, length=KEY_BYTES, n=2**15, r=8, p=1).derive(self.text.encode())

    def _derive(self, use: str, length: int) -> bytes:
        info = f"a2rchi_pg {use}".encode()
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self._material)

    @property
    def id(self) -> str:
        """Eight hexadecimal digits that say nothing about the key."""
        return self._id

    @cached_property
    def _id(self) -> str:
        return self._derive("key id", 4).hex()

    @cached_property
    def _cipher(self) -> AESGCM:
        return AESGCM(self._derive("key encryption", KEY_BYTES))

    def wrap(self, data_key: bytes) -> bytes:
        """The data key, encrypted."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data_key, PURPOSE)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The data key again.

        Raises:
            DecryptionError: If it was wrapped by another key, or damaged.
        """
        return decrypt(self._cipher, wrapped, PURPOSE)


def generate_key() -> str:
    """A new key for ``BYOK_ENCRYPTION_KEY``: 32 random bytes as base64."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def decrypt(cipher: AESGCM, sealed: bytes, associated: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise DecryptionError(
            "the stored key can't be opened: it was damaged, or sealed for someone else"
        ) from None


def _decoded(text: str) -> bytes | None:
    """32 bytes written as base64 or hexadecimal; None for a passphrase."""
    if re.fullmatch("[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    try:
        raw = base64.b64decode(text.replace("-", "+").replace("_", "/") + "==", validate=False)
    except (binascii.Error, ValueError):
        return None
    return raw if re.fullmatch("[A-Za-z0-9+/_-]{43}=?", text) and len(raw) == KEY_BYTES else None


def _refuse_weak(text: str, raw: bytes | None) -> None:
    steps = {(b - a) % 256 for a, b in zip(raw or b"", (raw or b"")[1:], strict=False)}
    problem = next(
        (
            problem
            for holds, problem in (
                (UNSTORABLE.search(text), "is no text"),
                (len(text) < _MIN_CHARACTERS, f"has less than {_MIN_CHARACTERS} characters"),
                (len(set(text)) < _MIN_DISTINCT, "repeats few characters"),
                (text in (text + text)[1:-1], "repeats itself"),
                (raw is not None and len(steps) == 1, "only counts"),
                (_EXAMPLES.search(text), "comes from an example"),
            )
            if holds
        ),
        None,
    )
    if problem:
        raise InvalidInput(
            f"an encryption key {problem}: make one with `python -m a2rchi_pg.keys generate`"
        )

"""What pgcrypto's ``pgp_sym_encrypt`` writes, read and written without a server.

A message is two packets of OpenPGP (RFC 4880): how the passphrase becomes a key, and data encrypted
with that key whose last bytes are a digest of all that precedes them. Done here, neither passphrase
nor plaintext ever travels to a server, to its log or its list of running statements, and a server
without the extension will do. Only what pgcrypto writes by default is understood: AES, no
compression, a salted and iterated passphrase.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from a2rchi_pg.errors import DecryptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 16
_KEY_SIZES = {7: 16, 8: 24, 9: 32}  # AES by its number in OpenPGP, and the bytes of its keys
_AES_256 = 9
_HASHES = {2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512"}
_SHA256 = 8
_ITERATED = 3
_COUNT = 0x60  # 65,536 bytes are hashed, as in pgcrypto: our passphrases are not guessed
_SESSION_KEY, _LITERAL, _PROTECTED, _DIGEST = 3, 11, 18, 19  # packets by their tag
_DIGEST_SIZE = 20


def encrypt(plaintext: bytes, passphrase: str) -> bytes:
    """A message that ``pgp_sym_decrypt`` opens with the same passphrase."""
    salt = os.urandom(8)
    key = _stretch(passphrase.encode(), "sha256", salt, _COUNT, _KEY_SIZES[_AES_256])
    session = bytes([4, _AES_256, _ITERATED, _SHA256]) + salt + bytes([_COUNT])
    prefix = os.urandom(_BLOCK)
    literal = _packet(_LITERAL, b"t" + bytes(5) + plaintext)
    body = prefix + prefix[-2:] + literal + bytes([0xC0 | _DIGEST, _DIGEST_SIZE])
    body += hashlib.sha1(body, usedforsecurity=False).digest()
    return _packet(_SESSION_KEY, session) + _packet(_PROTECTED, b"\x01" + _cfb_encrypt(key, body))


def decrypt(message: bytes, passphrase: str) -> bytes:
    """The plaintext of such a message.

    Raises:
        DecryptionError: If the passphrase is another one or the message was damaged.
    """
    try:
        (session_tag, session), (tag, protected) = _packets(message)
        if (session_tag, tag, session[0], session[2]) != (_SESSION_KEY, _PROTECTED, 4, _ITERATED):
            raise _unreadable()
        if len(session) != 13 or protected[0] != 1:  # noqa: PLR2004 - the packet's only length
            raise _unreadable()
        key = _stretch(
            passphrase.encode(),
            _HASHES[session[3]],
            session[4:12],
            session[12],
            _KEY_SIZES[session[1]],
        )
        body = _cfb_decrypt(key, protected[1:])
        return _literal(_verified(body))
    except (IndexError, KeyError, ValueError):
        raise _unreadable() from None


def _unreadable() -> DecryptionError:
    return DecryptionError("the stored key is no message of pgcrypto's that this passphrase opens")


def _verified(body: bytes) -> bytes:
    """What lies between the random prefix and the digest, if the digest is right."""
    covered, digest = body[:-_DIGEST_SIZE], body[-_DIGEST_SIZE:]
    expected = hashlib.sha1(covered, usedforsecurity=False).digest()
    if not hmac.compare_digest(digest, expected):
        raise _unreadable()
    return covered[_BLOCK + 2 : -2]


def _literal(packet: bytes) -> bytes:
    """The content of a literal packet: after its format, the length of a name, and a date."""
    ((tag, body),) = _packets(packet)
    if tag != _LITERAL:
        raise _unreadable()
    return body[2 + body[1] + 4 :]


def _stretch(passphrase: bytes, algorithm: str, salt: bytes, coded: int, size: int) -> bytes:
    """A key from a passphrase: salt and passphrase are hashed again and again."""
    count = max((16 + (coded & 15)) << ((coded >> 4) + 6), len(salt + passphrase))
    unit = salt + passphrase
    data = (unit * (count // len(unit) + 1))[:count]
    key, zeros = b"", 0
    while len(key) < size:
        key += hashlib.new(algorithm, bytes(zeros) + data, usedforsecurity=False).digest()
        zeros += 1
    return key[:size]


def _cfb_encrypt(key: bytes, plaintext: bytes) -> bytes:
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - the block, of which CFB is made
    ciphertext, block = b"", bytes(_BLOCK)
    for start in range(0, len(plaintext), _BLOCK):
        block = _xor(plaintext[start : start + _BLOCK], encryptor.update(block))
        ciphertext += block
    return ciphertext


def _cfb_decrypt(key: bytes, ciphertext: bytes) -> bytes:
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - the block, of which CFB is made
    shifted = bytes(_BLOCK) + ciphertext
    return _xor(ciphertext, encryptor.update(shifted[: -(-len(ciphertext) // _BLOCK) * _BLOCK]))


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=False))


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4) + body


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The packets of a message; pgcrypto writes long ones in parts."""
    at = 0
    while at < len(data):
        if data[at] & 0xC0 != 0xC0:  # noqa: PLR2004 - the older form, which pgcrypto never writes
            raise _unreadable()
        tag, at, body, more = data[at] & 0x3F, at + 1, b"", True
        while more:
            size, at, more = _length(data, at)
            if at + size > len(data):
                raise _unreadable()
            body, at = body + data[at : at + size], at + size
        yield tag, body


def _length(data: bytes, at: int) -> tuple[int, int, bool]:
    """How long a packet or part of one is, where it begins, and whether another part follows."""
    match data[at]:
        case first if first < 192:  # noqa: PLR2004 - RFC 4880, 4.2.2
            return first, at + 1, False
        case first if first < 224:  # noqa: PLR2004
            return ((first - 192) << 8) + data[at + 1] + 192, at + 2, False
        case 255:
            return int.from_bytes(data[at + 1 : at + 5]), at + 5, False
        case first:
            return 1 << (first & 0x1F), at + 1, True

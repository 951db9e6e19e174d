"""Encryption by itself: what is not exactly what was sealed, and for whom, can't be opened."""

from __future__ import annotations

import base64
import codecs
import os
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2rchi_pg import ExternalKey, KeyRing, LocalKey, _openpgp
from a2rchi_pg._local_key import generate_key
from a2rchi_pg.errors import DecryptionError, InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "sk-the-very-secret-key-9f3b"  # noqa: S105 - nobody's
OLD, NEW, OTHER = (LocalKey(generate_key()) for _ in range(3))
RINGS = {
    "aesgcm": KeyRing([NEW, OLD]),
    "pgcrypto": KeyRing([NEW, OLD], write_format="pgcrypto"),
}
FORMATS = pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)


@given(secret=st.text(), user=st.text(), provider=st.text(st.characters(codec="utf-8")))
@FORMATS
def test_any_text_comes_back(ring: KeyRing, secret: str, user: str, provider: str):
    sealed = ring.seal(secret, user_id=user, provider=provider)
    assert ring.open(sealed, user_id=user, provider=provider) == secret
    assert secret.encode("utf-8", "surrogatepass") not in sealed.ciphertext or len(secret) < 4


@given(data=st.data())
@FORMATS
def test_no_byte_can_be_changed(ring: KeyRing, data: st.DataObject):
    sealed = ring.seal(SECRET, user_id="ann", provider="openai")
    where = data.draw(st.integers(0, len(sealed.ciphertext) - 1))
    changed = bytearray(sealed.ciphertext)
    changed[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecryptionError):
        ring.open(replace(sealed, ciphertext=bytes(changed)), user_id="ann", provider="openai")


@given(garbage=st.binary(max_size=300), cut=st.integers(0, 300))
@FORMATS
def test_what_is_no_sealed_key_is_never_opened(ring: KeyRing, garbage: bytes, cut: int):
    sealed = ring.seal(SECRET, user_id="ann", provider="openai")
    for ciphertext in {garbage, sealed.ciphertext[: min(cut, len(sealed.ciphertext) - 1)]}:
        with pytest.raises(DecryptionError):
            ring.open(replace(sealed, ciphertext=ciphertext), user_id="ann", provider="openai")


@given(
    pair=st.tuples(st.text(), st.text(st.characters(codec="utf-8"))),
    other=st.tuples(st.text(), st.text(st.characters(codec="utf-8"))),
)
def test_a_key_is_one_persons_for_one_provider(pair: tuple[str, str], other: tuple[str, str]):
    ring = RINGS["aesgcm"]
    sealed = ring.seal(SECRET, user_id=pair[0], provider=pair[1])
    if pair == other:
        assert ring.open(sealed, user_id=other[0], provider=other[1]) == SECRET
    else:
        with pytest.raises(DecryptionError):
            ring.open(sealed, user_id=other[0], provider=other[1])


def test_the_names_of_user_and_provider_are_kept_apart():
    sealed = RINGS["aesgcm"].seal(SECRET, user_id="ab", provider="c")
    with pytest.raises(DecryptionError):
        RINGS["aesgcm"].open(sealed, user_id="a", provider="bc")


@FORMATS
def test_a_wrong_or_retired_key_opens_nothing(ring: KeyRing):
    sealed = ring.seal(SECRET, user_id="ann", provider="openai")
    for wrong in (KeyRing([OTHER]), KeyRing([OLD]), KeyRing([OTHER, OLD])):
        with pytest.raises(DecryptionError) as caught:
            wrong.open(sealed, user_id="ann", provider="openai")
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None


def test_an_older_key_of_the_ring_still_opens():
    sealed = KeyRing([OLD]).seal(SECRET, user_id="ann", provider="openai")
    assert sealed.key_id == OLD.id != NEW.id
    assert RINGS["aesgcm"].open(sealed, user_id="ann", provider="openai") == SECRET


def test_the_same_secret_never_looks_the_same_twice():
    seal = RINGS["aesgcm"].seal
    assert seal("x", user_id="a", provider="b") != seal("x", user_id="a", provider="b")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "less than 32"),
        ("hunter2", "less than 32"),
        ("read from bytes that are no UTF-8, such as \udcff", "is no text"),
        ("a" * 64, "repeats few"),
        ("0123456789abcdef" * 4, "repeats itself"),
        (bytes(range(32)).hex(), "only counts"),
        (base64.b64encode(bytes(32)).decode(), "repeats few"),
        ("please-changeme-to-something-long-and-random", "example"),
        ("this-is-my-secret-passphrase-of-many-letters", "example"),
    ],
)
def test_weak_short_and_example_keys_are_refused(text: str, problem: str):
    with pytest.raises(InvalidInput, match=problem) as caught:
        LocalKey(text)
    assert not text or text not in str(caught.value)


def test_keys_are_read_as_base64_hexadecimal_or_a_passphrase():
    raw = os.urandom(32)
    standard = base64.b64encode(raw).decode()
    written = {raw.hex(), raw.hex().upper(), standard, base64.urlsafe_b64encode(raw).decode()}
    assert len({LocalKey(text).id for text in {*written, standard.rstrip("=")}}) == 1
    passphrase = LocalKey("seventeen llamas sing of copper kettles")
    assert passphrase.unwrap(passphrase.wrap(raw)) == raw


def test_u10_one_variable_names_the_keys_newest_first():
    keys = [generate_key() for _ in range(3)]
    ids = [LocalKey(key).id for key in keys]
    for separator in (",", ", ", "\n", ",\n", " ,\r\n"):
        ring = KeyRing.from_env({"BYOK_ENCRYPTION_KEY": separator.join(keys) + "\n"})
        assert ring.ids == ids


def test_a_file_holds_keys_as_well(tmp_path: Path):
    file = tmp_path / "byok"
    old = generate_key()
    for begins in (b"", codecs.BOM_UTF8):
        file.write_bytes(begins + f"{old}\r\n{generate_key()}\r\n".encode())
        assert KeyRing.from_env({"BYOK_ENCRYPTION_KEY_FILE": str(file)}).ids[0] == LocalKey(old).id
    for environ in (
        {},
        {"BYOK_ENCRYPTION_KEY": " "},
        {"BYOK_ENCRYPTION_KEY": old, "BYOK_ENCRYPTION_KEY_FILE": str(file)},
        {"BYOK_ENCRYPTION_KEY_FILE": str(tmp_path / "nowhere")},
        {"BYOK_ENCRYPTION_KEY": f"{old},{old}"},
    ):
        with pytest.raises(InvalidInput) as caught:
            KeyRing.from_env(environ)
        assert old not in str(caught.value)


def test_a_key_management_service_keeps_its_key_to_itself():
    inside = LocalKey(generate_key())
    asked = []

    def unwrap(wrapped: bytes) -> bytes:
        asked.append(wrapped)
        return inside.unwrap(wrapped)

    ring = KeyRing([ExternalKey(id="kms/projects/1", wrap=inside.wrap, unwrap=unwrap), OLD])
    sealed = ring.seal(SECRET, user_id="ann", provider="openai")
    assert sealed.key_id == "kms/projects/1"
    assert ring.open(sealed, user_id="ann", provider="openai") == SECRET
    assert len(asked) == 1
    with pytest.raises(InvalidInput, match="pgcrypto"):
        KeyRing([ExternalKey(id="kms", wrap=inside.wrap, unwrap=unwrap)], write_format="pgcrypto")


def test_a_service_that_is_down_is_no_wrong_key():
    def unwrap(wrapped: bytes) -> bytes:
        raise TimeoutError

    inside = LocalKey(generate_key())
    ring = KeyRing([ExternalKey(id="kms", wrap=inside.wrap, unwrap=unwrap)])
    sealed = ring.seal(SECRET, user_id="ann", provider="openai")
    with pytest.raises(TimeoutError):
        ring.open(sealed, user_id="ann", provider="openai")


def test_nothing_shows_a_key():
    key = LocalKey(text := generate_key())
    ring = KeyRing([key], legacy=["the old passphrase"])
    sealed = ring.seal(SECRET, user_id="ann", provider="openai")
    external = ExternalKey(id="kms", wrap=key.wrap, unwrap=key.unwrap)
    shown = repr([key, ring, sealed, external])
    assert key.id in shown
    for hidden in (text, SECRET, "old passphrase", repr(sealed.ciphertext)):
        assert hidden not in shown
    for kept in (key, ring):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(kept)


@given(text=st.binary(max_size=2000), passphrase=st.text(st.characters(codec="utf-8"), min_size=1))
def test_messages_of_pgcrypto_come_back(text: bytes, passphrase: str):
    message = _openpgp.encrypt(text, passphrase)
    assert _openpgp.decrypt(message, passphrase) == text
    with pytest.raises(DecryptionError):
        _openpgp.decrypt(message, passphrase + "x")

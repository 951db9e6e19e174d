"""Keys that users bring: stored so that only their owner's requests can use them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import KeyResolver, KeyRing, LocalKey, UserRepository
from a2rchi_pg._local_key import generate_key
from a2rchi_pg.errors import DecryptionError, InvalidInput, NotFound
from tests.database_support import commands, rows
from tests.plugins.people import new_ring
from tests.plugins.stores import Twin

if TYPE_CHECKING:
    from a2rchi_pg import Database

pytestmark = pytest.mark.timeout(60)

SECRET = "sk-live-0123456789-abcdef"  # noqa: S105 - nobody's


@pytest.fixture
def ann(users: UserRepository) -> str:
    return users.get_or_create("ann", auth_provider="sso").id


def test_u8_any_provider_has_a_row_of_its_own(users: UserRepository, ann: str):
    for provider in ("openai", "gemini", "my-own.llm_2"):
        users.set_api_key(ann, provider, f"{SECRET}-{provider}")
    users.set_api_key(ann, "OpenAI", SECRET)
    assert users.get_api_key(ann, "OPENAI") == SECRET
    assert users.get_api_key(ann, "gemini") == f"{SECRET}-gemini"
    assert users.get_api_key(ann, "mistral") is None
    assert users.get_api_key("nobody", "openai") is None
    assert [key.provider for key in users.list_api_keys(ann)] == [
        "gemini",
        "my-own.llm_2",
        "openai",
    ]


def test_deleting_takes_no_key_ring(users: UserRepository, fresh: Database, ann: str):
    users.set_api_key(ann, "openai", SECRET)
    without = UserRepository(fresh)
    assert without.delete_api_key(ann, "openai") is True
    assert without.delete_api_key(ann, "openai") is False
    assert without.delete_api_key("nobody", "openai") is False
    with pytest.raises(InvalidInput, match="key ring"):
        without.get_api_key(ann, "openai")


def test_keys_are_for_users_that_exist(users: UserRepository):
    with pytest.raises(NotFound, match="'nobody'"):
        users.set_api_key("nobody", "openai", SECRET)


@pytest.mark.parametrize(
    "secret",
    [
        *("", " ", None, 7, "sk-\nx", "x" * 9000),
        *("••••abcd", "sk-...cdef", "****************", "sk-…cdef", "XXXXXXXXXXXX", "[REDACTED]"),
    ],
)
def test_a_mask_is_never_stored_over_the_key(users: UserRepository, ann: str, secret: Any):
    users.set_api_key(ann, "openai", SECRET)
    with pytest.raises(InvalidInput) as caught:
        users.set_api_key(ann, "openai", secret)
    assert len(str(secret)) < 4 or str(secret) not in str(caught.value)
    assert users.get_api_key(ann, "openai") == SECRET


@pytest.mark.parametrize("provider", ["", "open ai", "../x", None, "x" * 65, "-x"])
def test_a_provider_is_a_name(users: UserRepository, ann: str, provider: Any):
    for call in (users.get_api_key, users.delete_api_key):
        with pytest.raises(InvalidInput, match="provider"):
            call(ann, provider)


def test_a_list_shows_no_key(users: UserRepository, ann: str):
    users.set_api_key(ann, "openai", SECRET)
    users.set_api_key(ann, "tiny", "short-key")
    openai, tiny = users.list_api_keys(ann)
    assert (openai.last_four, openai.state, openai.last_used_at) == ("cdef", "ok", None)
    assert (tiny.last_four, tiny.state) == ("", "ok")
    assert SECRET not in repr(openai)
    users.get_api_key(ann, "openai")
    used = users.list_api_keys(ann)[0].last_used_at
    assert used is not None
    users.get_api_key(ann, "openai")
    assert users.list_api_keys(ann)[0].last_used_at == used


def test_one_bad_key_spoils_no_list(users: UserRepository, fresh: Database, ann: str):
    users.set_api_key(ann, "openai", SECRET)
    users.set_api_key(ann, "gemini", SECRET)
    fresh.run(commands("UPDATE user_api_keys SET ciphertext = 'junk' WHERE provider = 'gemini'"))
    gemini, openai = users.list_api_keys(ann)
    assert (gemini.last_four, gemini.state) == ("cdef", "needs re-entry")
    assert openai.state == "ok"
    with pytest.raises(DecryptionError, match="'ann' for gemini has to be entered again"):
        users.get_api_key(ann, "gemini")


@pytest.mark.parametrize("what", ["user_id", "provider"])
def test_a_row_copied_to_another_can_not_be_opened(
    users: UserRepository, fresh: Database, ann: str, what: str
):
    users.get_or_create("eve")
    users.set_api_key(ann, "openai", SECRET)
    copied = {"user_id": ("eve", "openai"), "provider": ("ann", "gemini")}[what]
    fresh.run(
        commands(
            "INSERT INTO user_api_keys (user_id, provider, ciphertext, key_id)"
            f" SELECT '{copied[0]}', '{copied[1]}', ciphertext, key_id FROM user_api_keys"
        )
    )
    with pytest.raises(DecryptionError):
        users.get_api_key(*copied)


def test_a_lost_or_retired_key_is_said_to_be(users: UserRepository, fresh: Database, ann: str):
    users.set_api_key(ann, "openai", SECRET)
    other = UserRepository(fresh, new_ring())
    with pytest.raises(DecryptionError):
        other.get_api_key(ann, "openai")
    assert other.list_api_keys(ann)[0].state == "needs re-entry"
    other.set_api_key(ann, "openai", "sk-entered-again-0000")
    assert other.get_api_key(ann, "openai") == "sk-entered-again-0000"


def test_a_key_that_has_expired_is_not_used(users: UserRepository, ann: str):
    now = datetime.now(UTC)
    users.set_api_key(ann, "openai", SECRET, expires_at=now + timedelta(days=1))
    assert users.get_api_key(ann, "openai") == SECRET
    users.set_api_key(ann, "openai", SECRET, expires_at=now - timedelta(days=1))
    assert users.get_api_key(ann, "openai") is None
    assert users.list_api_keys(ann)[0].state == "expired"
    with pytest.raises(InvalidInput, match="time zone"):
        users.set_api_key(ann, "openai", SECRET, expires_at=datetime(2030, 1, 1))  # noqa: DTZ001


async def test_u15_the_users_own_key_is_used_or_none(
    users: UserRepository, ring: KeyRing, ann: str, way_in: tuple[str, Database]
):
    way, database = way_in
    resolver = Twin(KeyResolver(database, ring, deployment={"openai": "sk-of-the-house"}), way)

    async def resolved(user: str | None, provider: str) -> tuple[str, str] | None:
        found = await resolver.resolve(user, provider)
        return found and (found.source, found.key)

    house = ("deployment", "sk-of-the-house")
    assert await resolved(None, "openai") == await resolved("nobody", "openai") == house
    assert await resolved(ann, "openai") == house
    assert await resolved(ann, "gemini") is None
    users.set_api_key(ann, "openai", SECRET)
    assert await resolved(ann, "openai") == ("user", SECRET)
    assert SECRET not in repr(await resolver.resolve(ann, "openai"))
    users.set_api_key(ann, "openai", SECRET, expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert await resolved(ann, "openai") is None
    strange = Twin(KeyResolver(database, new_ring()), way)
    users.set_api_key(ann, "openai", SECRET)
    with pytest.raises(DecryptionError):
        await strange.resolve(ann, "openai")


def test_the_deployments_keys_come_from_the_environment(
    fresh: Database, ring: KeyRing, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    (tmp_path / "key").write_text("sk-from-a-file\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-env")
    monkeypatch.setenv("MY_LLM_API_KEY_FILE", str(tmp_path / "key"))
    resolver = KeyResolver(fresh, ring)
    found = [resolver.resolve(None, provider) for provider in ("openai", "my-llm", "gemini")]
    assert [each and each.key for each in found] == ["sk-from-env", "sk-from-a-file", None]
    given = KeyResolver(fresh, ring, deployment={"OpenAI": "sk-given"}).resolve(None, "openai")
    assert given is not None
    assert given.key == "sk-given"
    monkeypatch.setenv("GEMINI_API_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="GEMINI_API_KEY_FILE"):
        resolver.resolve(None, "gemini")


@pytest.mark.servers("full")
@pytest.mark.parametrize("options", ["", "cipher-algo=aes256", "s2k-digest-algo=sha256"])
def test_u7_what_pgcrypto_encrypted_is_read_and_brought_over(
    fresh: Database, options: str, users: UserRepository, ann: str
):
    legacy, key = "old pass: phrase, with a comma", LocalKey(generate_key())
    secrets = {"openai": SECRET, "gemini": "kéy-日本-" + "x" * 50_000, "tiny": "k"}
    for provider, secret in secrets.items():
        fresh.run(
            rows_of_pgcrypto(user=ann, provider=provider, secret=secret, key=legacy, how=options)
        )
    lost = UserRepository(fresh, KeyRing([key], legacy=["another"]))
    assert {each.state for each in lost.list_api_keys(ann)} == {"needs re-entry"}
    assert len(lost.rotate_api_keys().failed) == 3
    reading = UserRepository(fresh, KeyRing([key], legacy=["another", legacy]))
    assert {p: reading.get_api_key(ann, p) for p in secrets} == secrets
    assert reading.rotate_api_keys().rotated == 3
    stored = fresh.run(rows("SELECT format, key_id, last_four FROM user_api_keys"))
    assert {(form, key_id) for form, key_id, _ in stored} == {("aesgcm", key.id)}
    after = UserRepository(fresh, KeyRing([key]))
    assert {p: after.get_api_key(ann, p) for p in secrets} == secrets
    with pytest.raises(DecryptionError):
        lost_again = UserRepository(fresh, KeyRing([LocalKey(generate_key())], legacy=[legacy]))
        lost_again.get_api_key(ann, "openai")


@pytest.mark.servers("full")
def test_what_is_written_for_pgcrypto_it_can_read(fresh: Database, users, ann: str):
    key = LocalKey(generate_key())
    writing = UserRepository(fresh, KeyRing([key], write_format="pgcrypto"))
    secrets = {"openai": SECRET, "gemini": "kéy-日本-" + "x" * 8000, "tiny": "k"}
    for provider, secret in secrets.items():
        writing.set_api_key(ann, provider, secret)
    query = "SELECT provider, pgp_sym_decrypt(ciphertext, %(key)s) FROM user_api_keys"
    assert dict(fresh.run(rows(query, key=key.text))) == secrets
    assert writing.rotate_api_keys().total == 0
    assert UserRepository(fresh, KeyRing([key])).rotate_api_keys().rotated == 3


def rows_of_pgcrypto(*, user: str, provider: str, secret: str, key: str, how: str):
    return rows(
        """
        INSERT INTO user_api_keys (user_id, provider, ciphertext, format)
        VALUES (%(user)s, %(provider)s, pgp_sym_encrypt(%(secret)s, %(key)s, %(how)s), 'pgcrypto')
        RETURNING true
        """,
        user=user,
        provider=provider,
        secret=secret,
        key=key,
        how=how,
    )

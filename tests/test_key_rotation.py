"""Changing the encryption key: every key can be read throughout, whatever is killed and when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import KeyRing, LocalKey, Rotation, UserRepository, keys
from a2rchi_pg._local_key import generate_key
from a2rchi_pg._op import Steps, execute, write
from a2rchi_pg.errors import InvalidInput
from tests.database_support import commands, rows, value, wait_until
from tests.plugins.people import new_ring

if TYPE_CHECKING:
    from a2rchi_pg import Database

pytestmark = pytest.mark.timeout(240)

OLD = LocalKey(generate_key())


@write
def insert_keys(ring: KeyRing, count: int) -> Steps[None]:
    """Users and a key each, as many as are asked for."""
    numbers = range(count)
    sealed = [ring.seal(secret(n), user_id=f"user {n}", provider="openai") for n in numbers]
    yield from execute(
        """
        WITH made AS (
            INSERT INTO users (id) SELECT unnest(%(ids)s::text[])
        )
        INSERT INTO user_api_keys (user_id, provider, ciphertext, key_id)
        SELECT *, %(key_id)s FROM unnest(%(ids)s::text[], %(providers)s::text[], %(texts)s::bytea[])
        """,
        ids=[f"user {n}" for n in numbers],
        providers=["openai"] * count,
        texts=[each.ciphertext for each in sealed],
        key_id=ring.current[1],
    )


def secret(n: int) -> str:
    return f"sk-of-user-{n}-0123456789"


def on_old_key(database: Database) -> int:
    count = "SELECT count(*) FROM user_api_keys WHERE key_id = %(id)s"
    return database.run(value(count, id=OLD.id))


def rotate_elsewhere(dsn: str, ring_text: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "a2rchi_pg.keys", "rotate", "--target", dsn, *arguments],
        env={**os.environ, "BYOK_ENCRYPTION_KEY": ring_text},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.servers("embedded")
def test_ten_thousand_keys_are_rotated_under_load_though_killed(fresh: Database, common_dsn: str):
    count, new = 10_000, LocalKey(generate_key())
    with_both = UserRepository(fresh, KeyRing([new, OLD]))
    fresh.run(insert_keys(KeyRing([OLD]), count))
    expected = {n: secret(n) for n in range(count)}
    over, trouble, reads, writes = threading.Event(), [], [0], [0]

    def work(step: int) -> None:
        n = step
        try:
            while not over.is_set():
                n = (n * 7 + step) % count
                if step == 1:
                    expected[n] = f"sk-changed-by-user-{n}-abcdef"
                    with_both.set_api_key(f"user {n}", "openai", expected[n])
                    writes[0] += 1
                elif with_both.get_api_key(f"user {n}", "openai") not in {expected[n], secret(n)}:
                    trouble.append(n)
                reads[0] += step != 1
        except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
            trouble.append(error)

    workers = [threading.Thread(target=work, args=(step,)) for step in (1, 11, 23)]
    for each in workers:
        each.start()
    try:
        rings = f"{new.text},{OLD.text}"
        first = rotate_elsewhere(common_dsn, rings, "--batch-size", "100")
        wait_until(lambda: on_old_key(fresh) < count // 2, 120)
        first.kill()
        first.communicate()
        left = on_old_key(fresh)
        second = rotate_elsewhere(common_dsn, rings, "--batch-size", "1000")
        said, errors = second.communicate(timeout=120)
    finally:
        over.set()
        for each in workers:
            each.join()
    assert (second.returncode, errors, trouble) == (0, "", [])
    assert 0 < left < count
    assert first.returncode == -signal.SIGKILL
    assert "rotated" in said
    assert on_old_key(fresh) == 0
    assert reads[0] > 10
    assert writes[0] > 10
    with_new = UserRepository(fresh, KeyRing([new]))
    assert with_new.rotate_api_keys().total == 0
    for n in {*range(0, count, 97), *(n for n in expected if expected[n] != secret(n))}:
        assert with_new.get_api_key(f"user {n}", "openai") == expected[n]


async def test_a_dry_run_writes_nothing_and_says_what_would_be(fresh: Database):
    fresh.run(insert_keys(KeyRing([OLD]), 25))
    broken = "UPDATE user_api_keys SET ciphertext = 'x' WHERE user_id = 'user 7'"
    fresh.run(commands(broken))
    before = fresh.run(rows("SELECT * FROM user_api_keys ORDER BY user_id"))
    said: list[Rotation] = []
    users = UserRepository(fresh, new_ring(OLD))
    dry = users.rotate_api_keys(batch_size=10, dry_run=True, progress=said.append)
    assert (dry.total, dry.rotated, dry.failed) == (25, 24, (("user 7", "openai"),))
    assert [each.rotated + len(each.failed) for each in said] == [10, 20, 25]
    assert fresh.run(rows("SELECT * FROM user_api_keys ORDER BY user_id")) == before
    assert await users.arotate_api_keys() == dry
    assert on_old_key(fresh) == 1
    again = users.rotate_api_keys()
    assert (again.total, again.rotated, again.failed) == (1, 0, dry.failed)
    with pytest.raises(InvalidInput, match="batch_size"):
        users.rotate_api_keys(batch_size=0)


def test_a_key_set_meanwhile_is_not_overwritten(fresh: Database):
    fresh.run(insert_keys(KeyRing([OLD]), 1))
    ring = new_ring(OLD)

    class Meanwhile:
        def run(self, op):
            if op.name == "_replace":
                UserRepository(fresh, ring).set_api_key("user 0", "openai", "sk-newer-0123456789")
            return fresh.run(op)

    UserRepository(Meanwhile(), ring).rotate_api_keys()  # type: ignore[arg-type]
    users = UserRepository(fresh, ring)
    assert users.get_api_key("user 0", "openai") == "sk-newer-0123456789"
    assert on_old_key(fresh) == 0


def test_the_command_line_tells_what_there_is_and_what_it_did(
    fresh: Database,
    common_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert keys.main(["generate"]) == 0
    text = capsys.readouterr().out.strip()
    new = LocalKey(text)
    fresh.run(insert_keys(KeyRing([OLD]), 5))
    target = ["--target", common_dsn]

    def run(*arguments: str) -> tuple[int, str, str]:
        code = keys.main([*arguments, *target])
        return code, *capsys.readouterr()

    monkeypatch.delenv("BYOK_ENCRYPTION_KEY", raising=False)
    code, out, errors = run("status")
    assert (code, out) == (1, "")
    assert "BYOK_ENCRYPTION_KEY" in errors
    monkeypatch.setenv("BYOK_ENCRYPTION_KEY", text)
    code, out, _ = run("status")
    assert (code, out.split()) == (3, ["5", "aesgcm", OLD.id, "(not", "in", "the", "ring)"])
    assert run("rotate")[0] == 3
    monkeypatch.setenv("BYOK_ENCRYPTION_KEY", f"{text},{OLD.text}")
    assert run("rotate", "--dry-run") == (0, "would rotate 5 of 5\n", "")
    assert run("rotate") == (0, "rotated 5 of 5\n", "")
    assert run("rotate") == (0, "every key is on the newest one\n", "")
    assert run("status")[0] == 0
    assert run("rotate", "--pgcrypto")[0] == 0
    code, out, _ = run("status", "--pgcrypto")
    assert (code, out.split()) == (0, ["5", "pgcrypto", new.id])

"""Bringing every stored key onto the newest key of the ring, batch by batch.

What is left to do is read off the rows, so a rotation that was interrupted goes on where it stopped
when it is run again. A row that someone else writes meanwhile is left as they wrote it, and is on
the newest key by then. Nothing here is a ``@read``: a replica that is behind would let a key of the
ring go that is still needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from a2rchi_pg._api_keys import StoredKey, last_four, opened
from a2rchi_pg._arguments import whole
from a2rchi_pg._op import Steps, fetch, fetch_tuples, fetch_value, write
from a2rchi_pg.errors import DecryptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from a2rchi_pg._flow import Flow
    from a2rchi_pg.keyring import Format, KeyRing, Sealed

DEFAULT_BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How far a rotation has come.

    Attributes:
        total: Keys there were to bring over when it began.
        rotated: Keys brought over; of a dry run, those that would be.
        failed: User and provider of each that could not be decrypted: it was left as it was, and
            has to be entered again.
    """

    total: int
    rotated: int
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """How many stored keys one key of the ring encrypts."""

    format: Format
    key_id: str | None
    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resealed:
    stored: StoredKey
    sealed: Sealed = field(repr=False)
    last_four: str


def rotate(
    ring: KeyRing,
    *,
    batch_size: int = DEFAULT_BATCH,
    dry_run: bool = False,
    progress: Callable[[Rotation], None] | None = None,
) -> Flow[Rotation]:
    """Encrypt anew whatever is not on the ring's first key in the format it writes."""
    whole(batch_size, "batch_size", 1)
    total: int = yield _outdated(ring.current)
    state, after = Rotation(total=total, rotated=0, failed=()), ("", "")
    while True:
        batch: list[StoredKey] = yield _next_batch(ring.current, after, batch_size)
        if not batch:
            return state
        done, failed = _resealed(ring, batch)
        if done and not dry_run:
            yield _replace(done)
        state = Rotation(
            total=total, rotated=state.rotated + len(done), failed=state.failed + failed
        )
        after = (batch[-1].user_id, batch[-1].provider)
        if progress is not None:
            progress(state)


def _resealed(
    ring: KeyRing, batch: Sequence[StoredKey]
) -> tuple[list[_Resealed], tuple[tuple[str, str], ...]]:
    done, failed = [], []
    for stored in batch:
        try:
            secret = opened(ring, stored)
        except DecryptionError:
            failed.append((stored.user_id, stored.provider))
            continue
        sealed = ring.seal(secret, user_id=stored.user_id, provider=stored.provider)
        done.append(_Resealed(stored=stored, sealed=sealed, last_four=last_four(secret)))
    return done, tuple(failed)


@write
def _outdated(current: tuple[Format, str]) -> Steps[int]:
    query = """
        SELECT count(*) FROM user_api_keys
        WHERE (format, key_id) IS DISTINCT FROM (%(format)s, %(key_id)s)
    """
    return int((yield from fetch_value(query, format=current[0], key_id=current[1])))


@write
def _next_batch(
    current: tuple[Format, str], after: tuple[str, str], limit: int
) -> Steps[list[StoredKey]]:
    query = """
        SELECT user_id, provider, ciphertext, format, key_id, last_four, created_at, rotated_at,
               last_used_at, expires_at, coalesce(expires_at <= now(), false) AS expired
        FROM user_api_keys
        WHERE (format, key_id) IS DISTINCT FROM (%(format)s, %(key_id)s)
            AND (user_id, provider) > (%(user_id)s, %(provider)s)
        ORDER BY user_id, provider LIMIT %(limit)s
    """
    given = {"format": current[0], "key_id": current[1], "limit": limit}
    return (yield from fetch(query, StoredKey, user_id=after[0], provider=after[1], **given))


@write
def _replace(batch: Sequence[_Resealed]) -> Steps[None]:
    query = """
        UPDATE user_api_keys AS k
        SET ciphertext = new.ciphertext, format = new.format, key_id = new.key_id,
            last_four = new.last_four, rotated_at = now()
        FROM unnest(%(users)s::text[], %(providers)s::text[], %(was)s::bytea[],
                    %(ciphertexts)s::bytea[], %(formats)s::text[], %(key_ids)s::text[],
                    %(last_fours)s::text[])
            AS new (user_id, provider, was, ciphertext, format, key_id, last_four)
        WHERE k.user_id = new.user_id AND k.provider = new.provider AND k.ciphertext = new.was
    """
    yield from fetch_tuples(
        query,
        users=[each.stored.user_id for each in batch],
        providers=[each.stored.provider for each in batch],
        was=[bytes(each.stored.ciphertext) for each in batch],
        ciphertexts=[each.sealed.ciphertext for each in batch],
        formats=[each.sealed.format for each in batch],
        key_ids=[each.sealed.key_id for each in batch],
        last_fours=[each.last_four for each in batch],
    )


@write
def status() -> Steps[list[KeyUse]]:
    """How many stored keys each key of a ring encrypts."""
    query = """
        SELECT format, key_id, count(*) AS keys FROM user_api_keys
        GROUP BY format, key_id ORDER BY keys DESC, key_id
    """
    return (yield from fetch(query, KeyUse))

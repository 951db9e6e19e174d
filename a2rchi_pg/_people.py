"""Users: who they are, what they prefer, what they may do, and how two become one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from psycopg.types.json import Jsonb

from a2rchi_pg._arguments import one_of, string, user_id_of
from a2rchi_pg._content import clean_text
from a2rchi_pg._layers import Layers, read_layers
from a2rchi_pg._op import Steps, execute, fetch, fetch_one, fetch_tuples, fetch_value, read, write
from a2rchi_pg._rights import Actor, actor_id, check_admin, clean_note
from a2rchi_pg._settings import DynamicConfig, patched
from a2rchi_pg.errors import InvalidInput, NotFound, PermissionDenied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from a2rchi_pg.keyring import Sealed

AuthProvider: TypeAlias = Literal["anonymous", "basic", "sso"]
Role: TypeAlias = Literal["user", "admin"]

ANONYMOUS_PREFIX = "anon_"
MAX_FIELD = 500  # characters, of which 2,000 bytes fit into an index


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person, known to the host or anonymous.

    Attributes:
        id: The host's own id, or ``anon_…``.
        preferences: What this person set; a key that is absent follows the configuration.
    """

    id: str
    display_name: str | None
    email: str | None
    auth_provider: AuthProvider
    role: Role
    preferences: Mapping[str, Any] = field(hash=False)
    login_count: int
    last_login_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_admin(self) -> bool:
        """Whether this person may change the configuration."""
        return self.role == "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """A change of somebody's role; ``changed_by`` is None where the deployment itself did it."""

    user_id: str
    old_role: Role
    new_role: Role
    changed_by: str | None
    changed_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a host knows of a person; None is what it doesn't know, and changes nothing."""

    auth_provider: AuthProvider | None = None
    display_name: str | None = None
    email: str | None = None

    def __post_init__(self) -> None:
        if self.auth_provider is not None:
            one_of(self.auth_provider, "auth_provider", get_args(AuthProvider))
        for name in ("display_name", "email"):
            object.__setattr__(self, name, clean_field(name, getattr(self, name)))


def clean_field(name: str, value: object) -> str | None:
    """A name or an address, as it is stored; None stays None.

    Raises:
        InvalidInput: If it is no text, or longer than any real one.
    """
    text = None if value is None else clean_text(string(value, name))
    if text is not None and len(text) > MAX_FIELD:
        raise InvalidInput(f"{name} may have {MAX_FIELD} characters at most")
    return text


def new_anonymous_id() -> str:
    """An id that nobody can guess."""
    return ANONYMOUS_PREFIX + token_hex(16)


@read
def get_user(user_id: str) -> Steps[User | None]:
    """The user of that id, or None."""
    query = "SELECT * FROM users WHERE id = %(user_id)s"
    return (yield from fetch_one(query, User, user_id=user_id_of(user_id)))


@write
def get_or_create(user_id: str, profile: Profile) -> Steps[User]:
    """The user, made or brought up to date; only read where there is nothing new to know.

    A person who has logged in once never becomes anonymous again.
    """
    query = """
        WITH same AS (
            SELECT * FROM users
            WHERE id = %(user_id)s
                AND coalesce(nullif(%(auth_provider)s, 'anonymous'), auth_provider) = auth_provider
                AND (%(display_name)s::text IS NULL OR display_name = %(display_name)s)
                AND (%(email)s::text IS NULL OR email = %(email)s)
        ), changed AS (
            INSERT INTO users AS u (id, auth_provider, display_name, email)
            SELECT %(user_id)s, coalesce(%(auth_provider)s, 'anonymous'),
                   %(display_name)s, %(email)s
            WHERE NOT EXISTS (SELECT FROM same)
            ON CONFLICT (id) DO UPDATE
            SET auth_provider = coalesce(nullif(excluded.auth_provider, 'anonymous'),
                    u.auth_provider),
                display_name = coalesce(excluded.display_name, u.display_name),
                email = coalesce(excluded.email, u.email),
                updated_at = now()
            RETURNING *
        )
        SELECT * FROM same UNION ALL SELECT * FROM changed
    """
    given = {f.name: getattr(profile, f.name) for f in fields(profile)}
    (user,) = yield from fetch(query, User, user_id=user_id, **given)
    return user


@read
def list_users(
    auth_provider: str | None, role: str | None, limit: int, after: tuple[datetime, str] | None
) -> Steps[list[User]]:
    """Users, newest first, after the one that the last page ended with."""
    query = """
        SELECT * FROM users
        WHERE (%(auth_provider)s::text IS NULL OR auth_provider = %(auth_provider)s)
            AND (%(role)s::text IS NULL OR role = %(role)s)
            AND (%(created)s::timestamptz IS NULL OR (created_at, id) < (%(created)s, %(last)s))
        ORDER BY created_at DESC, id DESC LIMIT %(limit)s
    """
    created, last = after or (None, None)
    given = {"auth_provider": auth_provider, "role": role, "created": created, "last": last}
    return (yield from fetch(query, User, limit=limit, **given))


@write
def update_profile(user_id: str, changes: Mapping[str, str | None]) -> Steps[User]:
    """Set some of display_name and email; None empties one."""
    query = """
        UPDATE users
        SET display_name = CASE WHEN 'display_name' = ANY (%(sets)s::text[])
                           THEN %(display_name)s::text ELSE display_name END,
            email = CASE WHEN 'email' = ANY (%(sets)s::text[])
                    THEN %(email)s::text ELSE email END,
            updated_at = now()
        WHERE id = %(user_id)s RETURNING *
    """
    cleaned = {name: clean_field(name, value) for name, value in changes.items()}
    given = {"display_name": None, "email": None, **cleaned, "sets": list(cleaned)}
    whose = user_id_of(user_id)
    return _found((yield from fetch_one(query, User, user_id=whose, **given)), whose)


@write
def update_preferences(
    model: type[DynamicConfig], user_id: str, patch: Mapping[str, Any]
) -> Steps[User]:
    """Patch a user's preferences; two patches at once are applied one after the other."""
    lock = "SELECT preferences FROM users WHERE id = %(user_id)s FOR UPDATE"
    before = yield from fetch_value(lock, user_id=user_id_of(user_id))
    if before is None:
        raise _missing(user_id)
    after = patched(model, before, patch, below={}, only=model.personal)
    layers, _ = yield from read_layers(Layers())
    layers.check_available({key: after[key] for key in patch if key in after})
    query = """
        UPDATE users SET preferences = %(after)s, updated_at = now()
        WHERE id = %(user_id)s RETURNING *
    """
    return _found((yield from fetch_one(query, User, user_id=user_id, after=Jsonb(after))), user_id)


@write
def record_login(user_id: str) -> Steps[User]:
    """Note that a user logged in."""
    query = """
        UPDATE users SET last_login_at = now(), login_count = login_count + 1
        WHERE id = %(user_id)s RETURNING *
    """
    return _found((yield from fetch_one(query, User, user_id=user_id_of(user_id))), user_id)


@write
def set_role(user_id: str, role: str, actor: Actor, note: str | None) -> Steps[User]:
    """Change a role and note who did; the same role again is no change."""
    yield from check_admin(actor)
    query = """
        WITH old AS (SELECT id, role FROM users WHERE id = %(user_id)s FOR UPDATE),
        noted AS (
            INSERT INTO user_role_changes (user_id, old_role, new_role, changed_by, note)
            SELECT id, role, %(role)s, %(actor)s, %(note)s FROM old WHERE role <> %(role)s
        )
        UPDATE users SET role = %(role)s,
            updated_at = CASE WHEN old.role <> %(role)s THEN now() ELSE updated_at END
        FROM old WHERE users.id = old.id RETURNING users.*
    """
    given = {"role": role, "actor": actor_id(actor), "note": clean_note(note)}
    whose = user_id_of(user_id)
    return _found((yield from fetch_one(query, User, user_id=whose, **given)), whose)


@read
def role_changes(user_id: str | None, limit: int) -> Steps[list[RoleChange]]:
    """Changes of roles, newest first."""
    query = """
        SELECT user_id, old_role, new_role, changed_by, changed_at, note FROM user_role_changes
        WHERE %(user_id)s::text IS NULL OR user_id = %(user_id)s
        ORDER BY id DESC LIMIT %(limit)s
    """
    whose = None if user_id is None else user_id_of(user_id)
    return (yield from fetch(query, RoleChange, user_id=whose, limit=limit))


@write
def delete_user(user_id: str) -> Steps[bool]:
    """Delete a user with all that refers to them; False where there was none."""
    query = "DELETE FROM users WHERE id = %(user_id)s RETURNING true"
    return bool((yield from fetch_value(query, user_id=user_id_of(user_id))))


@read
def export_user(user_id: str) -> Steps[dict[str, Any]]:
    """Every row about a user, by table."""
    found = yield from fetch_value("SELECT export_user(%(user_id)s)", user_id=user_id_of(user_id))
    if not found["users"]:
        raise _missing(user_id)
    return dict(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebound:
    """An anonymous user's key, encrypted anew for the one who takes it over."""

    provider: str
    was: bytes = field(repr=False)
    sealed: Sealed


@write
def link(
    anonymous: str, authenticated: str, profile: Profile, rebound: Sequence[Rebound]
) -> Steps[User | None]:
    """Make two users one; None where the keys have changed since they were encrypted anew."""
    rows = yield from fetch_tuples(
        """
        SELECT id, auth_provider FROM users WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE
        """,
        ids=[anonymous, authenticated],
    )
    if dict(rows).get(anonymous, "anonymous") != "anonymous":
        raise PermissionDenied(
            f"user {anonymous!r} has logged in as themselves: only an anonymous one can be linked"
        )
    stored = yield from fetch_tuples(
        """
        SELECT provider, ciphertext FROM user_api_keys WHERE user_id = %(id)s FOR UPDATE
        """,
        id=anonymous,
    )
    if not {(p, bytes(c)) for p, c in stored} <= {(each.provider, each.was) for each in rebound}:
        return None
    yield from get_or_create(authenticated, profile)
    for each in rebound:
        yield from execute(
            """
            UPDATE user_api_keys
            SET ciphertext = %(ciphertext)s, format = %(format)s, key_id = %(key_id)s
            WHERE user_id = %(id)s AND provider = %(provider)s
            """,
            id=anonymous,
            provider=each.provider,
            ciphertext=each.sealed.ciphertext,
            format=each.sealed.format,
            key_id=each.sealed.key_id,
        )
    yield from execute("SELECT move_user(%(old)s, %(new)s)", old=anonymous, new=authenticated)
    return (yield from get_user(authenticated))


def _missing(user_id: str) -> NotFound:
    return NotFound(f"there is no user {user_id!r}")


def _found(user: User | None, user_id: str) -> User:
    if user is None:
        raise _missing(user_id)
    return user

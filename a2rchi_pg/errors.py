"""Every error this package raises, and the one translation from psycopg's.

    A2rchiError
    ├── DatabaseError              the server refused, or could not be reached
    │   ├── Unavailable            no connection, none free in time, or it was lost
    │   │   └── CommitUnknown      lost during commit: it may or may not have happened
    │   ├── Conflict               unique or exclusion constraint, serialization, deadlock
    │   ├── MissingReference       a foreign key names a row that is not there
    │   └── InvalidValue           a value breaks a CHECK, a NOT NULL or a type
    ├── SchemaOutOfDate            the database's schema is older or newer than the code
    ├── MigrationError             a schema or data migration can't go on
    ├── NotOpen                    the database was closed
    ├── NotFound                   a command names something that does not exist
    ├── PermissionDenied           the caller may not do this
    ├── ConfigError                configuration that can't be used, field by field (ValueError)
    ├── ConfigConflict             the configuration was changed by someone else meanwhile
    ├── DecryptionError            a stored key can't be opened: it has to be entered again
    ├── IllegalTransition          a document's ingestion can't go from its state to that one
    ├── CollectionMismatch         a collection exists with other settings (ValueError)
    ├── DimensionMismatch          a vector of the wrong length (ValueError)
    ├── InvalidInput               an argument that can't be stored or searched (ValueError)
    │   ├── NotInTransaction       a drop or rebuild inside a larger transaction
    │   └── FilterError            a metadata filter that can't be understood
    ├── PartialWrite               a streamed write stopped; says which ids are in
    └── EmbeddedError              the embedded server can't be started or reached

Messages never hold SQL text, parameters or secrets; psycopg's error is kept as ``__cause__``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
from psycopg_pool import PoolTimeout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class A2rchiError(Exception):
    """Base of every error raised by ``a2rchi_pg``."""


class DatabaseError(A2rchiError):
    """The server refused a statement.

    Attributes:
        sqlstate: The five-character SQLSTATE, or None where the server sent none.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Unavailable(DatabaseError):
    """No connection could be had in time, or the one in use was lost."""


class CommitUnknown(Unavailable):
    """The connection broke while a commit was under way: it may or may not have happened."""

    def __init__(self) -> None:
        super().__init__(
            "the connection was lost during commit: the changes may or may not be stored"
        )


class Conflict(DatabaseError):
    """Another row or another transaction is in the way."""


class MissingReference(DatabaseError):
    """A row refers to another one that does not exist."""


class InvalidValue(DatabaseError):
    """A value breaks a constraint or can't be converted to its column's type."""


class SchemaOutOfDate(A2rchiError):
    """The database's schema and this version of the package don't fit together."""


class MigrationError(A2rchiError):
    """A migration stopped; what it had finished is kept, the rest is untouched."""


class NotOpen(A2rchiError):
    """The database was closed; open it again before use."""


class NotFound(A2rchiError):
    """A command names something that does not exist."""


class PermissionDenied(A2rchiError):
    """The caller may not do this."""


class ConfigError(A2rchiError, ValueError):
    """Configuration that can't be used; nothing was written.

    Attributes:
        fields: What is wrong, by field; every failing field is named.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in fields.items()))
        self.fields = dict(fields)


class ConfigConflict(A2rchiError):
    """The configuration has another revision than the one a change was made for.

    Attributes:
        expected: The revision the change was made for.
        current: The one there is.
    """

    def __init__(self, *, expected: int, current: int) -> None:
        super().__init__(
            f"the configuration is at revision {current}, the change was made for {expected}: "
            "read it again, and decide again"
        )
        self.expected = expected
        self.current = current


class DecryptionError(A2rchiError):
    """A stored key can't be opened: the key ring lacks its key, or it is not what was stored."""


class IllegalTransition(A2rchiError):
    """A document's ingestion can't go from the state it is in to the one asked for."""


class CollectionMismatch(A2rchiError, ValueError):
    """A collection of that name exists with other settings than those asked for."""


class DimensionMismatch(A2rchiError, ValueError):
    """A vector's length differs from its collection's.

    Attributes:
        expected: The collection's dimensions.
        got: The offending vector's dimensions.
    """

    def __init__(self, message: str, *, expected: int, got: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got


class InvalidInput(A2rchiError, ValueError):
    """An argument that can't be stored or searched; nothing was written."""


class NotInTransaction(InvalidInput):
    """An operation that is a transaction of its own, asked for inside a larger one."""


class FilterError(InvalidInput):
    """A metadata filter that can't be understood."""


class PartialWrite(A2rchiError):
    """A streamed write stopped after some batches were committed.

    Attributes:
        ids: The ids that are stored, in the order given.
    """

    def __init__(self, message: str, *, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.ids = list(ids)


class EmbeddedError(A2rchiError):
    """The embedded server can't be installed, started, joined or stopped."""


_BY_CLASS: dict[str, type[DatabaseError]] = {
    "08": Unavailable,
    "57": Unavailable,
    "53": Unavailable,
    "40": Conflict,
    "22": InvalidValue,
}
_BY_STATE: dict[str, type[DatabaseError]] = {
    "23503": MissingReference,
    "23505": Conflict,
    "23P01": Conflict,
    "23502": InvalidValue,
    "23514": InvalidValue,
    "25006": Unavailable,
    "55P03": Conflict,
}
# Of these the server quotes what it was given; elsewhere it quotes names of tables and columns.
_QUOTES_INPUT = ("22", "42601")


def translate(error: psycopg.Error) -> DatabaseError:
    """The error of this package that says what psycopg's error says.

    Total: an SQLSTATE without an entry of its own becomes a plain ``DatabaseError``.
    """
    state = error.sqlstate
    if isinstance(error, PoolTimeout):
        return Unavailable("no connection became free or could be made within the pool's timeout")
    if state is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return (Unavailable if lost else DatabaseError)(_first_line(error))
    kind = _BY_STATE.get(state) or _BY_CLASS.get(state[:2], DatabaseError)
    message = error.diag.message_primary or _first_line(error)
    if state.startswith(_QUOTES_INPUT):
        message = re.sub(r'".*"', '"…"', message, flags=re.DOTALL)
    if state == "25006":
        message += " (a standby, or a server, database or role with default_transaction_read_only)"
    return kind(message, sqlstate=state)


def _first_line(error: psycopg.Error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

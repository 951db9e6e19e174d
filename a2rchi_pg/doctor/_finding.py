"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from psycopg import sql

Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong.

    Attributes:
        check: What was looked at, for programs.
        severity: ``"error"``, something fails or is lost; ``"warning"``, something is slow or
            incomplete or soon will be; ``"note"``, good to know.
        problem: What is wrong.
        evidence: What was seen.
        remedy: The command that mends it: SQL, of the shell, or of Python.
    """

    check: str
    severity: Severity
    problem: str
    evidence: str
    remedy: str


def literal(value: str) -> str:
    """``value`` as SQL text, for a remedy that a person is to run."""
    return sql.Literal(value).as_string()


def identifier(*names: str) -> str:
    """A qualified name as SQL text, for a remedy that a person is to run."""
    return sql.Identifier(*names).as_string()

"""Numbers as texts in the same order: 19 digits; below zero a minus, and how far from the least.

-1 is ``-9223372036854775807``, which sorts after -2's and before 0's.
"""

from __future__ import annotations

LEAST = -(2**63)
DIGITS = 19


def number_key(expression: str) -> str:
    """SQL that makes the text of a bigint."""
    return (
        f"CASE WHEN {expression} < 0 THEN '-' || "
        f"lpad(({expression} + {2**63 - 1} + 1)::text, {DIGITS}, '0') "
        f"ELSE lpad(({expression})::text, {DIGITS}, '0') END"
    )


def key_of_number(number: int) -> str:
    """The text of a number."""
    return f"-{number - LEAST:0{DIGITS}}" if number < 0 else f"{number:0{DIGITS}}"


def number_of(key: str) -> int:
    """The number of a text."""
    return LEAST + int(key[1:]) if key.startswith("-") else int(key)

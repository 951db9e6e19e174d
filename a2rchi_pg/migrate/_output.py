"""What commands find, on stdout: as lines, or as JSON where ``--json`` asks for it."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(line: str) -> None:
    """One line."""
    sys.stdout.write(line + "\n")


def say_json(value: Any) -> None:
    """All of it at once."""
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False, indent=2) + "\n")

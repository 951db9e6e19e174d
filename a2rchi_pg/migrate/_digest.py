"""A fingerprint of a row that is the same on both sides of a migration."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def digest(*parts: str | bytes) -> bytes:
    """SHA-256 of the parts, each preceded by its length so that none can run into the next."""
    total = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big"))
        total.update(data)
    return total.digest()


def canonical(value: Any) -> str:
    """JSON with its keys in order, and with one form for 1 and 1.0, for 0 and -0.0."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def vector_bytes(vector: NDArray[Any]) -> bytes:
    """The float32 numbers of a vector, bit for bit."""
    return vector.astype("<f4").tobytes()


def _plain(value: Any) -> Any:
    match value:
        case float():
            return int(value) if value.is_integer() else value
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case _:
            return value

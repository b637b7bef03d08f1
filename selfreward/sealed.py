"""Canonical JSON, hashes of it, and JSON files that carry a seal: their own SHA-256.

One flipped bit anywhere in a sealed file, white space included, is refused: the file must be, byte for byte,
what `seal` would write for its own content. Hash inputs are canonical JSON (sorted keys, no spaces, UTF-8), so
neither the order of keys nor `PYTHONHASHSEED`, time zone or locale can change them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from selfreward.errors import DamagedError


def canonical(value: Any) -> bytes:
    """The one JSON text of a value; NaN and infinities are refused (ValueError), they are no JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def seal(body: dict[str, Any]) -> bytes:
    """The bytes of a sealed file: readable JSON whose last key is the SHA-256 of the rest."""
    sealed = {**body, "seal": digest(body)}
    return (json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def unseal(content: bytes, path: Path) -> dict[str, Any]:
    """The body of a sealed file; DamagedError where a byte differs from what was written."""
    try:
        body = json.loads(content)
        body.pop("seal")
        whole = seal(body) == content
    except (ValueError, KeyError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise DamagedError(
            f"{path}: its content does not match its seal, so it was damaged or edited after it was written; "
            "restore it from a copy (`selfreward verify RUN` checks the rest)"
        )
    return body  # type: ignore[no-any-return]

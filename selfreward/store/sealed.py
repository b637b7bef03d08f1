"""Canonical JSON, hashes of it, and JSON files that carry a seal: their own SHA-256.

A sealed file must be, byte for byte, what `seal` would write for its content, so any flipped bit is found, white space
included. Hash inputs are canonical JSON (sorted keys, no spaces, UTF-8), so neither the order of keys nor
`PYTHONHASHSEED`, time zone or locale can change them.

A seal detects damage and accidental edits. It is not a signature: anyone can compute one. The hash of its manifest in
`run.json` ties a version to its run.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from selfreward.errors import DamagedError, FormatError

FORMAT = 1
"""Of run folders and manifests. Every format from 1 to this one is read; a newer one is refused."""


def canonical(value: Any) -> bytes:
    """The one JSON text of a value.

    ValueError for NaN, infinities and two keys that JSON would write the same way (1 and "1"); TypeError for objects
    that JSON cannot hold.

    >>> canonical({10: "ten", 9: "nine"}) == canonical({"9": "nine", "10": "ten"})
    True
    """
    return _sorted_text(_as_json(value))


def _sorted_text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _as_json(value: Any) -> Any:
    # Through JSON and back, so that keys are text before they are sorted: 9 < 10, but "10" < "9".
    return json.loads(json.dumps(value, allow_nan=False), object_pairs_hook=_distinct_keys)


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        raise ValueError(f"two keys become the same text in JSON: {[key for key, _ in pairs]}")
    return keys


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def seal(body: dict[str, Any]) -> bytes:
    """The bytes of a sealed file: readable JSON whose last key is the SHA-256 of the rest."""
    body = _as_json(body)
    sealed = {**body, "seal": hashlib.sha256(_sorted_text(body)).hexdigest()}
    return (json.dumps(sealed, indent=2, ensure_ascii=False) + "\n").encode()


def unseal(content: bytes, path: Path | str) -> dict[str, Any]:
    """The body of a sealed file.

    DamagedError if a byte differs from what was written, FormatError if a newer version wrote it.
    """
    # Sealing the parsed body again catches more than its hash would: white space and the order of keys count too.
    try:
        body = json.loads(content)
        body.pop("seal")
        whole = seal(body) == content
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise DamagedError(
            f"{path}: its content does not match its seal, so it was damaged or edited after it was written; "
            "restore it from a copy (`selfreward verify RUN` checks the rest)"
        )
    _check_format(body.get("format"), path)
    return body  # type: ignore[no-any-return]


def _check_format(found: Any, path: Path | str) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found > FORMAT:
        raise FormatError(
            f"{path}: has format {found}, this selfreward reads formats 1 to {FORMAT}; install a newer selfreward"
        )
    if found < 1:
        raise FormatError(f"{path}: has format {found}, this selfreward reads formats 1 to {FORMAT}")

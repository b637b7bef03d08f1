"""The content hash once more, from docs/content-hash.md alone: plain Python values, no Arrow, no speed.

A type is written as in the page: `"int64"`, `["list", item]`, `["struct", [[name, type], …]]`; a table is a list of
`(name, type, slots)`. Dates, timestamps and durations are integers here, binaries are bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct

_FORMATS = {
    "bool": "<?", "int8": "<b", "int16": "<h", "int32": "<i", "int64": "<q", "uint8": "<B", "uint16": "<H",
    "uint32": "<I", "uint64": "<Q", "float16": "<e", "float32": "<f", "float64": "<d", "date32": "<i", "date64": "<q",
}  # fmt: skip
_NAN = {"float16": "007e", "float32": "0000c07f", "float64": "000000000000f87f"}
_TEXTS = ("string", "large_string", "binary", "large_binary")


def reference_sha256(columns: list[tuple]) -> str:
    n_rows = len(columns[0][2]) if columns else 0
    nodes = [
        [name, _node(kind, slots)] for name, kind, slots in sorted(columns, key=lambda column: column[0])
    ]
    value = {"columns": nodes, "format": "selfreward-rows-1", "rows": n_rows}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _node(kind, slots: list) -> list:
    validity = _hash(b"".join(b"\x00" if slot is None else b"\x01" for slot in slots))
    values = [slot for slot in slots if slot is not None]
    if kind[0] == "struct":
        return [
            "struct",
            validity,
            [[name, _node(t, [value[name] for value in values])] for name, t in kind[1]],
        ]
    if kind[0] in ("list", "large_list"):
        return [
            kind[0],
            validity,
            _lengths(values),
            _node(kind[1], [item for value in values for item in value]),
        ]
    if kind in _TEXTS:
        encoded = [value.encode("utf-8") if isinstance(value, str) else value for value in values]
        return [kind, validity, _lengths(encoded), _hash(b"".join(encoded))]
    return [kind, validity, _hash(b"".join(_value_bytes(kind, value) for value in values))]


def _value_bytes(kind: str, value) -> bytes:
    if isinstance(value, float) and math.isnan(value):
        return bytes.fromhex(_NAN[kind])
    return struct.pack(_FORMATS.get(kind, "<q"), value)


def _lengths(values: list) -> str:
    return _hash(b"".join(struct.pack("<q", len(value)) for value in values))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

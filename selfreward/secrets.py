"""Masks secrets in everything that is written or shown: rows, manifests, cards, messages.

A secret is the value of an environment variable whose name contains KEY, TOKEN, SECRET or PASSWORD. In messages and
published texts, logins in addresses (`user:pass@`), signed queries (`?api-key=…`) and strings in the form of a token are
secrets too. They are replaced by `***` before a text is shortened, so that no part of a secret is left. Child processes
inherit the environment and mask the same. In answers and other rows only values of the environment are masked: a string
that merely looks like a secret is data there.

Not found: secrets of fewer than eight characters, and those that are a single word or the path of a file.
"""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from mmap import mmap
from typing import Any
from urllib.parse import quote

MASK = "***"
_SECRET_NAME = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_SECRET_FIELD = re.compile(
    r"(?:^|[_-])(?:api[_-]?key|(?:access|auth|hf|bearer)[_-]?token|secret|password|authorization|credentials?)$",
    re.IGNORECASE,
)
# Shorter values occur in ordinary text by chance; masking them would garble rows.
_MIN_CHARS = 8
_LOGIN = re.compile(r"(?<=://)[^/\s'\"<>]*@")
# Bounded, so that matching stays linear in long addresses.
_SIGNED = re.compile(
    r"([?&;](?:[\w.%-]{0,64}(?:key|token|secret|passw|signature|credential|auth)[\w.%-]{0,64}|sig)=)[^&;\s'\"#]+",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"(?<=Bearer )[\w.~+/=-]{8,}|(?<![\w-])(?:sk-|hf_|gh[pousr]_|github_pat_|xox[abp]-|AKIA)[\w-]{12,}"
)


def mask_values(text: str) -> str:
    """The text without values of secret environment variables, in plain, URL-encoded and JSON form."""
    for _, written in _secrets(tuple(os.environb.items())):
        if written in text:
            text = text.replace(written, MASK)
    return text


def mask(text: str) -> str:
    """The text without secret values, logins in addresses, signed queries and tokens.

    >>> mask("POST https://ann:pw@host/v1?api-key=abc&n=2: no model hf_0123456789abcdef")
    'POST https://***@host/v1?api-key=***&n=2: no model ***'
    """
    text = _LOGIN.sub(MASK + "@", mask_values(text))
    return _TOKEN.sub(MASK, _SIGNED.sub(rf"\1{MASK}", text))


def mask_tree(value: Any) -> Any:
    """Settings without secrets: known values, and the value of any name such as `api_key`."""
    if isinstance(value, dict):
        return {
            name: MASK if isinstance(inner, str) and _SECRET_FIELD.search(str(name)) else mask_tree(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_tree(inner) for inner in value]
    return mask_values(value) if isinstance(value, str) else value


def found_in(content: bytes | mmap) -> str | None:
    """The environment variable whose value occurs in the content, None if none does."""
    for name, written in _secrets(tuple(os.environb.items())):
        if content.find(written.encode(errors="surrogateescape")) >= 0:
            return name
    return None


@lru_cache(maxsize=2)
def _secrets(environment: tuple[tuple[bytes, bytes], ...]) -> list[tuple[str, str]]:
    """(variable, one written form of its value), the longest first."""
    # The longest first, since one secret may be part of another, whose rest would stay readable.
    found = []
    for name, value in ((os.fsdecode(name), os.fsdecode(value).strip()) for name, value in environment):
        if _SECRET_NAME.search(name) and len(value) >= _MIN_CHARS and not _is_common(value):
            quoted = quote(value, safe="", errors="surrogateescape")
            found += [(name, written) for written in {value, quoted, json.dumps(value)[1:-1]}]
    return sorted(found, key=lambda entry: -len(entry[1]))


def _is_common(value: str) -> bool:
    # A word (`KEY_MODE=automatic`) or an existing path (`KEY_FILE=~/.ssh/id`) is not secret; masking it garbles messages.
    return (value.isalpha() and len(value) < 16) or (value[0] in "/.~" and os.path.exists(value))

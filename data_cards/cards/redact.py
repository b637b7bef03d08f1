"""What of a configuration or a message may be published: everything but this machine's folders and logins.

Rows, keys and manifests hold no paths; files count by their content. Where a text names one all the same (a model's
folder in the configuration, an audit that says what it did not find), only the last part is shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from selfreward.config.run import RunConfig

_LOGIN = re.compile(r"://[^/@\s]+@")
_FOLDERS = re.compile(r"(?<![\w/.])~?/(?!/)(?:[^\s/'\"]+/)+")
"""The folders of an absolute path within a text; no part of an address (`http://host/x/y`) matches."""


def public_config(config: RunConfig | None) -> RunConfig | None:
    """The configuration without this machine's paths: an absolute path is cut to its last part; no logins in addresses."""
    return None if config is None else RunConfig.model_validate(_without_paths(config.model_dump()))


def public_text(text: str) -> str:
    """A message without this machine's folders and without logins.

    >>> public_text("hf:/home/ann/base has no tokenizer here; see http://ann:pw@host/a/b")
    'hf:base has no tokenizer here; see http://host/a/b'
    """
    return _FOLDERS.sub("", _LOGIN.sub("://", text))


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_paths(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str):
        value = _LOGIN.sub("://", value)
        engine, colon, rest = value.partition(":")
        if value.startswith(("/", "~")):
            return Path(value).name
        if colon and rest.startswith(("/", "~")) and not rest.startswith("//"):
            return f"{engine}:{Path(rest).name}"
    return value

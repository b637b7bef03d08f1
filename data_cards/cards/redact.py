"""Removes this machine's folders, logins and secrets from configurations and messages before publication.

Rows, keys and manifests contain no paths, because files are identified by content. If a text does name a path (a
model's folder in the configuration, an audit's message), only the last part is shown. An address keeps its host and
the path segments common to all servers. `engine.extra` keeps only settings known to hold no secret, and the names of
the others.
"""

from __future__ import annotations

import re
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selfreward.config.run import RunConfig
from selfreward.secrets import found_in, mask, mask_tree
from selfreward.steps.trust import closed_extra

# `[^/]`: an `@` in a path, as in `/x@v2`, is no login
_LOGIN = re.compile(r"(?<=://)[^/\s]*@")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\",#<>]*", re.IGNORECASE)
# segments common to all servers; any other may be a tenant, a project or a key
_COMMON_PART = re.compile(r"v\d{1,2}|api|openai|inference|compatible-mode|datasets")
# a lookbehind, so that `and/or` and `https://` are not read as paths
_POSIX = re.compile(r"(?<![\w/.~])(?:~[\w.-]*|\.{1,2})?/(?=[\w.~-])(?:[^\s/'\"]+/(?=[^\s]))*")
_WINDOWS = re.compile(r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\|\.{1,2}\\)(?:[^\s\\/'\"]+[\\/](?=[^\s]))*")
"""The folders of a path within a text: absolute, of a home, or beginning at this folder or the one above."""
# two letters at least: one letter and a colon is a Windows drive
_PATH = re.compile(r"(?:([a-z]{2,}):)?((?:[/~]|\.{1,2}[\\/]|[A-Za-z]:[\\/]|\\\\).*)", re.DOTALL)
"""A setting that is one path, optionally after an engine's name."""


def public_config(config: RunConfig | None) -> RunConfig | None:
    """The configuration without secrets, logins and this machine's paths."""
    if config is None:
        return None
    values = config.model_dump()
    # `extra` can hold any header or key, so only settings known to be harmless pass
    values["engine"]["extra"] = closed_extra(config.engine.extra)[0]
    return RunConfig.model_validate(public_value(mask_tree(values)))


def left_out(config: RunConfig | None) -> list[str]:
    """The settings that `public_config` leaves out, by name."""
    return [f"engine.extra.{mask(name)}" for name in closed_extra(config.engine.extra)[1]] if config else []


def public_endpoint(url: str) -> str:
    """The address of a Hub without its login and query; the result still opens."""
    return _LOGIN.sub("", url).partition("?")[0].rstrip("/")


def public_text(text: str) -> str:
    """A message without this machine's folders, without logins and secrets.

    >>> public_text("hf:/home/ann/base has no tokenizer here; see http://ann:pw@host/v1/b?key=c")
    'hf:base has no tokenizer here; see http://host/v1'
    """
    # addresses are cut out first: their slashes would be read as folders
    return "".join(
        part if number % 2 else _POSIX.sub("", _WINDOWS.sub("", mask(part)))
        for number, part in enumerate(_split_addresses(text))
    )


def secret_in(file: Path) -> str | None:
    """The secret found in a file, described for a message: the user's Hugging Face token, or a variable's value."""
    from huggingface_hub import get_token

    # mmap refuses an empty file
    if not file.stat().st_size:
        return None
    token = (get_token() or "").encode()
    # mapped, not read: weights and rows may be larger than memory
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
        if token and content.find(token) >= 0:
            return "your Hugging Face token"
        variable = found_in(content)
    return f"the value of {variable}" if variable else None


def _split_addresses(text: str) -> list[str]:
    """Alternating other text and public addresses."""
    parts, end = [], 0
    for match in _ADDRESS.finditer(text):
        parts += [text[end : match.start()], _public_address(match[0])]
        end = match.end()
    return [*parts, text[end:]]


def _public_address(address: str) -> str:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    # an invalid port or bracket: nothing of it is known to be harmless
    except ValueError:
        return "***"
    folders = [part for part in parts.path.split("/") if part]
    if parts.scheme.lower() == "file" or not host:
        return folders[-1] if folders else "***"
    # `hostname` comes without the brackets of an IPv6 address
    host = f"[{host}]" if ":" in host else host
    shown = "".join(f"/{part}" for part in folders if _COMMON_PART.fullmatch(part))
    return mask(f"{parts.scheme}://{host}{f':{port}' if port else ''}{shown}")


def public_value(value: Any) -> Any:
    """A setting, such as a model string, or several, without folders, logins and secrets."""
    if isinstance(value, dict):
        return {name: public_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [public_value(inner) for inner in value]
    if not isinstance(value, str):
        return value
    if "://" not in value and (path := _PATH.fullmatch(value)):
        engine, name = path[1], re.split(r"[\\/]", path[2].rstrip("\\/"))[-1]
        return mask(f"{engine}:{name}" if engine else name)
    return public_text(value)

"""The configuration that a run was last built with, stored in its folder; a different one is announced first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.config.files import dump_config, load_config
from selfreward.config.run import RunConfig
from selfreward.errors import ConfigError
from selfreward.progress import say
from selfreward.store import durable
from selfreward.store.run import Run


def store_config(run: Run, config: RunConfig) -> None:
    """Store the configuration in the run folder; if it replaces another one, show the differences first."""
    content = dump_config(config).encode()
    path = run.path / "config.yaml"
    if path.is_file() and path.read_bytes() == content:
        return
    if path.is_file() and (changes := _changed_settings(path, config)):
        say(f"{run.path}: the configuration has changed; steps that depend on it are rebuilt: {changes}")
    durable.replace_file(path, content)


def _changed_settings(path: Path, config: RunConfig) -> str:
    """The differences from the configuration in a file, as `candidates.n 9 (was 4)`; empty if there are none."""
    try:
        before = flat_settings(load_config(path).model_dump(mode="json"))
    except ConfigError as error:
        return f"the previous one cannot be read ({error})"
    now = flat_settings(config.model_dump(mode="json"))
    keys = [key for key in before | now if key != "run" and before.get(key) != now.get(key)]
    return ", ".join(f"{key} {now.get(key)!r} (was {before.get(key)!r})" for key in keys)


def flat_settings(values: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    if not isinstance(values, dict):
        return {prefix.rstrip("."): values}
    return {
        key: value
        for name, inner in values.items()
        for key, value in flat_settings(inner, f"{prefix}{name}.").items()
    }

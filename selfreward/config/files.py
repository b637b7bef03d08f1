"""Configurations as YAML: read, overridden by `--set`, checked before anything runs, and written.

config = load_config(Path("configs/demo.yaml"), overrides=["judging.samples=1"])
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import (
    BaseModel,
    ValidationError,
)

from selfreward.config.run import RunConfig
from selfreward.errors import ConfigError
from selfreward.text import shorten


def load_config(path: Path, overrides: list[str] | None = None) -> RunConfig:
    """Read, override and check a configuration. ConfigError says file, key, what was found and expected."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; `selfreward init {path}` writes one to start from (--preset demo: the demo's)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a text file: {error}") from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(values).__name__}")
    for override in overrides or []:
        _apply_override(values, override)
    return check_config(values, str(path))


def check_config(values: dict[str, Any], where: str) -> RunConfig:
    """Validate plain values; `where` begins every message."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        # five at most: one wrong indentation makes every key below it unknown
        raise ConfigError("; ".join(_explain(where, problem) for problem in error.errors()[:5])) from error


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML; it holds no secrets (keys come from the environment only)."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override!r}: expected key=value, such as judging.samples=1")
    *parents, last = name.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a single value, it has no keys below it")
    # parsed as YAML, as in the file: `true`, numbers and lists keep their types
    values[last] = yaml.safe_load(text)


def _explain(where: str, problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        # pydantic only says that the key is forbidden; the nearest one is what the user meant
        *parents, name = problem["loc"]
        known = _known_keys(parents)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = (
            f"did you mean {'.'.join([*map(str, parents), near[0]])}?"
            if near
            else f"known: {', '.join(known)}"
        )
        return f"{where}: unknown key {place!r}; {hint}"
    found = shorten(repr(problem.get("input")), 60)
    if problem["type"] == "value_error":
        return f"{where}: {place + ': ' if place else ''}{problem['ctx']['error']}"
    return f"{where}: {place}: found {found}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _known_keys(parents: list[Any]) -> list[str]:
    section: Any = RunConfig
    for parent in parents:
        annotation = section.model_fields[parent].annotation
        options = [annotation, *get_args(annotation)]
        section = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        if section is None:
            return []
    return list(section.model_fields)

"""`selfreward init`: a commented configuration generated from the classes in `run.py` and `training.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from selfreward.config.run import RunConfig
from selfreward.errors import UsageError
from selfreward.store import durable
from selfreward.unkeyed import marks

_HEAD = """\
# Configuration of a self-rewarding run:  selfreward run {name}
# Values shown are the defaults, the paper's where it states one. Delete what you do not change.
# The embedded seeds come with written judgements; with `eft.targets: generated` the SFT baseline writes them.

"""


def write_starter(path: Path, preset: str | None = None) -> None:
    """Write the file, from a preset's text if one is given; an existing one is never overwritten."""
    if path.exists():
        raise UsageError(f"{path}: already exists; choose another name or delete it")
    text = preset or _HEAD.format(name=path.name) + starter_yaml(RunConfig(), 0)
    durable.write_new(path, text.encode())


def starter_yaml(section: BaseModel, depth: int) -> str:
    """A section as YAML; the documentation of each field is a comment above its key."""
    indent = "  " * depth
    lines = []
    # generated from the classes, so that file and documentation cannot drift apart
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        about = (field.description or _section_doc(value), marks(type(section)).get(name, ""))
        comment = " ".join(" ".join(about).split())
        if comment:
            lines.append(f"{indent}# {comment}")
        if isinstance(value, BaseModel):
            lines.append(f"{indent}{name}:\n{starter_yaml(value, depth + 1)}".rstrip("\n"))
        else:
            lines.append(f"{indent}{name}: {_inline(value)}")
        if depth == 0:
            lines.append("")
    return "\n".join(lines) + "\n"


def _section_doc(value: Any) -> str:
    return (type(value).__doc__ or "").split("\n\n")[0] if isinstance(value, BaseModel) else ""


def _inline(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
        .removesuffix("\n...\n")
        .strip()
    )

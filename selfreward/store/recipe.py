"""A version's inputs and parameters (`Recipe`, whose digest is the version's key) and its row accounting (`Counts`).

The key depends on content only: paths, comments, the order of keys in the YAML and the number of workers are not part
of it. If a step could read a setting that is not in the key, a stale version would be reused; so a step sees its
recipe's parameters and nothing else (`selfreward.steps.step`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.errors import AccountingError
from selfreward.store.sealed import digest
from selfreward.store.version import file_sha256


@dataclass(frozen=True)
class Counts:
    """The accounting of one step: rows in = rows out + dropped by reason, or it is not published.

    If a step multiplies rows (N candidates per prompt), `n_in` counts what was requested (prompts x N).
    """

    n_in: int
    n_out: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """Further counts for the report: the funnel, retries, cache hits."""

    def check(self, name: str, n_rows: int) -> None:
        """Raise AccountingError unless every row is accounted for and `n_rows` were written."""
        dropped = sum(self.dropped.values())
        negative = min(self.n_in, self.n_out, *self.dropped.values()) < 0
        if negative or self.n_out != n_rows or self.n_in != self.n_out + dropped:
            raise AccountingError(
                f"{name}: {self.n_in} rows in, {self.n_out} out and {dropped} dropped ({self.dropped}) do not add up "
                f"({n_rows} rows were written); this is a bug in the step, nothing was published"
            )

    def described(self) -> dict[str, Any]:
        """The manifest's `counts`."""
        return {"in": self.n_in, "out": self.n_out, "dropped": self.dropped, "notes": self.notes}


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a version: its digest is the version's key."""

    name: str
    builder: str
    """Name and version of the step, e.g. `builders.pairs 1`."""
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Role -> {name, content_sha256} of datasets, models, files, templates."""
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """64 hex digits; TypeError or ValueError if a parameter cannot be written as JSON."""
        # Only contents enter: an input that was rebuilt with equal rows has another version and the same hash.
        inputs = {role: entry["content_sha256"] for role, entry in self.inputs.items()}
        return digest({"name": self.name, "builder": self.builder, "inputs": inputs, "params": self.params})

    @property
    def version(self) -> str:
        """The name of the version's folder: the first 16 hex digits of the key."""
        return self.key[:16]


def contents(inputs: dict[str, dict[str, str]]) -> dict[str, str | None]:
    """What counts of a recipe's or a manifest's inputs."""
    return {role: entry.get("content_sha256") or entry.get("sha256") for role, entry in inputs.items()}


def file_input(path: Path) -> dict[str, str]:
    """A user's file as an input of a recipe: its content counts, not its path."""
    return {"name": path.name, "content_sha256": file_sha256(path)}


def text_input(name: str, text: str) -> dict[str, str]:
    """A text (a template, a rule) as an input of a recipe."""
    return {"name": name, "content_sha256": hashlib.sha256(text.encode()).hexdigest()}

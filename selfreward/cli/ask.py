"""`sql`, `lineage`, `diff`, `audit`: questions to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.cli.runs import RunFolder


def register(app: typer.Typer) -> None:
    """Add these commands."""

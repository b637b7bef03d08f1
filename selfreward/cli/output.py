"""JSON on stdout, in one format for every command; `selfreward.text` formats tables."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from selfreward.text import printable

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Spreadsheet = Annotated[
    bool,
    typer.Option("--spreadsheet", help="CSV: a ' before texts that a spreadsheet would take for formulas."),
]


def print_json(value: Any) -> None:
    """JSON with every key, readable; NULL is null."""
    print(printable(json.dumps(value, indent=2, ensure_ascii=False, default=str)))

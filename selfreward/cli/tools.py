"""`models pull`, `doctor`: what the machine needs before a run."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.text import format_table

models = typer.Typer(no_args_is_help=True, help="Known models.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    models.command()(pull)
    app.add_typer(models, name="models")
    app.command()(doctor)


def pull(name: Annotated[str, typer.Argument(metavar="NAME", help="smollm2-135m-instruct")]) -> None:
    """Get a known model into the user's cache.  Example: selfreward models pull smollm2-135m-instruct"""
    from selfreward.models.pull import pull as pull_model

    print(pull_model(name))


def doctor(as_json: Json = False) -> None:
    """Look at this machine: versions, devices, disk, known models.  Example: selfreward doctor"""
    from selfreward.doctor import examine

    findings = examine()
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        print(format_table(("check", "found", "verdict"), [(f.check, f.found, f.verdict) for f in findings]))
    if any(finding.verdict.startswith("bad") for finding in findings):
        raise typer.Exit(1)

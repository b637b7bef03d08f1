"""`view`: a local page to walk through the rows of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from selfreward.cli.runs import RunFolder


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(view)


def view(
    run_folder: RunFolder,
    port: Annotated[int, typer.Option(help="Port on this machine; 0: a free one.")] = 0,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")] = True,
    reviewer: Annotated[
        str, typer.Option(metavar="NAME", help="Whose verdicts are stored; for more than one person.")
    ] = "reviewer",
) -> None:
    """Walk through the rows in the browser, until Ctrl-C.  Example: selfreward view runs/demo"""
    from selfreward.view.server import serve

    serve(run_folder, port, open_page, reviewer)

"""`card`, `publish`, `pull`: a run described, sent to the Hugging Face Hub, and brought back."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.cli.runs import RunFolder
from selfreward.text import format_table

Licence = Annotated[
    str | None,
    typer.Option(
        "--license",
        metavar="ID",
        help="License of the datasets, as the Hub writes it; default: that of the seeds.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(card)
    app.command()(publish)
    app.command()(pull)


def card(
    run_folder: RunFolder,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write to; default: RUN/cards.")
    ] = None,
    repo: Annotated[
        str, typer.Option(metavar="USER/NAME", help="The repository that the card names.")
    ] = "USER/NAME",
    licence: Licence = None,
) -> None:
    """Write the cards with their pictures, without publishing.  Example: selfreward card runs/demo"""
    from selfreward.data_cards.preview import write_cards

    for path in write_cards(run_folder, repo, licence, out or run_folder / "cards"):
        print(path)


def publish(
    run_folder: RunFolder,
    repo: Annotated[
        str, typer.Option("--repo", metavar="USER/NAME", help="The dataset repository on the Hub.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Make new repositories private.")] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option(
            "--dry-run", metavar="DIR", help="Write the repository's tree into DIR; nothing is sent."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="DATASET", help="Only this dataset; may be repeated. Default: all."),
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Also publish the models, as USER/NAME-M1, …")
    ] = False,
    licence: Licence = None,
    model_licence: Annotated[
        str | None,
        typer.Option("--model-license", metavar="ID", help="License of the base model, if unknown."),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option("--gate/--no-gate", help="Refuse if an audit fails. With --no-gate, the card says so."),
    ] = True,
    onto: Annotated[
        str | None,
        typer.Option(metavar="COMMIT", help="Build on this commit by someone else, the current head."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Push a run to the Hub, verified and tagged.  Example: selfreward publish runs/demo --repo ann/self-rewarding"""
    from selfreward.data_cards import publish as publishing

    options = publishing.PublishOptions(
        repo, private, tuple(only or ()), models, licence, model_licence, gate, onto
    )
    if dry_run is not None:
        folders = publishing.dry_run(run_folder, options, dry_run)
        if as_json:
            print_json({"folders": [str(folder) for folder in folders]})
        else:
            print("\n".join(f"{folder}: the tree of the repository; nothing was sent" for folder in folders))
        return
    _prepare_client()
    pushed = publishing.publish(run_folder, options)
    if as_json:
        print_json([asdict(entry) for entry in pushed])
        return
    for entry in pushed:
        what = "published" if entry.committed else "unchanged, nothing committed"
        gone = f" ({entry.removed} no longer on main)" if entry.removed else ""
        checked = f"{entry.verified} read back and equal" if entry.verified else "read back before"
        print(
            f"{entry.url}: {what}; revision {entry.revision}, tag {entry.tag}; {entry.n_files} files{gone}, {checked}"
        )


def pull(
    repo: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="A dataset repository that selfreward published.")
    ],
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A new run folder.")],
    revision: Annotated[
        str | None, typer.Option(metavar="TAG", help="Tag, branch or commit; default: the newest.")
    ] = None,
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Also pull the models published with it.")
    ] = True,
    max_size: Annotated[
        float, typer.Option("--max-size", metavar="GB", help="Refuse a run that unpacks to more than this.")
    ] = 100.0,
    as_json: Json = False,
) -> None:
    """Restore a published run.  Example: selfreward pull ann/self-rewarding runs/theirs --revision run-3f0c12ab34cd"""
    from selfreward.data_cards.hub.pull import pull as pull_run

    _prepare_client()
    restored = pull_run(repo, run_folder, revision, models, max_bytes=max_size * 1e9)
    if as_json:
        print_json([asdict(entry) for entry in restored])
        return
    rows = [(r.name, r.version, r.rows, "same files" if r.identical else "same rows") for r in restored]
    print(format_table(("dataset", "version", "rows", "restored as"), rows))
    print(f"\n{run_folder}: restored; look at it with: selfreward sql {run_folder} 'FROM pairs'")


def _prepare_client() -> None:
    """Set up the Hub's client for this process."""
    from huggingface_hub.utils import disable_progress_bars

    from selfreward.data_cards.hub.account import limit_silence

    # the client waits forever by default
    limit_silence()
    # per-file progress bars would fill log files and pipes
    if not sys.stderr.isatty():
        disable_progress_bars()

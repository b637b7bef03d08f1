"""`path`, `import`, `export`, `verify`, `gc`: datasets as files, and their integrity."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, Spreadsheet, print_json
from selfreward.cli.runs import RunFolder
from selfreward.text import format_table

DatasetArgument = Annotated[
    str, typer.Argument(metavar="DATASET", help="ift, eft, iter1/prompts, iter2/pairs, …")
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A dataset or a model: ift, iter1/pairs, M1, …")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(path)
    app.command(name="import")(import_rows)
    app.command()(export)
    app.command()(verify)
    app.command()(gc)


def path(run_folder: RunFolder, name: NameArgument) -> None:
    """Print the folder of the current version of a dataset or model.  Example: selfreward path runs/demo iter1/pairs"""
    from selfreward.store.run import Run

    print(Run(run_folder).current(name).folder)


def import_rows(
    run_folder: RunFolder,
    dataset: DatasetArgument,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="json, jsonl, csv or parquet (or .gz of these). With DATASET `all`: a folder of files named like datasets.",
        ),
    ] = None,
    columns: Annotated[
        bool,
        typer.Option(
            "--columns",
            help="Print the columns of DATASET: which your file needs, which are filled in and how.",
        ),
    ] = False,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Stop using the imported rows; the next run builds the dataset itself."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Import your own rows, validated and versioned like any other.  Example: selfreward import runs/x iter1/prompts p.jsonl"""
    from selfreward.errors import UsageError
    from selfreward.exchange.importing import column_table, import_file, undo_import
    from selfreward.store.run import Run

    if columns:
        print(format_table(("column", "type", "in your file"), column_table(dataset)))
        return
    if undo:
        version = undo_import(Run(run_folder), dataset)
        print(
            f"{dataset}: imported version {version} is no longer in use"
            if version
            else f"{dataset}: is not imported"
        )
        return
    if file is None:
        raise UsageError("import: expected a FILE (or --columns, --undo)")
    versions = import_file(Run.create(run_folder), dataset, file)
    if as_json:
        print_json(
            [
                {"name": v.name, "version": v.version, "rows": v.n_rows, "folder": str(v.folder)}
                for v in versions
            ]
        )
    else:
        print("\n".join(f"{v.name}: {v.n_rows:,} rows, now current as {v.version}" for v in versions))


def export(
    run_folder: RunFolder,
    dataset: DatasetArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="The file to write; its ending selects the format: .parquet, .jsonl or .csv."
        ),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--as",
            help="rows (as stored; import reads them back); pairs: conversational (TRL), plain, alpaca (LLaMA-Factory >= 0.8), "
            "sharegpt, swift, unpaired (TRL's KTO, in an order in which no row follows one of its own prompt); ift, eft: "
            "messages (TRL's SFT).",
        ),
    ] = "rows",
    spreadsheet: Spreadsheet = False,
) -> None:
    """Write a dataset as one file.  Example: selfreward export runs/demo iter1/pairs pairs.jsonl --as sharegpt"""
    from selfreward.exchange.exporting import export_file
    from selfreward.store.run import Run

    n_rows = export_file(Run(run_folder), dataset, file, form, spreadsheet)
    print(f"{file}: {n_rows:,} rows")


def verify(
    run_folder: RunFolder,
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET", help="One dataset or model; default: all.")
    ] = None,
    quarantine: Annotated[
        bool, typer.Option(help="Move damaged versions aside, so that the next run builds them again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every file against the hashes in the manifests; exit 1 if one differs.  Example: selfreward verify runs/demo"""
    from selfreward.store.verify import verify_run

    checks = verify_run(run_folder, dataset, quarantine)
    if as_json:
        print_json([check.__dict__ for check in checks])
    else:
        rows = [(c.name, c.version, c.rows, round(c.n_bytes / 1e6, 1), c.problem or "whole") for c in checks]
        print(format_table(("dataset", "version", "rows", "MB", "state"), rows))
    if any(check.problem for check in checks):
        raise typer.Exit(1)


def gc(
    run_folder: RunFolder,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be removed, remove nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove versions that are not current and leftovers of dead processes.  Example: selfreward gc runs/demo --dry-run"""
    from selfreward.store.gc import collect
    from selfreward.store.run import Run

    removed = collect(Run(run_folder), dry_run)
    if as_json:
        print_json([{"path": str(r.path), "bytes": r.bytes, "reason": r.reason} for r in removed])
        return
    for item in removed:
        print(
            f"{'would remove' if dry_run else 'removed'} {item.path} ({item.bytes / 1e6:,.1f} MB, {item.reason})"
        )
    total = sum(item.bytes for item in removed) / 1e6
    print(f"{len(removed)} item(s), {total:,.1f} MB", file=sys.stderr)

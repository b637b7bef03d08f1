"""`sql`, `lineage`, `diff`: queries on a run (`audit` is in judging/audit_cli.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, Spreadsheet, print_json
from selfreward.cli.runs import RunFolder


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(sql)
    app.command()(lineage)
    app.command()(diff)


def sql(
    run_folder: RunFolder,
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="One query; without it: an interactive prompt.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="FILE", help="Read the query from FILE.")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    spreadsheet: Spreadsheet = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the rows to a file: .parquet, .csv, .json or .jsonl; or the whole run to .duckdb.",
        ),
    ] = None,
    max_rows: Annotated[int, typer.Option(help="Rows to show in the table.")] = 40,
) -> None:
    """Query a run; every dataset of every iteration is a read-only view.  Example: selfreward sql runs/demo "FROM pairs" """
    from selfreward.errors import UsageError
    from selfreward.sql.output import repl, run_query

    if query is not None and file is not None:
        raise UsageError("sql: expected either a QUERY or -f FILE, found both")
    if file is not None:
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
        query = file.read_text(encoding="utf-8")
    if query is None and out is not None:
        from selfreward.sql.file import write_audit_file

        write_audit_file(run_folder, out)
        print(f"{out}: every dataset of {run_folder}")
    elif query is None:
        repl(run_folder)
    else:
        try:
            n_rows = run_query(
                run_folder,
                query,
                format="json" if as_json else "csv" if as_csv else "table",
                out=out,
                max_rows=max_rows,
                spreadsheet=spreadsheet,
            )
        except (ArithmeticError, ValueError) as error:  # dates beyond Python's range, invalid Unicode
            raise UsageError(f"query: a row holds a value that cannot be shown: {error}") from error
        if out is not None:
            print(f"{out}: {n_rows:,} rows")


def lineage(
    run_folder: RunFolder,
    row_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Any id: a pair, candidate, judgement, prompt, ift or eft row, seed, evaluated answer.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show what a row was made from, down to the seeds.  Example: selfreward lineage runs/demo pair-0123456789abcdef"""
    from selfreward.sql.lineage import lineage as trace
    from selfreward.sql.lineage_text import format_lineage
    from selfreward.store.run import Run

    node = trace(Run(run_folder), row_id)
    if as_json:
        print_json(node.to_dict())
    else:
        print(format_lineage(node))


def diff(
    run_folder: RunFolder,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="ift, iter1/pairs, …")],
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="The earlier version: its first digits, `previous` or `current`."),
    ] = "previous",
    b: Annotated[str, typer.Argument(metavar="B", help="The later version, likewise.")] = "current",
    with_run: Annotated[
        Path | None, typer.Option(metavar="RUN2", help="Take version B from this run.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Examples of each kind.")] = 3,
    as_json: Json = False,
) -> None:
    """Show the rows added, removed and changed between two versions.  Example: selfreward diff runs/demo iter1/pairs previous current"""
    from dataclasses import asdict

    from selfreward.sql.diff import diff as compare
    from selfreward.sql.diff import format_diff
    from selfreward.store.run import Run

    other = Run(with_run) if with_run else None
    # against another run the natural comparison is current with current
    found = compare(Run(run_folder), dataset, "current" if other and a == "previous" else a, b, other, n)
    if as_json:
        print_json(asdict(found))
    else:
        print(format_diff(found))

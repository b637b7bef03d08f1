"""`init`, `run`, `report`, `status`: a configuration, the loop, its results, and the remaining steps."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.progress import say
from selfreward.text import format_table

if TYPE_CHECKING:
    from selfreward.config.run import RunConfig
    from selfreward.steps.pipeline import StepResult

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(init)
    app.command()(run)
    app.command()(report)
    app.command()(status)


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the configuration.")],
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A configuration that comes with the package: demo, paper, … (`selfreward show config` lists them). "
            "Default: every setting, with its default.",
        ),
    ] = None,
) -> None:
    """Write a commented configuration to start from.  Example: selfreward init my-run.yaml --preset demo"""
    from selfreward.cli.shipped import preset_text
    from selfreward.config.starter import write_starter

    write_starter(file, preset_text(preset, file) if preset else None)
    print(f"{file}: written; edit it, then: selfreward run {file}")


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration (YAML).")],
    run_folder: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Run folder; default: `run` of CONFIG.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Stop after this step: ift, M1, iter1/pairs, or pairs (of the last iteration), …",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one value; may be repeated."),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate/--no-gate", help="Audit the training data first. --no-gate is recorded in the model."
        ),
    ] = True,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Build nothing; estimate what the run still needs from a few timed batches."
        ),
    ] = False,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Allow what a pulled CONFIG names (servers, files), and http: servers on other machines; remembered.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the whole loop; the same command again resumes it.  Example: selfreward run configs/demo.yaml"""
    from selfreward.config.files import load_config
    from selfreward.page.write import write_page
    from selfreward.steps.pipeline import run_pipeline
    from selfreward.steps.signals import Interrupted
    from selfreward.steps.trust import require_trust
    from selfreward.summary import report as reporting

    started = time.monotonic()
    # an override like any other, so that the configuration records the choice
    resolved = load_config(config, [*(settings or []), *([] if gate else ["gate=false"])])
    require_trust(config, resolved, trust)
    folder = run_folder or Path(resolved.run)
    if estimate:
        _estimate(resolved, folder, until, as_json)
        return

    try:
        steps = run_pipeline(resolved, folder, until, show_step)
    except Interrupted as stop:
        again = " ".join(["selfreward", *sys.argv[1:]])
        print(f"\nstopped; all finished work is kept. To resume: {again}", file=sys.stderr)
        # for the shell: 130 after Ctrl-C, 143 after a termination
        raise typer.Exit(128 + stop.signal_number) from stop
    seconds, built = time.monotonic() - started, any(step.status == "built" for step in steps)
    has_page = (folder / reporting.PAGE).is_file()
    # a repeated command on a finished run answers at once: the report takes seconds
    if not built and has_page and not as_json:
        print(reporting.format_unchanged(folder, steps, seconds))
        return
    made = reporting.report_run(folder, steps, seconds)
    if built or not has_page:
        write_page(made)
    if as_json:
        print_json(reporting.as_plain(made))
    else:
        print(reporting.format_report(made))


def report(
    run_folder: RunFolder,
    open_page: Annotated[bool, typer.Option("--open", help="Show RUN/report.html in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Show funnels, judges, training and win rates, and write RUN/report.html.  Example: selfreward report runs/demo --open"""
    from selfreward.page.write import write_page
    from selfreward.summary import report as reporting

    made = reporting.report_run(run_folder)
    page = write_page(made)
    if open_page:
        _open(page)
    if as_json:
        print_json(reporting.as_plain(made))
    else:
        print(reporting.format_report(made))
    # A report without some of the rows is not a success, though the rest of it stands.
    if made.summary.damaged:
        raise typer.Exit(1)


def _open(page: Path) -> None:
    import webbrowser

    # no display, as on most servers: the page is there all the same
    if not webbrowser.open(page.resolve().as_uri()):
        print(f"no browser was found; the page is {page}", file=sys.stderr)


def show_step(step: StepResult) -> None:
    """One line on stderr for a step that is done."""
    lost = ", ".join(f"{reason} {n}" for reason, n in step.dropped.items())
    what = f"{step.n_in:,} in, {step.n_out:,} out" + (f", dropped: {lost}" if lost else "")
    say(f"{step.name}: {step.status} ({what}, {step.seconds:.1f} s)")


def _estimate(config: RunConfig, folder: Path, until: str | None, as_json: bool) -> None:
    from selfreward.estimate.report import as_plain, estimate_run, format_estimate
    from selfreward.steps.signals import Interrupted

    try:
        found = estimate_run(config, folder, until)
    except Interrupted as stop:
        raise typer.Exit(128 + stop.signal_number) from stop
    if as_json:
        print_json(as_plain(found))
    else:
        print(format_estimate(found))


def status(run_folder: RunFolder, as_json: Json = False) -> None:
    """Show the steps, their rows, versions and progress, and the next command.  Example: selfreward status runs/demo"""
    from selfreward.steps.status import next_command, run_status

    lines = run_status(run_folder)
    if as_json:
        print_json([line.__dict__ for line in lines])
        return
    rows = [(line.name, line.state, line.rows, line.version, line.detail) for line in lines]
    print(format_table(("step", "state", "rows", "version", ""), rows))
    print(f"\n{next_command(run_folder, lines)}")

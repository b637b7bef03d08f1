"""`selfreward evaluate paper`."""

from __future__ import annotations

from selfreward.cli.output import Json, print_json
from selfreward.cli.runs import RunFolder


def paper(run_folder: RunFolder, as_json: Json = False) -> None:
    """A run's figures beside the paper's, and which comparisons are fair.  Example: selfreward evaluate paper runs/demo"""
    from selfreward.evaluation.ask.answers import Models
    from selfreward.evaluation.paper.table import compare_with_paper, format_paper
    from selfreward.store.run import Run
    from selfreward.summary.settings import settings_of

    run = Run(run_folder)
    made_with = settings_of(run.path, {name: run.current(name) for name in run.names()}).config
    report = compare_with_paper(run, made_with or Models(run_folder).config)
    if as_json:
        print_json(report.to_dict())
    else:
        print(format_paper(report))

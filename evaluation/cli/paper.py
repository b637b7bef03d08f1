"""`selfreward evaluate paper`."""

from __future__ import annotations

from selfreward.cli.output import Json, print_json
from selfreward.cli.runs import RunFolder


def paper(run_folder: RunFolder, as_json: Json = False) -> None:
    """A run's figures beside the paper's, and which comparisons are fair.  Example: selfreward evaluate paper runs/demo"""
    from selfreward.evaluation.ask.answers import Models
    from selfreward.evaluation.paper.table import compare_with_paper, format_paper
    from selfreward.store.run import Run

    report = compare_with_paper(Run(run_folder), Models(run_folder).config)
    if as_json:
        print_json(report.to_dict())
    else:
        print(format_paper(report))

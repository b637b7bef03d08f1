"""`selfreward evaluate …`: alpaca-eval, head-to-head, MT-Bench, judges and people, benchmarks, the paper's figures.

Every command is a function in one of the `cli_*` modules, thin over what can be called from Python.
"""

from __future__ import annotations

import typer

from selfreward.evaluation.cli import alpaca as cli_alpaca
from selfreward.evaluation.cli import benchmarks as cli_benchmarks
from selfreward.evaluation.cli import checkpoints as cli_checkpoints
from selfreward.evaluation.cli import compare as cli_compare
from selfreward.evaluation.cli import judges as cli_judges
from selfreward.evaluation.cli import labels as cli_labels
from selfreward.evaluation.cli import paper as cli_paper
from selfreward.evaluation.cli import people as cli_people

evaluate = typer.Typer(
    no_args_is_help=True,
    help="Scores for models: alpaca-eval, head-to-head, MT-Bench, judges against people, …",
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    evaluate.command()(cli_alpaca.alpaca)
    evaluate.command()(cli_alpaca.leaderboard)
    evaluate.command()(cli_judges.judge)
    evaluate.command(name="head-to-head")(cli_compare.head_to_head)
    evaluate.command(name="mt-bench")(cli_benchmarks.mt_bench)
    evaluate.command()(cli_benchmarks.nlp)
    evaluate.command()(cli_checkpoints.checkpoints)
    evaluate.command(name="human-export")(cli_people.human_export)
    evaluate.command(name="human-import")(cli_people.human_import)
    evaluate.command(name="label-prompts")(cli_labels.label_prompts)
    evaluate.command()(cli_paper.paper)
    app.add_typer(evaluate, name="evaluate")

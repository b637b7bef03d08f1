"""`selfreward evaluate …`: alpaca-eval, head-to-head, MT-Bench, judges and people, benchmarks, the paper's figures.

Every command is a function in one of the `cli_*` modules, thin over what can be called from Python.
"""

from __future__ import annotations

import typer

from evaluation import (
    cli_alpaca,
    cli_benchmarks,
    cli_checkpoints,
    cli_compare,
    cli_judges,
    cli_labels,
    cli_paper,
    cli_people,
)

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

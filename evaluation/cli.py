"""`selfreward evaluate …`: the measures, a line each, and the two commands that only show something.

The flags of a measure are the fields of its class, which is imported only when its command is called.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from selfreward.cli.output import Json, print_json
from selfreward.cli.runs import RunFolder

MEASURES = {
    "alpaca": (
        "alpaca.run.AlpacaEval",
        "Compute AlpacaEval's win rates, from files or with a model.",
        "--reference r.json --outputs o.json --annotations a.json",
    ),
    "judge": (
        "judges.measure.JudgeMeasure",
        "Run a judge over human-ranked replies and measure it.",
        "--model hf:M1 --data v.jsonl.gz --out j",
    ),
    "rules": (
        "rules.measure.RulesMeasure",
        "How often models keep rules that a program checks; no judge.",
        "--run runs/control --model M1 --model M3 --max-tokens 64 --out rules",
    ),
    "head-to-head": (
        "pairwise.head_to_head.HeadToHead",
        "Compare two models on the same prompts, judged in both orders.",
        "--run runs/x --a M2 --b M1 --judge openai:… --out h",
    ),
    "arena": (
        "pairwise.arena.Arena",
        "A model against a baseline in five grades, as Arena-Hard does.",
        "--run runs/x --model M2 --baseline M1 --judge openai:… --out arena",
    ),
    "mt-bench": (
        "benchmarks.mt_bench.MtBench",
        "Run MT-Bench: two turns, each graded by itself.",
        "--model M2 --run r --judge openai:… --questions question.jsonl --judge-prompts judge_prompts.jsonl "
        "--reference-answers gpt-4.jsonl --out mt",
    ),
    "nlp": (
        "benchmarks.nlp.Nlp",
        "Run benchmarks through lm-eval: the paper's nine, or any of its tasks (ifeval).",
        "--run runs/x --model M2 --out nlp",
    ),
    "checkpoints": (
        "pairwise.checkpoints.Checkpoints",
        "Compare each checkpoint with the one before, until it no longer wins.",
        "out/ --prompts v.jsonl --judge openai:… --out sel",
    ),
    "human-export": (
        "pairwise.human_sheet.HumanExport",
        "Write blind sheets for human annotators.",
        "--run runs/x --a M2 --b M1 --out people",
    ),
    "human-import": (
        "pairwise.human_result.HumanImport",
        "Read the filled sheets: majority and agreement.",
        "--key people/key.json people/sheet-*.csv",
    ),
    "label-prompts": (
        "pairwise.labels.LabelPrompts",
        "Label prompts with category, complexity and expected length, for breakdowns.",
        "--prompts reference.json --judge openai:… --out labels --run runs/x",
    ),
}
"""Command -> where its class is in this package, what it does, and an example."""

evaluate = typer.Typer(
    no_args_is_help=True,
    help="Evaluate models: alpaca-eval, head-to-head, MT-Bench, judges against humans, …",
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for name, (where, does, example) in MEASURES.items():

        def named() -> None:
            """Placeholder whose docstring is the help text."""

        named.__doc__ = f"{does}  Example: selfreward evaluate {name} {example}"
        evaluate.command(name, cls=_command_class(where))(named)
    evaluate.command()(leaderboard)
    evaluate.command()(paper)
    app.add_typer(evaluate, name="evaluate")


def leaderboard(
    file: Annotated[
        Path | None,
        typer.Option("--leaderboard", metavar="FILE", help="Another leaderboard (csv) than the snapshot."),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the leaderboard to sort by.")
    ] = "length_controlled_winrate",
    n: Annotated[int, typer.Option("-n", min=1, help="Rows to show.")] = 20,
    as_json: Json = False,
) -> None:
    """Show the AlpacaEval leaderboard snapshot, with its date and hash.  Example: selfreward evaluate leaderboard --sort win_rate"""
    from selfreward.evaluation.alpaca.leaderboard import format_leaderboard
    from selfreward.evaluation.alpaca.leaderboard import leaderboard as read
    from selfreward.text import printable

    board = read(file)
    if as_json:
        rows = [{"model": name, **row} for name, row in board.sorted_by(sort)]
        print_json({"source": board.source, "date": board.date, "sha256": board.sha256, "rows": rows[:n]})
    else:
        print(printable(format_leaderboard(board, sort, n)))


def paper(run_folder: RunFolder, as_json: Json = False) -> None:
    """Show a run's figures beside the paper's, and which comparisons are fair.  Example: selfreward evaluate paper runs/demo"""
    from selfreward.evaluation.ask.models import Models
    from selfreward.evaluation.paper.table import compare_with_paper, format_paper
    from selfreward.store.run import Run
    from selfreward.summary.settings import settings_of

    run = Run(run_folder)
    # the versions' manifests say what the rows were made with; config.yaml may have been edited since
    made_with = settings_of(run.path, {name: run.current(name) for name in run.names()}).config
    report = compare_with_paper(run, made_with or Models(run_folder).config)
    if as_json:
        print_json(report.to_dict())
    else:
        print(format_paper(report))


def _command_class(where: str) -> type[TyperCommand]:
    """A command that imports its measure when it is called or asked for help."""

    class MeasureCommand(TyperCommand):
        def make_context(
            self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
        ) -> Any:
            from selfreward.evaluation.measure import command

            module, _, name = where.rpartition(".")
            # imported only now: the measures import torch, pandas and alpaca-eval, and `--help` must stay
            # fast
            measured = getattr(importlib.import_module(f"selfreward.evaluation.{module}"), name)
            one = typer.Typer(add_completion=False, rich_markup_mode=None)
            one.command(info_name, help=self.help, epilog=self.epilog)(command(measured))
            return get_command(one).make_context(info_name, args, parent, **extra)

    return MeasureCommand

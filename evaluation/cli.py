"""`selfreward evaluate …`: alpaca-eval, judges against people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json

evaluate = typer.Typer(no_args_is_help=True, help="Scores for models: alpaca-eval, head-to-head, judges against people.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    evaluate.command()(alpaca)
    evaluate.command()(judge)
    evaluate.command()(leaderboard)
    app.add_typer(evaluate, name="evaluate")


def alpaca(
    reference: Annotated[Path, typer.Option(help="Prompts with reference answers, AlpacaEval's format (.gz is fine).")],
    outputs: Annotated[Path | None, typer.Option(help="A model's answers (model_outputs.json).")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Or a model that answers them now: hf:…")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Verdicts; without them --judge is needed.")] = None,
    judge_model: Annotated[str | None, typer.Option("--judge", metavar="MODEL", help="The model that compares the answers.")] = None,
    annotator: Annotated[str, typer.Option(help="Judge configuration: selfreward_weighted, selfreward_pairwise, one of alpaca-eval's, or a folder.")] = "selfreward_weighted",
    both_orders: Annotated[bool, typer.Option(help="Judge each pair in both orders.")] = False,
    difficulty: Annotated[Path | None, typer.Option(help="Instruction difficulties (csv) for length control.")] = None,
    gamed: Annotated[Path | None, typer.Option(help="df_gamed.csv from the Hub, for length_controlled_v1.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for model_outputs.json, annotations.json and the journal.")] = None,
    n_max: Annotated[int | None, typer.Option(help="Only the first prompts.")] = None,
    max_tokens: Annotated[int, typer.Option(help="New tokens of an answer.")] = 1024,
    strict: Annotated[bool, typer.Option(help="Missing, empty or lost rows are an error.")] = False,
    as_json: Json = False,
) -> None:
    """AlpacaEval's figures, offline.  Example: selfreward evaluate alpaca --outputs o.json --reference r.json --annotations a.json"""
    from evaluation.alpaca import evaluate_files
    from evaluation.alpaca_result import format_result
    from selfreward.errors import UsageError

    if (outputs is None) == (model is None):
        raise UsageError("evaluate alpaca: expected either --outputs FILE or --model MODEL")
    if annotations is None or outputs is None:
        from evaluation.alpaca_run import AlpacaJob, run_alpaca

        if judge_model is None and annotations is None:
            raise UsageError("evaluate alpaca: without --annotations FILE a judge is needed: --judge MODEL")
        if out is None:
            raise UsageError("evaluate alpaca: generating or judging needs --out DIR for its files and journal")
        job = AlpacaJob(reference, outputs, model, judge_model, annotator, both_orders, out, n_max, max_tokens)
        outputs, annotations = run_alpaca(job, annotations)
    result = evaluate_files(outputs, reference, annotations, difficulty, gamed, strict=strict)
    if as_json:
        print_json(result.to_dict())
    else:
        print(format_result(result))


def judge(
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="The judge: hf:NAME_OR_PATH, …")],
    data: Annotated[Path, typer.Option("--data", help="Human-ranked replies: oasst export (messages or trees), or jsonl.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the scored rows, one file for each template.")],
    template: Annotated[list[str] | None, typer.Option("--template", help="Judge template; repeat to compare several.")] = None,
    samples: Annotated[int, typer.Option(help="Judgements of each response.")] = 1,
    mode: Annotated[str, typer.Option(help="sampled or expected.")] = "sampled",
    max_tokens: Annotated[int, typer.Option(help="New tokens of a judgement.")] = 200,
    n_prompts: Annotated[int | None, typer.Option(help="Only this many prompts, in hash order.")] = None,
    as_json: Json = False,
) -> None:
    """Run a judge over human-ranked replies and measure it.  Example: selfreward evaluate judge --model hf:M1 --data v.jsonl.gz --out j"""
    from evaluation.judge_run import evaluate_judge
    from judging.agreement import format_agreement

    results = evaluate_judge(model, data, out, template or ["additive"], samples, mode, max_tokens, n_prompts)
    if as_json:
        print_json({name: measured.to_dict() for name, measured in results.items()})
        return
    for name, measured in results.items():
        print(f"template {name}\n{format_agreement(measured)}\n")


def leaderboard(
    file: Annotated[Path | None, typer.Option("--leaderboard", help="Another leaderboard (csv).")] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by.")] = "length_controlled_winrate",
    n: Annotated[int, typer.Option("-n", help="Rows to show.")] = 20,
    as_json: Json = False,
) -> None:
    """The AlpacaEval leaderboard snapshot.  Example: selfreward evaluate leaderboard --sort win_rate"""
    from evaluation.alpaca_leaderboard import format_leaderboard
    from evaluation.alpaca_leaderboard import leaderboard as read

    board = read(file)
    if as_json:
        print_json(board.to_dict() if hasattr(board, "to_dict") else board.__dict__)
    else:
        print(format_leaderboard(board, sort, n))

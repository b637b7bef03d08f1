"""`selfreward judge …`: read scores, score a file, measure agreement, attack a judge; and `selfreward audit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.cli.runs import RunFolder

if TYPE_CHECKING:
    from selfreward.judging.agreement.rating_tables import Columns

judge = typer.Typer(
    no_args_is_help=True, help="The judge: reading its scores, and how far they can be trusted."
)

ModelString = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="The judge: hf:NAME_OR_PATH, vllm:…, openai:URL#MODEL, …"),
]
Template = Annotated[
    str,
    typer.Option(
        "--template",
        metavar="NAME",
        help="Judge template: additive, additive-short, multiple-choice, or a file.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    judge.command()(parse)
    judge.command()(score)
    judge.command()(agreement)
    judge.command()(attack)
    app.add_typer(judge, name="judge")
    app.command()(audit)


def parse(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="jsonl, json, csv (.gz), parquet, or a dataset folder (RUN/datasets/NAME)."
        ),
    ],
    field: Annotated[
        str,
        typer.Option(
            "--field",
            metavar="COL",
            help="The column that holds the judges' replies, one or a list in each row.",
        ),
    ],
    minimum: Annotated[float, typer.Option(help="Lowest score in range.")] = 0.0,
    maximum: Annotated[float, typer.Option(help="Highest score in range.")] = 5.0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rows with `score` and `status` to FILE (jsonl)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read scores from judges' replies.  Example: selfreward judge parse replies.jsonl --field judgement"""
    # Imported here, as in every command below: `--help` loads no library that only commands need.
    from selfreward.judging.judge.files import parse_file
    from selfreward.text import format_table

    summary = parse_file(file, field, minimum, maximum, out)
    if as_json:
        print_json(summary)
        return
    lists = "" if summary["replies"] == summary["rows"] else f" in {summary['rows']:,} rows"
    print(f"{file}: {summary['replies']:,} replies{lists}")
    print(format_table(("status", "replies"), list(summary["by_status"].items())))
    print()
    print(format_table(("score", "replies"), [(float(score), n) for score, n in summary["by_score"].items()]))


def score(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A table (as for `judge parse`) with columns `prompt` and `response`."
        ),
    ],
    model: ModelString,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Write the rows with their judgements to FILE (jsonl).")
    ],
    template: Template = "additive",
    mode: Annotated[
        str, typer.Option(help="How a score is made: sampled or expected (docs/judging.md).")
    ] = "sampled",
    justify: Annotated[
        bool, typer.Option(help="In mode expected: let the judge justify before it scores.")
    ] = True,
    samples: Annotated[int, typer.Option(min=1, help="In mode sampled: judgements of each response.")] = 3,
    temperature: Annotated[float, typer.Option(min=0, help="Temperature of sampled judgements.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(help="Most new tokens of a judgement.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of sampled judgements.")] = 0,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--judge-engine",
            metavar="KEY=VALUE",
            help="An option of the judge's engine: timeout_s=600, max_tokens_field=max_completion_tokens, …",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge the responses of a file; the same command again resumes.  Example: selfreward judge score r.jsonl --model hf:runs/demo/models/M1 --out s.jsonl"""
    from selfreward.engines.registry import engine_options
    from selfreward.judging.judge.files import score_file
    from selfreward.text import format_table

    options = engine_options(engine) if engine else None
    summary = score_file(
        file, model, out, template, mode, samples, max_tokens, seed, justify, temperature, options
    )
    if as_json:
        print_json(summary)
    else:
        print(format_table(("status", "judgements"), list(summary["by_status"].items())))
        if error := summary.get("first_engine_error"):
            print(f"the first engine error: {error}")
        print(f"{out}: {summary['responses']:,} responses, {summary['scored_responses']:,} with a score")
    # The rows are kept with their reasons, but a judge that never answered is a failure for scripts too.
    if summary["by_status"].keys() == {"engine_error"}:
        raise typer.Exit(1)


def agreement(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Any table with prompt_id, human_rank (or human_score) and score; or a run: its reviews.",
        ),
    ],
    ranks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The human ranks, if they are in another table: joined by prompt_id and response_id.",
        ),
    ] = None,
    perfect_score: Annotated[float, typer.Option(help="The score that counts as perfect for 5-best.")] = 5.0,
    n_bootstrap: Annotated[int, typer.Option(help="Resamples of the prompts, for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare scores with human ranks.  Example: selfreward judge agreement scored.jsonl"""
    from selfreward.judging.agreement.agreement import (
        format_agreement,
        measure_agreement,
        read_joined,
        read_rows,
    )
    from selfreward.judging.agreement.reviews import read_reviews, reviews_path

    file = reviews_path(file)
    if ranks is None and (reviews := read_reviews(file)) is not None:
        _reviewed(reviews, perfect_score, n_bootstrap, seed, as_json)
        return
    rows = read_rows(file) if ranks is None else read_joined(file, ranks)
    measured = measure_agreement(rows, n_bootstrap=n_bootstrap, seed=seed, perfect_score=perfect_score)
    if as_json:
        print_json(measured.to_dict())
    else:
        print(format_agreement(measured))


def _reviewed(columns: Columns, perfect_score: float, n_bootstrap: int, seed: int, as_json: bool) -> None:
    """Verdicts on judgements; and where people gave scores, those measured like any ratings."""
    from dataclasses import asdict

    import pandas as pd

    from selfreward.judging.agreement.agreement import format_agreement, measure_agreement
    from selfreward.judging.agreement.reviews import measure_reviews, ratings

    verdicts, rated = measure_reviews(columns, n_bootstrap, seed), ratings(columns)
    options = {"n_bootstrap": n_bootstrap, "seed": seed}
    measured = (
        measure_agreement(pd.DataFrame(rated), **options, perfect_score=perfect_score) if rated else None
    )
    if as_json:
        print_json({"reviews": asdict(verdicts), "ratings": measured.to_dict() if measured else None})
        return
    print(verdicts)
    if measured:
        print(f"\nScores of people beside the judge's\n{format_agreement(measured)}")
    elif rated:
        print("Scores of people are compared once two answers to one prompt have one.")


def attack(
    model: ModelString,
    template: Template = "additive",
    n: Annotated[int, typer.Option(help="Number of seed responses to attack with.")] = 20,
    max_tokens: Annotated[int, typer.Option(help="Most new tokens of a judgement.")] = 200,
    as_json: Json = False,
) -> None:
    """Try to raise a judge's scores with injected text.  Example: selfreward judge attack --model hf:runs/demo/models/M1"""
    from selfreward.judging.judge.attack import attack_judge
    from selfreward.text import format_table

    rows = attack_judge(model, template, n, max_tokens)
    if as_json:
        print_json([row.__dict__ for row in rows])
        return
    table = [(r.family, r.n, r.flagged, r.scored, r.mean_score, r.mean_change, r.raised) for r in rows]
    print(format_table(("family", "responses", "flagged", "scored", "mean score", "change", "raised"), table))


def audit(
    run_folder: RunFolder,
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check", metavar="NAME", help="Run only this check or group of checks; may be repeated."
        ),
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder with your own audits (.sql), run beside the built-in ones."
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold", metavar="NAME=VALUE", help="Use another threshold for a check; may be repeated."
        ),
    ] = None,
    iteration: Annotated[
        int | None, typer.Option(help="Audit only this iteration, and the datasets without one.")
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Also look for the evaluation prompts in FILE; may be repeated."),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Save the offending rows as the dataset `audits`.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check whether the data is fit to train on and publish; exit 1 if a check fails.  Example: selfreward audit runs/demo"""
    from selfreward.judging.audits.report import format_report
    from selfreward.judging.audits.runner import run_audits
    from selfreward.store.run import Run
    from selfreward.summary.facts import summarize
    from selfreward.summary.funnel import format_funnel

    run = Run(run_folder)
    report = run_audits(
        run,
        checks=check,
        pack=pack,
        thresholds=_thresholds(threshold or []),
        iteration=iteration,
        against=against or [],
        save=save,
    )
    summary = summarize(run)
    if as_json:
        funnel = [
            {"iteration": i.number, **step.described()} for i in summary.iterations for step in i.funnel
        ]
        print_json({**report.to_dict(), "exit_code": report.exit_code, "funnel": funnel})
    else:
        print(format_report(report))
        for i in summary.iterations:
            print(f"\nIteration {i.number}\n{format_funnel(i.funnel, summary.outdated)}")
    # On stderr: with --json, stdout holds one JSON document and nothing else.
    if report.not_saved:
        print(
            f"the offending rows were not saved (--no-save does not try): {report.not_saved}", file=sys.stderr
        )
    raise typer.Exit(report.exit_code)


def _thresholds(texts: list[str]) -> dict[str, float]:
    from selfreward.errors import UsageError

    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UsageError(
                f"--threshold {text!r}: expected NAME=NUMBER, such as tied_prompts=0.5"
            ) from error
    return found

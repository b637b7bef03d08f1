"""`selfreward evaluate judge`: a judge measured on replies that people ranked."""

from __future__ import annotations

from typing import Annotated

import typer

from evaluation.cli_options import JudgeEngine, MaxCost, Out, RunOption, terms
from selfreward.cli.output import Json, print_json


def judge(
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="The judge: hf:NAME_OR_PATH, M1, …")],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="Human-ranked replies: an oasst export (messages or trees), PandaLM's test set, a table, a Hub dataset.",
        ),
    ],
    out: Out,
    template: Annotated[
        list[str] | None, typer.Option("--template", help="Judge template; repeat to compare several.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Judgements of each reply.")] = 1,
    mode: Annotated[str, typer.Option(help="sampled or expected.")] = "sampled",
    justify: Annotated[bool, typer.Option(help="Mode expected: justify before the score.")] = True,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampled judgements.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(min=1, help="New tokens of a judgement.")] = 200,
    n_prompts: Annotated[
        int | None, typer.Option(min=1, help="Only this many prompts, whole, drawn by a hash.")
    ] = None,
    lang: Annotated[str, typer.Option(help="Language of the replies, in oasst exports.")] = "en",
    split: Annotated[str, typer.Option(help="Split of a Hub dataset.")] = "train",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    run: RunOption = None,
    engine: JudgeEngine = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
) -> None:
    """Run a judge over human-ranked replies and measure it.  Example: selfreward evaluate judge --model hf:M1 --data v.jsonl.gz --out j"""
    from evaluation.contestants import Models
    from evaluation.judge_run import JudgeJob, evaluate_judge, publish_judge
    from judging.agreement import format_agreement
    from selfreward.errors import UsageError

    if mode not in ("sampled", "expected"):
        raise UsageError(f"--mode {mode!r}: expected sampled or expected")
    job = JudgeJob(
        model=model,
        data=data,
        out=out,
        templates=tuple(template or ["additive"]),
        samples=samples,
        mode=mode,
        justify=justify,
        temperature=temperature,
        max_tokens=max_tokens,
        n_prompts=n_prompts,
        lang=lang,
        split=split,
        seed=seed,
        models=Models(run),
        terms=terms(engine, max_cost),
    )
    results = evaluate_judge(job)
    if job.models.run is not None:
        for result in results.values():
            publish_judge(job.models.run, job, result)
    if as_json:
        print_json({name: result.to_dict() for name, result in results.items()})
        return
    for name, result in results.items():
        statuses = ", ".join(f"{status} {n}" for status, n in result.by_status.items())
        print(f"template {name}, judge {result.judge}; judgements: {statuses}")
        print(f"{format_agreement(result.agreement)}\nscored rows: {result.scored}\n")

"""`selfreward evaluate judge`: a judge measured on replies that people ranked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.evaluation.cli.options import JudgeEngine, MaxCost, Out, RunOption, terms
from selfreward.text import printable


def judge(
    model: Annotated[
        list[str],
        typer.Option(
            "--model", metavar="MODEL", help="The judge: hf:NAME_OR_PATH, M1, …; repeat to compare several."
        ),
    ],
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Human-ranked replies: an oasst export (messages or trees), PandaLM's test set, a table, a Hub "
            "dataset. Without it: the EFT eval split of --run.",
        ),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option("--template", help="Judge template; repeat to compare several.")
    ] = None,
    pairwise: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A pairwise judge instead, both orders: selfreward_weighted, selfreward_pairwise, a folder, …",
        ),
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
    from dataclasses import replace

    from selfreward.errors import UsageError
    from selfreward.evaluation.ask.answers import Models
    from selfreward.evaluation.judges.pairwise import evaluate_pairwise
    from selfreward.evaluation.judges.report import format_comparison, format_judge_run, format_pairwise_run
    from selfreward.evaluation.judges.run import JudgeJob, evaluate_judge, publish_judge

    if mode not in ("sampled", "expected"):
        raise UsageError(f"--mode {mode!r}: expected sampled or expected")
    if len(set(model)) < len(model):
        raise UsageError(f"--model {', '.join(model)}: one of them is given twice")
    job = JudgeJob(
        model=model[0],
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
    jobs = [replace(job, model=name, out=_folder(out, name, len(model))) for name in model]
    if pairwise is not None:
        verdicts = {one.model: evaluate_pairwise(one, pairwise) for one in jobs}
        if as_json:
            print_json({name: found.to_dict() for name, found in verdicts.items()})
        else:
            print("\n\n".join(format_pairwise_run(found) for found in verdicts.values()))
        return
    results = {one.model: evaluate_judge(one) for one in jobs}
    if job.models.run is not None:
        for one in jobs:
            for result in results[one.model].values():
                publish_judge(job.models.run, one, result)
    if as_json:
        values = {name: {t: r.to_dict() for t, r in found.items()} for name, found in results.items()}
        print_json(values[job.model] if len(jobs) == 1 else values)
        return
    everything = [result for found in results.values() for result in found.values()]
    print(printable("\n\n".join(format_judge_run(result) for result in everything)))
    if len(everything) > 1:
        print(f"\n{format_comparison(everything)}")


def _folder(out: Path, model: str, n_models: int) -> Path:
    """One judge writes into OUT, each of several into a folder of its own there."""
    if n_models == 1:
        return out
    return out / re.sub(r"[^\w.-]+", "-", model).strip("-")

"""`selfreward evaluate mt-bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluation.cli_options import Engine, Judge, JudgeEngine, MaxCost, MaxTokens, Out, RunOption, terms
from selfreward.cli.output import Json, print_json


def mt_bench(
    judge: Judge,
    questions: Annotated[Path, typer.Option(help="FastChat's question.jsonl.")],
    judge_prompts: Annotated[Path, typer.Option(help="FastChat's judge_prompts.jsonl.")],
    out: Out,
    reference_answers: Annotated[
        Path | None, typer.Option(help="Reference answers to maths, coding and reasoning (FastChat's form).")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Who answers: hf:…, M2 of --run, …")
    ] = None,
    answers: Annotated[Path | None, typer.Option(help="Or answers in FastChat's form.")] = None,
    run: RunOption = None,
    max_tokens: MaxTokens = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampled answers.")] = 0,
    engine: Engine = None,
    judge_engine: JudgeEngine = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
) -> None:
    """MT-Bench: two turns, graded one by one.  Example: selfreward evaluate mt-bench --model M2 --run r --judge openai:… --questions question.jsonl --judge-prompts judge_prompts.jsonl --reference-answers gpt-4.jsonl --out mt"""
    from evaluation.contestants import Models
    from evaluation.mt_bench import MtBenchJob, publish_mt_bench
    from evaluation.mt_bench import mt_bench as measure
    from evaluation.mt_bench_result import format_mt_bench

    job = MtBenchJob(
        judge=judge,
        questions=questions,
        judge_prompts=judge_prompts,
        out=out,
        references=reference_answers,
        model=model,
        answers=answers,
        max_tokens=max_tokens,
        seed=seed,
        models=Models(run),
        terms=terms(engine, max_cost),
        judge_terms=terms(judge_engine, max_cost),
    )
    result = measure(job)
    if job.models.run is not None:
        publish_mt_bench(job.models.run, job, result)
    if as_json:
        print_json(result.to_dict())
    else:
        print(format_mt_bench(result))

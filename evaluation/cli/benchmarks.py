"""`selfreward evaluate mt-bench` and `nlp`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.evaluation.cli.options import (
    Engine,
    Judge,
    JudgeEngine,
    MaxCost,
    MaxTokens,
    Out,
    RunOption,
    terms,
)


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
    from selfreward.evaluation.ask.answers import Models
    from selfreward.evaluation.benchmarks.mt_bench import MtBenchJob, publish_mt_bench
    from selfreward.evaluation.benchmarks.mt_bench import mt_bench as measure
    from selfreward.evaluation.benchmarks.mt_bench_result import format_mt_bench

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


def nlp(
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="A local model: hf:…, vllm:…, M2 of --run.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the finished tasks.")] = None,
    run: RunOption = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Only this one; may be repeated. Default: the paper's nine."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first questions of each task: a trial.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16.")] = "auto",
    chat_template: Annotated[
        bool, typer.Option(help="Put the questions into the model's chat template.")
    ] = False,
    include: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Tasks of your own, in lm-eval's YAML.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only say which benchmarks' datasets load with the installed `datasets`."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """The paper's nine NLP benchmarks through lm-eval.  Example: selfreward evaluate nlp --run runs/x --model M2 --out nlp"""
    from selfreward.errors import UsageError
    from selfreward.evaluation.ask.answers import Models
    from selfreward.evaluation.benchmarks.nlp import (
        BY_TASK,
        NlpJob,
        check_datasets,
        evaluate_nlp,
        format_nlp,
        publish_nlp,
    )
    from selfreward.text import format_table

    if check:
        found = check_datasets()
        if as_json:
            print_json(found)
        else:
            print(
                format_table(
                    ("benchmark", "dataset"), [(name, why or "loads") for name, why in found.items()]
                )
            )
        raise typer.Exit(1 if any(found.values()) else 0)
    if model is None or out is None:
        raise UsageError("evaluate nlp: expected --model MODEL and --out DIR (or --check)")
    tasks = tuple(task or BY_TASK)
    job = NlpJob(model, out, tasks, limit, batch_size, device, dtype, chat_template, include, Models(run))
    scores = evaluate_nlp(job)
    if job.models.run is not None:
        publish_nlp(job.models.run, job, scores)
    if as_json:
        print_json([{name: getattr(s, name) for name in s.__dataclass_fields__} for s in scores])
    else:
        print(format_nlp(scores, limit))
    if any(score.value is None for score in scores):
        raise typer.Exit(1)

"""`selfreward evaluate head-to-head`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.evaluation.cli.options import (
    Engine,
    Judge,
    JudgeConfiguration,
    JudgeEngine,
    MaxCost,
    MaxTokens,
    NMax,
    Out,
    RunOption,
    terms,
)

if TYPE_CHECKING:
    from selfreward.evaluation.ask.answers import Models, Prompts

PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="json or jsonl with instruction or prompt; default: the run's EFT eval split.",
    ),
]
ModelA = Annotated[
    str, typer.Option("--a", metavar="MODEL", help="A model, M1 of --run, or a file of answers.")
]
ModelB = Annotated[str, typer.Option("--b", metavar="MODEL", help="Who it is compared with.")]
Temperature = Annotated[float, typer.Option(min=0, help="Of the answers; 0 is greedy.")]


def head_to_head(
    a: ModelA,
    b: ModelB,
    judge: Judge,
    out: Out,
    prompts: PromptsFile = None,
    run: RunOption = None,
    annotator: JudgeConfiguration = None,
    n_max: NMax = None,
    max_tokens: MaxTokens = 1024,
    temperature: Temperature = 0.0,
    engine: Engine = None,
    judge_engine: JudgeEngine = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
) -> None:
    """Two models on the same prompts, judged in both orders.  Example: selfreward evaluate head-to-head --run runs/x --a M2 --b M1 --judge openai:… --out h"""
    from selfreward.evaluation.alpaca.run import DEFAULT_ANNOTATOR
    from selfreward.evaluation.ask.answers import Models
    from selfreward.evaluation.pairwise.head_to_head import HeadToHeadJob, publish_head_to_head
    from selfreward.evaluation.pairwise.head_to_head import head_to_head as compare
    from selfreward.evaluation.pairwise.result import format_head_to_head

    models = Models(run)
    job = HeadToHeadJob(
        a=a,
        b=b,
        judge=judge,
        prompts=prompts_of(prompts, models, n_max),
        out=out,
        annotator=annotator or DEFAULT_ANNOTATOR,
        max_tokens=max_tokens,
        temperature=temperature,
        models=models,
        terms=terms(engine, max_cost),
        judge_terms=terms(judge_engine, max_cost),
    )
    result = compare(job)
    if models.run is not None:
        publish_head_to_head(models.run, job, result)
    if as_json:
        print_json(result.to_dict())
    else:
        print(format_head_to_head(result))


def prompts_of(file: Path | None, models: Models, n_max: int | None) -> Prompts:
    """The prompts of a file, or the held-out ones of the run."""
    from selfreward.errors import UsageError
    from selfreward.evaluation.ask.answers import read_prompts, run_prompts

    if file is not None:
        return read_prompts(file, n_max)
    if models.run is None:
        raise UsageError("expected --prompts FILE, or --run RUN for the prompts of its EFT eval split")
    return run_prompts(models.run, n_max)

"""`selfreward evaluate label-prompts`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.evaluation.cli.options import JudgeEngine, MaxCost, NMax, RunOption, terms


def label_prompts(
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="json or jsonl with instruction or prompt."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="MODEL", help="The model that labels.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for labels.jsonl and the journal.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Or labels that exist (jsonl), to put into --run.")
    ] = None,
    run: RunOption = None,
    n_max: NMax = None,
    engine: JudgeEngine = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
) -> None:
    """Category, complexity and expected length of prompts, for breakdowns.  Example: selfreward evaluate label-prompts --prompts reference.json --judge openai:… --out labels --run runs/x"""
    from selfreward.errors import UsageError
    from selfreward.evaluation.ask.answers import Models, read_prompts
    from selfreward.evaluation.pairwise import labels as prompt_labels

    models = Models(run)
    if labels is not None:
        found, source = prompt_labels.read_labels(labels), labels.name
    elif prompts is not None and judge is not None and out is not None:
        chosen = read_prompts(prompts, n_max)
        found = prompt_labels.label_prompts(chosen, models.ref(judge), out, terms(engine, max_cost))
        source = chosen.source
    else:
        raise UsageError("label-prompts: expected --prompts FILE --judge MODEL --out DIR, or --labels FILE")
    if models.run is not None:
        prompt_labels.publish_labels(models.run, found, source)
    if as_json:
        print_json([asdict(label) for label in found])
    else:
        print(prompt_labels.format_labels(found))

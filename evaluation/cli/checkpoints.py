"""`selfreward evaluate checkpoints`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.evaluation.cli.compare import PromptsFile, Temperature, prompts_of
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
    from selfreward.evaluation.ask.files import Answers
    from selfreward.evaluation.pairwise.result import HeadToHead


def checkpoints(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT…",
            help="Model folders, model strings or files of answers, in order; or one folder of checkpoint-N.",
        ),
    ],
    judge: Judge,
    out: Out,
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The model training started from, for the first one.")
    ] = None,
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
    """Each checkpoint against the one before, until it no longer wins.  Example: selfreward evaluate checkpoints out/ --prompts v.jsonl --judge openai:… --out sel"""
    from selfreward.engines.base import Sampling
    from selfreward.evaluation.alpaca.annotators import load_annotator
    from selfreward.evaluation.alpaca.run import DEFAULT_ANNOTATOR, annotator_name
    from selfreward.evaluation.ask.answers import GREEDY, Models, answers_of
    from selfreward.evaluation.ask.requests import asking
    from selfreward.evaluation.pairwise.checkpoints import format_selection, judge_with, select_checkpoint
    from selfreward.evaluation.pairwise.head_to_head import HeadToHeadJob, publish_head_to_head
    from selfreward.store import durable, lock

    models = Models(run)
    chosen = prompts_of(prompts, models, n_max)
    sampling = Sampling(temperature, GREEDY.top_p, max_tokens)
    template = load_annotator(annotator or DEFAULT_ANNOTATOR)
    judge_ref = models.ref(judge)

    def answers(source: str) -> Answers:
        return answers_of(source, chosen, models, out, terms(engine, max_cost), sampling)

    def each() -> Iterator[Answers]:
        for source in expand(folders):
            yield answers(source)

    def compare(previous: Answers, new: Answers) -> HeadToHead:
        """The judge is opened for each comparison: it need not fit into memory beside a checkpoint."""
        asked_on = models.terms_for(judge, terms(judge_engine, max_cost))
        with asking(judge_ref, out / ".work", "verdicts", asked_on) as asked:
            return judge_with(asked, template, annotator_name(template, judge_ref))(previous, new)

    with lock.hold(durable.make_folder(out), "selfreward evaluate checkpoints"):
        selection = select_checkpoint(each(), compare, answers(start) if start else None)
    for step in selection.steps:
        if models.run is not None and step.result is not None:
            pair = HeadToHeadJob(
                str(step.against), step.checkpoint, judge, chosen, out, template.name, max_tokens, temperature
            )
            publish_head_to_head(models.run, pair, step.result, "checkpoints")
    if as_json:
        print_json({"chosen": selection.chosen, "steps": [step.to_dict() for step in selection.steps]})
    else:
        print(format_selection(selection))


def expand(sources: list[str]) -> list[str]:
    """Folders become `hf:` models; a folder of `checkpoint-N` becomes these, by number."""
    from selfreward.errors import UsageError

    found: list[str] = []
    for source in sources:
        path = Path(source)
        if not path.is_dir():
            found.append(source)
        elif (path / "config.json").is_file():
            found.append(f"hf:{path}")
        else:
            numbered = [
                (int(m[1]), p) for p in path.iterdir() if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))
            ]
            if not numbered:
                raise UsageError(
                    f"{source}: is no model folder (no config.json) and holds no checkpoint-N folders"
                )
            found += [f"hf:{p}" for _, p in sorted(numbered)]
    return found

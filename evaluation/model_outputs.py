"""`model_outputs`: model M_k answers the evaluation prompts (AlpacaEval's 805, or the EFT eval split's).

    {"output_id": "out-…", "iteration": 2, "instruction": "What is …", "output": "…", "generator": "M2@91ab…",
     "reference": "…", "reference_generator": "human", "finish_reason": "stop", "n_tokens": 58, …}

Greedy, one answer each.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from selfreward.config.evaluation import AlpacaConfig
from selfreward.config.run import RunConfig
from selfreward.engines.base import Request
from selfreward.errors import EmptyResultError
from selfreward.estimate.requests import Known, Requests
from selfreward.notes import OutputsNotes
from selfreward.steps.generation import Generation
from selfreward.steps.reuse import differs_only_unused
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.recipe import Recipe
from selfreward.store.run import Counts, Run
from selfreward.store.version import Version
from selfreward.tables import DatasetName, ModelOutput, to_table

NAME = "evaluation.model_outputs"
VERSION = 1
EFT_EVAL = "eft_eval"


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each trained model, unless `evaluate.alpaca` is null."""
    alpaca = config.alpaca
    if alpaca is None or iteration == 0:
        return None
    from_eft = alpaca.prompts == EFT_EVAL
    return Plan(
        name=str(DatasetName("model_outputs", iteration)),
        module=__name__,
        inputs={"eft": "eft"} if from_eft else {},
        files={} if from_eft else {"prompts": Path(alpaca.prompts)},
        models={"model": f"M{iteration}"},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "alpaca": alpaca.model_dump(include={"max_tokens", "n_max"}),
            "engine": config.engine.keyed(),
        },
        requests=partial(_planned, alpaca, config.seed),
    )


def _planned(alpaca: AlpacaConfig, seed: int, known: Known) -> list[Requests] | None:
    prompts = planned_prompts(alpaca, known)
    return None if prompts is None else [Requests(_requests(prompts, alpaca, seed))]


def planned_prompts(alpaca: AlpacaConfig, known: Known) -> list[dict[str, Any]] | None:
    """The prompts to answer; None while they are unknown."""
    file = None if alpaca.prompts == EFT_EVAL else Path(alpaca.prompts)
    if file is None and "eft" not in known:
        return None
    return evaluation_prompts(file, known.get("eft"))[: alpaca.n_max]


def reusable(run: Run, recipe: Recipe) -> Version | None:
    """A version whose EFT differs only in columns that are not used here."""
    # new judgements in EFT change neither the prompts answered nor their reference answers
    return differs_only_unused(run, recipe, "eft", partial(evaluation_prompts, None))


def build(job: Job) -> Rows:
    """Answer every evaluation prompt."""
    settings = job.section("alpaca", AlpacaConfig)
    prompts = evaluation_prompts(job.files.get("prompts"), job.inputs.get("eft"))
    left_out = max(0, len(prompts) - settings.n_max) if settings.n_max else 0
    prompts = prompts[: settings.n_max]
    if not prompts:
        raise EmptyResultError(
            f"{job.name}: there are no evaluation prompts; name a file in evaluate.alpaca.prompts, or set evaluate.alpaca to null"
        )
    requests = _requests(prompts, settings, job.seed)
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        completions = generation.complete(requests, "answers")
        asked = generation.notes()
    rows = []
    for request, prompt in zip(requests, prompts, strict=True):
        completion = completions[request.id, 0]
        # NULL and counted as missing, never an empty text, which would be judged
        failed = completion.finish_reason == "error"
        rows.append(
            ModelOutput(
                output_id=request.id,
                iteration=job.iteration,
                instruction=prompt["instruction"],
                dataset=prompt["dataset"],
                output=None if failed else completion.text,
                generator=job.models["model"].name,
                finish_reason=completion.finish_reason,
                n_tokens=completion.n_tokens,
                n_chars=0 if failed else len(completion.text),
                reference=prompt["output"],
                reference_generator=prompt["generator"],
                error=completion.error,
            )
        )
    notes = OutputsNotes(generation=asked, prompts_left_out_by_n_max=left_out)
    return Rows(to_table(rows, ModelOutput), Counts(len(rows), len(rows), notes=notes.stored()))


def _requests(prompts: list[dict[str, Any]], settings: AlpacaConfig, seed: int) -> list[Request]:
    from selfreward.evaluation.ask.answers import answer_requests, greedy

    return answer_requests((prompt["instruction"] for prompt in prompts), greedy(settings.max_tokens), seed)


def evaluation_prompts(file: Path | None, eft: Version | None) -> list[dict[str, Any]]:
    """instruction, dataset, output (the reference answer) and generator, one for each prompt."""
    if file is not None:
        from selfreward.evaluation.ask.files import read_answers

        answers = read_answers(file)
        return [
            {
                "instruction": instruction,
                "dataset": answers.datasets[instruction],
                "output": text or "",
                "generator": answers.generator or "reference",
            }
            for instruction, text in answers.outputs.items()
        ]
    best: dict[str, dict[str, Any]] = {}
    # the reference is the best human reply; of equal ranks the first
    for row in eft.table().to_pylist() if eft else []:
        known = best.get(row["prompt"])
        if row["split"] == "eval" and (known is None or row["human_rank"] < known["human_rank"]):
            best[row["prompt"]] = row
    return [
        {"instruction": prompt, "dataset": EFT_EVAL, "output": row["response"], "generator": "human"}
        for prompt, row in best.items()
    ]

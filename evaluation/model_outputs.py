"""`model_outputs`: model M_k answers the evaluation prompts (AlpacaEval's 805, or the EFT eval split's).

    {"output_id": "out-…", "iteration": 2, "instruction": "What is …", "output": "…", "generator": "M2@91ab…",
     "reference": "…", "reference_generator": "human", "finish_reason": "stop", "n_tokens": 58, …}

Greedy, one answer each. An answer the engine failed on is NULL and counted as missing, never as an empty text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfreward.config.run import AlpacaConfig, RunConfig
from selfreward.engines.base import Request, Sampling
from selfreward.errors import EmptyResultError
from selfreward.notes import OutputsNotes
from selfreward.steps.generation import Generation
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import Message, ModelOutput, row_id, to_table

NAME = "evaluation.model_outputs"
VERSION = 1
EFT_EVAL = "eft_eval"


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each trained model, unless `evaluate.alpaca` is null."""
    alpaca = config.evaluate.alpaca
    if alpaca is None or iteration == 0:
        return None
    from_eft = alpaca.prompts == EFT_EVAL
    return Plan(
        name=f"iter{iteration}/model_outputs",
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
    )


def build(job: Job) -> Rows:
    """Answer every evaluation prompt."""
    settings = job.section("alpaca", AlpacaConfig)
    prompts = evaluation_prompts(job)
    left_out = max(0, len(prompts) - settings.n_max) if settings.n_max else 0
    prompts = prompts[: settings.n_max]
    if not prompts:
        raise EmptyResultError(f"{job.name}: there are no evaluation prompts; see evaluate.alpaca.prompts")
    sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=settings.max_tokens)
    ids = [row_id("out", prompt["instruction"]) for prompt in prompts]
    requests = [
        Request(i, (Message("user", prompt["instruction"]),), sampling, 1, job.seed)
        for i, prompt in zip(ids, prompts, strict=True)
    ]
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        completions = generation.complete(requests, "answers")
        asked = generation.notes()
    rows = []
    for output_id, prompt in zip(ids, prompts, strict=True):
        completion = completions[output_id, 0]
        failed = completion.finish_reason == "error"
        rows.append(
            ModelOutput(
                output_id=output_id,
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


def evaluation_prompts(job: Job) -> list[dict[str, Any]]:
    """instruction, dataset, output (the reference answer) and generator, one for each prompt."""
    if "prompts" in job.files:
        from selfreward.evaluation.ask.files import read_answers

        answers = read_answers(job.files["prompts"])
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
    for row in job.table("eft").to_pylist():
        known = best.get(row["prompt"])
        if row["split"] == "eval" and (known is None or row["human_rank"] < known["human_rank"]):
            best[row["prompt"]] = row
    return [
        {"instruction": prompt, "dataset": EFT_EVAL, "output": row["response"], "generator": "human"}
        for prompt, row in best.items()
    ]

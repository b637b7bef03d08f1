"""`M<k+1>`: M_k trained by DPO on iteration k's pairs, with M_k as the reference (paper section 2.3).

With `meta`, the pairs of judgements are trained on in the same step (arXiv 2407.19594).
"""

from __future__ import annotations

from pathlib import Path

from selfreward.config.run import PairsConfig, RunConfig
from selfreward.config.training import DpoConfig
from selfreward.engines.references import trainable
from selfreward.errors import EmptyResultError
from selfreward.steps.step import Job, Plan
from selfreward.store.run import Counts
from selfreward.summary.facts import summarize
from selfreward.summary.funnel import format_funnel
from selfreward.tables import DatasetName
from selfreward.training.launch import ask_gate, gate_settings, require_judge_pairs, train
from selfreward.training.make_sft import training_counts

NAME = "training.make_dpo"
VERSION = 1


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each pairs version, start model and set of parameters."""
    data = ("pairs", "judge_pairs") if config.meta else ("pairs",)
    return Plan(
        name=f"M{iteration + 1}",
        module=__name__,
        inputs={role: str(DatasetName(role, iteration)) for role in data},
        models={"base": f"M{iteration}"},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "dpo": config.dpo.keyed(),
            "pairs": config.pairs.model_dump(include={"min_pairs"}),
            **({"meta": config.meta.model_dump(include={"min_pairs"})} if config.meta else {}),
        },
        unkeyed={"dpo": config.dpo.model_dump(mode="json"), **gate_settings(config)},
    )


def build(job: Job, folder: Path) -> Counts:
    """Train, unless there are too few pairs to train on."""
    least = job.section("pairs", PairsConfig).min_pairs
    found = job.inputs["pairs"].n_rows
    if found < least:
        raise EmptyResultError(
            f"{job.name}: found {found} pairs, too few to train on; expected at least {least} (pairs.min_pairs).\n"
            f"{_funnel(job)}\n"
            "More prompts (prompts.n), more judgements (judging.samples) or a better judge (more EFT rows) give more pairs."
        )
    require_judge_pairs(job)
    settings = DpoConfig.model_validate(job.unkeyed["dpo"])
    gate = ask_gate(job)
    base = trainable(job.models["base"])
    return training_counts(
        gate, train(job, "selfreward.training.dpo", folder, base, list(job.inputs.values()), settings)
    )


def _funnel(job: Job) -> str:
    iterations = summarize(job.run).iterations
    return "\n".join(format_funnel(i.funnel, {}) for i in iterations if i.number == job.iteration)

"""`M<k+1>` by SFT on good answers alone: M0 fine-tuned on IFT, EFT and the chosen answers of the pairs (`update: sft`).

The paper's comparison (section 3.2.2): 11,254 answers with the perfect score added to the seed data gave no gain.
`pairs.rule: positive_only` keeps the prompts with such an answer; of each pair the chosen one is trained on.
"""

from __future__ import annotations

from pathlib import Path

from selfreward.config.judging import PairsConfig
from selfreward.config.run import RunConfig
from selfreward.config.training import SftConfig
from selfreward.engines.references import trainable
from selfreward.steps.step import Job, Plan
from selfreward.store.run import Counts
from selfreward.training.arms.training_pairs import pairs_used, require_pairs
from selfreward.training.launch import ask_gate, gate_settings, train
from selfreward.training.make_sft import seed_data, training_counts

NAME = "training.make_positive"
VERSION = 1


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each pairs version and set of parameters; None unless `update: sft`."""
    if config.update != "sft":
        return None
    return Plan(
        name=f"M{iteration + 1}",
        module=__name__,
        inputs={**seed_data(config), **pairs_used(config, iteration)},
        models={"base": "M0"},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "sft": config.sft.keyed(),
            "pairs": config.pairs.model_dump(include={"min_pairs"}),
        },
        unkeyed={"sft": config.sft.model_dump(mode="json"), **gate_settings(config)},
    )


def build(job: Job, folder: Path) -> Counts:
    """Fine-tune M0 on all of it."""
    require_pairs(job, job.section("pairs", PairsConfig).min_pairs)
    settings = SftConfig.model_validate(job.unkeyed["sft"])
    gate = ask_gate(job)
    base, data = trainable(job.models["base"]), list(job.inputs.values())
    return training_counts(gate, train(job, "selfreward.training.sft", folder, base, data, settings))

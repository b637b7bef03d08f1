"""`M<k+1>`: M_k trained by DPO on iteration k's pairs, with M_k as the reference (paper section 2.3).

By configuration: on earlier pairs too (`pairs.use`), from M1 (`dpo.start`), against M1 (`dpo.reference`), with another
loss (`dpo.loss`); docs/arms.md.
With `meta`, the pairs of judgements are trained on in the same step (arXiv 2407.19594).
"""

from __future__ import annotations

from pathlib import Path

from selfreward.config.judging import PairsConfig
from selfreward.config.run import RunConfig
from selfreward.config.training import DpoConfig
from selfreward.engines.references import trainable
from selfreward.steps.step import Job, Plan
from selfreward.store.run import Counts
from selfreward.tables import DatasetName
from selfreward.training.arms.training_pairs import pairs_used, require_pairs
from selfreward.training.launch import ask_gate, gate_settings, require_judge_pairs, train
from selfreward.training.make_sft import training_counts

NAME = "training.make_dpo"
VERSION = 1


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each pairs version, start model and set of parameters; None if `update` is not `dpo`."""
    if config.update != "dpo":
        return None
    base, reference = (
        "M1" if which == "first" else f"M{iteration}" for which in (config.dpo.start, config.dpo.reference)
    )
    judged = {"judge_pairs": str(DatasetName("judge_pairs", iteration))} if config.meta else {}
    return Plan(
        name=f"M{iteration + 1}",
        module=__name__,
        inputs={**pairs_used(config, iteration), **judged},
        # A reference that is the start model needs no second model in memory.
        models={"base": base} if base == reference else {"base": base, "reference": reference},
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
    require_pairs(job, job.section("pairs", PairsConfig).min_pairs)
    require_judge_pairs(job)
    settings = DpoConfig.model_validate(job.unkeyed["dpo"])
    gate = ask_gate(job)
    base = trainable(job.models["base"])
    reference = trainable(job.models["reference"]) if "reference" in job.models else None
    data = list(job.inputs.values())
    return training_counts(
        gate, train(job, "selfreward.training.dpo", folder, base, data, settings, reference)
    )

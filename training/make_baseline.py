"""`SFT`, the paper's baseline: M0 fine-tuned on IFT alone. Trained only if it must write the EFT targets."""

from __future__ import annotations

from pathlib import Path

from selfreward.config.run import RunConfig
from selfreward.config.training import SftConfig
from selfreward.engines.references import trainable
from selfreward.steps.step import Job, Plan
from selfreward.store.run import Counts
from selfreward.training.launch import ask_gate, gate_settings, train
from selfreward.training.make_sft import training_counts

NAME = "training.make_baseline"
VERSION = 1


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """None if the seeds' own judgements are the EFT targets, or without EFT."""
    if config.eft is None or config.eft.targets != "generated":
        return None
    return Plan(
        name="SFT",
        module=__name__,
        inputs={"ift": "ift"},
        models={"base": "M0"},
        params={"seed": config.seed, "sft": config.sft.keyed()},
        unkeyed={"sft": config.sft.model_dump(mode="json"), **gate_settings(config)},
    )


def build(job: Job, folder: Path) -> Counts:
    """Fine-tune M0 on the IFT rows."""
    settings = SftConfig.model_validate(job.unkeyed["sft"])
    gate = ask_gate(job)
    base = trainable(job.models["base"])
    return training_counts(
        gate, train(job, "selfreward.training.sft", folder, base, [job.inputs["ift"]], settings)
    )

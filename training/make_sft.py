"""`M1`: M0 fine-tuned on IFT and EFT together (paper section 2.1: instruction following and judging in one model)."""

from __future__ import annotations

from pathlib import Path

from selfreward.config.run import RunConfig
from selfreward.config.training import SftConfig
from selfreward.engines.references import trainable
from selfreward.notes import JsonObject, TrainingNotes
from selfreward.steps.step import Job, Plan
from selfreward.store.run import Counts
from selfreward.training.launch import Gate, ask_gate, gate_settings, train

NAME = "training.make_sft"
VERSION = 1


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each IFT and EFT version and each set of parameters."""
    return Plan(
        name="M1",
        module=__name__,
        inputs=seed_data(config),
        models={"base": "M0"},
        params={"seed": config.seed, "sft": config.sft.keyed()},
        unkeyed={"sft": config.sft.model_dump(mode="json"), **gate_settings(config)},
    )


def build(job: Job, folder: Path) -> Counts:
    """Fine-tune M0 on all IFT rows and the accepted EFT training rows."""
    settings = SftConfig.model_validate(job.unkeyed["sft"])
    gate = ask_gate(job)
    base = trainable(job.models["base"])
    data = list(job.inputs.values())
    return training_counts(gate, train(job, "selfreward.training.sft", folder, base, data, settings))


def seed_data(config: RunConfig) -> dict[str, str]:
    """The datasets cut from the seeds; without EFT (`eft: null`) IFT alone."""
    return {"ift": "ift", "eft": "eft"} if config.eft else {"ift": "ift"}


def training_counts(gate: Gate, report: JsonObject) -> Counts:
    """The accounting of a training step, with its results as notes."""
    rows = report["rows"]
    notes = TrainingNotes(
        gate=gate.verdict,
        warnings=gate.warnings,
        gate_thresholds=gate.gate_thresholds,
        **{name: report.get(name) for name in ("effect", "metrics", "seconds", "preflight")},
    )
    return Counts(rows["in"], rows["out"], rows["dropped"], notes.stored())

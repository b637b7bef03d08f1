"""How long a training step will take: two batches are trained for real, and their time is scaled by tokens.

The step's own `build` runs in a temporary folder with `max_steps: 2`; starting, loading and saving are counted once, the
effect by its rows. Of pairs only a few are given to it, because DPO first reads all of them with the reference: that pass
is put at a third of the time that training on the rows takes (no backward pass).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from selfreward.estimate.ranges import Range
from selfreward.steps.step import Job, Plan, stage_module
from selfreward.store.run import Counts
from selfreward.store.version import Version

STEPS = 2
EFFECT_ROWS = 4
REFERENCE_SHARE = {"dpo": 1 / 3}


@dataclass(frozen=True)
class TrainingProbe:
    """What two steps took, and what the whole training is."""

    n_rows: int
    """Rows to train on of those given; all of them but for pairs."""
    settings: dict[str, Any]
    fixed_s: float
    effect_row_s: float
    row_s: float
    """Of one row of mean length, once through."""
    reference_share: float
    sentence: str

    def seconds(self, n_rows: Range) -> Range:
        """The whole step."""
        return n_rows.each(self._seconds)

    def _seconds(self, n_rows: float) -> float:
        steps, batch = self.settings["max_steps"], self.settings["batch_size"]
        n_trained = steps * batch if steps else n_rows * self.settings["epochs"]
        n_effect = min(self.settings["effect_rows"], n_rows)
        reference = n_rows * self.reference_share
        seconds: float = self.fixed_s + (n_trained + reference) * self.row_s + n_effect * self.effect_row_s
        return seconds


def probe_training(job: Job, plan: Plan) -> TrainingProbe:
    """Train two batches with the step's own code. TrainingError where the step would fail anyway."""
    section = next(name for name in plan.unkeyed if name != "gate")
    settings = dict(plan.unkeyed[section])
    few = {"max_steps": STEPS, "effect_rows": min(EFFECT_ROWS, settings["effect_rows"]), "resume": "scratch"}
    least = max(STEPS * settings["batch_size"], plan.params.get("pairs", {}).get("min_pairs", 0))
    inputs = {
        role: _first(job, version, least) if role == "pairs" else version
        for role, version in job.inputs.items()
    }
    job = replace(job, inputs=inputs, unkeyed={section: {**settings, **few}, "gate": False})
    with tempfile.TemporaryDirectory(dir=job.work) as folder:
        stage_module(plan.module).build(job, Path(folder))
        report = json.loads((Path(folder) / "training.json").read_text(encoding="utf-8"))
    return _read(report, settings, REFERENCE_SHARE.get(section, 0.0))


def _first(job: Job, version: Version, n: int) -> Version:
    """The first rows of a version, as a version of the temporary run."""
    table = version.table().slice(0, n)
    recipe = replace(job.recipe, name=version.name, params={"first": n})
    return job.run.publish_table(recipe, table, Counts(table.num_rows, table.num_rows))


def _read(report: dict[str, Any], settings: dict[str, Any], reference_share: float) -> TrainingProbe:
    n_rows, tokens = report["rows"]["out"], report["preflight"]["tokens"]
    n_steps, seconds = report["metrics"]["steps"], report["training_seconds"]
    row_tokens = tokens / n_rows
    token_s = seconds / (report["tokens_seen"] or n_steps * settings["batch_size"] * row_tokens)
    return TrainingProbe(
        n_rows=n_rows,
        settings=settings,
        fixed_s=report["seconds"] - seconds - report["effect_seconds"],
        effect_row_s=report["effect_seconds"] / report["effect"]["rows"],
        row_s=row_tokens * token_s,
        reference_share=reference_share,
        sentence=f"measured: {n_steps} steps, {report['tokens_seen']:,} tokens in {seconds:.1f} s; rows have "
        f"{row_tokens:.0f} tokens on average; checkpoints of an interrupted training are not taken off",
    )

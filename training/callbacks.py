"""Progress, warnings, the stop on a non-finite loss, and checkpoints that are safe to resume from.

A checkpoint is resumed from if it is complete and belongs to the same training. The trainer fills `checkpoint-200/`
file by file; a kill in the middle leaves a folder that looks like a checkpoint. So a seal is written last, when every
process is done and every file is durable: the names and sizes of all files, and the key of the training. A folder
without a seal, or that differs from it, is never read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

from selfreward.errors import TrainingError
from selfreward.progress import bar, say
from selfreward.store import durable
from selfreward.training.ranks import processes

SEAL = "whole.json"
CURVE_POINTS = 200
_DPO = ("rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")
# Nats. Without dropout the first loss is ln 2 except for rounding, which is less than 0.01 in bfloat16.
FIRST_LOSS_TOLERANCE = 0.1


class StepBar(TrainerCallback):  # type: ignore[misc]
    """Optimizer steps with rate and estimate on stderr, in place of transformers' bars and printed dictionaries."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._bar = bar(state.max_steps, self.name, "step", initial=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if self._bar is not None and "loss" in logs:
            self._bar.set_postfix_str(f"loss {float(logs['loss']):.4f}", refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.close()


class StopOnNan(TrainerCallback):  # type: ignore[misc]
    """TrainingError at the first step whose loss or gradient is not finite."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        # One NaN update makes all weights NaN: every later hour would be wasted.
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(float(logs[name])):
                raise TrainingError(
                    f"{name} is {logs[name]} at step {state.global_step} of {state.max_steps}: training diverged; "
                    "lower the learning rate, or use precision: float32"
                )


class WarnOfFirstLoss(TrainerCallback):  # type: ignore[misc]
    """DPO starts at ln 2, since the policy equals its reference; otherwise training first undoes the difference."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if "loss" not in logs or state.global_step != 1 or not state.is_world_process_zero:
            return
        loss, expected = float(logs["loss"]), math.log(2)
        if abs(loss - expected) > FIRST_LOSS_TOLERANCE:
            say(
                f"dpo: warning: the first loss is {loss:.2f}; a policy that equals its reference has ln 2 = "
                f"{expected:.2f}. Dropout is the cause: the policy is evaluated with it, the reference without, and the "
                "first steps only undo the difference; set dropout: 0.0 if there are few pairs (docs/experiments.md)"
            )


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Seals each checkpoint once all processes have written their part."""

    def __init__(self, key: str) -> None:
        self.key = key

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        distributed = processes()
        distributed.wait_for_everyone()
        if distributed.is_main_process:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.key)


def seal(folder: Path, key: str) -> None:
    """Mark a checkpoint as complete."""
    sizes = _sizes(folder)
    for name in sizes:
        durable.sync_file(folder / name)
    durable.replace_file(folder / SEAL, json.dumps({"key": key, "bytes": sizes}).encode())


def last_whole(checkpoints: Path, key: str) -> Path | None:
    """The latest complete checkpoint of the training `key`, or None."""
    folders = sorted(checkpoints.glob("checkpoint-*"), key=_step, reverse=True)
    return next((folder for folder in folders if _is_whole(folder, key)), None)


def _is_whole(folder: Path, key: str) -> bool:
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(sealed == {"key": key, "bytes": _sizes(folder)})


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def summarize(history: list[dict[str, Any]]) -> dict[str, Any]:
    """First, last and late values of a trainer's log; means are over the last tenth of the steps, since one is noisy.

    >>> logs = [{"step": 1, "loss": 2.0, "learning_rate": 0.1}, {"step": 2, "loss": 1.0, "learning_rate": 0.05}]
    >>> summarize(logs)["loss_last_tenth"]
    1.0
    """
    steps = [entry for entry in history if "loss" in entry]
    if not steps:
        return {"steps": 0}
    late = steps[-max(1, len(steps) // 10) :]
    stride = -(-len(steps) // CURVE_POINTS)
    summary = {
        "steps": steps[-1]["step"],
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "loss_last_tenth": fmean(entry["loss"] for entry in late),
        "learning_rate_first": steps[0]["learning_rate"],
        "learning_rate_last": steps[-1]["learning_rate"],
        "curve": [[e["step"], e["loss"], e["learning_rate"]] for e in steps[::stride]],
    }
    if _DPO[0] in steps[-1]:
        summary["reward_curve"] = [[e["step"], *(e[name] for name in _DPO)] for e in steps[::stride]]
    for name in _DPO:
        if name in steps[-1]:
            summary[name] = fmean(entry[name] for entry in late)
    return summary

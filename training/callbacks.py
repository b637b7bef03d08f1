"""What is shown while training (one tqdm bar), what is warned of, and what stops it (a loss that is no number)."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback

from selfreward.errors import TrainingError
from selfreward.progress import bar, say

FIRST_LOSS_TOLERANCE = 0.1
"""Nats. Without dropout the first loss is ln 2 but for rounding: in bfloat16 less than 0.01 away."""


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
    """TrainingError at the first step whose loss or gradient is not finite; later weights would be worthless."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(float(logs[name])):
                raise TrainingError(
                    f"{name} is {logs[name]} at step {state.global_step} of {state.max_steps}: training diverged; "
                    "lower the learning rate, or use precision: float32"
                )


class WarnOfFirstLoss(TrainerCallback):  # type: ignore[misc]
    """DPO begins at ln 2, since the policy is its reference; where it does not, training first undoes the difference."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
        if "loss" not in logs or state.global_step != 1 or not state.is_world_process_zero:
            return
        loss, expected = float(logs["loss"]), math.log(2)
        if abs(loss - expected) > FIRST_LOSS_TOLERANCE:
            say(
                f"dpo: warning: the first loss is {loss:.2f}, where a policy that equals its reference has ln 2 = "
                f"{expected:.2f}. Dropout does this: the policy is read with it, the reference without, and the first "
                "steps go into the difference; set dropout: 0.0 if the pairs are few (docs/experiments.md)"
            )

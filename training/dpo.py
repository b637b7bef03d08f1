"""DPO: trains a model on preference pairs with TRL (paper section 2.3; arXiv 2305.18290, equation 7).

    python -P -m selfreward.training.dpo --model M1 --data PAIRS --out M2 --work WORK --config params.json
    accelerate launch --config_file training/accelerate/cpu2.yaml -m selfreward.training.dpo --model …

The reference is the start model, unless `--reference` names another. Its log-probabilities are computed once, before the
first step and with dropout off. Other losses than the paper's: docs/arms.md. Runs in its own process; parameters: `selfreward.config.training.DpoConfig`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selfreward.config.training import DpoConfig, TrainingConfig
from selfreward.training.arms import kto
from selfreward.training.process import main

if TYPE_CHECKING:
    from selfreward.training.data import Row
    from selfreward.training.preflight import Checked
    from selfreward.training.run import Method


def method() -> Method:
    """DPO for `selfreward.training.run`: its rows, the columns that hold answers, its trainer."""
    from selfreward.training.data import dpo_rows
    from selfreward.training.run import Method

    return Method("dpo", _encode, dpo_rows, ("chosen", "rejected"), "pair", _trainer)


def _encode(kept: Sequence[Checked], config: TrainingConfig) -> list[Row]:
    # Messages, because TRL 1.16 takes no token ids for pairs. A test asserts that it splits them as the preflight does.
    rows = [checked.row for checked in kept]
    return kto.taken_apart(rows) if _is_kto(config) else rows


def _is_kto(config: TrainingConfig) -> bool:
    assert isinstance(config, DpoConfig)
    return config.loss == "kto"


def _trainer(config: TrainingConfig, arguments: dict[str, Any], others: dict[str, Any]) -> Any:
    from trl import DPOConfig, DPOTrainer

    from selfreward.training.callbacks import WarnOfFirstLoss

    assert isinstance(config, DpoConfig)
    if _is_kto(config):
        return kto.trainer(config, arguments, others)
    # Only this loss of a policy that is its own reference begins at ln 2.
    warned = [WarnOfFirstLoss()] if config.loss == "sigmoid" and not _is_changed(config, others) else []
    callbacks = [*others.get("callbacks", ()), *warned]
    own = {"beta": config.beta, "disable_dropout": False, "precompute_ref_log_probs": True, **_loss(config)}
    return DPOTrainer(args=DPOConfig(**own, **arguments), **{**others, "callbacks": callbacks})


def _is_changed(config: DpoConfig, others: dict[str, Any]) -> bool:
    """Whether the loss has a further term, or another reference than the start model."""
    return bool(config.sft_weight) or "ref_model" in others


def _loss(config: DpoConfig) -> dict[str, Any]:
    """TRL's arguments for another loss than the paper's."""
    told: dict[str, Any] = {"loss_type": [config.loss]}
    if config.sft_weight:
        # TRL's successor of `rpo_alpha`: a second loss with a weight.
        told = {"loss_type": [config.loss, "sft"], "loss_weights": [1.0, config.sft_weight]}
    return told | ({"label_smoothing": config.label_smoothing} if config.label_smoothing else {})


if __name__ == "__main__":
    sys.exit(main("dpo", DpoConfig, method))

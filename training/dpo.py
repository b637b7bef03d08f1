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
from selfreward.training.arms.losses import begins_at_ln_2, loss_arguments
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
    assert isinstance(config, DpoConfig)
    return kto.taken_apart(rows) if config.loss == "kto" else rows


def _trainer(config: TrainingConfig, arguments: dict[str, Any], others: dict[str, Any]) -> Any:
    from trl import DPOConfig, DPOTrainer

    from selfreward.training.callbacks import WarnOfFirstLoss

    assert isinstance(config, DpoConfig)
    if config.loss == "kto":
        return kto.trainer(config, arguments, others)
    warned = [WarnOfFirstLoss()] if begins_at_ln_2(config, others) else []
    callbacks = [*others.get("callbacks", ()), *warned]
    own = {
        "beta": config.beta,
        "disable_dropout": False,
        "precompute_ref_log_probs": True,
        **loss_arguments(config),
    }
    return DPOTrainer(args=DPOConfig(**own, **arguments), **{**others, "callbacks": callbacks})


if __name__ == "__main__":
    sys.exit(main("dpo", DpoConfig, method))

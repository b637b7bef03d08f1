"""DPO: trains a model on one iteration's preference pairs with TRL (paper section 2.3; arXiv 2305.18290, equation 7).

    python -P -m selfreward.training.dpo --model M1 --data PAIRS --out M2 --work WORK --config params.json
    accelerate launch --config_file training/accelerate/cpu2.yaml -m selfreward.training.dpo --model …

The reference is the start model. Its log-probabilities are computed once, before the first step and with dropout off,
so that no second model stays in memory. Runs in its own process; parameters: `selfreward.config.training.DpoConfig`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from selfreward.config.training import DpoConfig, TrainingConfig
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


def _encode(checked: Checked) -> Row:
    # Messages, because TRL 1.16 takes no token ids for pairs. A test asserts that it splits them as the preflight does.
    return checked.row


def _trainer(config: TrainingConfig, arguments: dict[str, Any], others: dict[str, Any]) -> Any:
    from trl import DPOConfig, DPOTrainer

    from selfreward.training.callbacks import WarnOfFirstLoss

    assert isinstance(config, DpoConfig)
    callbacks = [*others.get("callbacks", ()), WarnOfFirstLoss()]
    own = {"beta": config.beta, "disable_dropout": False, "precompute_ref_log_probs": True}
    return DPOTrainer(args=DPOConfig(**own, **arguments), **{**others, "callbacks": callbacks})


if __name__ == "__main__":
    sys.exit(main("dpo", DpoConfig, method))

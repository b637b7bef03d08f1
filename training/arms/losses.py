"""Other losses than the paper's, as TRL's DPOTrainer takes them (docs/arms.md)."""

from __future__ import annotations

from typing import Any

from selfreward.config.training import DpoConfig


def loss_arguments(config: DpoConfig) -> dict[str, Any]:
    """The keyword arguments of `trl.DPOConfig` about the loss, beside `beta`."""
    told: dict[str, Any] = {"loss_type": [config.loss]}
    if config.sft_weight:
        # TRL's successor of `rpo_alpha`: a second loss with a weight.
        told = {"loss_type": [config.loss, "sft"], "loss_weights": [1.0, config.sft_weight]}
    return told | ({"label_smoothing": config.label_smoothing} if config.label_smoothing else {})


def begins_at_ln_2(config: DpoConfig, others: dict[str, Any]) -> bool:
    """Whether the first loss is ln 2: the paper's loss alone, of a policy that is its own reference."""
    return config.loss == "sigmoid" and not config.sft_weight and "ref_model" not in others

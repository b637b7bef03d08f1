"""KTO on the answers of pairs taken apart: each is good or bad by itself (arXiv 2402.01306), with TRL's KTOTrainer.

TRL compares a prompt with the answer of the row before it in the batch, and keeps the order of the rows. So they are
ordered as in the export form `unpaired`: no row follows one of its own prompt, and each batch has both labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selfreward.config.training import DpoConfig
from selfreward.errors import TrainingError

if TYPE_CHECKING:
    from selfreward.training.data import Row


def taken_apart(pairs: Sequence[Row]) -> list[Row]:
    """Two rows for each pair, with the label of the answer. TrainingError if too few prompts differ."""
    import numpy as np

    from selfreward.exchange.trainer_forms import kto_order

    numbers: dict[str, int] = {}
    prompts = [numbers.setdefault(str(pair["prompt"]), len(numbers)) for pair in pairs]
    order, labels, is_good = kto_order(np.array(prompts))
    if not is_good:
        raise TrainingError(
            f"dpo.loss kto: {len(pairs)} pairs of {len(numbers)} prompts have no order in which no answer follows one to its "
            "own prompt, and TRL's baseline would be biased; add pairs of other prompts, or use another loss"
        )
    return [
        {
            "prompt": pairs[i]["prompt"],
            "completion": pairs[i]["chosen" if good else "rejected"],
            "label": good,
        }
        for i, good in zip(order.tolist(), labels.tolist(), strict=True)
    ]


def trainer(config: DpoConfig, arguments: dict[str, Any], others: dict[str, Any]) -> Any:
    """TRL's trainer; `batch_size` counts answers here."""
    from trl import KTOConfig, KTOTrainer

    per_device = arguments["per_device_train_batch_size"]
    if per_device % 2:
        raise TrainingError(
            f"dpo.loss kto: {per_device} answers at once on a device are no even number; set dpo.batch_size and "
            "dpo.per_device_batch_size to even ones"
        )
    own = {
        "beta": config.beta,
        "disable_dropout": False,
        "precompute_ref_log_probs": True,
        "train_sampling_strategy": "sequential",
    }
    return KTOTrainer(args=KTOConfig(**{**arguments, **own}), **others)

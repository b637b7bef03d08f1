"""SFT: fine-tunes a model on IFT and EFT rows with TRL, loss on the target's tokens only (paper section 2.1).

    python -P -m selfreward.training.sft --model M0 --data IFT --data EFT --out M1 --work WORK --config params.json
    accelerate launch --config_file training/accelerate/cpu2.yaml -m selfreward.training.sft --model …

Runs in its own process, so that its memory is freed. Parameters: `selfreward.config.training.SftConfig`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selfreward.config.training import SftConfig, TrainingConfig
from selfreward.training.process import main

if TYPE_CHECKING:
    from selfreward.training.data import Row
    from selfreward.training.preflight import Checked
    from selfreward.training.run import Method


def method() -> Method:
    """SFT for `selfreward.training.run`: its rows, the columns that hold answers, its trainer."""
    from selfreward.training.data import sft_rows
    from selfreward.training.run import Method

    return Method("sft", _encode, sft_rows, ("completion",), "row", _trainer)


def _encode(kept: Sequence[Checked], config: TrainingConfig) -> list[Row]:
    if isinstance(config, SftConfig) and config.order == "by_prompt":
        kept = by_prompt(kept, config.batch_size, config.seed)
    # The preflight's tokens, which TRL takes as they are: tokenizing again could split a row differently.
    return [
        {
            "input_ids": side.prompt + side.answer,
            "completion_mask": [0] * len(side.prompt) + [1] * len(side.answer),
        }
        for checked in kept
        for side in checked.sides
    ]


def by_prompt(kept: Sequence[Checked], batch_size: int, seed: int) -> list[Checked]:
    """The rows of a prompt one after the other and, where they fit, in one optimizer step; prompts in a random order."""
    groups: dict[str, list[Checked]] = {}
    for checked in kept:
        groups.setdefault(checked.row["group"], []).append(checked)
    draw = random.Random(seed)
    shuffled = list(groups.values())
    draw.shuffle(shuffled)
    full: list[list[Checked]] = []
    filling: list[list[Checked]] = []
    for group in shuffled:
        # Within a prompt too: always the better one first would be a rule to learn.
        group = draw.sample(group, len(group))
        batch = next((one for one in filling if len(one) + len(group) <= batch_size), None)
        if batch is None:
            batch = []
            filling.append(batch)
        batch += group
        if len(batch) >= batch_size:
            filling.remove(batch)
            full.append(batch)
    return [row for batch in (*full, *filling) for row in batch]


def _trainer(config: TrainingConfig, arguments: dict[str, Any], others: dict[str, Any]) -> Any:
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(args=SFTConfig(completion_only_loss=True, packing=False, **arguments), **others)


if __name__ == "__main__":
    sys.exit(main("sft", SftConfig, method))

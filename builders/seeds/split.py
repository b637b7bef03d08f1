"""Which seed prompts become EFT eval, EFT train and IFT rows: disjoint by prompt, alike in every builder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from selfreward.config.data import SplitConfig
from selfreward.tables import Seed

Part = Literal["ift", "eft_train", "eft_eval"]


def split_prompts(seeds: Sequence[Seed], settings: SplitConfig, seed: int) -> dict[str, Part]:
    """prompt_id -> part. EFT parts come from prompts with at least two different human ranks (paper section 3.1.1)."""
    # By normalized text, so that equal prompts under two ids land on the same side.
    texts = {row.prompt_id: _normal(row.prompt) for row in seeds}
    ranks: dict[str, set[int]] = {}
    for row in seeds:
        if row.human_rank is not None:
            ranks.setdefault(_normal(row.prompt), set()).add(row.human_rank)
    # Ordered by a hash of text and seed: independent of the file's order and of its other prompts.
    ranked = sorted(
        (text for text, found in ranks.items() if len(found) > 1), key=lambda text: _draw(text, seed)
    )
    n_eval = round(len(ranked) * settings.eft_eval)
    n_train = round(len(ranked) * settings.eft_train)
    parts: dict[str, Part] = dict.fromkeys(ranked[:n_eval], "eft_eval")
    parts |= dict.fromkeys(ranked[n_eval : n_eval + n_train], "eft_train")
    return {prompt_id: parts.get(text, "ift") for prompt_id, text in texts.items()}


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def _draw(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\x1f{text}".encode()).hexdigest()

"""Measures whether training changed the model, on the saved weights, in the dtype that the engine will use.

The start model and the saved one each give the log-probability of the same answers, a seeded sample of the training
rows; the change is averaged. A learning rate of 1e-6 moves almost no weight after rounding to bfloat16, so the "new"
model can equal the old one bit for bit: if no answer's log-probability changed, that is a TrainingError. A change does
not show that the model got better.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from selfreward.engines.hf.dtypes import engine_dtype as resolve_dtype
from selfreward.errors import TrainingError
from selfreward.progress import bar
from selfreward.training.preflight import Checked, Tokens

LogProbs = dict[str, list[float]]
"""Answer's name -> natural-log probability of the whole answer, one value per row."""


def draw(kept: Sequence[Checked], n: int, seed: int, limit: int | None) -> list[list[Tokens]]:
    """A seeded sample of the rows trained on, in their order, each answer cut as the trainer cuts it."""
    sample = sorted(random.Random(seed).sample(range(len(kept)), min(n, len(kept))))
    return [[_cut(side, limit) for side in kept[i].sides] for i in sample]


def measure_effect(
    start: Path, trained: Path, rows: Sequence[Sequence[Tokens]], answers: Sequence[str], *, of: int, engine_dtype: str
) -> dict[str, Any]:  # fmt: skip
    """Mean change of log-probability (nats per answer, and per token) from `start` to `trained`.

    For pairs also of the margin, chosen minus rejected (the DPO objective's inner difference, arXiv 2305.18290 eq. 7).
    `rows` is the result of `draw` on the `of` rows trained on. TrainingError if nothing changed.
    """
    tokens = {name: [row[i] for row in rows] for i, name in enumerate(answers)}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = resolve_dtype(engine_dtype, device)
    with bar(2 * len(rows) * len(answers), "effect on the saved weights", "answer") as progress:
        before = answer_log_probs(start, tokens, device, dtype, progress)
        after = answer_log_probs(trained, tokens, device, dtype, progress)
    effect = {
        "rows": len(rows),
        "of": of,
        "dtype": str(dtype).removeprefix("torch."),
        "device": device.type,
    }
    if before == after:
        raise TrainingError(
            f"training had no effect: loaded as {effect['dtype']}, the saved model gives every one of {len(rows)} "
            "training rows exactly the log-probability of the start model; raise the learning rate, or save "
            "and load the weights as float32"
        )
    return effect | _changes(before, after, tokens)


def answer_log_probs(
    folder: Path, tokens: dict[str, list[Tokens]], device: torch.device, dtype: torch.dtype, progress: Any
) -> LogProbs:
    """Log-probability of each answer under a saved model."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, trust_remote_code=False, use_safetensors=True
    )
    model = model.to(device).eval()
    found: LogProbs = {}
    # One row at a time: padding would change sums in bfloat16 and hide or fake a small change.
    for name, rows in tokens.items():
        found[name] = []
        for row in rows:
            found[name].append(_log_prob(model, row, device))
            progress.update()
    return found


def _log_prob(model: Any, row: Tokens, device: torch.device) -> float:
    ids = torch.tensor([row.prompt + row.answer], device=device)
    n = len(row.answer)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=n + 1).logits[0, :-1]
    # float32 for the softmax and float64 for the sum: bfloat16 would round small changes away.
    chosen = logits.float().log_softmax(-1).gather(-1, ids[0, -n:, None])
    return float(chosen.double().sum())


def _cut(tokens: Tokens, limit: int | None) -> Tokens:
    """The answer cut at the limit, as the trainer cuts it."""
    if limit is None or len(tokens) <= limit:
        return tokens
    return Tokens(tokens.prompt, tokens.answer[: limit - len(tokens.prompt)], tokens.altered)


def _changes(before: LogProbs, after: LogProbs, tokens: dict[str, list[Tokens]]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in before:
        differences = [new - old for old, new in zip(before[name], after[name], strict=True)]
        n_tokens = sum(len(row.answer) for row in tokens[name])
        changes[name] = {
            "before": fmean(before[name]),
            "after": fmean(after[name]),
            "change": fmean(differences),
            "change_per_token": sum(differences) / n_tokens,
            "rows_unchanged": differences.count(0.0),
        }
    if "rejected" in changes:
        changes["margin_change"] = changes["chosen"]["change"] - changes["rejected"]["change"]
    return changes

"""Fluency: the mean log-probability of a token of an answer under another model (nats; nearer 0 is more fluent).

    mean_log_probs(Path("model"), [("Describe a kettle.", "A kettle boils water."), …])   [-1.83, …]

Under M0, the model before any training, it shows a gain by degeneration: an answer that keeps its rule and is no longer
language has a much lower value than one that keeps it in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfreward.models.tokenizer import chat_ids, load_tokenizer
from selfreward.progress import bar

_AT_ONCE = 16


def mean_log_probs(folder: Path, answers: Sequence[tuple[str, str]]) -> list[float | None]:
    """For each (prompt, answer); None for an answer without tokens. The model is loaded in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    model = model.to(device).eval()
    rows = [_tokens(tokenizer, prompt, answer) for prompt, answer in answers]
    found: list[float | None] = []
    with bar(len(rows), "fluency", "answer") as progress:
        for start in range(0, len(rows), _AT_ONCE):
            batch = rows[start : start + _AT_ONCE]
            found += _batch(model, batch, device)
            progress.update(len(batch))
    return found


def _tokens(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], int]:
    """Prompt and answer, and where the answer begins."""
    start = chat_ids(tokenizer, [{"role": "user", "content": prompt}], answering=True)
    return start + tokenizer.encode(answer, add_special_tokens=False), len(start)


def _batch(model: Any, rows: Sequence[tuple[list[int], int]], device: Any) -> list[float | None]:
    import torch

    width = max(len(ids) for ids, _ in rows)
    # Padded on the right, where causal attention keeps the padding out of every answer.
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows], device=device)
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows], device=device)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    chosen = logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].double()
    return [
        float(chosen[place, start - 1 : len(tokens) - 1].mean()) if len(tokens) > start else None
        for place, (tokens, start) in enumerate(rows)
    ]

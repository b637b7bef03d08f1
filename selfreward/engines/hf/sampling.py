"""Chooses the next token of every row of a batch: temperature and top-p by inverse cumulative distribution.

Promises: a row's choice depends on its own logits, settings and uniform number, never on its neighbors (a shared
generator, as in `transformers.generate`, makes every row depend on the whole batch). `temperature=0` takes the largest
logit, the smallest token id among equals. Top-p keeps the smallest set of most probable tokens whose mass reaches
`top_p`, including the token that crosses it (Holtzman et al. 2020, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

# Sorting a vocabulary of 50,000 for every row and token would cost as much as the model's last layer. The top-p set is
# nearly always inside the 64 largest logits; if it is not, the row is sorted in full: exact either way.
TOP_K = 64


@dataclass(frozen=True, slots=True)
class RowSettings:
    """Temperature and top-p of each row, float64 `[rows]`."""

    temperature: torch.Tensor
    top_p: torch.Tensor

    def keep(self, rows: torch.Tensor) -> RowSettings:
        return RowSettings(self.temperature[rows], self.top_p[rows])


def row_uniforms(seed: int, n: int) -> npt.NDArray[np.float64]:
    """The row's n random numbers in [0, 1), one per new token; a function of the seed alone (Philox)."""
    return np.random.Generator(np.random.Philox(key=seed)).random(n)


def pick_tokens(logits: torch.Tensor, settings: RowSettings, uniforms: torch.Tensor) -> torch.Tensor:
    """Next token of each row: int64 `[rows]`, from logits `[rows, vocabulary]` and uniforms float64 `[rows]`."""
    sampled = settings.temperature > 0
    if not bool(sampled.any()):
        return logits.argmax(-1)
    temperature = settings.temperature.where(sampled, 1.0)
    scaled = logits.float() / temperature.float()[:, None]
    top, ids = scaled.topk(min(TOP_K, scaled.shape[-1]), dim=-1)
    probabilities = (top.double() - scaled.logsumexp(-1, keepdim=True).double()).exp()
    place, inside = _invert(probabilities.cumsum(-1), settings.top_p, uniforms)
    tokens = ids.gather(-1, place[:, None])[:, 0]
    outside = (~inside & sampled).nonzero()[:, 0]
    if len(outside):
        tokens[outside] = _pick_exactly(scaled[outside], settings.top_p[outside], uniforms[outside])
    return tokens if bool(sampled.all()) else tokens.where(sampled, logits.argmax(-1))


def _invert(
    cumulative: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rank of the chosen token among the largest, and whether the largest were enough to choose it."""
    # With `top_p=1` the set is the whole vocabulary, of mass 1, and it is enough that the uniform number falls among the
    # largest. Below 1 the set must end among the largest, or its mass is unknown.
    last = cumulative.shape[-1] - 1
    closing = torch.searchsorted(cumulative, top_p[:, None])[:, 0]
    whole = top_p >= 1
    mass = cumulative.gather(-1, closing.clamp(max=last)[:, None])[:, 0].where(~whole, 1.0)
    place = torch.searchsorted(cumulative, (uniforms * mass)[:, None], right=True)[:, 0]
    inside = (place <= last) & (whole | (closing <= last))
    return place.clamp(max=last), inside


def _pick_exactly(scaled: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The same choice for rows that need their whole vocabulary sorted."""
    # All rows at once: on a GPU each call has a fixed latency.
    probabilities, ids = scaled.double().softmax(-1).sort(descending=True, stable=True)
    cumulative = probabilities.cumsum(-1)
    last = cumulative.shape[-1] - 1
    closing = torch.searchsorted(cumulative, top_p[:, None]).clamp(max=last).where((top_p < 1)[:, None], last)
    mass = cumulative.gather(-1, closing)
    place = torch.searchsorted(cumulative, uniforms[:, None] * mass, right=True).clamp(max=last)
    return ids.gather(-1, place)[:, 0]

"""The decode loop of `hf:`: a batch of rows from prompts to finished answers, on a transformers model.

Why not `model.generate`: it takes no generator per row, keeps finished rows in the batch until the slowest is done,
prefills a prompt again for every sample, and hides the distribution of the first new token.

    prompts ──► shared start (once) ──► the rest, left-padded ──► first logits ──► rows (n a prompt) ──► tokens
                                                                                    finished rows leave ▲──┘

Promises: the same prompts and rows give the same tokens on the same machine, threads and libraries; each row has its
own random numbers. Not promised: equal tokens in another batch, where floating-point sums have another order.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers.cache_utils import DynamicCache

from selfreward.engines.hf.fast_torch import GrowingLayer, growing_cache
from selfreward.engines.hf.sampling import RowSettings, pick_tokens, row_uniforms
from selfreward.tables import FinishReason

# The shortest common start of a batch's prompts that is computed separately: an extra forward pass has a fixed cost.
MIN_SHARED = 32


@dataclass(slots=True)
class Row:
    """One answer being written."""

    prompt: int
    """Position of its prompt in the batch."""
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "length"
    error: str | None = None


Finished = Callable[[Row], FinishReason | None]
"""The finish reason of a row that just got a token, None to continue."""


def decode(
    model: Any, prompts: Sequence[array[int]], rows: Sequence[Row], finished: Finished
) -> torch.Tensor:
    """Write all rows to their end, in place; returns the first logits of each prompt `[prompts, vocabulary]`."""
    batch = _Batch(model, prompts)
    first_logits = batch.prefill()
    batch.start([row for row in rows if row.max_tokens > 0])
    logits = first_logits[batch.prompt_of_row]
    while batch.live:
        logits = batch.step(logits, finished)
    return first_logits


class _Batch:
    """The tensors of the rows still being written: cache, mask and sampling, all in the order of `live`."""

    def __init__(self, model: Any, prompts: Sequence[array[int]]) -> None:
        self._model = model
        self._device = model.device
        # Several requests may have the same prompt, which is then prefilled once.
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        places = {prompt: place for place, prompt in enumerate(distinct)}
        self._place_of_prompt = [places[tuple(prompt)] for prompt in prompts]
        self._prompts = distinct
        self._cache: DynamicCache = growing_cache(model.config)
        self.live: list[Row] = []

    def prefill(self) -> torch.Tensor:
        """Fill the cache, one row for each distinct prompt; returns the logits of each prompt given."""
        n_shared = self._n_shared()
        mask, positions, ids = self._padded(n_shared)
        if n_shared:
            start = torch.tensor([self._prompts[0][:n_shared]], device=self._device)
            self._forward(start, torch.ones_like(start), torch.arange(n_shared, device=self._device)[None])
            _expand(self._cache, torch.zeros(len(self._prompts), dtype=torch.long, device=self._device))
        logits = self._forward(ids, mask, positions)
        self._mask = mask
        return logits[self._place_of_prompt]

    def _n_shared(self) -> int:
        """The number of leading tokens to compute once for all prompts."""
        # Padding then lies between them and the rest of a prompt, which only layers with rotary positions (not distances
        # in the cache) handle correctly.
        rotary = getattr(self._model.config, "rope_parameters", None) is not None
        if len(self._prompts) < 2 or not rotary or not _all_growing(self._cache):
            return 0
        # A start that the lexicographically smallest and largest prompt share is shared by all.
        first, last = min(self._prompts), max(self._prompts)
        longest = min(map(len, self._prompts)) - 1  # at least one token of each must be left to compute
        shared = next((place for place in range(longest) if first[place] != last[place]), longest)
        return shared if shared >= MIN_SHARED else 0

    def _padded(self, n_shared: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mask over all columns; positions and ids of the columns after the shared ones, left-padded."""
        longest = max(map(len, self._prompts))
        ids = np.zeros((len(self._prompts), longest - n_shared), dtype=np.int64)
        mask = np.zeros((len(self._prompts), longest), dtype=np.int64)
        mask[:, :n_shared] = 1
        for row, prompt in enumerate(self._prompts):
            rest = len(prompt) - n_shared
            ids[row, -rest:] = prompt[n_shared:]
            mask[row, -rest:] = 1
        positions = (mask.cumsum(-1) - 1).clip(min=0)[:, n_shared:]
        return self._tensor(mask), self._tensor(positions), self._tensor(ids)

    def _tensor(self, values: npt.NDArray[Any] | list[Any]) -> torch.Tensor:
        return torch.as_tensor(values, device=self._device)

    def start(self, rows: list[Row]) -> None:
        """Give every row its copy of its prompt's cache, its settings and its random numbers."""
        self.live = rows
        self.prompt_of_row = [row.prompt for row in rows]
        if not rows:
            return
        places = self._tensor([self._place_of_prompt[row.prompt] for row in rows])
        if len(rows) != len(self._prompts) or places.tolist() != list(range(len(rows))):
            _expand(self._cache, places)
        longest = max(row.max_tokens for row in rows)
        room = torch.ones((len(rows), longest), dtype=torch.long, device=self._device)
        self._n_columns = self._mask.shape[1]
        self._mask = torch.cat([self._mask[places], room], dim=1)
        self._positions = self._mask[:, : self._n_columns].sum(-1)
        self._settings = RowSettings(
            self._tensor(np.array([row.temperature for row in rows])),
            self._tensor(np.array([row.top_p for row in rows])),
        )
        uniforms = np.zeros((len(rows), longest))
        for place, row in enumerate(rows):
            if row.temperature > 0:
                uniforms[place, : row.max_tokens] = row_uniforms(row.seed, row.max_tokens)
        self._uniforms = self._tensor(uniforms)
        self._n_new = 0

    def step(self, logits: torch.Tensor, finished: Finished) -> torch.Tensor:
        """One token for every live row; rows that end leave. Returns the next logits of those that stay."""
        picked = pick_tokens(logits, self._settings, self._uniforms[:, self._n_new])
        self._n_new += 1
        usable = logits.amax(-1).isfinite()  # NaN and infinity both show in the largest
        staying = []
        for place, (row, token, ok) in enumerate(
            zip(self.live, picked.tolist(), usable.tolist(), strict=True)
        ):
            if _continues(row, token, ok, finished):
                staying.append(place)
        if len(staying) < len(self.live):
            picked = picked[self._keep(staying)]
        if not self.live:
            return logits[:0]
        self._n_columns += 1
        next_logits = self._forward(
            picked[:, None], self._mask[:, : self._n_columns], self._positions[:, None]
        )
        self._positions = self._positions + 1
        return next_logits

    def _keep(self, staying: list[int]) -> torch.Tensor:
        """Drop all other rows; returns the old position of each remaining row, in the new order."""
        # Gaps are filled from the end, so that few rows of the cache are copied.
        n_left = len(staying)
        stays = set(staying)
        from_end = iter(reversed([place for place in staying if place >= n_left]))
        order = [place if place in stays else next(from_end) for place in range(n_left)]
        self.live = [self.live[place] for place in order]
        kept = self._tensor(np.array(order, dtype=np.int64))
        if n_left:
            _keep_rows(self._cache, kept, [(old, new) for new, old in enumerate(order) if old != new])
            self._mask, self._positions = self._mask[kept], self._positions[kept]
            self._settings, self._uniforms = self._settings.keep(kept), self._uniforms[kept]
        return kept

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Logits after the last column, `[rows, vocabulary]`."""
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def _continues(row: Row, token: int, usable: bool, finished: Finished) -> bool:
    if not usable:
        row.finish_reason, row.error = "error", "the model's logits are not finite numbers"
        return False
    row.tokens.append(token)
    reason = finished(row)
    if reason is None and len(row.tokens) >= row.max_tokens:
        reason = "length"
    if reason is not None:
        row.finish_reason = reason
    return reason is None


def _all_growing(cache: DynamicCache) -> bool:
    return all(type(layer) is GrowingLayer for layer in cache.layers)


def _expand(cache: DynamicCache, rows: torch.Tensor) -> None:
    for layer in cache.layers:
        layer.expand(rows) if type(layer) is GrowingLayer else layer.reorder_cache(rows)


def _keep_rows(cache: DynamicCache, kept: torch.Tensor, moves: list[tuple[int, int]]) -> None:
    for layer in cache.layers:
        if type(layer) is GrowingLayer:
            layer.move(moves, len(kept))
        else:
            layer.reorder_cache(kept)

"""Three replacements that make decoding with a transformers model faster, with the same mathematics.

Measured on two CPU cores with SmolLM2-135M (`benchmarks/hf_engine.py` measures them together):

- `GrowingLayer`: the key/value cache is written in place. `DynamicLayer` copies the whole cache at every token;
- `grouped_attention`: with grouped-query heads, the query heads of a group are treated as query rows, so that keys
  and values are not repeated for each of them (2 to 10 times faster than repeating, growing with the length);
- `PackedLinear`: on a CPU, weights in oneDNN's own blocked order. A matrix of 16 rows otherwise spends half of
  its time reordering the weights, at every token (1.3 to 3 times faster up to 32 rows, equal for prefill).

Floating-point sums have another order than in stock transformers, so float32 logits differ in the last digits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

# Positions added to a full cache: each growth copies it, each spare position takes memory.
GROWTH = 128

ATTENTION = "selfreward_grouped"
"""Name of `grouped_attention` in transformers' registry."""


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Cache of one full-attention layer: `[rows, heads, positions, head size]`, a view into a larger buffer."""

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new positions behind the old ones; returns keys and values of all positions."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        if self._buffers is None or end > self._buffers[0].shape[2]:
            self._move_to(key_states, value_states, start, end)
        assert self._buffers is not None
        rows = key_states.shape[0]
        keys, values = (buffer[:rows, :, :end] for buffer in self._buffers)
        keys[:, :, start:] = key_states
        values[:, :, start:] = value_states
        self.keys, self.values = keys, values
        return keys, values

    def _move_to(self, keys: torch.Tensor, values: torch.Tensor, start: int, end: int) -> None:
        shapes = [(*new.shape[:2], end + GROWTH, new.shape[3]) for new in (keys, values)]
        buffers = (keys.new_empty(shapes[0]), values.new_empty(shapes[1]))
        if start:
            buffers[0][:, :, :start] = self.keys
            buffers[1][:, :, :start] = self.values
        self._buffers = buffers

    def expand(self, rows: torch.Tensor) -> None:
        """Row i becomes a copy of old row `rows[i]`."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        self._buffers = None

    def move(self, moves: list[tuple[int, int]], n_rows: int) -> None:
        """Copy rows within the buffer, (from, to) each, then keep the first `n_rows`."""
        for source, target in moves:
            self.keys[target] = self.keys[source]
            self.values[target] = self.values[source]
        self.keys, self.values = self.keys[:n_rows], self.values[:n_rows]


def growing_cache(config: Any) -> DynamicCache:
    """The cache that transformers would make for this model, its full-attention layers replaced."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention as transformers calls it; all but one plain new token is left to its own function."""
    rows, heads, n_new, size = query.shape
    one_mask = attention_mask is None or attention_mask.shape[1] == 1
    plain = all(kwargs.get(name) is None for name in ("position_bias", "softcap", "s_aux", "cache"))
    if n_new != 1 or dropout or not one_mask or not plain:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
        return output
    # One new token sees every position, so the heads of a group, which share their keys, can be query rows:
    # `[rows, key heads, group, size]`.
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], size)
    attended = functional.scaled_dot_product_attention(grouped, key, value, attention_mask, scale=scaling)
    return attended.reshape(rows, 1, heads, value.shape[3]), None


AttentionInterface.register(ATTENTION, grouped_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class PackedLinear(nn.Module):  # type: ignore[misc]
    """A linear layer for inference on a CPU; the weights are a copy in oneDNN's order."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y


def pack_linears(model: nn.Module) -> int:
    """Replace the plain linear layers of a CPU model; returns how many, 0 without oneDNN."""
    # A private operator of torch: without it, the stock layers give the same results, only slower.
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return 0
    # Subclasses may override `forward`, so only plain layers are replaced.
    plain = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    for name, module in plain:
        model.set_submodule(name, PackedLinear(module))
    return len(plain)

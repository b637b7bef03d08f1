"""What the keys and values of a token take, and how much memory is free: so that `hf:` can refuse in time.

Upper bounds: layers that keep a window of positions only are counted in full, a model of another shape not at all.
"""

from __future__ import annotations

from typing import Any

import psutil
import torch


def cache_bytes_per_token(config: Any, dtype: torch.dtype) -> int | None:
    """Two vectors for each key head of each layer; None where the configuration does not say how many.

    SmolLM2-135M in float32: 2 x 30 layers x 3 heads x 64 numbers x 4 bytes = 46,080.
    """
    text = config.get_text_config()
    layers, heads = getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)
    hidden = getattr(text, "hidden_size", None)
    if not (layers and heads and hidden):
        return None
    size = getattr(text, "head_dim", None) or hidden // heads
    key_heads = getattr(text, "num_key_value_heads", None) or heads
    return int(2 * layers * key_heads * size * dtype.itemsize)


def free_bytes(device: torch.device) -> int | None:
    """Memory that could be had now; None for a device that cannot be asked."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return int(psutil.virtual_memory().available) if device.type == "cpu" else None

"""Memory per token for keys and values, and free memory, so that `hf:` can refuse a batch before computing it.

An upper bound: sliding-window layers are counted in full. Models with another kind of cache are not checked.
"""

from __future__ import annotations

from typing import Any

import psutil
import torch


def cache_bytes_per_token(config: Any, dtype: torch.dtype) -> int | None:
    """Two vectors for each key head of each layer; None if the configuration does not state the sizes.

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
    """Memory that can be allocated now; None for other devices than CPU and CUDA."""
    if device.type == "cuda":
        # torch keeps freed memory reserved: it is available to us, though the driver counts it as used.
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return int(psutil.virtual_memory().available) if device.type == "cpu" else None

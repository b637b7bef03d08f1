"""The dtype of `dtype: auto`: bfloat16 if the device multiplies matrices in it, else float32.

Such devices are GPUs since Ampere and CPUs with AMX (two virtual cores, SmolLM2-135M, batch 16: 364 new tokens/s against
182 in float32). A CPU with bfloat16 vector instructions only, or with emulation, uses float32; for the former,
`bfloat16` may still be faster (docs/experiments.md, "bfloat16 without AMX").
"""

from __future__ import annotations

import torch

from selfreward.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def multiplies_bf16(device: torch.device) -> bool:
    """Whether matrices are multiplied faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def engine_dtype(name: str, device: torch.device) -> torch.dtype:
    """The torch dtype of `engine.dtype` on a device. ConfigError for an unknown name."""
    if name == "auto":
        return torch.bfloat16 if multiplies_bf16(device) else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"hf: unknown dtype {name!r}; expected auto, {' or '.join(DTYPES)}")
    return DTYPES[name]

"""The output folder of a training step: weights, tokenizer, configuration, and `training.json`, written last.

The trainer saves what it trained (all weights, or the adapters) among its work files; from those the model is
assembled in float32. So the result is the same for one process, FSDP or ZeRO-3.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from selfreward.config.training import TrainingConfig
from selfreward.errors import StoreError
from selfreward.store import durable

REPORT = "training.json"


def require_unfinished(out: Path) -> None:
    """StoreError if the folder holds a finished model; leftovers of an interrupted one are removed."""
    if (out / REPORT).exists():
        raise StoreError(f"{out}: already holds a trained model ({REPORT}); choose another folder with --out")
    durable.make_folder(out)
    for stale in out.glob("model*.safetensors*"):
        durable.remove_file(stale)


def save_model(base: Path, trained: Path, out: Path, config: TrainingConfig) -> None:
    """Assemble the trained model from the trainer's files and write it with the start model's tokenizer."""
    # The start model's configuration: dropout and padding settings of training must not reach the saved one.
    base_config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    start = trained if config.lora is None else base
    model = AutoModelForCausalLM.from_pretrained(
        start, config=base_config, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    if config.lora is not None:
        from peft import PeftModel

        # Merged in float32: in bfloat16 an adapter's small changes would be rounded away.
        model = PeftModel.from_pretrained(model, trained).merge_and_unload(safe_merge=True)
    if (base / "generation_config.json").is_file():
        model.generation_config = type(model.generation_config).from_pretrained(base)
    model.to(getattr(torch, config.save_dtype)).save_pretrained(out)
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(out)


def write_report(out: Path, report: dict[str, Any]) -> None:
    """Make the model's files durable, then write `training.json`."""
    # In this order, a reader that sees the report sees a complete model, also after a power loss.
    for path in out.iterdir():
        durable.sync_file(path)
    durable.replace_file(
        out / REPORT, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False).encode()
    )

"""The folder a training step leaves: weights, tokenizer, configuration, and `training.json`, written last.

The trainer saves what it trained (all weights, or the adapters) among its work files; from there the model is put
together anew in float32. So it is the same for one process, FSDP or ZeRO-3, the adapters are merged in float32, and
the dropout and padding settings of training never reach the saved configuration: that is the start model's.
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
    """StoreError if a finished model is there already; leftovers of an interrupted one are removed."""
    if (out / REPORT).exists():
        raise StoreError(f"{out}: holds a trained model already ({REPORT}); give another folder with --out")
    durable.make_folder(out)
    for stale in out.glob("model*.safetensors*"):
        durable.remove_file(stale)


def save_model(base: Path, trained: Path, out: Path, config: TrainingConfig) -> None:
    """Put the trained model together from the trainer's files and write it with the start model's tokenizer."""
    base_config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    start = trained if config.lora is None else base
    model = AutoModelForCausalLM.from_pretrained(
        start, config=base_config, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
    )
    if config.lora is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, trained).merge_and_unload(safe_merge=True)
    if (base / "generation_config.json").is_file():
        model.generation_config = type(model.generation_config).from_pretrained(base)
    model.to(getattr(torch, config.save_dtype)).save_pretrained(out)
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(out)


def write_report(out: Path, report: dict[str, Any]) -> None:
    """Make the model's files durable, then write `training.json`: who sees it sees a whole model."""
    for path in out.iterdir():
        durable.sync_file(path)
    durable.replace_file(
        out / REPORT, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False).encode()
    )

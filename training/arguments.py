"""Maps our parameters to TRL's: schedule, batches, precision, dropout, adapters. One mapping for SFT and DPO.

Defaults of TRL 1.16 and transformers 5 that it overrides: `bf16` on; schedules that fall to zero; gradient
checkpointing on; for DPO `disable_dropout` and `max_length` 1024. Llama and Qwen have no dropout layers, so that
dropout acts only inside attention.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import trl.trainer.utils as trl_utils
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from selfreward.config.training import LoraConfig, SftConfig, TrainingConfig
from selfreward.engines.hf.dtypes import multiplies_bf16
from selfreward.errors import TrainingError
from selfreward.training.ranks import processes

# Dropout settings of model configurations that the layers really use.
_DROPOUTS = ("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout")


def trainer_arguments(config: TrainingConfig, work: Path, max_length: int | None) -> dict[str, Any]:
    """The keyword arguments that `trl.SFTConfig` and `trl.DPOConfig` share."""
    state = processes()
    bf16 = precision(config, state.device) == "bf16"
    # The environment variable of an `accelerate launch` file would take precedence over `bf16` below.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if bf16 else "no"
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(work / "tensorboard"))
    per_device, accumulated = split_batch(config, state.num_processes)
    keeps = config.resume == "checkpoint"
    return {
        "output_dir": str(work / "checkpoints"),
        "max_length": max_length,
        "learning_rate": config.learning_rate,
        **schedule(config),
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulated,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "bf16": bf16,
        "use_cpu": state.device.type == "cpu",
        "gradient_checkpointing": config.gradient_checkpointing,
        "train_sampling_strategy": _sampling(config),
        "save_strategy": "steps" if keeps else "no",
        "save_steps": config.checkpoint_every_steps,
        "save_total_limit": 2,  # the older one is used until the newer one is complete
        "seed": config.seed,
        "report_to": list(config.report_to),
        "logging_steps": 1,
        # Filtering would log the last finite loss in place of NaN, and `StopOnNan` would never see it.
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "disable_tqdm": True,
        "dataloader_pin_memory": state.device.type == "cuda",
        "trust_remote_code": False,
    }


def _sampling(config: TrainingConfig) -> str:
    # By prompt, the rows are in their order already.
    if isinstance(config, SftConfig) and config.order == "by_prompt":
        return "sequential"
    return "group_by_length" if config.length_grouped else "random"


def schedule(config: TrainingConfig) -> dict[str, Any]:
    """The schedule from `learning_rate` to `min_learning_rate` at the end of the last step."""
    if config.min_learning_rate == config.learning_rate:
        return {"lr_scheduler_type": "constant"}
    if config.scheduler == "cosine":
        kwargs = {"min_lr": config.min_learning_rate}
        return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": kwargs}
    kwargs = {"lr_end": config.min_learning_rate, "power": 1.0}
    return {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": kwargs}


def split_batch(config: TrainingConfig, n_processes: int) -> tuple[int, int]:
    """Rows per device and gradient-accumulation steps; their product over all processes is `batch_size`.

    >>> from selfreward.config.training import SftConfig
    >>> split_batch(SftConfig(batch_size=16, per_device_batch_size=5), n_processes=2)
    (4, 2)
    """
    share, rest = divmod(config.batch_size, n_processes)
    if rest:
        raise TrainingError(
            f"batch_size {config.batch_size} cannot be split over {n_processes} processes; use a multiple of {n_processes}"
        )
    # The largest divisor, so that every portion is full: a rest would change the effective batch size.
    most = min(share, config.per_device_batch_size)
    per_device = next(size for size in range(most, 0, -1) if share % size == 0)
    return per_device, share // per_device


def precision(config: TrainingConfig, device: torch.device) -> str:
    """`bf16` (autocast over float32 weights) or `float32`. TrainingError if bf16 is requested and not supported."""
    # On two CPU cores with AMX, SmolLM2-135M trains about 1.7 times as fast under autocast; without AMX, no faster.
    native, fast = _bf16_support(device)
    if config.precision == "bf16" and not native:
        raise TrainingError(
            f"precision: bf16 was requested, but this {device.type} does not compute in bfloat16; use float32 or auto"
        )
    wanted = config.precision == "bf16" or (config.precision == "auto" and fast)
    return "bf16" if wanted else "float32"


def _bf16_support(device: torch.device) -> tuple[bool, bool]:
    """Whether the device has bfloat16 instructions, and whether they multiply matrices faster than float32's."""
    if device.type == "cuda":
        found = torch.cuda.is_bf16_supported(including_emulation=False)
        return found, found
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False, False
    fast = multiplies_bf16(device)
    return fast or bool(torch.cpu.get_capabilities().get("avx512_bf16")), fast


def load_for_training(folder: Path, config: TrainingConfig) -> Any:
    """The start model in float32."""
    # eval(): DPO computes the reference's log-probabilities before training, and they must not see dropout.
    return AutoModelForCausalLM.from_pretrained(
        folder,
        config=_with_dropout(folder, config),
        dtype=torch.float32,
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()


def _with_dropout(folder: Path, config: TrainingConfig) -> PretrainedConfig:
    """The model's configuration with its dropouts set. TrainingError if dropout would have no effect."""
    model_config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    names = [name for name in _DROPOUTS if hasattr(model_config, name)]
    for name in names:
        setattr(model_config, name, config.dropout)
    if config.dropout and not names and not config.lora:
        raise TrainingError(
            f"{folder.name}: dropout {config.dropout} would have no effect, because a {model_config.model_type} model has "
            "no dropout setting; use LoRA, or set dropout to 0"
        )
    return model_config


def adapter(config: TrainingConfig) -> Any:
    """The PEFT configuration, None for training all weights."""
    lora: LoraConfig | None = config.lora
    if lora is None:
        return None
    import peft

    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=config.dropout if lora.dropout is None else lora.dropout,
        target_modules=modules,
    )


@contextmanager
def targets_only() -> Iterator[None]:
    """Inside, TRL computes the loss on a CPU at the target positions only; no effect on other devices."""
    # TRL 1.16 multiplies the hidden state of *every* position with the output layer, except on GPUs with Triton, where it
    # takes the target positions only. The loss is the same. Three quarters of an EFT row are prompt, and the output layer
    # of a small model is a fifth of its weights: on two CPU cores a step of SFT is about 1.4 times as fast.
    # A private name, so it may disappear: then every position is multiplied, as without this function.
    switch = "_use_triton"
    if processes().device.type != "cpu" or not hasattr(trl_utils, switch):
        yield
        return
    with patch.object(trl_utils, switch, lambda device: True):
        yield

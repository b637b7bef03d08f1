"""Checks that a model folder loads only its own files and no code. To be called before loading or hashing one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from selfreward.errors import ConfigError, InputError

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Weights in these formats can run code when they are loaded."""

NOT_THE_MODEL = (
    "source.json",
    "manifest.json",
    "training_args.bin",
    "trainer_state.json",
    "README.md",
    "LICENSE",
)
"""Files beside the model that no answer depends on; everything else in the folder counts."""


def check_model_folder(folder: Path) -> None:
    """InputError for a folder that loads anything but its own files, or runs code.

    Refused are pickled weights without safetensors, weights outside of the folder that an index or the configuration
    names, adapters (their base model is elsewhere), and attention kernels from the Hub.
    """
    # A model's identity is the hash of its folder: a file loaded from elsewhere would change answers but not the key.
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: expected a model folder, but it holds no config.json")
    pickles = sorted(
        path.name for path in folder.iterdir() if path.suffix in PICKLES and path.name not in NOT_THE_MODEL
    )
    if pickles and not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder}: its weights are a pickle ({pickles[0]}), which can run code when it is loaded; save the model as "
            "safetensors"
        )
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{folder}: found an adapter (adapter_config.json), expected a whole model; merge it with its base model and save that"
        )
    config = _json_object(folder / "config.json")
    for place, values in (("", config), ("text_config.", config.get("text_config"))):
        for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
            kernel = values.get(key) if isinstance(values, dict) else None
            if kernel is not None and not (isinstance(kernel, str) and re.fullmatch(r"\w+", kernel)):
                raise InputError(
                    f"{folder / 'config.json'}: {place}{key} is {kernel!r}, which loads code from the Hub; remove it"
                )
    named = {config.get("transformers_weights"): "config.json"}
    for index in sorted(folder.glob("*.safetensors.index.json")):
        weights = _json_object(index).get("weight_map", {})
        if not isinstance(weights, dict):
            raise InputError(
                f"{index}: weight_map is not an object; expected names of weights and their files"
            )
        named |= {str(file): index.name for file in weights.values()}
    for file, where in named.items():
        if file is not None and not re.fullmatch(r"[\w-][\w.-]*\.safetensors", str(file)):
            raise InputError(
                f"{folder / where}: looks for weights in {file!r}, expected a .safetensors file beside it; "
                "save the model again as one folder"
            )


def token_limit(folder: Path, wanted: int | None, setting: str) -> int | None:
    """The configured number of tokens, else what the model reads; ConfigError where it reads fewer than that."""
    context = max_context(folder)
    if wanted and context and wanted > context:
        raise ConfigError(
            f"{setting} {wanted} is more than the {context} tokens that the model can read; lower it"
        )
    return wanted or context


def max_context(folder: Path) -> int | None:
    """The context length in the folder's configuration; None if it has none."""
    values = _json_object(folder / "config.json")
    inner = values.get("text_config")
    found = values.get("max_position_embeddings")
    found = found or (inner.get("max_position_embeddings") if isinstance(inner, dict) else None)
    found = found or _context_of_kind(folder)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _context_of_kind(folder: Path) -> object:
    """Some kinds call it otherwise (`n_positions`), and a configuration may leave it to its kind."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception:  # a kind that transformers does not know: the engine that does says what is wrong
        return None
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def _json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. InputError for another JSON value."""
    # Invalid JSON counts as empty: loading the folder fails then, and the engine reports the library's own reason.
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: not a JSON object; expected settings by name, as `save_pretrained` writes them"
        )
    return value

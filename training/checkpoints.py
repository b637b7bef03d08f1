"""Which checkpoint may be resumed from: one that is whole and belongs to this very training.

The trainer fills `checkpoint-200/` file by file; a kill in the middle leaves a folder that looks like a checkpoint.
So a seal is written last, when every process is done and every file is durable: the names and sizes of all
files, and the key of the training. What has no seal, or differs from it, is never read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from selfreward.store import durable
from selfreward.training.ranks import processes

SEAL = "whole.json"


class SealCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Seals each checkpoint once all processes have written their part."""

    def __init__(self, key: str) -> None:
        self.key = key

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        distributed = processes()
        distributed.wait_for_everyone()
        if distributed.is_main_process:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.key)


def seal(folder: Path, key: str) -> None:
    """Say that a checkpoint is whole."""
    sizes = _sizes(folder)
    for name in sizes:
        durable.sync_file(folder / name)
    durable.replace_file(folder / SEAL, json.dumps({"key": key, "bytes": sizes}).encode())


def last_whole(checkpoints: Path, key: str) -> Path | None:
    """The latest checkpoint of the training `key` that is whole, None if there is none."""
    folders = sorted(checkpoints.glob("checkpoint-*"), key=_step, reverse=True)
    return next((folder for folder in folders if _is_whole(folder, key)), None)


def _is_whole(folder: Path, key: str) -> bool:
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(sealed == {"key": key, "bytes": _sizes(folder)})


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != SEAL)
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1

"""One training step, from dataset versions to a model folder; the same for SFT and DPO.

    read and count the rows → preflight → TRL → merge and save in float32 → effect on the saved weights → training.json

The main process reads the data and writes the rows that pass among the work files; every process trains from those.
Promises: rows in = rows trained on + rows dropped by reason; TRL trains on exactly the rows that the preflight kept;
`training.json` is written last.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PrinterCallback
from transformers.utils import logging

from selfreward.config.training import TrainingConfig
from selfreward.errors import TrainingError
from selfreward.models.folder import token_limit
from selfreward.models.identity import model_identity
from selfreward.models.tokenizer import load_tokenizer
from selfreward.progress import say
from selfreward.store import durable
from selfreward.store.run import library_versions
from selfreward.store.sealed import digest
from selfreward.training.arguments import (
    adapter,
    load_for_training,
    precision,
    split_batch,
    targets_only,
    trainer_arguments,
)
from selfreward.training.callbacks import SealCheckpoints, StepBar, StopOnNan, last_whole, summarize
from selfreward.training.data import Row, TrainingRows, content_sha256, load_table
from selfreward.training.effect import draw, measure_effect
from selfreward.training.model_folder import require_unfinished, save_model, write_report
from selfreward.training.preflight import Checked, Preflight, Tokens, check_rows, refuse
from selfreward.training.ranks import on_main, processes


@dataclass(frozen=True)
class Method:
    """What differs between SFT and DPO."""

    name: str
    encode: Callable[[Sequence[Checked], TrainingConfig], list[Row]]
    """The rows in the form that TRL gets."""
    collect: Callable[[Iterable[datasets.Dataset]], TrainingRows]
    answers: tuple[str, ...]
    """The row's columns that hold answers."""
    unit: str
    make_trainer: Callable[[TrainingConfig, dict[str, Any], dict[str, Any]], Any]
    """(configuration, TRL arguments, trainer's other arguments) -> a TRL trainer."""


@dataclass(frozen=True)
class Task:
    """One run of a step; paths are absolute."""

    model: Path
    data: tuple[Path, ...]
    out: Path
    work: Path
    config: TrainingConfig
    engine_dtype: str
    reference: Path | None = None
    """The model that a loss compares with, if it is not the start model."""


@dataclass(frozen=True)
class Prepared:
    """The main process's findings about the rows."""

    n_in: int
    dropped: dict[str, int]
    preflight: Preflight
    sample: list[list[Tokens]]
    """The rows that the effect is measured on."""
    key: str
    """Hash of everything that affects the training; a checkpoint of another key is not resumed."""


def run(method: Method, task: Task) -> None:
    """Train and write the model folder. TrainingError if the rows are refused or training has no effect."""
    started = time.monotonic()
    _quiet()
    prepared = on_main(lambda: prepare(method, task))
    rows = datasets.load_from_disk(str(task.work / "rows"))
    trainer, facts = _train(method, task, prepared, rows)
    trainer.save_model(str(task.work / "trained"))
    history, seen = trainer.state.log_history, trainer.state.num_input_tokens_seen
    # The effect needs the memory of the trainer's model and optimizer.
    del trainer
    gc.collect()
    if not processes().is_main_process:
        return
    save_model(task.model, task.work / "trained", task.out, task.config)
    measured_from = time.monotonic()
    effect = measure_effect(
        task.model,
        task.out,
        prepared.sample,
        method.answers,
        of=prepared.preflight.kept,
        engine_dtype=task.engine_dtype,
    )
    report = {
        "step": method.name,
        "base": _named(task.model),
        **({"reference": _named(task.reference)} if task.reference else {}),
        "data": [{"name": folder.name, "content_sha256": content_sha256(folder)} for folder in task.data],
        "parameters": task.config.model_dump(mode="json"),
        "rows": {"in": prepared.n_in, "out": prepared.preflight.kept, "dropped": prepared.dropped},
        "preflight": prepared.preflight.as_dict(),
        "effect": effect,
        "effect_seconds": round(time.monotonic() - measured_from, 1),
        "metrics": summarize(history),
        "tokens_seen": seen,
        **facts,
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_bytes": _peak_memory_bytes(),
        "versions": library_versions(),
    }
    write_report(task.out, report)


def prepare(method: Method, task: Task) -> Prepared:
    """Read, count and check the rows; those that pass are written to `rows/` among the work files."""
    require_unfinished(task.out)
    tokenizer = load_tokenizer(task.model)
    collected = method.collect(load_table(folder) for folder in task.data)
    limit = token_limit(task.model, task.config.max_length, "max_length")
    kept, preflight = check_rows(collected.rows, method.answers, tokenizer, limit)
    _tell(method, collected, preflight)
    refuse(preflight, task.config, method.unit)
    durable.remove_tree(task.work / "rows")
    datasets.Dataset.from_list(method.encode(kept, task.config)).save_to_disk(str(task.work / "rows"))
    key = {
        **({"reference": model_identity(task.reference).sha256} if task.reference else {}),
        "step": method.name,
        "parameters": task.config.keyed(),
        "base": model_identity(task.model).sha256,
        "rows": digest([checked.row for checked in kept]),
        "processes": processes().num_processes,
        "versions": library_versions(),
    }
    sample = draw(kept, task.config.effect_rows, task.config.seed, limit)
    dropped = _added(collected.dropped, preflight.dropped)
    return Prepared(collected.n_in, dropped, preflight, sample, digest(key))


def _train(
    method: Method, task: Task, prepared: Prepared, rows: datasets.Dataset
) -> tuple[Any, dict[str, Any]]:
    config, report = task.config, prepared.preflight
    cut = report.limit if report.truncated else None
    others = {
        "model": load_for_training(task.model, config),
        "train_dataset": rows,
        "processing_class": load_tokenizer(task.model),
        "peft_config": adapter(config),
        "callbacks": [StepBar(method.name), StopOnNan(), SealCheckpoints(prepared.key)],
    }
    if task.reference:
        others["ref_model"] = load_for_training(task.reference, config)
    checkpoint = _checkpoint(task, prepared.key)
    with targets_only():
        trainer = method.make_trainer(config, trainer_arguments(config, task.work, cut), others)
        trainer.remove_callback(PrinterCallback)
        if len(trainer.train_dataset) != len(rows):
            raise TrainingError(
                f"TRL would train on {len(trainer.train_dataset)} rows, but the preflight kept {report.kept} {method.unit}s "
                f"({len(rows)} rows); this TRL version drops other rows than the tested one, so use the versions of constraints.txt"
            )
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    return trainer, _facts(config, report.kept, time.monotonic() - began, checkpoint)


def _facts(config: TrainingConfig, kept: int, seconds: float, checkpoint: Path | None) -> dict[str, Any]:
    state = processes()
    per_device, _ = split_batch(config, state.num_processes)
    at_once = per_device * state.num_processes
    return {
        "training_seconds": round(seconds, 1),
        "resumed_from": checkpoint and checkpoint.name,
        "precision": precision(config, state.device),
        "device": state.device.type,
        "processes": state.num_processes,
        "threads": torch.get_num_threads(),
        # With several processes, the sampler fills each epoch's last batch with rows from its beginning.
        "rows_repeated_per_epoch": -kept % at_once if state.num_processes > 1 else 0,
    }


def _named(model: Path) -> dict[str, str]:
    return {"name": model.name, "sha256": model_identity(model).sha256}


def _checkpoint(task: Task, key: str) -> Path | None:
    """The checkpoint to resume from, if any; other checkpoints are removed."""

    # Decided by the main process for all: two that disagreed would train different steps.
    def find() -> Path | None:
        checkpoints = task.work / "checkpoints"
        found = last_whole(checkpoints, key) if task.config.resume == "checkpoint" else None
        if found is None:
            durable.remove_tree(checkpoints)
        else:
            say(f"resuming from {found.name}")
        return found

    return on_main(find)


def _tell(method: Method, collected: TrainingRows, preflight: Preflight) -> None:
    dropped = _added(collected.dropped, preflight.dropped)
    without = f" ({', '.join(f'{n} {reason}' for reason, n in sorted(dropped.items()))})" if dropped else ""
    say(
        f"{method.name}: {collected.n_in} {method.unit}s, {preflight.kept} to train on{without}; "
        f"{sum(preflight.truncated.values())} cut, longest {preflight.longest} of {preflight.limit} tokens, "
        f"{preflight.answer_tokens} target tokens of {preflight.tokens}"
    )


def _added(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {reason: first.get(reason, 0) + second.get(reason, 0) for reason in {**first, **second}}


def _peak_memory_bytes() -> dict[str, int]:
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated()
    return peak


def _quiet() -> None:
    """Hide the libraries' bars and warnings, keep their errors: this package shows one bar."""
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    logging.set_verbosity_error()

"""Runs a training step in its own process, so that all its memory is freed when it ends.

    train(job, "selfreward.training.sft", folder, base=…, data=[…], settings=…)

The child dies with this process, also on `kill -9`. It writes into a hidden folder until the store publishes it;
`training.json`, written last, means that the child finished.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from selfreward.config.meta import MetaConfig
from selfreward.errors import EmptyResultError, StoreError, TrainingError
from selfreward.notes import JsonObject
from selfreward.openmp import as_the_user_set
from selfreward.progress import say
from selfreward.steps.step import Job
from selfreward.store import durable
from selfreward.store.version import Version

if TYPE_CHECKING:
    from selfreward.config.run import RunConfig

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 20
# Exit code of a child that has printed its own one-sentence error.
_REFUSED = 1


def train(
    job: Job,
    module: str,
    folder: Path,
    base: Path,
    data: Sequence[Version],
    settings: BaseModel,
    reference: Path | None = None,
) -> JsonObject:
    """Train into `folder` and return `training.json`. TrainingError if the child failed."""
    _require_space(base, folder)
    parameters = job.work / "parameters.json"
    durable.replace_file(parameters, settings.model_dump_json(indent=1).encode())
    # -P keeps the current directory off the import path: users have folders called `training` too.
    command = [sys.executable, "-P", "-m", module, "--model", str(base), "--out", str(folder.resolve()),
               "--work", str(job.work.resolve()), "--config", str(parameters.resolve())]  # fmt: skip
    if reference:
        command += ["--reference", str(reference)]
    for version in data:
        command += ["--data", str(version.folder.resolve())]
    _run(command, job.name)
    report = folder / "training.json"
    if not report.is_file():
        raise TrainingError(f"{job.name}: the training process ended without writing {report.name}")
    result: JsonObject = json.loads(report.read_text(encoding="utf-8"))
    return result


@dataclass(frozen=True)
class Gate:
    """The result of the audits of the training data."""

    verdict: str
    """`passed` or `off`."""
    warnings: list[str] | None = None
    gate_thresholds: dict[str, float] | None = None
    """Limits of single audits that the configuration sets; None if it sets none."""


def gate_settings(config: RunConfig) -> dict[str, Any]:
    """What `ask_gate` needs, outside of the key; UsageError for the name of no audit, before anything is built."""
    if config.gate_thresholds:
        from selfreward.judging.audits.pack import load_pack
        from selfreward.judging.audits.runner import thresholds_of

        thresholds_of(load_pack(), config.gate_thresholds, "gate_thresholds: ")
    return {"gate": config.gate, "gate_thresholds": config.gate_thresholds}


def ask_gate(job: Job) -> Gate:
    """Audit the training data; GateError if a check of severity `fail` fails."""
    if not job.unkeyed["gate"]:
        say(f"{job.name}: the audit gate is off (gate: false); the model's manifest records this")
        return Gate("off")
    from selfreward.judging.audits.runner import gate

    thresholds = job.unkeyed.get("gate_thresholds", {})
    report = gate(job.run, job.iteration, job.name, thresholds)
    warned = [result.name for result in report.by_verdict("warn")]
    warnings = f", with warnings: {', '.join(warned)}" if warned else ""
    say(f"{job.name}: {len(report.results)} audits, none failed{warnings}")
    return Gate("passed", warned, thresholds or None)


def require_judge_pairs(job: Job) -> None:
    """With `meta`: EmptyResultError if there are too few pairs of judgements."""
    made = job.inputs.get("judge_pairs")
    if made is None:
        return
    least = job.section("meta", MetaConfig).min_pairs
    if made.n_rows < least:
        lost = ", ".join(f"{reason} {n}" for reason, n in made.manifest["counts"]["dropped"].items())
        raise EmptyResultError(
            f"{job.name}: found {made.n_rows} pairs of judgements, expected at least {least} (meta.min_pairs); lost: "
            f"{lost or 'none'}. More judgements (judging.samples) or prompts (meta.share) give more pairs; 0 trains on "
            "answers alone."
        )


def _run(command: list[str], name: str) -> None:
    environment = {
        **as_the_user_set(os.environ),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    # stdout belongs to results, so the child's goes to stderr.
    child = subprocess.Popen(command, stdout=sys.stderr, env=environment, preexec_fn=_die_with_parent)
    try:
        code = child.wait()
    except BaseException:
        _stop(child)
        raise
    if code != 0:
        raise TrainingError(f"{name}: the training process {_end_of(code)}")


def _end_of(code: int) -> str:
    if code == _REFUSED:
        return f"ended with exit code {code}; its own message is above"
    if code >= 0:
        return f"ended with exit code {code}"
    # The kernel's out-of-memory killer sends SIGKILL and reports nothing to either process.
    memory = ", most likely because memory ran out; lower per_device_batch_size, set gradient_checkpointing, or use lora"
    return f"was killed by signal {signal.Signals(-code).name}{memory if -code == signal.SIGKILL else ''}"


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _die_with_parent() -> None:
    """On Linux, the child gets SIGKILL when its parent dies; elsewhere it runs to its end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _require_space(base: Path, folder: Path) -> None:
    """StoreError before training instead of a full disk an hour later."""
    # The model, and up to two checkpoints, which hold the weights again and the optimizer's state.
    needed = 4 * sum(path.stat().st_size for path in base.glob("*.safetensors"))
    statistics = os.statvfs(folder)
    free = statistics.f_bavail * statistics.f_frsize
    if free < needed:
        raise StoreError(
            f"{folder.parent}: training needs about {needed / 2**30:.1f} GiB for the model and its checkpoints, but "
            f"there are {durable.free_space(folder)}; make room or choose another disk with --run"
        )

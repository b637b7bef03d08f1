"""Running a training step in a process of its own, so that its memory is gone when it ends.

    train(job, "selfreward.training.sft", folder, base=…, data=[…], settings=…)

The child is `python -P -m selfreward.training.sft …` (the current directory stays off its path: users have folders called
`training` too). It dies with this process, also on `kill -9`. What it writes lies in a hidden folder until the store
publishes it; `training.json`, written last, says that the child finished.
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

from pydantic import BaseModel

from selfreward.engines.openmp import as_the_user_set
from selfreward.errors import StoreError, TrainingError
from selfreward.notes import JsonObject
from selfreward.progress import say
from selfreward.steps.step import Job
from selfreward.store import durable
from selfreward.store.version import Version

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 20
_REFUSED = 1
"""Exit code of a child that said what is wrong in one sentence."""


def train(
    job: Job, module: str, folder: Path, base: Path, data: Sequence[Version], settings: BaseModel
) -> JsonObject:
    """Train into `folder` and return `training.json`. TrainingError where the child failed."""
    _require_space(base, folder)
    parameters = job.work / "parameters.json"
    durable.replace_file(parameters, settings.model_dump_json(indent=1).encode())
    command = [sys.executable, "-P", "-m", module, "--model", str(base), "--out", str(folder.resolve()),
               "--work", str(job.work.resolve()), "--config", str(parameters.resolve())]  # fmt: skip
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
    """What the audits said of the rows to be trained on."""

    verdict: str
    """`passed` or `off`."""
    warnings: list[str] | None = None


def ask_gate(job: Job) -> Gate:
    """Audit what is to be trained on; GateError where a check of severity `fail` fails."""
    if not job.unkeyed["gate"]:
        say(f"{job.name}: the audit gate is off (gate: false); the model's manifest says so")
        return Gate("off")
    from selfreward.judging.audits.runner import gate

    report = gate(job.run, job.iteration, job.name)
    warned = [result.name for result in report.by_verdict("warn")]
    warnings = f", with warnings: {', '.join(warned)}" if warned else ""
    say(f"{job.name}: {len(report.results)} audits, none failed{warnings}")
    return Gate("passed", warned)


def _run(command: list[str], name: str) -> None:
    environment = {
        **as_the_user_set(os.environ),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
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
        return f"ended with exit code {code}; its own message stands above"
    if code >= 0:
        return f"ended with exit code {code}"
    # The kernel kills what it has no memory for, without a word to it or to us.
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
    """Linux: the child gets SIGKILL when its parent dies. Elsewhere nothing happens, and it ends by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _require_space(base: Path, folder: Path) -> None:
    """A training step writes the model and a checkpoint or two; said before, not after an hour."""
    needed = 4 * sum(path.stat().st_size for path in base.glob("*.safetensors"))
    statistics = os.statvfs(folder)
    free = statistics.f_bavail * statistics.f_frsize
    if free < needed:
        raise StoreError(
            f"{folder.parent}: training needs about {needed / 2**30:.1f} GiB for the model and its checkpoints, but "
            f"there are {durable.free_space(folder)}; make room or choose another disk with --run"
        )

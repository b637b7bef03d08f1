"""The command line of a training process: arguments, signals, exit codes. They are checked before any heavy import.

    python -P -m selfreward.training.sft --model FOLDER --data FOLDER [--data FOLDER] --out FOLDER --work FOLDER --config FILE

Exit 0 done, 1 refused or failed (one sentence on stderr), 2 wrong use, 130 or 143 after Ctrl-C or SIGTERM, within
seconds; the same command then resumes from its last complete checkpoint. `SELFREWARD_DEBUG=1` shows tracebacks.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from selfreward.config.training import TrainingConfig
from selfreward.errors import ConfigError, SelfrewardError
from selfreward.openmp import TRAINING, spin_at_most

if TYPE_CHECKING:
    from selfreward.training.run import Method


class Stopped(BaseException):
    """Raised in the main thread by a signal; not an Exception, so that no library swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def parse(name: str, argv: list[str] | None) -> argparse.Namespace:
    """The arguments, paths made absolute."""
    parser = argparse.ArgumentParser(
        prog=f"python -P -m training.{name}",
        description=f"One {name.upper()} step of the loop, on TRL.",
        epilog=f"example: python -P -m training.{name} --model M0 --data runs/demo/datasets/ift/0123456789abcdef "
        "--out M1 --work /tmp/work --config params.json",
    )
    folder: dict[str, Any] = {"required": True, "metavar": "FOLDER", "type": _absolute}
    parser.add_argument("--model", **folder, help="start model: a folder with config.json and safetensors")
    parser.add_argument(
        "--data", **folder, action="append", help="dataset version; may be given several times"
    )
    parser.add_argument(
        "--reference",
        **{**folder, "required": False},
        help="model that the loss of DPO compares with (default: the start model)",
    )
    parser.add_argument("--out", **folder, help="where the model goes; training.json in it is written last")
    parser.add_argument("--work", **folder, help="for checkpoints and other work files; keep it to resume")
    parser.add_argument("--config", required=True, metavar="FILE", type=_absolute, help="parameters, JSON")
    parser.add_argument(
        "--engine-dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16"),
        help="dtype in which the model will generate; the effect is measured in it (default: auto, as the hf: engine)",
    )
    return parser.parse_args(argv)


def read_config(path: Path, section: type[TrainingConfig]) -> TrainingConfig:
    """The parameters. ConfigError names the file, the key and the problem."""
    try:
        return section.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        if isinstance(error, ValidationError):
            problem = error.errors()[0]
            detail = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        else:
            detail = str(error)
        raise ConfigError(f"{path}: {detail}") from error


def main(
    name: str, section: type[TrainingConfig], method: Callable[[], Method], argv: list[str] | None = None
) -> int:
    """Run a step and return the exit code. `method` imports the heavy libraries, so it is called late."""
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ["TQDM_DISABLE"] = "1"  # bars of other libraries; ours decide for themselves
    spin_at_most(TRAINING)
    try:
        arguments = parse(name, argv)
        config = read_config(arguments.config, section)
        _run(method, arguments, config)
    except Stopped as stopped:
        _say(f"{name}: {stopped}; the same command resumes from the last checkpoint, if there is one")
        return stopped.exit_code
    except SelfrewardError as error:
        return _failed(str(error), error.exit_code)
    except Exception as error:  # the outermost boundary of the process: any other failure becomes one line
        return _failed(f"{name}: {_explained(error)}", 1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _run(method: Callable[[], Method], arguments: argparse.Namespace, config: TrainingConfig) -> None:
    from selfreward.training.run import Task, run

    task = Task(
        model=arguments.model,
        data=tuple(arguments.data),
        out=arguments.out,
        work=arguments.work,
        config=config,
        engine_dtype=arguments.engine_dtype,
        reference=arguments.reference,
    )
    run(method(), task)


def _stop(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    raise Stopped(number)


def _failed(message: str, code: int) -> int:
    if os.environ.get("SELFREWARD_DEBUG"):
        traceback.print_exc()
    _say(message)
    return code


def _explained(error: Exception) -> str:
    # The user can fix running out of memory; any other exception here is a bug.
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return (
            f"out of memory ({error}); lower per_device_batch_size, set gradient_checkpointing, or use lora"
        )
    return f"unexpected {kind}: {error}; SELFREWARD_DEBUG=1 shows where"


def _say(message: str) -> None:
    """One line on stderr; with several processes, those after the first add their rank."""
    rank = os.environ.get("RANK", "0")
    print(message if rank == "0" else f"process {rank}: {message}", file=sys.stderr, flush=True)


def _absolute(path: str) -> Path:
    return Path(path).absolute()

"""Training as its own process: signals, exit codes, two processes on the CPU, the launch files, the real model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny_llama import make_tiny_llama

from selfreward.errors import TrainingError
from selfreward.training import launch as training_launch

LAUNCH_FILES = Path(__file__).parents[2] / "training" / "accelerate"
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",
    "SELFREWARD_QUIET": "1",
    "ACCELERATE_USE_CPU": "true",
}
FAST = {"learning_rate": 1e-3, "min_learning_rate": 1e-4, "precision": "float32"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def prepare(tiny, tmp_path):
    """Writes rows and parameters; returns the arguments that `selfreward.training.sft` and `selfreward.training.dpo` take."""

    def write(parameters, rows, model=tiny):
        import datasets

        datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "rows")
        (tmp_path / "params.json").write_text(json.dumps(parameters))
        folders = {
            "model": model,
            "data": tmp_path / "rows",
            "out": tmp_path / "out",
            "work": tmp_path / "work",
        }
        named = [part for name, folder in folders.items() for part in (f"--{name}", str(folder))]
        return [*named, "--config", str(tmp_path / "params.json")]

    return write


def ift(n):
    return [{"prompt": f"question {i}", "response": f"answer {i}"} for i in range(n)]


def pairs(n):
    def said(role, text):
        return [{"role": role, "content": text}]

    return [
        {
            "prompt": said("user", f"q{i}"),
            "chosen": said("assistant", f"good {i}"),
            "rejected": said("assistant", "bad"),
        }
        for i in range(n)
    ]


def test_sigterm_stops_within_seconds_and_the_same_command_goes_on_from_the_last_checkpoint(
    prepare, tmp_path
):
    arguments = prepare(FAST | {"max_steps": 4000, "batch_size": 2, "checkpoint_every_steps": 5}, ift(8))
    command = [sys.executable, "-P", "-m", "selfreward.training.sft", *arguments]
    child = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("work/checkpoints/*/whole.json")):
        assert time.monotonic() < deadline
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    stopped = time.monotonic()
    _, messages = child.communicate(timeout=30)
    assert time.monotonic() - stopped < 5
    assert child.returncode == 143
    assert "the same command resumes from the last checkpoint" in messages
    assert "Traceback" not in messages
    assert not (tmp_path / "out" / "training.json").exists()

    done = _steps_of_last_checkpoint(tmp_path)
    child = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    line = next(line for line in child.stderr if "resuming" in line)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert line == f"resuming from checkpoint-{done}\n"
    assert child.returncode == 130


def _steps_of_last_checkpoint(folder):
    return max(int(path.parent.name.split("-")[1]) for path in folder.glob("work/checkpoints/*/whole.json"))


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        pytest.param(
            {"min_rows": 9}, 1, "found 2 pairs, too few to train on; expected at least 9", id="refused"
        ),
        pytest.param({"lr": 1}, 2, "lr: Extra inputs are not permitted", id="wrong-use"),
    ],
)
def test_what_is_refused_is_one_sentence_and_an_exit_code(prepare, parameters, code, message):
    command = [sys.executable, "-P", "-m", "selfreward.training.dpo", *prepare(parameters, pairs(2))]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("killed_by", "advice"),
    [
        (signal.SIGKILL, "SIGKILL, most likely because memory ran out; lower per_device_batch_size"),
        (signal.SIGSEGV, "SIGSEGV$"),
    ],
)
def test_a_killed_training_process_is_named_with_its_signal(killed_by, advice, tmp_path):
    dies = [sys.executable, "-c", f"import os; os.kill(os.getpid(), {int(killed_by)})"]
    job = SimpleNamespace(name="M1", run=SimpleNamespace(path=tmp_path), work=tmp_path / "work")
    with pytest.raises(TrainingError, match=f"^M1: the training process was killed by signal {advice}"):
        training_launch._run(dies, job)


@pytest.mark.parametrize("step", ["sft", "dpo"])
def test_two_processes_on_the_cpu_train_one_model(prepare, tmp_path, step):
    """7 rows in portions of 2 for each of 2 processes make 2 portions of 4: one row is trained on twice, and counted."""
    parameters = FAST | {"batch_size": 4, "per_device_batch_size": 2, "checkpoint_every_steps": 1}
    arguments = prepare(parameters, ift(7) if step == "sft" else pairs(7))
    launch = [
        sys.executable,
        "-P",
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(LAUNCH_FILES / "cpu2.yaml"),
    ]
    command = [*launch, "-m", f"training.{step}", *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert report["processes"] == 2
    assert report["rows"] == {"in": 7, "out": 7, "dropped": {}}
    assert report["rows_repeated_per_epoch"] == 1
    expected_steps = 2 if step == "dpo" else 6
    assert report["metrics"]["steps"] == expected_steps
    sealed = json.loads(
        (tmp_path / "work" / "checkpoints" / f"checkpoint-{expected_steps}" / "whole.json").read_text()
    )
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(sealed["bytes"])


def test_a_refusal_ends_both_processes_with_one_message(prepare):
    arguments = prepare({"min_rows": 9}, ift(2))
    launch = [
        sys.executable,
        "-P",
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(LAUNCH_FILES / "cpu2.yaml"),
    ]
    command = [*launch, "-m", "selfreward.training.sft", *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "found 2 rows, too few to train on" in done.stderr


@pytest.mark.parametrize("name", ["cpu2", "fsdp", "zero3"])
def test_a_launch_file_is_understood_by_accelerate(name):
    from accelerate.commands.config.config_args import load_config_from_file

    file = LAUNCH_FILES / f"{name}.yaml"
    config = load_config_from_file(str(file))
    told = yaml.safe_load(file.read_text())
    assert config.num_processes == told["num_processes"]
    assert config.distributed_type.value == told["distributed_type"]
    assert ("NOT RUN HERE" in file.read_text()) == (name != "cpu2")


def test_fsdp_keys_are_ones_that_accelerate_reads():
    """An unknown key would be ignored without a word: each must be an option of `accelerate launch`."""
    from accelerate.commands.launch import launch_command_parser

    options = {action.dest for action in launch_command_parser()._actions}
    told = yaml.safe_load((LAUNCH_FILES / "fsdp.yaml").read_text())["fsdp_config"]
    assert {name for name in told if name not in options} == set()

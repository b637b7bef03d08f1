"""What a user sees of a fault: exit 1, one sentence that names the path and the free space, the old version as it was.

Injected errors through the real command line, and real ones: a disk that is mounted read-only, a folder of another
user's. (A disk that is really full is in test_writers.py.)
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from driver import Fault, Striker, readers_view
from operations import publish, rows
from stages import config_for

from selfreward.cli import main
from selfreward.steps.pipeline import run_pipeline
from selfreward.store import durable
from selfreward.store.run import Run


def command(arguments: list[str], fault: Fault | None = None, call: int = 0) -> tuple[int, str]:
    """Exit status and stderr of a command, in a forked child, with a fault at its `call`-th durable call."""
    reader, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        # What the tests before this one left in memory is not searched for garbage: that took most of the time.
        gc.freeze()
        os.dup2(writing, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.argv = ["selfreward", *arguments]
        durable.hook = Striker(fault, call)
        try:
            main()
        except SystemExit as left:
            os._exit(left.code if isinstance(left.code, int) else 99)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reader) as answer:
        said = answer.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def explained(code: int, said: str, run: Path, number: int) -> None:
    last = said.splitlines()[-1]
    assert code == 1, said
    assert last.startswith("selfreward: cannot "), said
    assert str(run) in last
    assert os.strerror(number) in last
    assert "GiB free)" in last
    assert "Traceback" not in said


@pytest.fixture
def started(tmp_path) -> tuple[Path, Path]:
    """A run with its first datasets, and its configuration as a file."""
    config = config_for(tmp_path)
    run_pipeline(config, tmp_path / "run", until="iter1/candidates")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return tmp_path / "run", file


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS], ids=errno.errorcode.get
)
def test_every_command_that_writes_ends_with_exit_1_the_path_and_the_free_space(started, tmp_path, number):
    run, config = started
    before, fault = readers_view(run), Fault("error", number, forever=True)
    prompts = tmp_path / "prompts.jsonl"
    table = Run(run).current("iter1/prompts").table()
    prompts.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    out = run / "out"
    out.mkdir()
    for call, arguments in (
        (12, ["run", str(config), "--run", str(run), "--until", "iter1/judgements"]),
        (9, ["import", str(run), "iter1/prompts", str(prompts)]),
        (1, ["export", str(run), "iter1/candidates", str(out / "c.parquet")]),
        (1, ["sql", str(run), "SELECT 1", "--out", str(out / "c.csv")]),
        (1, ["gc", str(run)]),
    ):
        code, said = command(arguments, fault, call)
        explained(code, said, run, number)
        assert readers_view(run) == before
    assert list(out.iterdir()) == []


@pytest.fixture
def mounted(tmp_path) -> Path:
    """A file system of its own, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_read_only_is_read_and_its_refusals_are_explained(mounted):
    run = mounted / "run"
    publish(run, "ift", 1)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    for work in (["gc", str(run)], ["import", str(run), "ift", str(mounted / "none.jsonl")]):
        code, said = command(work)
        assert code == 1, said
    explained(*command(["gc", str(run)]), run, errno.EROFS)
    assert command(["verify", str(run)])[0] == 0
    assert Run(run).current("ift").table().equals(rows(100))


def _as_nobody(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The same command as user nobody, in a process that has run it once already.

    What the first run imports need not be read again: a clone may lie in a folder that only root may enter.
    """
    os.chmod(folder, 0o755)
    reader, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        sys.argv = ["selfreward", *arguments]
        with contextlib.suppress(SystemExit):
            main()
        os.setgid(65534)
        os.setuid(65534)
        os.write(writing, json.dumps(command(arguments)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reader) as answer:
        code, said = json.loads(answer.read())
    os.waitpid(pid, 0)
    return code, said


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_users_run_can_be_read_and_what_needs_writing_is_explained(sweep_folder):
    run = sweep_folder / "run"
    publish(run, "ift", 1)
    explained(*_as_nobody(["gc", str(run)], sweep_folder), run, errno.EACCES)
    assert _as_nobody(["verify", str(run)], sweep_folder)[0] == 0

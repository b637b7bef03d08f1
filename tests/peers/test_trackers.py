"""What TensorBoard and Trackio write during a training step stays in the run folder, and their own readers read it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest
from sample_run import make_sample_run
from tiny_llama import make_tiny_llama

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The trackers' folder after two steps of DPO on the sample run's pairs."""
    folder = tmp_path_factory.mktemp("trackers")
    make_sample_run(folder / "run", iterations=1)
    model = make_tiny_llama(folder / "tiny")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from selfreward.config.training import DpoConfig\n"
        "from selfreward.store.run import Run\n"
        "from selfreward.training.launch import train\n"
        "run = Run(Path(sys.argv[1]))\n"
        "work = run.path / '.work' / 'M2-0123'\n"
        "work.mkdir(parents=True)\n"
        "job = SimpleNamespace(run=run, work=work, name='M2')\n"
        "config = DpoConfig(max_steps=2, report_to=('tensorboard', 'trackio'), precision='float32', max_truncated_share=1,\n"
        "                   max_dropped_share=1, batch_size=2, per_device_batch_size=2, effect_rows=2)\n"
        "out = work / 'out'\n"
        "out.mkdir()\n"
        "train(job, 'selfreward.training.dpo', out, Path(sys.argv[2]), [run.current('iter1/pairs')], config)\n"
    )
    environment = {
        key: os.environ[key] for key in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ
    }
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "run", model], capture_output=True, text=True, timeout=900,
        env=environment | {"HOME": str(folder), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run" / "trackers"


def test_tensorboard_reads_the_loss_of_every_step(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard" / "M2-0123"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
    assert events.Scalars("train/loss")[0].value == pytest.approx(0.6931, abs=1e-3)


def test_trackio_keeps_the_loss_of_every_step(trained):
    """In its own database; nothing is sent anywhere."""
    (database,) = (trained / "trackio").glob("selfreward*.db")
    import orjson

    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT run_name, metrics FROM metrics ORDER BY step").fetchall()
    assert {name for name, _ in rows} == {"M2-0123"}
    losses = [
        row["train/loss"] for row in (orjson.loads(metrics) for _, metrics in rows) if "train/loss" in row
    ]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)

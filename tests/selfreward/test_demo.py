"""What `make demo` left: SELFREWARD_DEMO_RUN=runs/demo pytest -m demo tests/selfreward/test_demo.py

The demo is the real thing on a real model; these are the promises its README section makes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfreward.store.run import Run
from selfreward.store.verify import verify_run

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def path() -> Path:
    if not (folder := os.environ.get("SELFREWARD_DEMO_RUN")):
        pytest.skip("SELFREWARD_DEMO_RUN does not name a finished demo run")
    return Path(folder)


def notes(path, name):
    return Run(path).current(name).manifest["counts"]["notes"]


def test_every_step_from_seeds_to_the_second_models_verdicts_is_there_and_whole(path):
    names = set(Run(path).names())
    iteration = {f"iter1/{name}" for name in ("prompts", "candidates", "judgements", "scores", "pairs")}
    assert {"seeds", "ift", "eft", "M1", "M2", "iter1/annotations", "iter2/annotations", *iteration} <= names
    assert [check.problem for check in verify_run(path) if check.problem] == []


def test_eft_raised_the_share_of_judgements_with_a_score(path):
    """Zero-shot about 1 judgement in 100 is readable; after SFT on EFT at least a third must be."""
    before, after = (notes(path, f"iter{k}/judge_eval")["scored_share"] for k in (0, 1))
    assert after >= before + 0.2
    assert after >= 1 / 3


def test_there_were_pairs_to_train_on_and_m2_differs_from_m1_on_the_saved_weights(path):
    assert Run(path).current("iter1/pairs").n_rows >= 6
    effect = notes(path, "M2")["effect"]
    assert effect["rows"] > 0
    assert effect["chosen"]["change"] != 0
    assert effect["rejected"]["change"] != 0


def test_every_figure_of_the_report_is_there(path):
    assert "Cannot be shown" not in (path / "report.html").read_text("utf-8")


def test_rows_are_accounted_for_in_every_manifest(path):
    run = Run(path)
    for name in run.names():
        counts = run.current(name).manifest["counts"]
        assert counts["in"] == counts["out"] + sum(counts["dropped"].values()), name


def test_the_same_command_again_does_nothing_and_says_so_in_under_3_seconds(path):
    command = [sys.executable, "-m", "selfreward", "run", "configs/demo.yaml", "--run", str(path)]
    subprocess.run(
        command, capture_output=True, check=True
    )  # the first after a change of machine hashes models
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 3
    assert "nothing to do" in done.stdout


def test_a_dataset_opens_with_plain_datasets(path):
    import datasets

    pairs = datasets.load_from_disk(str(Run(path).current("iter1/pairs").folder))
    assert pairs[0]["chosen"][0]["role"] == "assistant"
    assert pairs[0]["chosen_score"] > pairs[0]["rejected_score"]

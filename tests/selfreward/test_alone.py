"""Each builder by itself: `python -m selfreward.builders.ift CONFIG`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from scripted_run import config_for, write_script

from selfreward.steps.step import ITERATION, SETUP
from selfreward.store.run import Run

ALONE = [name for name in (*SETUP, *ITERATION) if not name.startswith("selfreward.training.")]


def alone(module, *arguments, cwd):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("module", ALONE)
def test_every_builder_says_what_it_makes(module, tmp_path):
    done = alone(module, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"Usage: python -m {module} [OPTIONS] {{CONFIG}}" in done.stdout


def test_a_builder_makes_its_dataset_from_what_is_there_and_nothing_else(tmp_path):
    config = config_for(write_script(tmp_path / "script.yaml"), run=str(tmp_path / "run"))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    missing = alone("selfreward.builders.ift", "c.yaml", cwd=tmp_path)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "no dataset or model 'seeds'" in missing.stderr
    for module in ("selfreward.builders.seed_replies", "selfreward.builders.ift"):
        assert alone(module, "c.yaml", cwd=tmp_path).returncode == 0
    assert Run(tmp_path / "run").names() == ["ift", "seeds"]
    again = alone("selfreward.builders.ift", "c.yaml", cwd=tmp_path)
    assert "ift: reused (" in again.stderr
    other = alone("selfreward.builders.pairs", "c.yaml", "--iteration", "3", cwd=tmp_path)
    assert "has no step selfreward.builders.pairs (in iteration 3)" in other.stderr

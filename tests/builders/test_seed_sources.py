"""What is said and recorded about where seeds are from: the Hub's commit, and prompts that AlpacaEval asks too."""

from __future__ import annotations

from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest
from scripted_run import config_for, write_script

from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Run

ROWS = [
    {"prompt": f"Question {p}: how is it done?", "response": f"By care, {r} times over ({p}).", "rank": r}
    for p in range(12)
    for r in range(3)
]


@pytest.fixture
def hub(monkeypatch):
    """A Hub with one data set; says which revision was asked for."""
    asked = SimpleNamespace(revision=None, down=False)

    def info(self, name, *, revision=None, timeout=None):
        if asked.down:
            raise OSError("no network")
        return SimpleNamespace(sha={"v1": "1" * 40, None: "2" * 40}[revision])

    def load(name, *, split, revision):
        asked.revision = revision
        return ROWS

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def built(tmp_path, until="ift", **seeds):
    config = config_for(write_script(tmp_path / "script.yaml"), seeds=seeds)
    run_pipeline(config, tmp_path / "run", until=until)
    return Run(tmp_path / "run").current("seeds").manifest["counts"]["notes"]


@pytest.mark.parametrize(("revision", "commit"), [("v1", "1" * 40), (None, "2" * 40)])
def test_the_commit_of_a_hub_data_set_is_what_is_read_and_recorded(hub, tmp_path, revision, commit):
    assert built(tmp_path, "seeds", source="ann/replies", revision=revision)["revision"] == commit
    assert hub.revision == commit


def test_a_hub_that_does_not_answer_leaves_the_commit_unknown(hub, tmp_path):
    hub.down = True
    assert built(tmp_path, "seeds", source="ann/replies", revision="v1")["revision"] == "unknown"
    assert hub.revision == "v1"


def test_open_assistant_without_evaluation_sets_is_warned_of(hub, tmp_path, capfd):
    built(tmp_path, source="OpenAssistant/oasst1")
    assert "prompts.evaluation_sets is empty" in capfd.readouterr().err


def test_other_seeds_are_not_warned_of(hub, tmp_path, capfd):
    built(tmp_path, source="ann/replies")
    assert "evaluation_sets" not in capfd.readouterr().err

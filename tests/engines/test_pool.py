"""One engine is kept while the same model is used; another model, other options, an error or training close it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from selfreward.config.files import load_config
from selfreward.engines import pool
from selfreward.engines.base import BaseEngine, EngineOptions
from selfreward.engines.pool import EnginePool
from selfreward.steps.pipeline import run_pipeline

ARCHIVE = Path(__file__).parents[1] / "data" / "run-of-0.1.tar.gz"


@pytest.fixture
def log(monkeypatch):
    """What was opened and closed, in order; the engines do nothing."""
    events = []

    class Engine(BaseEngine):
        def __init__(self, model):
            self.name = model
            events.append(f"open {model}")

        def close(self):
            events.append(f"close {self.name}")

    monkeypatch.setattr(pool, "open_engine", lambda model, options: Engine(model))
    return events


def lease(engines, *models, options=None):
    for model in models:
        with engines.lease(model, options or EngineOptions()) as engine:
            assert engine.name == model


def test_steps_of_one_model_share_an_engine(log):
    with EnginePool() as engines:
        lease(engines, "hf:a", "hf:a", "hf:b", "hf:a")
        assert log == ["open hf:a", "close hf:a", "open hf:b", "close hf:b", "open hf:a"]
        assert engines.n_opened == 3
    assert log[-1] == "close hf:a"


def test_other_options_need_another_engine_but_what_concerns_only_servers_does_not(log):
    with EnginePool() as engines:
        lease(engines, "hf:a", options=EngineOptions(extra={"max_cost": 3.0, "spent": 1.0}))
        lease(engines, "hf:a", options=EngineOptions(extra={"max_cost": 3.0, "spent": 2.0}))
        lease(engines, "hf:a", options=EngineOptions(dtype="float32"))
    assert log == ["open hf:a", "close hf:a", "open hf:a", "close hf:a"]


def test_a_server_or_script_is_opened_each_time_and_leaves_the_kept_engine_open(log):
    with EnginePool() as engines:
        lease(engines, "hf:a", "scripted:s", "scripted:s", "hf:a")
    assert log == ["open hf:a", *["open scripted:s", "close scripted:s"] * 2, "close hf:a"]


def test_an_engine_in_which_something_failed_is_not_used_again(log):
    with EnginePool() as engines:
        with pytest.raises(KeyboardInterrupt), engines.lease("hf:a", EngineOptions()):
            raise KeyboardInterrupt
        lease(engines, "hf:a")
    assert log == ["open hf:a", "close hf:a", "open hf:a", "close hf:a"]


def test_an_iteration_opens_one_engine_for_each_change_of_model(tmp_path, monkeypatch):
    """M1 answers; training; M1 is measured, then M2, then M0. Before training nothing is open. Eight steps use an engine."""
    opened, at_training = [], []

    class Counting(EnginePool):
        def lease(self, model, options):
            opened.append(self)
            return super().lease(model, options)

        def close(self):
            super().close()
            at_training.append(self._engine)

    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("selfreward.steps.pipeline.EnginePool", Counting)
    run_pipeline(load_config(Path("config.yaml"), overrides=["seed=2"]), tmp_path / "new")
    assert len(opened) == 10
    assert opened[0].n_opened == 4
    assert set(at_training) == {None}

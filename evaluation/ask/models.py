"""Resolves a user's name of a model: a model string, or `M1`, `SFT`, … of a run.

models = Models(run_folder)    # None: no run
models.ref("M2").name          # `M2@91ab…`
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from selfreward.config.files import load_config
from selfreward.config.run import RunConfig
from selfreward.engines.base import EngineOptions
from selfreward.engines.references import ModelRef, foreign, resolve
from selfreward.errors import UsageError
from selfreward.evaluation.ask.requests import EngineSettings
from selfreward.steps.trust import require_trust
from selfreward.store.run import Run, is_model


class Models:
    """The models of a run, if there is one, and those that a model string names."""

    def __init__(self, run_folder: Path | None = None) -> None:
        self.run = None if run_folder is None else Run(run_folder)
        self._config: RunConfig | None = None

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        if self.run is None:
            raise UsageError("there is no run to take the configuration from: add --run RUN")
        if self._config is None:
            path = self.run.path / "config.yaml"
            if not path.is_file():
                raise UsageError(f"{self.run.path}: holds no config.yaml, so it is not known what M0 is")
            self._config = load_config(path)
            # the configuration of a pulled run names servers and files of a stranger
            require_trust(path, self._config)
        return self._config

    def ref(self, name: str) -> ModelRef:
        """UsageError for a run's model without a run, or one that the run does not have."""
        if not is_model(name):
            return foreign(name)
        if self.run is None:
            raise UsageError(f"model {name!r} is a model of a run: add --run RUN")
        return resolve(name, self.run, self.config.model, self.config.train)

    def settings_for(self, name: str, settings: EngineSettings) -> EngineSettings:
        """A run's model is asked with the run's engine options, unless others are given."""
        if self.run is None or not is_model(name) or settings.options != EngineOptions():
            return settings
        return replace(settings, options=EngineOptions(**self.config.engine.model_dump()))

"""The configuration that made a run's versions: the one in the run folder, corrected by each manifest.

A manifest has the actual parameters and model names behind the rows. If iterations differ, the last one
counts, and the difference is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from selfreward.config.files import load_config
from selfreward.config.run import RunConfig
from selfreward.notes import JsonObject
from selfreward.steps.configuration import flat_settings
from selfreward.store.run import is_model
from selfreward.store.version import Version
from selfreward.summary.facts import as_made
from selfreward.tables import kind_of

# Kind of version and section of its parameters -> section of the configuration.
_PLACES = {
    ("seeds", "seeds"): "seeds", ("ift", "split"): "split", ("ift", "ift"): "ift", ("eft", "eft"): "eft",
    ("SFT", "sft"): "sft", ("M1", "sft"): "sft", ("prompts", "prompts"): "prompts", ("pairs", "pairs"): "pairs",
    ("candidates", "candidates"): "candidates", ("judgements", "judging"): "judging", ("scores", "judging"): "judging",
    ("judge_eval", "judge_eval"): "evaluate.judge", ("model_outputs", "alpaca"): "evaluate.alpaca",
    ("annotations", "alpaca"): "evaluate.alpaca", ("M", "dpo"): "dpo",
    ("meta_judgements", "meta"): "meta", ("judge_pairs", "meta"): "meta",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The known settings of a run."""

    config: RunConfig | None
    """None for a run of imported datasets."""
    differences: tuple[str, ...] = ()
    """Differences between iterations; the last one counts."""


def settings_of(run: Path, versions: Mapping[str, Version]) -> Settings:
    """The settings of these versions of a run."""
    path = run / "config.yaml"
    if not path.is_file():
        return Settings(None)
    # This is the file of the last `selfreward run`, which may have stopped before it built anything.
    config = load_config(path)
    values = config.model_dump(mode="json")
    recorded: dict[str, tuple[str, object]] = {}
    differences = []
    for name in sorted(versions, key=as_made):
        for key, value in _recorded(name, versions[name], config):
            earlier, before = recorded.get(key, (name, value))
            if before != value:
                differences.append(f"{earlier} was made with {key} {before!r}, {name} with {value!r}")
            recorded[key] = (name, value)
            section, _, setting = key.rpartition(".")
            place = _section(values, section)
            # An unknown key is a setting of another release, which today's model would reject.
            if setting in place:
                place[setting] = value
    try:
        return Settings(RunConfig.model_validate(values), tuple(differences))
    # The versions come from configurations that no single valid one can express.
    except ValidationError:
        return Settings(config, tuple(differences))


def _recorded(name: str, version: Version, config: RunConfig) -> list[tuple[str, object]]:
    """The configuration values in a manifest: dotted key, value."""
    kind = "M" if is_model(name) and name not in ("M1", "SFT") else kind_of(name) or name
    params, found = version.manifest["params"], []
    for (of, section), place in _PLACES.items():
        if of == kind and isinstance(params.get(section), dict):
            found += [(f"{place}.{key}", value) for key, value in flat_settings(params[section]).items()]
    models = {"judgements": "judging.judge", "prompts": "prompts.generator", "SFT": "model", "M1": "model"}
    model = (version.manifest["inputs"].get("base" if is_model(name) else "model") or {}).get("name")
    if kind in models and model:
        trained = model.partition("@")[0]
        found.append((models[kind], trained if is_model(trained) else model.rpartition("@")[0] or model))
    return [(key, _as_configured(key, value, config)) for key, value in found]


def _as_configured(key: str, value: object, config: RunConfig) -> object:
    """A model or a file as the configuration names it, if it is the same one."""
    if key in ("judging.judge", "prompts.generator", "model"):
        roles = {"judging.judge": config.judging.judge, "prompts.generator": config.prompts.generator}
        named = roles.get(key, config.model)
        # Of several judges the manifest's role `model` is the first.
        if isinstance(named, list):
            return named
        meant = config.model if named in ("current", "fixed") else named
        if value == named or value in _shown(meant) or (named == "current" and is_model(str(value))):
            return named
        return "current" if is_model(str(value)) else value
    for path in ("seeds.source", "pairs.rule"):
        named = str(flat_settings(config.model_dump(mode="json"))[path])
        if key == path and Path(named).name.split(".")[0] == value:
            return named
    return value


def _shown(model_string: str) -> tuple[str, ...]:
    """What rows may call a model, without its hash: by its name, its folder's or its server's; see `engines.references`."""
    engine, _, target = model_string.partition(":")
    return tuple(f"{engine}:{name}" for name in (target, Path(target).name, target.rpartition("#")[2]))


def _section(values: JsonObject, dotted: str) -> JsonObject:
    """A section by its dotted name; an empty one if the configuration has turned it off."""
    for name in filter(None, dotted.split(".")):
        values = values.get(name) or {}
    return values

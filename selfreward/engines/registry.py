"""Opens the engine of a model string. An engine's heavy module is imported only when it is opened."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from selfreward.engines.base import Engine, EngineOptions
from selfreward.errors import UsageError
from selfreward.openmp import COMMAND, spin_at_most
from selfreward.unkeyed import MONEY

ENGINES = {
    "hf": "selfreward.engines.hf.engine:HfEngine",
    "vllm": "selfreward.engines.vllm.engine:VllmEngine",
    "openai": "selfreward.engines.openai.engine:OpenAiEngine",
    "ray": "selfreward.engines.ray.engine:RayEngine",
    "scripted": "selfreward.engines.scripted:ScriptedEngine",
}
"""Prefix of the model string -> engine class. A new engine is one module and one line here."""

SECTIONS = frozenset({"openai", "ray"})
"""Keys of `engine.extra` with settings of one engine. `ray` only says where it runs and is not part of the key."""


@dataclass(frozen=True, slots=True)
class ModelString:
    """`hf:path` -> engine `hf`, target `path`."""

    engine: str
    target: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.target}"


def parse_model_string(text: str) -> ModelString:
    """Split `ENGINE:TARGET`. Raises UsageError for an unknown engine, naming the nearest known one.

    >>> parse_model_string("hf:runs/demo/models/M1")
    ModelString(engine='hf', target='runs/demo/models/M1')
    """
    engine, colon, target = text.partition(":")
    if not colon or not target:
        raise UsageError(f"model {text!r}: expected ENGINE:MODEL, such as hf:smollm2-135m-instruct")
    if engine not in ENGINES:
        near = difflib.get_close_matches(engine, ENGINES, n=1)
        hint = f"; did you mean {near[0]}:{target}?" if near else ""
        raise UsageError(f"model {text!r}: unknown engine {engine!r}, known are {', '.join(ENGINES)}{hint}")
    return ModelString(engine, target)


def open_engine(model: str, options: EngineOptions | None = None) -> Engine:
    """Open the engine of a model string. Constructors take (target: str, options: EngineOptions)."""
    parsed = parse_model_string(model)
    module_name, _, class_name = ENGINES[parsed.engine].partition(":")
    # Before the engine's module imports torch, which reads it: a notebook gets the same value as the command line.
    spin_at_most(COMMAND)
    module = importlib.import_module(module_name)
    engine: Engine = getattr(module, class_name)(
        parsed.target, options_for(model, options or EngineOptions())
    )
    return engine


def engine_options(settings: Sequence[str]) -> EngineOptions:
    """`batch_size=8`, `price_per_million_in=2.5`, …: fields of `EngineOptions`; others are passed to the engine.

    >>> engine_options(["batch_size=8", "price_per_million_in=2.5"]).extra
    {'price_per_million_in': 2.5}
    """
    import yaml

    known = {name for name in EngineOptions.__dataclass_fields__ if name != "extra"}
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise UsageError(f"engine option {setting!r}: expected KEY=VALUE, such as batch_size=8")
        (values if name in known else extra)[name] = yaml.safe_load(text)
    return EngineOptions(**values, extra=extra)


def holds_weights(model: str) -> bool:
    """Whether the engine loads the weights itself, so that opening it is slow and uses memory."""
    return parse_model_string(model).engine in ("hf", "vllm", "ray")


def options_for(model: str, options: EngineOptions) -> EngineOptions:
    """The options that apply to the engine of this model string."""
    return replace(options, extra=_concerning(parse_model_string(model).engine, options.extra))


def _concerning(engine: str, extra: dict[str, Any]) -> dict[str, Any]:
    # One configuration serves a model and a judge on different engines, and each refuses options it does not know.
    hidden = SECTIONS - {engine}
    if engine != "openai":  # only servers have prices
        hidden |= set(MONEY)
    return {name: value for name, value in extra.items() if name not in hidden}

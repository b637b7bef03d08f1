"""Checks the run's models before the first step is built, so that a run does not fail after hours on a wrong setting.

    check_models(plans, config)

Checked for every model string of the plan: the engine is known and installed, the folder has a chat template, and its
context has room for the judge prompts. If the template and its answer alone do not fit, nothing could be judged: a
ConfigError. If only the longest responses do not fit, one line says so; such rows become `engine_error` and are
counted. A script is read whole; of a server only address, key and options are checked, without sending a request.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from selfreward.config.run import RunConfig
from selfreward.engines.base import EngineOptions, Request
from selfreward.engines.registry import ModelString, open_engine, parse_model_string
from selfreward.errors import ConfigError, EngineError
from selfreward.models.folder import token_limit
from selfreward.models.known import fetch_model
from selfreward.progress import say
from selfreward.steps.step import Plan, stage_module
from selfreward.store.run import is_model
from selfreward.tables import kind_of

NEEDED = {"vllm": ("vllm",), "ray": ("ray", "vllm")}
"""Engine -> packages of an extra of the same name."""
WITHOUT_FOLDER = ("openai", "scripted")


def check_models(plans: Iterable[Plan], config: RunConfig) -> None:
    """Raise UsageError, ConfigError or EngineError for a model that cannot do what the plans require."""
    used: dict[str, list[Plan]] = {}
    for plan in plans:
        for name in plan.models.values():
            # Models that the run trains have M0's tokenizer and context.
            used.setdefault(config.model if is_model(name) else name, []).append(plan)
    parsed = {model: parse_model_string(model) for model in used}
    for model, target in parsed.items():
        _require_installed(model, target.engine)
    for model, target in parsed.items():
        if target.engine in WITHOUT_FOLDER:
            open_engine(
                model, EngineOptions(extra=config.engine.extra)
            ).close()  # reads the script, the address, the key
        else:
            _check_folder(model, target, used[model], config)
    if config.train and config.dpo.dropout:
        say(
            f"dpo.dropout {config.dpo.dropout:g}: a Llama or Qwen has it in its attention alone, where the policy is read with "
            "it and the reference without. With 0.1 the first loss was 1.66 instead of ln 2 = 0.69, and DPO learned nothing "
            "(docs/experiments.md); set dpo.dropout: 0.0"
        )


def _require_installed(model: str, engine: str) -> None:
    missing = [package for package in NEEDED.get(engine, ()) if find_spec(package) is None]
    if missing:
        raise EngineError(
            f"model {model!r} needs {' and '.join(missing)}, which is not installed: "
            f"pip install 'selfreward[{','.join(missing)}]'"
        )


def _check_folder(model: str, target: ModelString, plans: list[Plan], config: RunConfig) -> None:
    from selfreward.engines.chat_tokens import Chat, ChatTokenizer

    folder = fetch_model(target.target)
    tokenizer = ChatTokenizer(folder)  # raises where there is no chat template
    context = token_limit(folder, config.engine.max_context, f"{model}: engine.max_context")
    if context is None:
        return
    for plan in plans:
        module: Any = stage_module(plan.module)
        if not hasattr(module, "shortest_request"):
            continue
        request: Request = module.shortest_request(plan)
        prompt = tokenizer.encode([Chat(request.messages, request.prefix)])[0]
        if prompt.error is None:
            _check_room(model, plan, len(prompt.ids), request.sampling.max_tokens, context, config)


def _check_room(
    model: str, plan: Plan, n_prompt: int, n_answer: int, context: int, config: RunConfig
) -> None:
    if n_prompt + n_answer > context:
        raise ConfigError(
            f"{plan.name}: the judge template alone has {n_prompt} tokens and its answer up to {n_answer}, but "
            f"{model!r} reads {context}: use a shorter judging.template, a smaller max_tokens, or raise engine.max_context"
        )
    longest = config.prompts.max_tokens + config.candidates.max_tokens
    if kind_of(plan.name) == "judgements" and n_prompt + longest + n_answer > context:
        say(
            f"{plan.name}: judge prompts may have {n_prompt + longest} tokens and answers {n_answer}, but {model!r} reads "
            f"{context}; what does not fit is left unscored and counted as engine_error"
        )

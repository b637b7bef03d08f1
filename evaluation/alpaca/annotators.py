"""Pairwise judges as alpaca-eval configures them: `NAME/configs.yaml` and a prompt template beside it.

    template = load_annotator("selfreward_weighted")            # ours, in evaluation/alpaca/configs
    template = load_annotator("weighted_alpaca_eval_gpt4_turbo")  # alpaca-eval's own
    template = load_annotator("path/to/my_judge")               # a folder of the user

PromptPair, choices and parser come from the configuration, the model is the engine's. So any configuration runs on
any engine, and the official figures need the official model.

Refused, because an engine cannot do what they need: several judges in one file, several examples in one
prompt, function calling, and log-probabilities after a chain of thought.

Texts are inserted in one pass, with structural markers escaped (`selfreward.judging.prompts.markers.fill`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from selfreward.errors import InputError, UsageError
from selfreward.evaluation.alpaca.harness import alpaca_eval_folder, import_alpaca_eval
from selfreward.judging.prompts.markers import fill
from selfreward.tables import Message

OURS = Path(__file__).parent / "configs"
_SLOT = r"\{(instruction|output_1|output_2)\}"


@dataclass(frozen=True, slots=True)
class PairwiseTemplate:
    """One pairwise judge: its prompt and how its reply is parsed."""

    name: str
    config: Path
    """The `configs.yaml`; alpaca-eval's annotator is built from it."""
    messages: tuple[Message, ...]
    """With the placeholders `{instruction}`, `{output_1}`, `{output_2}`."""
    choices: tuple[str, ...]
    """Tokens whose log-probabilities are requested; empty for a judge whose text is parsed."""
    max_tokens: int
    temperature: float
    model_name: str | None
    """The model that the configuration was made for; alpaca-eval's published figures are this one's."""
    sha256: str
    """Of configuration and prompt: part of the key of everything judged with it."""

    def fill(self, instruction: str, output_1: str, output_2: str) -> tuple[Message, ...]:
        """The chat for one comparison."""
        # alpaca-eval fills one slot after another, so that an instruction with `{output_1}` swallows the
        # answer
        values = {"instruction": instruction, "output_1": output_1, "output_2": output_2}
        return tuple(Message(turn.role, fill(turn.content, _SLOT, values)) for turn in self.messages)


def load_annotator(name: str) -> PairwiseTemplate:
    """A folder with `configs.yaml`, one of ours, or one of alpaca-eval's, in that order.

    Raises `UsageError` for an unknown name, `InputError` for a configuration that engines cannot serve.
    """
    config = _find(name)
    try:
        judges = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{config}: cannot be read ({error})") from error
    if not isinstance(judges, dict) or len(judges) != 1:
        raise InputError(
            f"{config}: expected one judge, found {len(judges or ())}; a pool of judges is not supported"
        )
    ((judge, settings),) = judges.items()
    _refuse_unservable(judge, settings)
    prompt = _prompt(config, settings)
    kwargs = settings.get("completions_kwargs") or {}
    return PairwiseTemplate(
        name=judge,
        config=config,
        messages=_messages(prompt, config),
        choices=_choices(settings),
        max_tokens=int(kwargs.get("max_tokens") or kwargs.get("max_tokens_to_sample") or 64),
        temperature=float(kwargs.get("temperature", 0)),
        model_name=kwargs.get("model_name"),
        sha256=hashlib.sha256(f"{config.read_text(encoding='utf-8')}\0{prompt}".encode()).hexdigest(),
    )


def _find(name: str) -> Path:
    shipped = alpaca_eval_folder() / "evaluators_configs"
    # the user's own folder first: a shipped name must not shadow it
    for folder in (Path(name), OURS / name, shipped / name):
        config = folder / "configs.yaml"
        if config.is_file():
            return config.resolve()
    ours = ", ".join(sorted(folder.name for folder in OURS.iterdir() if folder.is_dir()))
    raise UsageError(
        f"no judge {name!r}: expected a folder with configs.yaml, one of ours ({ours}), or one of alpaca-eval's "
        "(such as weighted_alpaca_eval_gpt4_turbo)"
    )


def _refuse_unservable(judge: str, settings: Mapping[str, Any]) -> None:
    kwargs = settings.get("completions_kwargs") or {}
    reason = None
    if settings.get("batch_size", 1) != 1:
        reason = f"puts {settings['batch_size']} examples into one prompt"
    elif {"function_call", "functions", "tools", "tool_choice"} & set(kwargs):
        reason = "needs function calling"
    elif settings.get("processors_to_kwargs"):
        reason = "needs processors of its own"
    # the first token's log-probabilities hold no verdict if a chain of thought comes first
    elif settings.get("fn_completion_parser") == "logprob_parser" and kwargs.get("max_tokens") != 1:
        reason = "reads log-probabilities after a chain of thought"
    if reason:
        raise InputError(f"judge {judge}: {reason}, which our engines do not serve; choose another judge")


def _prompt(config: Path, settings: Mapping[str, Any]) -> str:
    """The text of the judge's prompt template."""
    # relative to the folder above the judge's own, as alpaca-eval resolves it
    path = config.parents[1] / str(settings.get("prompt_template"))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{config}: its prompt_template {path} cannot be read ({error.strerror})") from error


def _messages(prompt: str, config: Path) -> tuple[Message, ...]:
    """ChatML templates as turns, anything else as one user turn."""
    # split before texts are inserted: an answer with `<|im_start|>` must not become a turn
    if prompt.lstrip().startswith("<|im_start|>"):
        turns = import_alpaca_eval("utils").prompt_to_chatml(prompt)
        messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
    else:
        messages = (Message("user", prompt.strip()),)
    found = {name for message in messages for name in re.findall(_SLOT, message.content)}
    if found != {"instruction", "output_1", "output_2"}:
        raise InputError(
            f"{config}: its prompt needs {{instruction}}, {{output_1}} and {{output_2}}; has {sorted(found)}"
        )
    return messages


def _choices(settings: Mapping[str, Any]) -> tuple[str, ...]:
    if settings.get("fn_completion_parser") != "logprob_parser":
        return ()
    parser = settings["completion_parser_kwargs"]
    return tuple(dict.fromkeys([parser["numerator_token"], *parser["denominator_tokens"]]))

"""Prompts with their rules: the embedded held-out ones, or a file.

{"prompt": "…", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}     IFEval's form
{"prompt": "Describe a kettle. Use no commas."}                                      the rule read from the prompt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfreward.errors import InputError
from selfreward.judging.rules.ifeval import read_rules
from selfreward.judging.rules.prompts import HELD_OUT_TOPICS, rule_prompts
from selfreward.judging.rules.rules import Rule, rules_in
from selfreward.reading.files import read_rows

EMBEDDED = "rules"


@dataclass(frozen=True, slots=True)
class PromptWithRules:
    """A prompt and its rules; None stands for a rule that is not checked here."""

    prompt: str
    rules: tuple[Rule | None, ...]


def file_of(prompts: str) -> Path:
    """The file whose content decides the prompts."""
    return HELD_OUT_TOPICS if prompts == EMBEDDED else Path(prompts)


def read_prompts(prompts: str, path: Path) -> list[PromptWithRules]:
    """The prompts of a source, each text once. Raises InputError for a row without a prompt or without a rule."""
    if prompts == EMBEDDED:
        return [PromptWithRules(row.prompt, (row.rule,)) for row in rule_prompts(held_out=True)]
    found: dict[str, PromptWithRules] = {}
    for number, row in read_rows(path):
        where = f"{path}: row {number}"
        text = row.get("prompt", row.get("instruction"))
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: has no text in `prompt` or `instruction`")
        rules = read_rules(row, where) if "instruction_id_list" in row else tuple(rules_in(text))
        if not rules:
            raise InputError(
                f"{where}: {text[:60]!r} states no rule in words that are known here, and has no instruction_id_list; "
                "docs/evaluation.md lists the rules and their words"
            )
        found.setdefault(text, PromptWithRules(text, rules))
    if not found:
        raise InputError(f"{path}: holds no prompts")
    return list(found.values())

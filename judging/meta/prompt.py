"""The prompt that shows a meta-judge two judgements of one response.

A template is a text file with the slots `{{ instruction }}`, `{{ response }}`, `{{ judgement_a }}`, `{{ judgement_b }}` (the
paper's) and, if wanted, `{{ rubric }}`: what the judge was asked to do, which is its own template around two
placeholders, so that a run with another judge template needs no other meta-judge template. Foreign text goes in as in
judge prompts (`selfreward.judging.prompts.markers`): in one pass, with the template's own markers escaped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from selfreward.errors import ConfigError, UsageError
from selfreward.judging.prompts.markers import fill
from selfreward.judging.prompts.templates import JudgeTemplate

SHIPPED = "meta-judge"
_SLOTS = ("instruction", "response", "judgement_a", "judgement_b")
_SLOT = rf"\{{\{{\s*({'|'.join(_SLOTS)})\s*\}}\}}"
_RUBRIC = re.compile(r"\{\{\s*rubric\s*\}\}")
_ANY = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class MetaTemplate:
    """A meta-judge's prompt. ConfigError for a slot that is missing or unknown."""

    text: str
    name: str = "template"

    def __post_init__(self) -> None:
        found = set(_ANY.findall(self.text))
        shown = ", ".join(f"{{{{ {slot} }}}}" for slot in (*_SLOTS, "rubric"))
        for slot in (slot for slot in _SLOTS if slot not in found):
            raise ConfigError(
                f"Meta-judge template {self.name}: the slot {{{{ {slot} }}}} is missing; the slots are {shown}, the last "
                "one optional"
            )
        for slot in sorted(found - {*_SLOTS, "rubric"}):
            raise ConfigError(
                f"Meta-judge template {self.name}: it asks for {{{{ {slot} }}}}, which is unknown; the slots are {shown}"
            )

    def render(self, judge: JudgeTemplate, instruction: str, response: str, a: str, b: str) -> str:
        """The prompt for two judgements that `judge` asked for."""
        # The rubric is the user's own text, no model's, so its tags stay as the judge saw them.
        rubric = judge.render("(the request below)", "(the reply below)")
        template = _RUBRIC.sub(lambda _: rubric, self.text)
        values = {"instruction": instruction, "response": response, "judgement_a": a, "judgement_b": b}
        return fill(template, _SLOT, values)


def load_meta_template(name_or_path: str) -> MetaTemplate:
    """The project's template by name, or any file by path. UsageError if there is none."""
    if name_or_path == SHIPPED:
        text = (files("selfreward.judging") / "prompts" / f"{SHIPPED}.txt").read_text("utf-8")
        return MetaTemplate(text.rstrip("\n"), SHIPPED)
    path = Path(name_or_path)
    if not path.is_file():
        raise UsageError(
            f"meta.template {name_or_path!r}: no such template; expected {SHIPPED} or the path of a file"
        )
    try:
        return MetaTemplate(path.read_text("utf-8-sig").rstrip("\n"), path.name)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"meta.template {path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None

"""Rules that a program can check: "Use only small letters.", "Answer with a numbered list of exactly 3 points."

    rule = Rule("ends_with", "indeed")
    rule.sentence()                    'End your answer with the word "indeed".'
    rule.kept_by("Quite so, indeed.")  True
    rules_in("Describe a kettle. Use no commas.")   [Rule("no_commas")]

Every kind has several wordings, all of which `rules_in` reads back from a prompt; a rule in other words is not seen, and
a prompt without a rule has no verdict. The last wording of each kind is for held-out prompts: nothing is trained on it.
An empty answer keeps no rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its kind, and its number or word if the kind has one."""

    kind: str
    value: str = ""

    def sentence(self, wording: int = 0) -> str:
        """The rule as a sentence of a prompt."""
        return KINDS[self.kind].wordings[wording].format(self.value)

    def kept_by(self, answer: str) -> bool:
        """Whether an answer keeps the rule."""
        text = answer.strip()
        check = KINDS[self.kind].check if self.kind in KINDS else _IFEVAL[self.kind]
        return bool(_WORD.search(text)) and check(text, self.value)

    def __str__(self) -> str:
        return f"{self.kind}: {self.value}" if self.value else self.kind


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of rule: how it is worded (`{}` stands for its value), and its check of a text without outer blanks."""

    wordings: tuple[str, ...]
    check: Callable[[str, str], bool]


_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_LIST_LINE = re.compile(r"(\d+)[.)]\s+\S")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|mr|mrs|ms|dr|st|vs|no)\.(?=\s)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]+(?=[\"'”’)]*(?:\s|$))")


def words(text: str) -> list[str]:
    """The words of a text, in small letters.

    >>> words("Don't stop, Bob!")
    ["don't", 'stop', 'bob']
    """
    return [word.lower() for word in _WORD.findall(text)]


def _is_list(text: str, n: str) -> bool:
    """Whether every line is an item, numbered from 1 to `n`."""
    found = [_LIST_LINE.match(line.strip()) for line in text.splitlines() if line.strip()]
    return [int(line[1]) if line else None for line in found] == list(range(1, int(n) + 1))


def _is_one_sentence(text: str, _: str) -> bool:
    return len(text.splitlines()) == 1 and len(_SENTENCE_END.findall(_ABBREVIATION.sub("", text))) <= 1


def _has_all(text: str, words_: str) -> bool:
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in json.loads(words_))


def _has_none(text: str, words_: str) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in json.loads(words_))


KINDS: dict[str, Kind] = {
    "small_letters": Kind(
        (
            "Use only small letters.",
            "Write without any capital letters.",
            "All letters must be lower case.",
            "Write everything in lower case.",
        ),
        lambda text, _: text == text.lower(),
    ),
    "capitals": Kind(
        (
            "Use only capital letters.",
            "Write without any small letters.",
            "All letters must be upper case.",
            "Write everything in upper case.",
        ),
        lambda text, _: text == text.upper(),
    ),
    "max_words": Kind(
        (
            "Use at most {} words.",
            "Do not use more than {} words.",
            "Keep it to {} words or fewer.",
            "Stay within {} words.",
        ),
        lambda text, n: len(words(text)) <= int(n),
    ),
    "one_sentence": Kind(
        (
            "Answer in one sentence.",
            "Use a single sentence.",
            "Write exactly one sentence.",
            "Your answer must be one sentence long.",
        ),
        _is_one_sentence,
    ),
    "numbered_list": Kind(
        (
            "Answer with a numbered list of exactly {} points.",
            "Give a list of {} numbered points and nothing else.",
            "Write {} points, numbered from 1.",
            "Reply as a numbered list with {} points.",
        ),
        _is_list,
    ),
    "starts_with": Kind(
        (
            'Start your answer with the word "{}".',
            'Begin with the word "{}".',
            'The first word must be "{}".',
            'Let "{}" be your first word.',
        ),
        lambda text, word: words(text)[0] == word.lower(),
    ),
    "ends_with": Kind(
        (
            'End your answer with the word "{}".',
            'Finish with the word "{}".',
            'The last word must be "{}".',
            'Let "{}" be your last word.',
        ),
        lambda text, word: words(text)[-1] == word.lower(),
    ),
    "includes": Kind(
        (
            'Use the word "{}" somewhere.',
            'Include the word "{}".',
            'The word "{}" must appear.',
            'Make sure to mention the word "{}".',
        ),
        lambda text, word: word.lower() in words(text),
    ),
    "avoids": Kind(
        (
            'Do not use the word "{}".',
            'Avoid the word "{}".',
            'The word "{}" must not appear.',
            'Never mention the word "{}".',
        ),
        lambda text, word: word.lower() not in words(text),
    ),
    "no_commas": Kind(
        (
            "Use no commas.",
            "Write without any commas.",
            "Commas are not allowed.",
            "Do not use a single comma.",
        ),
        lambda text, _: "," not in text,
    ),
    "in_quotes": Kind(
        (
            "Put the whole answer in double quotes.",
            "Wrap your answer in double quotes.",
            "Your answer must stand in double quotes.",
            "Start and end with a double quote.",
        ),
        lambda text, _: len(text) > 2 and text[0] == text[-1] == '"',
    ),
}
"""The kinds of the control experiment, each with its wordings and its check."""

_IFEVAL: dict[str, Callable[[str, str], bool]] = {
    "ifeval_max_words": lambda text, n: len(re.findall(r"\w+", text)) <= int(n),
    "ifeval_min_words": lambda text, n: len(re.findall(r"\w+", text)) >= int(n),
    "ifeval_end": lambda text, phrase: text.strip('"').lower().endswith(phrase.strip().lower()),
    "ifeval_keywords": _has_all,
    "ifeval_forbidden": _has_none,
    "ifeval_bullets": lambda text, n: len(re.findall(r"^\s*(?:\*[^*]|-)", text, re.MULTILINE)) == int(n),
    "ifeval_title": lambda text, _: any(title.strip() for title in re.findall(r"<<([^\n]+?)>>", text)),
}
"""Kinds that only IFEval's prompts have; they are named by their file, not read from the prompt."""


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [
        (kind, re.compile(r"(?<!\w)" + re.escape(wording).replace(r"\{\}", r"([\w'’-]+)"), re.IGNORECASE))
        for kind, entry in KINDS.items()
        for wording in entry.wordings
    ]


def rules_in(prompt: str) -> list[Rule]:
    """The rules that a prompt states in one of the known wordings, in the order of `KINDS`.

    >>> rules_in('Describe a kettle. Finish with the word "indeed".')
    [Rule(kind='ends_with', value='indeed')]
    """
    found = [
        Rule(kind, match[1] if pattern.groups else "")
        for kind, pattern in _patterns()
        if (match := pattern.search(prompt))
    ]
    # A number in words ("three points") cannot be checked: no verdict rather than a wrong one.
    return [
        rule for rule in found if rule.kind not in ("max_words", "numbered_list") or rule.value.isdecimal()
    ]

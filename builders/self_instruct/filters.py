"""Asking for a new prompt, reading it from the completion, and refusing it for a stated reason.

Paper section 2.2, step 1 ("self-instruction creation"): eight demonstrations, one new prompt, the filters of
Self-Instruct. Every function here is pure; whether a prompt is *new* is `selfreward.similarity.rouge`'s question.

    demonstrations -> render_demonstrations -> (a model) -> parse_generated_prompt -> filter_prompt -> overlap

Promises: a filter gives one reason, the first that holds in the order of `REASONS`, or None; nothing is
rejected without a reason. Not promised: that the remaining prompts are good, safe or answerable; the filters
look at the surface, and Self-Instruct's keyword list also refuses harmless uses ("a map of the argument").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from selfreward.builders.self_instruct.words import FilterWords, english
from selfreward.config.data import PromptsConfig
from selfreward.engines.base import Request, Sampling
from selfreward.tables import Message

REASONS = (
    "truncated",
    "too_short",
    "too_long",
    "starts_with_punctuation",
    "starts_with_non_english",
    "starts_with_write_a_program",
    "mentions_unavailable",
)
"""What `filter_prompt` can say. Beside them the `prompts` table knows `not_novel` and `contamination`."""

MIN_WORDS = 4
MAX_WORDS = 150


def filter_prompt(text: str, finish_reason: str, words: FilterWords | None = None) -> str | None:
    """Why Self-Instruct's filters refuse this prompt (one of `REASONS`), or None.

    Words are separated by white space; `finish_reason` is that of `parse_generated_prompt`; `words` are English ones
    unless given.

    >>> filter_prompt("Draw me a sheep in the desert.", "stop")
    'mentions_unavailable'
    """
    text, words = text.strip(), words or _english()
    n_words = len(text.split())
    if finish_reason == "length":
        return "truncated"
    if n_words < MIN_WORDS:
        return "too_short"
    if n_words > MAX_WORDS:
        return "too_long"
    if _is_punctuation(text[0]):
        return "starts_with_punctuation"
    # Self-Instruct's own test; it also refuses a prompt that starts with an accented letter.
    if words.starts_in_ascii and not text[0].isascii():
        return "starts_with_non_english"
    if text.lower().startswith(tuple(map(str.lower, words.starts))):
        return "starts_with_write_a_program"
    if words.mentions_unavailable and words.mentions_unavailable.search(text):
        return "mentions_unavailable"
    return None


@cache
def _english() -> FilterWords:
    return english()


def _is_punctuation(character: str) -> bool:
    """Punctuation or a symbol of ASCII, or punctuation of any script (such as a curly quote)."""
    category = unicodedata.category(character)
    return category.startswith("P") or (character.isascii() and category.startswith("S"))


def render_demonstrations(prompts: Sequence[str], language: str | None = None) -> str:
    """The user message that asks for one prompt more. Demonstrations are put on one line each."""
    # One line each, or a demonstration that holds a list would look like several tasks.
    listed = "\n".join(f"Task {place}: {' '.join(text.split())}" for place, text in enumerate(prompts, 1))
    # Everything fixed comes first: requests with the same draw share all of it as a cached prefix.
    return (
        "Here is a list of tasks that people gave to an AI assistant. The tasks vary in topic, wording and kind, "
        "and each can be solved with text alone.\n\n"
        f"{listed}\n\n"
        f"Continue the list with task {len(prompts) + 1}: a new task, unlike those above in topic and wording, "
        "which makes sense on its own. Write only the task, without solving it."
        + (f" Write it in {language}." if language else "")
    )


def answer_prefix(n_demonstrations: int) -> str:
    """How the assistant's answer starts, for engines that can continue one; small models need the hint.

    >>> answer_prefix(8)
    'Task 9:'
    """
    return f"Task {n_demonstrations + 1}:"


def stop_strings(n_demonstrations: int) -> tuple[str, ...]:
    """The strings at which generation stops."""
    # Small models continue the list, and all of that would be thrown away.
    return (f"\nTask {n_demonstrations + 2}",)


@dataclass(frozen=True, slots=True)
class GeneratedPrompt:
    """The one prompt of a completion. `finish_reason` is `stop` if its end was seen, else the completion's."""

    text: str
    finish_reason: str


_DECORATION = r"^[ \t>#*_-]*"
_WORD = r"(?:new[ \t]+)?(?:task|instruction|prompt|question)[ \t]*"
# A colon, or nothing else on the line (`### Task 9`).
_AFTER_NAME = r"[ \t]*(?:[:.)][*_]*|[*_]*[ \t]*$)"
# `9.` or `9)`, but not `9.5`.
_AFTER_BARE = r"[.)][*_]*(?!\d)"
_ANSWER = re.compile(
    _DECORATION + r"(?:the[ \t]+)?(?:answer|response|solution|assistant)(?:[ \t]+is)?[*_]*[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
# Bounded repeats keep the match linear, and a long first line counts as the prompt.
_PREAMBLE = re.compile(
    r"\A(?:sure|certainly|of course|okay|ok|absolutely|here(?:'s|’s| is| are))\b[^\n]{0,100}"
    r"\b(?:task|prompt|instruction|question)s?\b[^\n]{0,100}:[*_]*\s*\n",
    re.IGNORECASE,
)
_LABEL = re.compile(_DECORATION + _WORD + r"[*_]*:[*_]*", re.IGNORECASE)
_FIRST = re.compile(
    rf"{_DECORATION}(?:{_WORD}#?(?P<named>\d{{1,3}}){_AFTER_NAME}|(?P<bare>\d{{1,3}}){_AFTER_BARE})",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`", "*": "*", "_": "_"}


def parse_generated_prompt(completion: str, finish_reason: str, n_demonstrations: int = 8) -> GeneratedPrompt:
    """The first new prompt in a completion of `render_demonstrations`.

    Understood: the bare prompt; one behind `Task 9:`, `9.` or `1.`, with or without markdown and a polite
    line before it; and a list that continues, whose rest is ignored. What a model writes after the
    prompt under a label of its own (`Answer:`, `Solution:` …) is not part of it. A prompt whose end is marked
    in this way is complete even if the completion was cut later on.

    >>> parse_generated_prompt('9. **Name three rivers.**\\n10. Why is', "length")
    GeneratedPrompt(text='Name three rivers.', finish_reason='stop')
    """
    text, number = _after_marker(completion.strip(), n_demonstrations + 1)
    ends = [_named(number + 1).search(text), _ANSWER.search(text)]
    # After a bare `9.` inside the prompt, `10.` continues that list and is not an end.
    if not _bare_number(number).search(text):
        ends.append(_bare_number(number + 1).search(text))
    # A label at the very start is a heading, not an end: cutting there would leave nothing.
    end = min((match.start() for match in ends if match and text[: match.start()].strip()), default=None)
    if end is None:
        return GeneratedPrompt(_unwrap(text), finish_reason)
    return GeneratedPrompt(_unwrap(text[:end]), "stop")


def _after_marker(text: str, expected: int) -> tuple[str, int]:
    """The text from the first prompt on, and that prompt's number (`expected` if none is written)."""
    start = _named(expected).search(text)
    number = expected
    if not start:
        text = _PREAMBLE.sub("", text).strip()
        start = _FIRST.match(text)
        number = int(start["named"] or start["bare"]) if start else expected
    text = text[start.end() :].strip() if start else text
    label = _LABEL.match(text)
    return (text[label.end() :].strip() if label else text), number


@cache
def _named(number: int) -> re.Pattern[str]:
    """`Task 9:` anywhere; `**Task 9:**`, or `### Task 9` alone on its line."""
    heading = rf"{_DECORATION}{_WORD}#?{number}{_AFTER_NAME}"
    return re.compile(rf"{heading}|\btask {number}:", re.IGNORECASE | re.MULTILINE)


@cache
def _bare_number(number: int) -> re.Pattern[str]:
    """`9.` or `9)` at the start of a line, but not `9.5`."""
    return re.compile(rf"{_DECORATION}{number}{_AFTER_BARE}", re.MULTILINE)


def _unwrap(text: str) -> str:
    """Without list bullets, headings and the quotes or markdown that surround all of it."""
    before = ""
    while text != before:
        before = text
        text = re.sub(r"\A(?:[-*•>]\s+|#+\s*)", "", text.strip())
        inner = text[1:-1]
        if (
            len(text) > 1
            and _QUOTES.get(text[0]) == text[-1]
            and text[0] not in inner
            and text[-1] not in inner
        ):
            text = inner
        if len(text) > 3 and text.startswith("**") and text.endswith("**") and text.count("**") == 2:
            text = text[2:-2]
        # The bold text was opened before the marker, which is cut off already.
        if text.endswith("**") and text.count("**") == 1:
            text = text[:-2]
    return text


def prompt_request(
    request_id: str,
    shown: Sequence[str],
    settings: PromptsConfig,
    seed: int,
    prefix: bool,
    language: str | None = None,
) -> Request:
    """Shows demonstrations and asks for one more."""
    stop = tuple(stop_strings(settings.n_demonstrations_ift + settings.n_demonstrations_generated))
    return Request(
        id=request_id,
        messages=(Message("user", render_demonstrations(shown, language)),),
        sampling=Sampling(settings.temperature, settings.top_p, settings.max_tokens, stop),
        n=settings.samples_per_draw,
        seed=seed,
        prefix=answer_prefix(len(shown)) if prefix else "",
    )

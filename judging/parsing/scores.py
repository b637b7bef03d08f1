"""Reads the score from a judge's completion. The score is the reward of the whole method, so this is strict.

Promises: takes the completion only (never the prompt), linear time (the search runs from the end), never raises
on any text. A judgement without a score gets None and a status that says why; never 0, -1 or NaN.

All score statements are read and ranked by how plainly they are the verdict (`score_statements.Rank`); the **last
of the highest rank** counts. So a total beats the scores of parts before and after it, and a label at the start of
a line beats a later remark (`Score: 4`, then "such a reply would earn a score of 5"). If the highest rank has only
remarks that differ, or scores of several parts, the result is `no_score`.

What is read: `Score: 4`, `**Score:** 4/5`, `Total score: 5 points`, `Score： ４`, `{"score": 4}` and the other
forms listed in `selfreward.judging.parsing.statements`; decimals inside the range, also with a comma (`4,5` is 4.5; `4, 5`
is a list and no score).

Choices that other parsers make differently:

- `Score: 4/10` is `out_of_range`: another scale is never rescaled silently. So is `Score: 80 %`.
- `Score: 3-4`, `3 or 4`, `4+` are `no_score`: a judge that does not decide has not scored; nothing earlier of the
  same rank is taken instead. `1 + 1 + 1 = 3` is 3; a sum without its result is not added up.
- A reply cut by length in the middle of a score statement is `truncated`.
- Reasoning blocks and quotations never count (`selfreward.judging.parsing.quotations`).

Not covered: a line of code (`score = 0`) reads like a statement.

Not read: stars drawn as symbols, letters as grades, a score in a table column of its own, a score
without any label other than `4/5`, `[[4]]` or `\\boxed{4}` alone on its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from selfreward.engines.base import FINISH_REASONS
from selfreward.judging.parsing.json_scores import unfolded
from selfreward.judging.parsing.patterns import read_pattern
from selfreward.judging.parsing.quotations import HiddenSpans, is_quoted
from selfreward.judging.parsing.statements import (
    Rank,
    Scale,
    Statement,
    has_figure,
    is_unfinished,
    read_boxed_last_line,
    read_bracketed,
    read_labelled,
    read_over,
)
from selfreward.judging.parsing.words import SCORE_WORDS, WEAK_WORDS
from selfreward.tables import Status

PARSER_VERSION = 2
"""Part of the key of every dataset with scores: raise it when any text would be read differently."""

GAP_CHARS = 80
# The lookbehind lets only the first blank of a run start a match.
_GAP = re.compile(rf"(?<!\s)\s{{{GAP_CHARS},}}+")

# Mentions of a score that are read, from the end, and those of them with a figure: a bound for a judge
# that repeats itself. A score before a longer loop is not found.
MAX_MENTIONS = 500
MAX_FIGURES = 48

WEAK_REACH_CHARS = 20_000
"""Forms without the word score (`Rating: 4`, `Total: 4`, `4/5`) are searched this far from the end only."""


@dataclass(frozen=True, slots=True)
class ParsedScore:
    """`score` is a number inside the range if and only if `status` is `ok`."""

    score: float | None
    status: Status


def parse_score(
    completion: str,
    finish_reason: str = "stop",
    minimum: float = 0.0,
    maximum: float = 5.0,
    *,
    bracketed: bool = False,
    pattern: str | None = None,
) -> ParsedScore:
    """The judge's score in `completion`, in points between `minimum` and `maximum` (both included).

    `finish_reason` is the engine's: `stop`, `length` (cut off; other servers' names for that are known) or `error`.
    `bracketed`: only `[[4]]` is a score, as MT-Bench's prompts ask. `pattern`: only the last match of this regular
    expression (`judging.score_pattern`) in the judge's own words. An assistant prefix that the engine was given
    (such as `Score:`) is not part of a completion: put it in front before parsing.

    >>> parse_score("Relevant, but shallow.\\n\\n**Score:** 3/5")
    ParsedScore(score=3.0, status='ok')
    >>> parse_score("I cannot judge this.")
    ParsedScore(score=None, status='no_score')
    """
    if finish_reason == "error":
        return ParsedScore(None, "engine_error")
    if not completion or completion.isspace():
        return ParsedScore(None, "empty")
    cut_off = FINISH_REASONS.get(finish_reason.lower()) == "length"
    if pattern is not None:
        return ParsedScore(*read_pattern(pattern, own_words(completion), minimum, maximum, cut_off))
    text = unfolded(_without_gaps(_lowered(completion)))
    statement = _verdict(_statements(text, Scale(minimum, maximum), cut_off=cut_off, bracketed=bracketed))
    status = statement.status if statement else "no_score"
    if status == "no_score" and cut_off:
        status = "truncated"
    return ParsedScore(statement.value if statement and status == "ok" else None, status)


def own_words(completion: str) -> str:
    """A judge's reply without reasoning blocks and tagged quotations, for verdicts other than scores.

    >>> own_words("<think>B?</think>A")
    '</think>A'
    """
    return HiddenSpans(_lowered(completion)).cut_from(completion)


def _lowered(text: str) -> str:
    """ASCII letters in lower case; the length stays, and bytes are lowered ten times faster than text."""
    if text.isascii():
        return text.lower()
    try:
        return text.encode().lower().decode()
    except UnicodeEncodeError:
        # Lone surrogates, left by a broken decoder. `İ` is longer in lower case, which would move positions.
        return text.replace("İ", "i").lower()


def _without_gaps(text: str) -> str:
    """Long runs of blanks as one blank or line end, so that label and figure fit into one window."""
    if not any(blank * GAP_CHARS in text for blank in " \n\t"):
        return text
    return _GAP.sub(lambda run: "\n" if "\n" in run[0] else " ", text)


def _verdict(statements: list[Statement]) -> Statement | None:
    """The last statement of the highest rank; None for remarks that differ or several named scores."""
    best = max((statement.rank for statement in statements), default=Rank.REMARK)
    found = [statement for statement in statements if statement.rank == best]
    # Scores of several parts without a total: adding or averaging them would be a guess.
    if best == Rank.NAMED and len(found) > 1:
        return None
    if best == Rank.REMARK and len({(statement.status, statement.value) for statement in found}) > 1:
        return None
    return found[0] if found else None


def _statements(text: str, scale: Scale, *, cut_off: bool, bracketed: bool) -> list[Statement]:
    """The judge's own statements, last first; if the text breaks off in one, only that one, as `truncated`."""
    hidden = HiddenSpans(text)
    mentions = _Mentions(text, scale.maximum, bracketed=bracketed)
    limit, figures, found = len(text), 0, []
    # A box at the end of an unclosed reasoning block is a thought, not the verdict.
    if not bracketed and hidden.start_of_block_at(len(text) - 1) is None:
        found = [boxed] if (boxed := read_boxed_last_line(text, scale)) else []
    for _ in range(MAX_MENTIONS):
        start, word = mentions.last_before(limit)
        if start < 0 or figures == MAX_FIGURES:
            break
        block = hidden.start_of_block_at(start)
        # A hidden mention skips its whole block: long reasoning costs one step.
        limit = start if block is None else block
        if block is not None:
            continue
        # The judge was about to state the score: an earlier statement must not replace it.
        if cut_off and not found and is_unfinished(text, start, word):
            return [Statement("truncated", 0.0, start, len(text), False)]
        read = mentions.reader(word)
        # Most mentions have no figure; they must not use up MAX_FIGURES.
        if read is read_labelled and not has_figure(text, start, word):
            continue
        figures += 1
        statement = read(text, start, word, scale)
        if statement is None or is_quoted(text, start, statement.number, statement.end):
            continue
        if statement.rank <= Rank.REMARK and word == "[[" and not bracketed:
            # "it returns [[1]] for both"
            continue
        found.append(_cut_statement(text, statement) if cut_off else statement)
    return found


def _cut_statement(text: str, statement: Statement) -> Statement:
    """`truncated` if the figure may continue: nothing ends it, and its denominator is not the range's."""
    # `Score: 4` at the very end may have become 4.5 or 4/10; `Score: 4/5` and `Score: 4.` with a line end
    # are complete.
    rest = text[statement.end : statement.end + 16]
    goes_on = "out of".startswith(rest.strip(" .,/-(")) and "\n" not in rest
    if statement.has_denominator or statement.end + len(rest) < len(text) or not goes_on:
        return statement
    return replace(statement, status="truncated")


class _Mentions:
    """Walks over the mentions of a score from the end of the text; every search resumes where it stopped."""

    def __init__(self, text: str, maximum: float, *, bracketed: bool) -> None:
        self._text = text
        over = {f"/{maximum:g}": read_over, f"out of {maximum:g}": read_over}
        self._readers = {"[[": read_bracketed} if bracketed else over | {"[[": read_bracketed}
        near = () if bracketed else (*WEAK_WORDS, *over)
        self._reach = dict.fromkeys(("[[",) if bracketed else ("[[", *SCORE_WORDS), 0)
        self._reach |= dict.fromkeys(near, max(0, len(text) - WEAK_REACH_CHARS))
        self._positions = dict.fromkeys(self._reach, len(text))

    def reader(self, word: str) -> Callable[[str, int, str, Scale], Statement | None]:
        """The reader of the statement at a mention of `word`."""
        return self._readers.get(word, read_labelled)

    def last_before(self, limit: int) -> tuple[int, str]:
        """Start and word of the last mention before `limit`; (-1, …) if none is left."""
        for word, position in list(self._positions.items()):
            if position >= limit:
                self._positions[word] = self._text.rfind(word, self._reach[word], limit)
                if self._positions[word] < 0:
                    del self._positions[word]
        return max(((position, word) for word, position in self._positions.items()), default=(-1, ""))

"""The winner that a meta-judge names: the last statement of a winner in its answer counts.

    >>> read_winner("B quotes the reply, A invents a fault.\\nWinner: B", "stop")
    ('second', 'ok')

Read are a labeled line (`Winner: A`, `**Winner:** Judgement B`, `Verdict: tie`) and `[[A]]`; remarks in passing ("A is
better at first sight") are not, nor is a reasoning block. An answer cut by length before the statement is `truncated`.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from selfreward.engines.base import Completion
from selfreward.judging.parsing.scores import own_words
from selfreward.tables import FinishReason, Status

VERDICT_VERSION = 1
"""Part of the key of meta-judgements: raise it when any answer would be read differently."""

Winner = Literal["first", "second", "tie"]
_WINNERS: dict[str, Winner] = {"a": "first", "b": "second", "tie": "tie"}
# The rest of the line is empty or a remark: "Winner: a close call" and "Winner: A or B" name nobody.
_NAMED = (
    r"(?:judge?ment|grading|judge|option)?[ \t*_\"'<\[(]{0,4}(a|b|tie)\b[*_\"'>\])]{0,4}"
    r"(?=[ \t]*(?:$|[.,;:(—–-]))(?![ \t]*[,/-]?[ \t]*(?:or|and|a|b|tie)\b)"
)
_STATEMENT = re.compile(
    # After a reasoning block its closing tag is left.
    r"(?:^|(?<=>)|(?<=\]))[\s>#*_-]{0,8}(?:the[ ])?(?:final[ ])?(?:winner|verdict|better[ ](?:judge?ment|grading))[*_]{0,3}[ \t]*"
    rf"(?::|is\b)[ \t*_]{{0,4}}{_NAMED}|\[\[(a|b|tie)\]\]",
    re.IGNORECASE | re.MULTILINE,
)


LABEL = "Winner:"
CHOICES = (" A", " B")
# As for scores (`judging/judge/judge.py`): below it the model was about to write something else.
_MIN_MASS = 0.5


def likelier(completion: Completion) -> tuple[Winner | None, Status]:
    """The likelier of `CHOICES` after `LABEL`; equal ones are a tie."""
    if completion.finish_reason == "error" or not completion.choice_logprobs:
        return None, "engine_error"
    shares = [math.exp(completion.choice_logprobs.get(choice, -math.inf)) for choice in CHOICES]
    if sum(shares) < _MIN_MASS:
        return None, "no_score"
    first, second = shares
    return ("tie" if first == second else "first" if first > second else "second"), "ok"


def read_winner(text: str, finish_reason: FinishReason) -> tuple[Winner | None, Status]:
    """The winner by place, and the status; the winner is None exactly if the status is not `ok`."""
    if finish_reason == "error":
        return None, "engine_error"
    if not text.strip():
        return None, "empty"
    statements = [match[1] or match[2] for match in _STATEMENT.finditer(own_words(text))]
    if statements:
        return _WINNERS[statements[-1].lower()], "ok"
    return None, "truncated" if finish_reason == "length" else "no_score"

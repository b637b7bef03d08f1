"""The head-to-head result: one row per prompt, shares with intervals, and the printed form.

See `selfreward.evaluation.pairwise.head_to_head` for what counts as a win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from selfreward.evaluation.measure import Result
from selfreward.statistics import Figure, open_share

DRAW = 1.5


@dataclass(frozen=True, slots=True)
class HeadToHeadRow:
    """One prompt: both answers, both verdicts, and the outcome. Row of the table `head_to_head`."""

    evaluation_id: str
    comparison_id: str
    prompt: str
    model_a: str
    model_b: str
    judge: str
    answer_a: str | None
    answer_b: str | None
    n_chars_a: int | None
    n_chars_b: int | None
    verdict: str | None
    """`a`, `b` or `tie`; NULL unless `status` is `ok`."""
    status: str
    """`ok`, `missing_a`, `missing_b`, `missing_both`, or why a verdict could not be read."""
    preference_a_first: float | None
    """In [1, 2], 2 means b: what the judge said with a's answer shown first; NULL if it was not asked."""
    preference_b_first: float | None
    order_decided: bool | None
    """Whether the same position won twice; NULL without two verdicts."""


@dataclass(frozen=True, slots=True)
class HeadToHeadResult(Result):
    """The outcome. Shares are of the prompts with a verdict; `win` is a's."""

    model_a: str
    model_b: str
    judge: str
    n_prompts: int
    n_judged: int
    win: Figure
    tie: Figure
    loss: Figure
    n_identical: int
    """Equal answers: ties without a request."""
    order_decided: Figure
    """Of the prompts asked in both orders."""
    longer_wins: float | None
    """Share of the decided prompts with unequal lengths that the longer answer won."""
    avg_length_a: float | None
    avg_length_b: float | None
    unjudged: dict[str, int]
    rows: tuple[HeadToHeadRow, ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Shares with their intervals, the order, the lengths."""
        lines = [f"{self.model_a} against {self.model_b}, judged by {self.judge} in both orders"]
        lines += [
            f"  {word:<8} {percent(share)}"
            for word, share in (("wins", self.win), ("ties", self.tie), ("losses", self.loss))
        ]
        unjudged = ", ".join(f"{n} {status}" for status, n in self.unjudged.items())
        unjudged = f" ({unjudged}; counted both ways in the intervals)" if unjudged else ""
        lines.append(f"  judged   {self.n_judged} of {self.n_prompts} prompts{unjudged}")
        lines.append(f"  order    the same place won twice on {percent(self.order_decided)}")
        if self.n_identical:
            lines.append(f"  equal    {self.n_identical} pairs of answers are identical: ties without asking")
        a, b = ("n/a" if x is None else f"{x:,.0f}" for x in (self.avg_length_a, self.avg_length_b))
        longer = self.longer_wins
        won = "" if longer is None else f"; the longer answer won {100 * longer:.1f} % of the decided"
        lines.append(f"  length   {a} against {b} characters{won}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def verdict_of(preference_a_first: float, preference_b_first: float) -> str:
    """An answer that wins both times wins; anything else is a tie.

    >>> verdict_of(1.9, 1.6), verdict_of(1.9, 1.2), verdict_of(1.9, 1.5), verdict_of(1.0, 1.4)
    ('b', 'tie', 'tie', 'a')
    """
    verdicts = {sign(preference_a_first), sign(preference_b_first)}
    # one sign twice; a draw in either order makes a tie
    return {frozenset({1}): "b", frozenset({-1}): "a"}.get(frozenset(verdicts), "tie")


def summarise(rows: Sequence[HeadToHeadRow]) -> HeadToHeadResult:
    """Shares and intervals from judged rows, all of the same two models before one judge."""
    unknown = np.array([row.verdict is None for row in rows])
    asked_twice = [row for row in rows if row.order_decided is not None]
    turned = np.array([row.order_decided is True for row in rows])
    not_asked = np.array([row.order_decided is None for row in rows])
    return HeadToHeadResult(
        model_a=rows[0].model_a,
        model_b=rows[0].model_b,
        judge=rows[0].judge,
        n_prompts=len(rows),
        n_judged=int((~unknown).sum()),
        win=open_share(np.array([row.verdict == "a" for row in rows]), unknown),
        tie=open_share(np.array([row.verdict == "tie" for row in rows]), unknown),
        loss=open_share(np.array([row.verdict == "b" for row in rows]), unknown),
        n_identical=sum(row.status == "ok" and row.order_decided is None for row in rows),
        order_decided=open_share(turned[~not_asked], np.zeros(len(asked_twice), dtype=bool)),
        longer_wins=_longer_wins(rows),
        avg_length_a=_mean([row.n_chars_a for row in rows]),
        avg_length_b=_mean([row.n_chars_b for row in rows]),
        unjudged=dict(Counter(row.status for row in rows if row.status != "ok")),
        rows=tuple(rows),
    )


def percent(figure: Figure, sign: str = "") -> str:
    """`55.5 % [49.2, 61.7] (n = 256)`, or what is missing."""
    if figure.value is None:
        return "n/a"
    value, *interval = figure.shown(sign=sign).split(" ", 1)
    return " ".join([value, "%", *interval, f"(n = {figure.n})"])


def sign(preference: float) -> int:
    return (preference > DRAW) - (preference < DRAW)


def _longer_wins(rows: Sequence[HeadToHeadRow]) -> float | None:
    decided = [
        (row.verdict == "a") == (row.n_chars_a > row.n_chars_b)
        for row in rows
        if row.verdict in ("a", "b")
        and row.n_chars_a is not None
        and row.n_chars_b is not None
        and row.n_chars_a != row.n_chars_b
    ]
    return sum(decided) / len(decided) if decided else None


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

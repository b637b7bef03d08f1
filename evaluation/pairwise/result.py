"""What a head-to-head comes to: one row a prompt, shares with intervals, and how they print.

See `selfreward.evaluation.pairwise.head_to_head` for what counts as a win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreward.statistics import Figure, Resampler

N_BOOTSTRAP = 2000
DRAW = 1.5
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class HeadToHeadRow:
    """One prompt: both answers, both verdicts, and what came of them. Row of the table `head_to_head`."""

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
    """In [1, 2], 2 means b: what the judge said with a's answer shown first; NULL where it was not asked."""
    preference_b_first: float | None
    order_decided: bool | None
    """The place that won was the same twice; NULL where there are no two verdicts."""


@dataclass(frozen=True, slots=True)
class HeadToHead:
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
    """Equal answers: ties without asking."""
    order_decided: Figure
    """Of the prompts asked in both orders."""
    longer_wins: float | None
    """Share of the decided prompts with unequal lengths that the longer answer won."""
    avg_length_a: float | None
    avg_length_b: float | None
    unjudged: dict[str, int]
    rows: tuple[HeadToHeadRow, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For `--json`; the rows are in the table and the file."""
        values = asdict(self)
        values.pop("rows")
        return values


def verdict_of(preference_a_first: float, preference_b_first: float) -> str:
    """Who wins both times wins; anything else is a tie.

    >>> verdict_of(1.9, 1.6), verdict_of(1.9, 1.2), verdict_of(1.9, 1.5), verdict_of(1.0, 1.4)
    ('b', 'tie', 'tie', 'a')
    """
    verdicts = {sign(preference_a_first), sign(preference_b_first)}
    return {frozenset({1}): "b", frozenset({-1}): "a"}.get(frozenset(verdicts), "tie")


def summarise(rows: Sequence[HeadToHeadRow], names: tuple[str, str], judge: str) -> HeadToHead:
    """Shares and intervals from judged rows."""
    unknown = np.array([row.verdict is None for row in rows])
    asked_twice = [row for row in rows if row.order_decided is not None]
    turned = np.array([row.order_decided is True for row in rows])
    not_asked = np.array([row.order_decided is None for row in rows])
    return HeadToHead(
        model_a=names[0],
        model_b=names[1],
        judge=judge,
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


def open_share(counted: Mask, unknown: Mask, of: str = "prompts") -> Figure:
    """Share of the known; in the interval the unknown count against it (low) and for it (high)."""
    n_known = int((~unknown).sum())
    if not n_known:
        return Figure(None, None, None, 0, of, int(unknown.sum()))
    value = float((counted & ~unknown).sum() / n_known)
    low_series, high_series = (counted & ~unknown).astype(float), (counted | unknown).astype(float)
    if len(counted) < 2:
        return Figure(value, None, None, n_known, of, int(unknown.sum()))
    totals = Resampler(len(counted), N_BOOTSTRAP).totals(np.stack([low_series, high_series], axis=1))
    low, high = np.percentile(totals[:, 0], 2.5), np.percentile(totals[:, 1], 97.5)
    n = len(counted)
    return Figure(value, float(low / n), float(high / n), n_known, of, int(unknown.sum()), N_BOOTSTRAP)


def format_head_to_head(result: HeadToHead) -> str:
    """For a terminal."""
    lines = [f"{result.model_a} against {result.model_b}, judged by {result.judge} in both orders"]
    for name, word in (("win", "wins"), ("tie", "ties"), ("loss", "losses")):
        lines.append(f"  {word:<8} {percent(getattr(result, name))}")
    unjudged = ", ".join(f"{n} {status}" for status, n in result.unjudged.items())
    lines.append(
        f"  judged   {result.n_judged} of {result.n_prompts} prompts"
        + (f" ({unjudged}; counted both ways in the intervals)" if unjudged else "")
    )
    lines.append(f"  order    the same place won twice on {percent(result.order_decided)}")
    if result.n_identical:
        lines.append(f"  equal    {result.n_identical} pairs of answers are identical: ties without asking")
    lines.append(
        f"  length   {_characters(result.avg_length_a)} against {_characters(result.avg_length_b)} characters"
        + (
            f"; the longer answer won {100 * result.longer_wins:.1f} % of the decided"
            if result.longer_wins is not None
            else ""
        )
    )
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])


def percent(figure: Figure) -> str:
    """`55.5 % [49.2, 61.7]`, or what is missing."""
    if figure.value is None:
        return "n/a"
    interval = (
        ""
        if figure.low is None or figure.high is None
        else f" [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
    )
    return f"{100 * figure.value:.1f} %{interval} (n = {figure.n})"


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


def _characters(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.0f}"

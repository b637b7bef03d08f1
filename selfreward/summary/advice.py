"""One sentence for each iteration: is the judge's signal above noise, and can the next DPO step be expected to do anything?

    Iteration 1: M1 orders 72 % [66, 78] of 210 held-out pairs as their ranks do, more than chance: DPO has a signal to learn
    from. 61 % of the pairs are further apart than the sampling error of their scores (95 %).

From measurements alone: the agreement of the judge with ranks, and the margins of the pairs against the spread of the
judge's own samples. A sentence says what is shown, not what will happen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from selfreward.store.version import Version

if TYPE_CHECKING:
    from selfreward.summary.facts import Judge, Summary

# The squared error of a mean of n samples is their variance (divisor n) / (n - 1); 1.96 of its root is 95 %.
_CLEAR = """
SELECT count(*) FILTER (margin > 1.96 * sqrt(c.score_variance / (c.n_scored - 1) + r.score_variance / (r.n_scored - 1))),
    count(*)
FROM pairs JOIN scores c ON c.candidate_id = chosen_id JOIN scores r ON r.candidate_id = rejected_id
WHERE c.n_scored > 1 AND r.n_scored > 1
"""


def advice(summary: Summary) -> list[str]:
    """A sentence or two for each iteration with scores."""
    return [f"Iteration {number}: {' '.join(_sentences(summary, number))}" for number in _judged(summary)]


def _judged(summary: Summary) -> Iterator[int]:
    return (i.number for i in summary.iterations if f"iter{i.number}/scores" in summary.versions)


def _sentences(summary: Summary, number: int) -> Iterator[str]:
    from selfreward.summary.facts import model_label

    made_with = summary.versions.get(f"iter{number}/judgements")
    named = made_with.manifest["inputs"].get("model", {}).get("name") if made_with else None
    label = model_label(named, number)
    judge = next((judge for judge in summary.judges if judge.model == label), None)
    yield _signal(label, judge)
    if clear := _clear_pairs(summary.versions, number):
        yield clear


def _signal(label: str, judge: Judge | None) -> str:
    figure = judge.accuracy if judge else None
    if judge is not None and judge.judgements and not judge.scored:
        return f"{label} gave none of its {judge.judgements} measured judgements a score: train it on more EFT rows first."
    if figure is None or figure.value is None or figure.low is None or figure.high is None:
        return (
            f"{label} was not measured against ranks (evaluate.judge), so nothing is known about its signal."
        )
    value, ends = figure.shown(digits=0).split(" ", 1)
    shown = f"{label} orders {value} % {ends} of {figure.n} held-out pairs as their ranks do"
    if figure.low > 0.5:
        return f"{shown}, more than chance: DPO has a signal to learn from."
    if figure.high < 0.5:
        return f"{shown}, LESS than chance: DPO would train away from what people prefer; look at the judge first."
    return (
        f"{shown}, which is not told from chance: the DPO step on its scores trains on noise, and no gain can be expected. "
        "More or better contrasted EFT rows, or another judge, come first."
    )


def _clear_pairs(versions: Mapping[str, Version], number: int) -> str | None:
    """How many pairs the judge's own spread does not explain; None if it gave one score each."""
    from selfreward.sql.queries import connect

    pairs, scores = (versions.get(f"iter{number}/{kind}") for kind in ("pairs", "scores"))
    if pairs is None or scores is None:
        return None
    with connect() as connection:
        connection.register("pairs", pairs.table(["chosen_id", "rejected_id", "margin"]))
        connection.register("scores", scores.table(["candidate_id", "score_variance", "n_scored"]))
        clear, n = connection.execute(_CLEAR).fetchall()[0]
    if not n:
        return None
    return f"{100 * clear / n:.0f} % of {n} pairs are further apart than the sampling error of their scores (95 %)."

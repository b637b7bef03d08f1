"""Tests the paper's claims on a run: does each iteration win more, judge better, write longer answers?

Both sides are models of the run, before the same judge on the same prompts, so the comparison is fair for any base
model. A claim holds if the 95 % intervals are disjoint in the right order, does not hold if they are disjoint in the
other, and is undecided if they overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from selfreward.evaluation.paper.run_figures import RunFigure
from selfreward.summary.paper import paper_figures


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of the paper about two of its models, tested on the run's counterparts."""

    claim: str
    paper: str
    run: str
    verdict: str
    """`holds`, `does not hold`, `undecided` or `not measured`."""


STEPS = (("M2", "M1"), ("M3", "M2"))


def claims_of(own: list[RunFigure]) -> Iterator[Claim]:
    """Every claim, once for each evaluation of the run that measured it."""
    for newer, older in STEPS:
        yield from _rises(
            own, "alpaca", "win_rate", newer, older, f"{newer} wins more on AlpacaEval than {older}"
        )
        yield from _wins(own, newer, older)
        yield from _rises(
            own, "judge", "pairwise_ties_left_out", newer, older, f"{newer} judges better than {older}"
        )
        yield from _rises(
            own, "alpaca", "avg_length", newer, older, f"{newer} writes longer answers than {older}"
        )


def _rises(
    own: list[RunFigure], measure: str, figure: str, newer: str, older: str, claim: str
) -> Iterator[Claim]:
    by_model = {p.model: p.value for p in paper_figures() if (p.measure, p.figure) == (measure, figure)}
    paper = f"{by_model[older]:g} to {by_model[newer]:g}"
    pairs = [
        (old, new)
        for new in _matching(own, measure, figure, newer)
        for old in _matching(own, measure, figure, older)
        # another judge or another prompt set would make the difference one of conditions, not of models
        if _same_conditions(old, new)
    ]
    for old, new in pairs:
        yield Claim(claim, paper, f"{shown(old)} to {shown(new)}", verdict(old, new))
    if not pairs:
        yield Claim(claim, paper, "", "not measured")


def _wins(own: list[RunFigure], newer: str, older: str) -> Iterator[Claim]:
    claim = f"{newer} beats {older} head to head"
    published = {p.figure: p.value for p in paper_figures() if (p.model, p.against) == (newer, older)}
    paper = f"{published['win']:g} won, {published['loss']:g} lost"
    found = False
    for win, loss in _head_to_heads(own, newer, older):
        found = True
        yield Claim(claim, paper, f"{shown(win)} won, {shown(loss)} lost", verdict(loss, win))
    if not found:
        yield Claim(claim, paper, "", "not measured")


def _head_to_heads(own: list[RunFigure], newer: str, older: str) -> Iterator[tuple[RunFigure, RunFigure]]:
    """(wins, losses) of the newer model, from every evaluation of the two."""
    by_evaluation: dict[str, dict[str, RunFigure]] = {}
    for figure in own:
        wanted = ("head_to_head", newer, older)
        # an outdated figure is of other weights, so it decides nothing
        if (figure.measure, figure.model, figure.against) == wanted and not figure.outdated:
            by_evaluation.setdefault(figure.source, {})[figure.figure] = figure
    for shares in by_evaluation.values():
        if {"win", "loss"} <= shares.keys() and shares["win"].value is not None:
            yield shares["win"], shares["loss"]


def _same_conditions(old: RunFigure, new: RunFigure) -> bool:
    # a model judges with itself in `judge`, so there the judge differs by design
    keys = ("prompts", "n_prompts", "reference") + (() if new.measure == "judge" else ("judge",))
    return all(getattr(old, key) == getattr(new, key) for key in keys)


def _matching(own: list[RunFigure], measure: str, figure: str, model: str) -> list[RunFigure]:
    wanted = (measure, figure, model, None)
    current = [f for f in own if f.value is not None and not f.outdated]
    return [f for f in current if (f.measure, f.figure, f.model, f.part) == wanted]


def verdict(lower: RunFigure, higher: RunFigure) -> str:
    """Whether `higher` is above `lower`; without intervals, only lengths and counts are decided."""
    if lower.value is None or higher.value is None:
        return "not measured"
    if lower.low is None or lower.high is None or higher.low is None or higher.high is None:
        if higher.unit in ("characters", "count"):
            return "holds" if higher.value > lower.value else "does not hold"
        return "undecided"
    if higher.low > lower.high:
        return "holds"
    return "does not hold" if higher.high < lower.low else "undecided"


def shown(figure: RunFigure) -> str:
    """`55.5 [49.2, 61.7]`."""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4g}"
    return f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"

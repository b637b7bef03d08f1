"""What the paper reports (arXiv 2401.10020, v2 and later), as data: one row per figure, in its own units.

Facts only. Models: SFT is M0 with IFT alone, M1 with IFT and EFT, M2 and M3 after one and two iterations, all from
Llama 2 70B. Percent, except scores (MT-Bench, of 10), correlations, characters and counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

BASE_MODEL = "Llama 2 70B"


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """One published number."""

    measure: str
    figure: str
    model: str
    value: float
    unit: str = "percent"
    against: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """The conditions of a measurement in the paper, which a fair comparison must share."""

    judge: str | None
    judge_pattern: str | None
    """A regular expression found in the judge's name, in lower case, if it is the same judge; None: no external judge."""
    prompts: str
    n_prompts: int | None


# GPT-4 and its dated versions and Turbo; neither GPT-4o nor GPT-4.1.
_GPT_4 = r"gpt-?4(?![o.\d])"
SETTINGS = {
    "alpaca": Setting(
        "GPT-4 Turbo (AlpacaEval 2.0)", "^weighted_alpaca_eval_gpt4_turbo$", "AlpacaEval's 805 prompts", 805
    ),
    "head_to_head": Setting("GPT-4", _GPT_4, "256 held-out IFT prompts of Open Assistant", 256),
    "human": Setting("three people", "^3 people", "50 prompts", 50),
    "mt_bench": Setting("GPT-4", _GPT_4, "MT-Bench's 80 questions", 80),
    "judge": Setting(None, None, "541 human-ranked Open Assistant replies", None),
    "nlp": Setting(None, None, "the benchmarks' own", None),
    "data": Setting(None, None, "Open Assistant seeds", None),
}

_BY_MODEL = ("SFT", "M1", "M2", "M3")
# The paper states no policy for ties of its judge; with ties left out the figures fit.
_JUDGE = {
    "pairwise_ties_left_out": (65.1, 78.7, 80.4, 81.7),
    "five_best": (39.6, 41.5, 44.3, 43.2),
    "exact_match": (10.1, 13.1, 14.3, 14.3),
    "spearman": (0.253, 0.279, 0.331, 0.349),
    "kendall_tau": (0.233, 0.253, 0.315, 0.324),
}
_HEAD_TO_HEAD = {
    ("M1", "SFT"): (30.5, 38.7, 30.9),
    ("M2", "SFT"): (49.2, 36.3, 14.5),
    ("M3", "SFT"): (62.5, 27.7, 9.8),
    ("M2", "M1"): (55.5, 32.8, 11.7),
    ("M3", "M2"): (47.7, 39.8, 12.5),
    ("M3", "M1"): (68.8, 22.7, 8.6),
}
_MT_BENCH = {
    None: (6.85, 6.78, 7.01, 7.25),
    "math, coding, reasoning": (3.93, 3.83, 4.05, 4.17),
    "other categories": (8.60, 8.55, 8.79, 9.10),
}
# SFT and M3; the others are "mostly kept or slightly lower".
_NLP = {"ARC-c": (55.97, 53.13), "GSM8K": (50.72, 57.70), "MMLU": (69.76, 69.37)}


def paper_figures() -> Iterator[PaperFigure]:
    """All of them, in the order of the report."""
    for model, win_rate, length in (("M1", 9.94, 1092), ("M2", 15.38, 1552), ("M3", 20.44, 2552)):
        yield PaperFigure("alpaca", "win_rate", model, win_rate)
        yield PaperFigure("alpaca", "avg_length", model, length, "characters")
    for (model, against), shares in _HEAD_TO_HEAD.items():
        for figure, value in zip(("win", "tie", "loss"), shares, strict=True):
            yield PaperFigure("head_to_head", figure, model, value, against=against)
    for model, wins in (("M1", 28.0), ("M2", 56.0), ("M3", 66.0)):
        yield PaperFigure("human", "win", model, wins, against="SFT")
    for part, scores in _MT_BENCH.items():
        for model, score in zip(_BY_MODEL, scores, strict=True):
            yield PaperFigure("mt_bench", "score", model, score, "score", part=part)
    for figure, values in _JUDGE.items():
        unit = "correlation" if figure in ("spearman", "kendall_tau") else "percent"
        for model, value in zip(_BY_MODEL, values, strict=True):
            yield PaperFigure("judge", figure, model, value, unit)
    for label, (before, after) in _NLP.items():
        yield PaperFigure("nlp", "accuracy", "SFT", before, part=label)
        yield PaperFigure("nlp", "accuracy", "M3", after, part=label)
    for figure, model, value in (
        ("ift rows", "M1", 3200),
        ("eft rows, train", "M1", 1630),
        ("eft rows, eval", "M1", 541),
        ("pairs", "M2", 3964),
        ("pairs", "M3", 6942),
    ):
        yield PaperFigure("data", figure, model, value, "count")


@cache
def paper_value(measure: str, figure: str, model: str) -> float | None:
    """One published number by name, None if the paper has none.

    >>> paper_value("data", "pairs", "M2"), paper_value("judge", "five_best", "M1"), paper_value("data", "pairs", "M9")
    (3964, 41.5, None)
    """
    keys = (measure, figure, model, None, None)
    return next(
        (p.value for p in paper_figures() if (p.measure, p.figure, p.model, p.against, p.part) == keys), None
    )


def paper_count(figure: str, model: str) -> int | None:
    """How many rows the paper's dataset has; pairs of iteration k train M<k+1>."""
    found = paper_value("data", figure, model)
    return None if found is None else int(found)

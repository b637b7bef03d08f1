"""The result row of an AlpacaEval evaluation: figures, their basis, and the printed form.

The keys up to `lc_method` are a contract; percent, as on the leaderboard. NULL means that a figure
does not exist, never zero.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from selfreward.evaluation.ask.answers import prompts_sha256
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.measure import Result
from selfreward.text import format_table

ANNOTATIONS = "alpaca_annotations"


@dataclass(frozen=True, slots=True)
class AlpacaAnnotation:
    """One prompt of the reference and its outcome; row of the table `alpaca_annotations`.

    Separate from the iterations' `annotations`, because prompts without a verdict are rows here.
    """

    evaluation_id: str
    instruction: str
    dataset: str | None
    """Which of AlpacaEval's five sources the prompt is from."""
    model: str
    reference: str | None
    annotator: str | None
    n_chars: int | None
    """Of the model's answer; NULL if it is missing."""
    n_chars_reference: int
    preference: float | None
    """In [1, 2], 2 the model is better; NULL unless `status` is `ok`."""
    status: str
    """`ok`; `missing_output`, `not_annotated`; or why the verdict has no preference (see `judgements.status`)."""
    glm_preference: float | None
    """In [0, 1], predicted at equal length; NULL without length control."""
    order: str | None
    disagree: bool | None
    difficulty: float | None
    """Of the instruction, if length control has it."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The figures of a trivial answer (or a trivial judge) in percent; NULL if not derivable."""

    name: str
    win_rate: float | None
    length_controlled_winrate: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class Slice:
    """The win rate on one part of the prompts."""

    dataset: str | None
    n_total: int
    n_annotated: int
    win_rate: float | None


@dataclass(frozen=True, slots=True)
class AlpacaResult(Result):
    """One row of the leaderboard. See `selfreward.evaluation.alpaca.score` for how each figure is defined."""

    model: str
    n_total: int
    n_annotated: int
    win_rate: float | None
    standard_error: float | None
    discrete_win_rate: float | None
    n_wins: int
    n_wins_base: int
    n_draws: int
    avg_length: int
    length_controlled_winrate: float | None
    lc_standard_error: float | None
    lc_method: str | None
    lc_reason: str | None
    lc_weights: dict[str, float]
    win_rate_ci_low: float | None
    win_rate_ci_high: float | None
    annotator: str | None
    reference: str | None
    n_missing: int
    """Prompts without an answer."""
    n_empty: int
    """Answers of nothing but white space; judged like any other."""
    n_lost: dict[str, int]
    """Prompts with an answer and without a preference, by status."""
    n_disagree: int | None
    """Prompts whose verdict changed with the order of the answers; NULL if judged in one order."""
    avg_length_reference: int
    longer_preferred: float | None
    """Share of decided verdicts (no draw, unequal lengths) that went to the longer answer, percent."""
    baselines: tuple[Baseline, ...]
    by_dataset: tuple[Slice, ...]
    warnings: tuple[str, ...]
    prompts: tuple[AlpacaAnnotation, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the contract's keys first. The per-prompt table (`prompts`) is left out."""
        values = asdict(replace(self, prompts=()))
        values.pop("prompts")
        return values

    def tables(self) -> Tables:
        """Prompts and figures for a run; the same evaluation again replaces them."""
        n = self.n_annotated
        evaluation = Evaluation(
            measure="alpaca",
            model=self.model,
            against=self.reference,
            judge=self.annotator,
            prompts=f"{self.n_total} prompts with reference answers",
            n_prompts=self.n_total,
            settings={"prompts": prompts_sha256(row.instruction for row in self.prompts)},
        )
        interval = {"low": self.win_rate_ci_low, "high": self.win_rate_ci_high}
        figure = partial(evaluation.figure, of="prompts")
        figures = [
            figure("win_rate", self.win_rate, n=n, **interval),
            figure("length_controlled_winrate", self.length_controlled_winrate, n=n),
            figure("discrete_win_rate", self.discrete_win_rate, n=n),
            figure("avg_length", self.avg_length, n=self.n_total, unit="characters"),
            figure("n_annotated", n, n=self.n_total, unit="count"),
        ]
        return Tables(evaluation, figures, {ANNOTATIONS: self.prompts})

    def text(self) -> str:
        """The row, its baselines and its warnings."""
        low, high = self.win_rate_ci_low, self.win_rate_ci_high
        interval = "" if low is None or high is None else f"   95 % over all prompts: {low:.2f} to {high:.2f}"
        lost = [f"{self.n_missing} unanswered"] * bool(self.n_missing)
        lost += [f"{count} {status}" for status, count in sorted(self.n_lost.items())]
        lost += [f"{self.n_empty} answers empty"] * bool(self.n_empty)
        longer = (
            ""
            if self.longer_preferred is None
            else f"; the judge prefers the longer answer in {self.longer_preferred:.1f} %"
        )
        controlled = (
            "n/a, see the warnings"
            if self.length_controlled_winrate is None
            else f"{_percent(self.length_controlled_winrate)} ± {_percent(self.lc_standard_error)}   {self.lc_method}"
        )
        counts = f"{self.n_wins} won, {self.n_draws} drawn, {self.n_wins_base} lost"
        figures = {
            "judge": f"{self.annotator or 'not named'}, against {self.reference or 'the reference'}",
            "win rate": f"{_percent(self.win_rate)} ± {_percent(self.standard_error)}{interval}",
            "length-controlled": controlled,
            "discrete": f"{_percent(self.discrete_win_rate)}   {counts}",
            "annotated": f"{self.n_annotated} of {self.n_total} prompts"
            + (f" ({', '.join(lost)})" if lost else ""),
            "length": f"{self.avg_length} characters (reference {self.avg_length_reference}){longer}",
        }
        if self.n_disagree is not None:
            figures["order"] = f"{self.n_disagree} verdicts change when the answers are swapped"
        baselines = [
            (b.name, _percent(b.win_rate), _percent(b.length_controlled_winrate), b.basis)
            for b in self.baselines
        ]
        lines = [self.model, *(f"  {name:<18} {text}" for name, text in figures.items())]
        lines += ["", format_table(("baseline", "win rate", "LC", "how"), baselines)]
        if len(self.by_dataset) > 1:
            slices = [
                (part.dataset or "(none)", _percent(part.win_rate), f"{part.n_annotated} of {part.n_total}")
                for part in self.by_dataset
            ]
            lines += ["", format_table(("source", "win rate", "n"), slices)]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"

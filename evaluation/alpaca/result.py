"""The row that an AlpacaEval evaluation ends in: figures, what they rest on, and how they print.

The keys up to `lc_method` are a contract; percent, as on the leaderboard. NULL means that there is no figure,
never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class PromptResult:
    """One prompt of the reference and what became of it; the per-prompt table behind the figures."""

    instruction: str
    dataset: str | None
    reference_length: int
    """Characters."""
    output_length: int | None
    preference: float | None
    """In [1, 2], 2 the model is better; NULL unless `status` is `ok`."""
    status: str
    """`ok`; `missing_output`, `not_annotated`; or why the verdict has no preference (see `judgements.status`)."""
    difficulty: float | None
    glm_preference: float | None
    """In [0, 1], predicted at equal length; NULL where there is no length control."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a trivial answer (or a trivial judge) gets; figures in percent, NULL where not derivable."""

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
class AlpacaResult:
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
    """Prompts where the verdict turned with the order of the answers; NULL if judged in one order."""
    avg_length_reference: int
    longer_preferred: float | None
    """Share of decided verdicts (no draw, unequal lengths) that went to the longer answer, percent."""
    baselines: tuple[Baseline, ...]
    by_dataset: tuple[Slice, ...]
    warnings: tuple[str, ...]
    prompts: tuple[PromptResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the contract's keys first. The per-prompt table (`prompts`) is left out."""
        return {
            field.name: _plain(getattr(self, field.name)) for field in fields(self) if field.name != "prompts"
        }


def format_result(result: AlpacaResult) -> str:
    """The row, its baselines and its warnings for a terminal."""
    figures = [
        ("judge", f"{result.annotator or 'not named'}, against {result.reference or 'the reference'}"),
        ("win rate", f"{_percent(result.win_rate)} ± {_percent(result.standard_error)}{_interval(result)}"),
        ("length-controlled", _length_controlled(result)),
        ("discrete", f"{_percent(result.discrete_win_rate)}{_counts(result)}"),
        ("annotated", f"{result.n_annotated} of {result.n_total} prompts{_lost(result)}"),
        (
            "length",
            f"{result.avg_length} characters (reference {result.avg_length_reference}){_longer(result)}",
        ),
    ]
    if result.n_disagree is not None:
        figures.append(("order", f"{result.n_disagree} verdicts turn when the answers change places"))
    lines = [result.model, *(f"  {name:<18} {text}" for name, text in figures)]
    lines += [
        "",
        *_table(("baseline", "win rate", "LC", "how"), [_baseline_cells(b) for b in result.baselines]),
    ]
    if len(result.by_dataset) > 1:
        lines += ["", *_table(("source", "win rate", "n"), [_slice_cells(s) for s in result.by_dataset])]
    lines += [f"warning: {warning}" for warning in result.warnings]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _interval(result: AlpacaResult) -> str:
    low, high = result.win_rate_ci_low, result.win_rate_ci_high
    return "" if low is None or high is None else f"   95 % over all prompts: {low:.2f} to {high:.2f}"


def _length_controlled(result: AlpacaResult) -> str:
    if result.length_controlled_winrate is None:
        return "n/a, see the warnings"
    return f"{_percent(result.length_controlled_winrate)} ± {_percent(result.lc_standard_error)}   {result.lc_method}"


def _counts(result: AlpacaResult) -> str:
    return f"   {result.n_wins} won, {result.n_draws} drawn, {result.n_wins_base} lost"


def _lost(result: AlpacaResult) -> str:
    parts = [f"{result.n_missing} unanswered"] * bool(result.n_missing)
    parts += [f"{count} {status}" for status, count in sorted(result.n_lost.items())]
    parts += [f"{result.n_empty} answers empty"] * bool(result.n_empty)
    return f" ({', '.join(parts)})" if parts else ""


def _longer(result: AlpacaResult) -> str:
    if result.longer_preferred is None:
        return ""
    return f"; the judge prefers the longer answer in {result.longer_preferred:.1f} %"


def _baseline_cells(baseline: Baseline) -> tuple[str, ...]:
    return (
        baseline.name,
        _percent(baseline.win_rate),
        _percent(baseline.length_controlled_winrate),
        baseline.basis,
    )


def _slice_cells(part: Slice) -> tuple[str, ...]:
    return part.dataset or "(none)", _percent(part.win_rate), f"{part.n_annotated} of {part.n_total}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns padded to their widest cell; the last one is free."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head) - 1)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in (head, *rows)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Baseline | Slice):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value

"""A run's figures in one shape: those of its summary and those of its evaluations.

Models are named M0, M1, SFT, …, without the hash that the rows append to the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from selfreward.evaluation.ask.results import FIGURES, EvaluationFigure
from selfreward.statistics import Figure
from selfreward.store.run import Run
from selfreward.summary.facts import Summary, summarize
from selfreward.tables import from_table

JUDGE_FIGURES = ("pairwise_ties_left_out", "five_best", "exact_match", "spearman", "kendall_tau")
_CORRELATIONS = ("spearman", "kendall_tau")


@dataclass(frozen=True, slots=True)
class RunFigure:
    """One number of a run."""

    measure: str
    figure: str
    model: str
    against: str | None = None
    part: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = "percent"
    judge: str | None = None
    reference: str | None = None
    prompts: str = ""
    n_prompts: int | None = None
    source: str = ""
    """The dataset or the `evaluation_id` it is from."""
    outdated: bool = False
    """Whether its model or its inputs are no longer the run's current ones."""


def run_figures(run: Run) -> list[RunFigure]:
    """All figures that the paper reports too, also for models that the paper does not have."""
    summary = summarize(run)
    found = [*_alpaca(summary), *_judges(summary), *_data(summary)]
    found = [replace(figure, outdated=figure.source in summary.outdated) for figure in found]
    if run.has(FIGURES):
        rows = from_table(run.current(FIGURES).table(), EvaluationFigure)
        # the paper leaves unscored judgements out, so the stricter variant has no counterpart
        found += [_own(row, _stale_models(summary)) for row in rows if row.part != "unscored_wrong"]
    return found


def _alpaca(summary: Summary) -> Iterator[RunFigure]:
    for rate in summary.win_rates:
        row = rate.figures
        common = RunFigure(
            "alpaca", "win_rate", rate.model, n=row.n_annotated, judge=row.annotator, reference=row.reference,
            prompts="of the run's evaluate.alpaca", n_prompts=row.n_total, source=rate.dataset,
        )  # fmt: skip
        yield replace(common, value=row.win_rate, low=row.win_rate_ci_low, high=row.win_rate_ci_high)
        yield replace(common, figure="avg_length", unit="characters", value=row.avg_length)


def _judges(summary: Summary) -> Iterator[RunFigure]:
    for judge in summary.judges:
        for name in JUDGE_FIGURES:
            if figure := judge.notes.figure(name):
                unit, scale = ("correlation", 1.0) if name in _CORRELATIONS else ("percent", 100.0)
                value, low, high = _scaled(figure, scale)
                # A program's ranks are no people's: such a figure does not stand beside the paper's.
                against = "people" if judge.of_people else "a program's ranks"
                yield RunFigure(
                    "judge", name, judge.model, against, None, value, low, high, figure.n, unit, judge.model,
                    prompts=f"the run's {judge.where}", n_prompts=judge.notes.n_prompts, source=judge.dataset,
                )  # fmt: skip


def _scaled(figure: Figure, scale: float) -> tuple[float | None, ...]:
    return tuple(None if x is None else scale * x for x in (figure.value, figure.low, figure.high))


def _data(summary: Summary) -> Iterator[RunFigure]:
    counts = [
        (step.what.replace("EFT", "eft"), "M1", step.n, step.dataset) for step in summary.eft if step.paper
    ]
    if ift := summary.versions.get("ift"):
        counts.insert(0, ("ift rows", "M1", ift.n_rows, "ift"))
    for iteration in summary.iterations:
        steps = [step for step in iteration.funnel if step.what == "pairs"]
        # pairs of iteration k train M_k+1, and the paper counts them under that model
        counts += [("pairs", f"M{iteration.number + 1}", step.n, step.dataset) for step in steps]
    for figure, model, n, source in counts:
        yield RunFigure("data", figure, model, value=n, unit="count", source=source)


def _stale_models(summary: Summary) -> Mapping[str, str | None]:
    """Model of the run -> the hash in rows about its current version; None if that version is outdated."""
    return {
        trained.model: None
        if trained.model in summary.outdated
        else summary.versions[trained.model].content_sha256
        for trained in summary.trained
    }


def _own(row: EvaluationFigure, hashes: Mapping[str, str | None]) -> RunFigure:
    """A row of `evaluation_figures`; in a comparison the later model comes first."""
    compared = row.against if row.measure in ("head_to_head", "human") else None
    return _later_first(
        RunFigure(
            row.measure, "accuracy" if row.measure == "nlp" else row.figure, short_name(row.model),
            short_name(compared) if compared else None, row.part, row.value, row.low, row.high, row.n, row.unit, row.judge,
            reference=row.against if row.measure == "alpaca" else None,
            prompts=row.prompts, n_prompts=row.n_prompts, source=row.evaluation_id,
            outdated=any(_is_stale(name, hashes) for name in (row.model, compared, row.judge) if name),
        )
    )  # fmt: skip


def _is_stale(named: str, hashes: Mapping[str, str | None]) -> bool:
    """Whether `M2@4567…` is no longer the run's M2; unknown for a model that the run does not have."""
    model, _, digest = named.partition("@")
    # a model that the run does not have falls back to its own hash: it is never stale
    current = hashes.get(model, digest)
    return current is None or not current.startswith(digest)


def _later_first(figure: RunFigure) -> RunFigure:
    if figure.against is None or _place(figure.model) >= _place(figure.against):
        return figure
    # the user may have named either model `a`; a win of the one is a loss of the other
    mirrored = {"win": "loss", "loss": "win"}.get(figure.figure, figure.figure)
    return replace(figure, model=figure.against, against=figure.model, figure=mirrored)


def _place(model: str) -> float:
    """Order of training: M0, SFT, M1, M2, …; any other model comes before them."""
    if model == "SFT":
        return 0.5
    found = re.fullmatch(r"M(\d+)", model)
    return float(found[1]) if found else -1.0


def short_name(model: str) -> str:
    """`M1@91ab…` -> `M1`; other names as they are."""
    found = re.fullmatch(r"(M\d+|SFT)@[0-9a-f]+", model)
    return found[1] if found else model

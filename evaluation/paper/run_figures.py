"""What a run knows about itself, in one shape: from the manifests of its steps and from its own evaluations.

Models are called M0, M1, SFT, … here, whatever hash stands behind the name in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from selfreward.evaluation.ask.results import figures
from selfreward.store.run import Run

JUDGE_FIGURES = ("pairwise_ties_left_out", "five_best", "exact_match", "spearman", "kendall_tau")
_CORRELATIONS = ("spearman", "kendall_tau")


@dataclass(frozen=True, slots=True)
class RunFigure:
    """One number of a run."""

    measure: str
    figure: str
    model: str
    against: str | None
    part: str | None
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    unit: str
    judge: str | None
    reference: str | None
    prompts: str
    n_prompts: int | None
    source: str
    """The dataset or the `evaluation_id` it is from."""


def run_figures(run: Run) -> list[RunFigure]:
    """Everything that has a counterpart in the paper, and the same for models that have none."""
    found = [*_alpaca(run), *_judges(run), *_data(run)]
    found += [_own(row) for row in figures(run) if row["part"] != "unscored_wrong"]
    return found


def _notes(run: Run, name: str) -> dict[str, Any]:
    notes: dict[str, Any] = run.current(name).manifest["counts"]["notes"]
    return notes


def _iterations(run: Run, kind: str) -> Iterator[tuple[int, str]]:
    names = [name for name in run.names() if name.endswith(f"/{kind}")]
    for name in sorted(names, key=lambda name: int(name.split("/")[0].removeprefix("iter"))):
        yield int(name.split("/")[0].removeprefix("iter")), name


def _alpaca(run: Run) -> Iterator[RunFigure]:
    for number, name in _iterations(run, "annotations"):
        alpaca = _notes(run, name).get("alpaca") or {}
        for figure, unit in (("win_rate", "percent"), ("avg_length", "characters")):
            low, high = (
                (alpaca.get("win_rate_ci_low"), alpaca.get("win_rate_ci_high"))
                if figure == "win_rate"
                else (None, None)
            )
            yield RunFigure(
                measure="alpaca",
                figure=figure,
                model=f"M{number}",
                against=None,
                part=None,
                value=alpaca.get(figure),
                low=low,
                high=high,
                n=alpaca.get("n_annotated"),
                unit=unit,
                judge=alpaca.get("annotator"),
                reference=alpaca.get("reference"),
                prompts="of the run's evaluate.alpaca",
                n_prompts=alpaca.get("n_total"),
                source=name,
            )


def _judges(run: Run) -> Iterator[RunFigure]:
    for number, name in _iterations(run, "judge_eval"):
        agreement: dict[str, Any] = _notes(run, name).get("agreement") or {}
        for figure in JUDGE_FIGURES if agreement else ():
            values: dict[str, Any] = agreement["judge"][figure]
            scale = 1.0 if figure in _CORRELATIONS else 100.0
            yield RunFigure(
                measure="judge",
                figure=figure,
                model=f"M{number}",
                against="people",
                part=None,
                value=_scaled(values["value"], scale),
                low=_scaled(values["low"], scale),
                high=_scaled(values["high"], scale),
                n=values["n"],
                unit="correlation" if scale == 1.0 else "percent",
                judge=f"M{number}",
                reference=None,
                prompts="the run's EFT eval split",
                n_prompts=agreement["counts"]["n_prompts"],
                source=name,
            )


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _data(run: Run) -> Iterator[RunFigure]:
    def count(figure: str, model: str, n: int, source: str) -> RunFigure:
        return RunFigure(
            measure="data",
            figure=figure,
            model=model,
            against=None,
            part=None,
            value=float(n),
            low=None,
            high=None,
            n=None,
            unit="count",
            judge=None,
            reference=None,
            prompts="",
            n_prompts=None,
            source=source,
        )

    if run.has("ift"):
        yield count("ift rows", "M1", run.current("ift").n_rows, "ift")
    if run.has("eft"):
        rows = run.current("eft").table(["split", "accepted"]).to_pylist()
        accepted = sum(row["split"] == "train" and row["accepted"] for row in rows)
        yield count("eft rows, train", "M1", accepted, "eft")
        yield count("eft rows, eval", "M1", sum(row["split"] == "eval" for row in rows), "eft")
    for number, name in _iterations(run, "pairs"):
        yield count("pairs", f"M{number + 1}", run.current(name).n_rows, name)


def _own(row: dict[str, Any]) -> RunFigure:
    """A row of the figures; of two models the later one stands first, whoever was called a."""
    against = row["against"]
    return _later_first(
        RunFigure(
            measure=row["measure"],
            figure="accuracy" if row["measure"] == "nlp" else row["figure"],
            model=short_name(row["model"]),
            against=short_name(against) if against and row["measure"] in ("head_to_head", "human") else None,
            part=row["part"],
            value=row["value"],
            low=row["low"],
            high=row["high"],
            n=row["n"],
            unit=row["unit"],
            judge=row["judge"],
            reference=against if row["measure"] == "alpaca" else None,
            prompts=row["prompts"],
            n_prompts=row["n_prompts"],
            source=row["evaluation_id"],
        )
    )


def _later_first(figure: RunFigure) -> RunFigure:
    if figure.against is None or figure.measure not in ("head_to_head", "human"):
        return figure
    if _place(figure.model) >= _place(figure.against):
        return figure
    mirrored = {"win": "loss", "loss": "win"}.get(figure.figure, figure.figure)
    return replace(figure, model=figure.against, against=figure.model, figure=mirrored)


def _place(model: str) -> float:
    """M0, SFT, M1, M2, …; strangers before them."""
    if model == "SFT":
        return 0.5
    found = re.fullmatch(r"M(\d+)", model)
    return float(found[1]) if found else -1.0


def short_name(model: str) -> str:
    """`M1@91ab…` -> `M1`; other names as they are."""
    found = re.fullmatch(r"(M\d+|SFT)@[0-9a-f]+", model)
    return found[1] if found else model

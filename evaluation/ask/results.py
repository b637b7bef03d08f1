"""Results as tables of a run: `evaluation_figures`, and the rows behind them (`head_to_head`, `mt_bench`, …).

    {"evaluation_id": "ev-…", "measure": "head_to_head", "model": "M2@91ab…", "against": "M1@…", "judge": "openai:…",
     "figure": "win", "part": null, "value": 55.5, "low": 49.2, "high": 61.7, "n": 256, "of": "prompts", "unit": "percent"}

One evaluation (these models, this judge, these prompts, these settings) has one `evaluation_id`. Repeating it
replaces its rows; other evaluations are kept. Figures that do not exist are NULL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from selfreward.statistics import Figure
from selfreward.store.run import Counts, Recipe, Run
from selfreward.store.sealed import digest
from selfreward.store.version import Version
from selfreward.tables import arrow_schema, row_id

FIGURES = "evaluation_figures"
BUILDER = "evaluation.results 1"


@dataclass(frozen=True, slots=True)
class EvaluationFigure:
    """One number of one evaluation."""

    evaluation_id: str
    measure: str
    """`alpaca`, `arena`, `head_to_head`, `judge`, `rules`, `mt_bench`, `human`, `nlp` or `checkpoints`."""
    model: str
    against: str | None
    """The other model, the reference or the human ranks it was measured against."""
    judge: str | None
    prompts: str
    """Where the prompts come from, as words."""
    n_prompts: int
    figure: str
    part: str | None
    """A category, a task, a template; NULL for the whole."""
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    of: str | None
    """What `n` counts: prompts, pairs, questions, …"""
    unit: str
    """`percent`, `score` (of 10), `correlation`, `characters`, `count`, `nats`, `as reported` (by lm-eval)."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The identity of an evaluation: everything in its id."""

    measure: str
    model: str
    against: str | None
    judge: str | None
    prompts: str
    n_prompts: int
    settings: Mapping[str, Any]
    """Whatever else decides the figures: hashes of prompts, templates, sampling."""

    @property
    def id(self) -> str:
        """The same for the same evaluation."""
        return row_id("ev", digest(asdict(self)))

    def figure(self, name: str, value: float | None, **rest: Any) -> EvaluationFigure:
        """A number of this evaluation; `rest` are the other columns of `EvaluationFigure`, by default in percent."""
        own: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "settings"}
        optional: dict[str, Any] = (
            dict.fromkeys(("part", "low", "high", "n", "of")) | {"unit": "percent"} | rest
        )
        number = None if value is None else float(value)
        return EvaluationFigure(evaluation_id=self.id, figure=name, value=number, **own, **optional)

    def of_figure(self, name: str, figure: Figure, unit: str = "percent", **rest: Any) -> EvaluationFigure:
        """A `Figure` of `selfreward.statistics` as a row; a share as percent."""
        scale = 100.0 if unit == "percent" else 1.0
        value, low, high = (None if x is None else scale * x for x in (figure.value, figure.low, figure.high))
        return self.figure(name, value, low=low, high=high, n=figure.n, of=figure.of, unit=unit, **rest)

    def shares(self, result: object, *names: str) -> list[EvaluationFigure]:
        """The figures of a result that are its attributes of these names."""
        return [self.of_figure(name, getattr(result, name)) for name in names]


@dataclass(frozen=True, slots=True)
class Tables:
    """One evaluation's tables in a run: its figures, and the rows behind them by the name of their table."""

    evaluation: Evaluation
    figures: Sequence[EvaluationFigure]
    rows: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Instances of one class a table, each with `evaluation_id`, which is filled in here."""

    def publish(self, run: Run) -> None:
        """Write them as tables of a run."""
        tables = {FIGURES: (self.figures, EvaluationFigure)} if self.figures else {}
        for name, rows in self.rows.items():
            rows = [replace(row, evaluation_id=self.evaluation.id) for row in rows]
            tables[name] = (rows, type(rows[0]))
        publish(run, self.evaluation, tables)


def publish(run: Run, evaluation: Evaluation, tables: Mapping[str, tuple[Sequence[Any], type]]) -> None:
    """Put an evaluation's rows into the run: `tables` is name -> (rows, their class).

    Every row class has a column `evaluation_id`. Other evaluations' rows in these datasets stay.
    """
    with run.hold("selfreward evaluate"):
        for name, (rows, row_class) in tables.items():
            _replace_rows(run, name, evaluation, [asdict(row) for row in rows], row_class)


def figures(run: Run) -> list[dict[str, Any]]:
    """All figures of a run's own evaluations; none before the first."""
    return _rows(run, FIGURES)


def _replace_rows(
    run: Run, name: str, evaluation: Evaluation, rows: list[dict[str, Any]], row_class: type
) -> Version:
    import pyarrow as pa

    schema = arrow_schema(row_class)
    kept = [row for row in _rows(run, name) if row["evaluation_id"] != evaluation.id]
    everything = [{column: row.get(column) for column in schema.names} for row in [*kept, *rows]]
    table = pa.Table.from_pylist(everything, schema=schema)
    recipe = Recipe(name, BUILDER, {}, {"rows": digest(everything)})
    # the same rows again are the same version: repeating a command adds nothing
    found = run.find(recipe)
    if found is not None:
        run.make_current(found)
        return found
    notes = {"added": len(rows), "evaluation": asdict(evaluation)}
    return run.publish_table(recipe, table, Counts(len(everything), len(everything), notes=notes))


def _rows(run: Run, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run.current(name).table().to_pylist() if run.has(name) else []
    return rows

"""What `selfreward evaluate … --run` added to a run: a panel for each measure, judge and set of prompts.

All of these lie in one table, `evaluation_figures`, with model, figure, value, low, high and n. So a new measure is shown
without a change here; a title in `_TITLES` says in words what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from selfreward.page.by_model import ModelFigure, by_model, change
from selfreward.page.figures import Panel, Source, literal
from selfreward.page.svg import N_COLORS
from selfreward.store.run import is_model
from selfreward.summary.facts import model_label

EVALUATIONS = "evaluation_figures"
"""The table that `selfreward evaluate` fills."""
_TITLES = {
    "rules": "Answers checked by rules",
    "head_to_head": "Head to head",
    "mt_bench": "MT-Bench",
    "human": "People's verdicts",
    "nlp": "Benchmarks",
    "alpaca": "Win rate (selfreward evaluate alpaca)",
    "judge": "Judge agreement (selfreward evaluate judge)",
}


def evaluations(source: Source) -> Iterator[Panel]:
    """What `selfreward evaluate` added to the run, a panel for each measure, judge and set of prompts."""
    if not source.last(EVALUATIONS):
        return
    groups = source.rows(f"SELECT DISTINCT measure, judge, prompts FROM {EVALUATIONS} ORDER BY ALL")
    for k, (measure, judge, prompts) in enumerate(groups):
        id, title = f"evaluated-{k + 1}", _TITLES.get(measure, measure)
        yield source.figure(id, title, partial(_evaluated, source, id, title, measure, judge, prompts))


def _evaluated(source: Source, id: str, title: str, measure: str, judge: str | None, prompts: str) -> Panel:
    same_judge = "judge IS NULL" if judge is None else f"judge = {literal(judge)}"
    query = (
        f"SELECT model, figure, against, part, value, low, high, n, unit FROM {EVALUATIONS} "
        f"WHERE measure = {literal(measure)} AND {same_judge} AND prompts = {literal(prompts)} ORDER BY ALL"
    )
    found = [
        (_label(source, model), figure, against and _label(source, against), *rest)
        for model, figure, against, *rest in source.rows(query)
    ]
    # M0 is named as the configuration names it: before the models that were trained from it.
    found.sort(key=lambda row: (row[0].startswith("M"), row[0]))
    units = {row[8] for row in found if row[3] is None}
    percent = "percent" in units
    figures = [
        ModelFigure(model, figure + (f" against {against}" if against else ""), value, low, high, n)
        for model, figure, against, part, value, low, high, n, unit in found
        # A chart has one unit and whole measures; categories and other units are in the table.
        if part is None and (unit == "percent" or not percent)
    ]
    labels = list(dict.fromkeys(figure.figure for figure in figures))
    drawn = [figure for figure in figures if figure.figure in labels[:N_COLORS]]
    notes = [
        f"Prompts: {prompts}; {f'judged by {judge}' if judge else 'no judge model'}.",
        f"Drawn: {N_COLORS} of {len(labels)} figures." if len(labels) > N_COLORS else "",
    ]
    head = ("model", "figure", "against", "part", "value", "low", "high", "n", "unit")
    chart = by_model("percent" if percent else "value", drawn, y_range=(0, 100) if percent else None)
    changed = change(figures, "points") if len(labels) == 1 and percent else ""
    return Panel(
        id,
        title,
        [query],
        chart,
        head,
        found,
        " ".join(filter(None, notes)),
        source.outdated(EVALUATIONS),
        changed,
    )


def _label(source: Source, name: str) -> str:
    """`M2` of `M2@91ab…`, marked if the run has made another M2 since."""
    model, _, digits = name.partition("@")
    if not is_model(model):
        return model_label(name, 1)
    current = source.summary.versions.get(model)
    same = (
        current is not None
        and current.content_sha256.startswith(digits)
        and model not in source.summary.outdated
    )
    return model if same else f"{model} OUTDATED"

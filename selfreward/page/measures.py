"""M0 to Mk with intervals, next to chance, the longest reply and, where comparable, the paper.

These are the measures of the run itself, whose figures lie in the manifests; `evaluated.py` adds those of `evaluate`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from selfreward.page.by_model import ModelFigure, by_model, change, in_percent, interval
from selfreward.page.evaluated import evaluations
from selfreward.page.figures import Panel, Source
from selfreward.page.svg import Chart, Level, Series
from selfreward.summary.facts import Judge, model_label
from selfreward.summary.paper import SETTINGS, paper_value

# The paper's M0 with IFT alone is its SFT baseline.
_PAPER = {"M0": "SFT"}
# `M1@3f0c…` as a model's label, in SQL; see `facts.model_label`.
_LABEL = "CASE WHEN iteration = 0 THEN 'M0' ELSE regexp_replace({name}, '@[0-9a-f]{{12,}}$', '') END AS model"


def better(source: Source) -> list[Panel]:
    """For M0 to Mk: agreement with humans, win rates, length, unscored judgements, and whatever else was measured."""
    judges, rates = source.summary.judges, source.summary.win_rates
    figures: list[tuple[str, str, Callable[[Source], Panel], bool]] = [
        ("judge-agreement", "Judge agreement", _agreement, bool(judges)),
        ("win-rate", "Win rate", _win_rates, bool(rates)),
        ("rules", "Rules kept", _rules, bool(source.summary.rule_rates)),
        ("answer-lengths", "Length of answers", _lengths, bool(rates or source.last("candidates"))),
        ("unscored", "Judgements without a score", _unscored, bool(judges or source.last("judgements"))),
    ]
    made = [source.figure(id, title, partial(make, source)) for id, title, make, exists in figures if exists]
    return [*made, *evaluations(source)]


def _longest(judge: Judge) -> float | None:
    """Percent of pairs that "the longer reply is better" orders as humans do."""
    found = ((judge.notes.agreement or {}).get("longest") or {}).get("pairwise_ties_half") or {}
    return None if found.get("value") is None else 100 * float(found["value"])


def _agreement(source: Source) -> Panel:
    judges = source.summary.judges
    # Ties count half, so that a judge that gives every reply the same score gets 50.
    ours = [in_percent(one.notes.figure("pairwise_ties_half"), one.model) for one in judges]
    longest = next((value for one in judges if (value := _longest(one)) is not None), None)
    levels = [Level("random: 50", 50.0)]
    levels += [] if longest is None else [Level(f"longest reply: {longest:.1f}", longest)]
    # The paper states no policy for ties; its figures fit ties left out.
    paper = {one.model: value for one in judges
             if (value := paper_value("judge", "pairwise_ties_left_out", _PAPER.get(one.model, one.model))) is not None}  # fmt: skip
    if judges[0].replies != "eft_eval":
        # Other replies than people's: the paper's figures do not stand beside these.
        paper = {}
    rows = []
    for one, figure in zip(judges, ours, strict=True):
        left_out = in_percent(one.notes.figure("pairwise_ties_left_out"), one.model)
        n_pairs = one.accuracy.n if one.accuracy else 0
        rows.append((one.model, figure.value, interval(figure.ends), n_pairs, left_out.value, paper.get(one.model), longest))  # fmt: skip
    query = (
        f"SELECT {_LABEL.format(name=_text('inputs', 'model.name'))}, "
        + ", ".join(
            f"100 * {_number(f'notes.agreement.{path}')} AS {name}"
            for path, name in (
                ("judge.pairwise_ties_half.value", "agreement"),
                ("judge.pairwise_ties_half.low", "low"),
                ("judge.pairwise_ties_half.high", "high"),
                ("judge.pairwise_ties_left_out.value", "ties_left_out"),
                ("longest.pairwise_ties_half.value", "longest_reply"),
            )
        )
        + f", {_number('notes.agreement.judge.pairwise_ties_half.n')} AS n_pairs "
        "FROM dataset_versions WHERE dataset = 'judge_eval' ORDER BY iteration"
    )
    return Panel(
        "judge-agreement",
        "Judge agreement with humans" if judges[0].of_people else "Judge agreement with ranks",
        [query],
        by_model("pairs ordered as ranked (%)", ours, x="judge", levels=levels, paper=paper, y_range=(0, 100)),
        ("judge", "agreement %", "95 % interval", "pairs", "ties left out %", "paper %", "longest reply %"),
        rows,
        f"Pairs of ranked replies of the EFT eval split; equal scores count half. The paper's figures leave "
        f"ties out and are of Llama 2 70B on {SETTINGS['judge'].prompts}: compare them with the column “ties left out”, and for "
        "their direction."
        if judges[0].replies == "eft_eval"
        else f"Pairs of ranked replies ({judges[0].where}), none of them trained on; equal scores count half.",
        source.outdated(*(one.dataset for one in judges)),
        change(ours, "points"),
    )  # fmt: skip


def _win_rates(source: Source) -> Panel:
    rates = source.summary.win_rates
    ours, rows = [], []
    for rate in rates:
        row = rate.figures
        one = ModelFigure(
            rate.model, "this run", row.win_rate, row.win_rate_ci_low, row.win_rate_ci_high, row.n_annotated
        )
        ours.append(one)
        lost = ", ".join(f"{reason} {n}" for reason, n in (row.n_lost or {}).items())
        rows.append((rate.model, row.win_rate, interval(one.ends), row.n_annotated, row.n_total, lost, row.n_disagree))  # fmt: skip
    paper = _paper_of(source, "win_rate")
    setting, first = SETTINGS["alpaca"], rates[0].figures
    beside = "" if _comparable(source) else (
        f" The paper's win rates are by {setting.judge} on {setting.prompts}, so they do not stand beside these."
    )  # fmt: skip
    columns = ["win_rate", "win_rate_ci_low", "win_rate_ci_high", "n_annotated", "n_total", "n_disagree"]
    query = (
        f"SELECT {_LABEL.format(name=_text('counts', 'notes.alpaca.model'))}, "
        + ", ".join(f"{_number(f'notes.alpaca.{name}')} AS {name}" for name in columns)
        + ", counts -> '$.notes.alpaca.n_lost' AS n_lost FROM dataset_versions WHERE dataset = 'annotations' ORDER BY iteration"
    )
    return Panel(
        "win-rate",
        "Win rate",
        [query],
        by_model("win rate (%)", ours, levels=[Level("the reference: 50", 50.0)], paper=paper, y_range=(0, 100)),
        ("model", "win rate %", "95 % interval", "judged", "prompts", "lost", "order-dependent"),
        rows,
        f"Against {first.reference} answers, judged by {first.annotator}.{beside}",
        source.outdated(*(rate.dataset for rate in rates)),
        change(ours, "points"),
    )  # fmt: skip


def _rules(source: Source) -> Panel:
    rates = source.summary.rule_rates
    ours = [in_percent(rate.kept, rate.model) for rate in rates]
    gains = [in_percent(rate.gain, rate.model) for rate in rates]
    rows = [
        (
            one.model,
            one.value,
            interval(one.ends),
            one.n,
            gain.value,
            interval(gain.ends),
            rate.notes.mean_chars,
            rate.notes.distinct_words,
        )
        for one, gain, rate in zip(ours, gains, rates, strict=True)
    ]
    # As the run pairs them: the same prompts, answered by M1 and by a later model.
    query = (
        "SELECT r.iteration, 100 * avg(r.kept::INT) AS kept, count(r.kept) AS n, avg(r.n_chars) FILTER (r.response IS NOT NULL) AS "
        "characters, avg(r.distinct_words) AS distinct_words FROM rule_eval r GROUP BY ALL ORDER BY ALL"
    )
    parts = ", ".join(f"100 * {_number(f'notes.kept.{name}')} AS {name}" for name in ("value", "low", "high"))
    noted = f"SELECT iteration, {parts} FROM dataset_versions WHERE dataset = 'rule_eval' ORDER BY iteration"
    head = (
        "model",
        "kept %",
        "95 % interval",
        "answers",
        "minus M1, points",
        "95 % interval",
        "mean characters",
        "distinct words",
    )
    return Panel("rules", "Rules kept", [query, noted], by_model("rules kept (%)", ours, y_range=(0, 100)), head, rows,
                  "Answers that keep the rule of their prompt, checked by a program. The difference to M1 is over the same prompts, "
                  "resampled together; no query gives its interval.",
                  source.outdated(*(rate.dataset for rate in rates)),
                  # From M1: what SFT did is not what the loop did.
                  change([one for one in ours if one.model != "M0"], "points"))  # fmt: skip


def _paper_of(source: Source, figure: str) -> dict[str, float]:
    """The paper's curve, empty where judge or prompts differ from the paper's."""
    names = [rate.model for rate in source.summary.win_rates] if _comparable(source) else []
    return {name: value for name in names if (value := paper_value("alpaca", figure, name)) is not None}


def _comparable(source: Source) -> bool:
    """Whether the external judge and the prompts are those of the paper."""
    setting = SETTINGS["alpaca"]
    # A win rate by another judge or on other prompts is another quantity: one chart would mislead.
    return all(
        re.search(setting.judge_pattern or "", (rate.figures.annotator or "").lower()) is not None
        and rate.figures.n_total == setting.n_prompts
        for rate in source.summary.win_rates
    )


def _lengths(source: Source) -> Panel:
    rates, queries = source.summary.win_rates, []
    rows: list[Sequence[object]] = []
    figures = [ModelFigure(rate.model, "evaluation answers", rate.figures.avg_length) for rate in rates]
    if rates:
        rows += [(f"{one.model}, evaluation answers", one.value) for one in figures]
        reference = rates[0].figures.avg_length_reference
        rows += [("reference answers", reference)] if reference is not None else []
        queries.append(
            f"SELECT {_LABEL.format(name=_text('counts', 'notes.alpaca.model'))}, {_number('notes.alpaca.avg_length')} AS characters, "
            f"{_number('notes.alpaca.avg_length_reference')} AS of_reference "
            "FROM dataset_versions WHERE dataset = 'annotations' ORDER BY iteration"
        )
    if source.last("candidates"):
        query = "SELECT iteration, min(model) AS model, avg(n_chars) AS characters FROM candidates GROUP BY ALL ORDER BY ALL"
        queries.append(query)
        found = [
            (number, model_label(model, number), characters)
            for number, model, characters in source.rows(query)
        ]
        rows += [
            (f"{model}, candidates of iteration {number}", characters) for number, model, characters in found
        ]
        figures += [ModelFigure(model, "candidates", characters) for _, model, characters in found]
    kinds = ("annotations", "candidates")
    # From zero: the curve is read as a length.
    longest = max((figure.value for figure in figures if figure.value is not None), default=1.0)
    return Panel("answer-lengths", "Length of answers", queries,
                  by_model("mean characters", figures, paper=_paper_of(source, "avg_length"),
                           y_range=(0, 1.1 * max(longest, *_paper_of(source, "avg_length").values(), 1.0))), ("answers", "mean characters"), rows,
                  "Growing answers with growing win rates are what a judge that likes length makes.",
                  source.outdated(*(name for name in source.summary.versions if name.endswith(kinds))))  # fmt: skip


def _unscored(source: Source) -> Panel:
    rows: list[Sequence[object]] = []
    queries, names, points = [], [], []

    def add(label: str, name: str, statuses: Mapping[str, int]) -> None:
        total, unscored = sum(statuses.values()), sum(n for s, n in statuses.items() if s != "ok")
        if total:
            names.append(name)
            points.append((len(names) - 1.0, 100 * unscored / total))
        reasons = ", ".join(f"{status} {n}" for status, n in statuses.items() if status != "ok")
        rows.append((label, total, unscored, reasons))

    for one in source.summary.judges:
        add(f"{one.model}, {one.where}", one.model, one.statuses)
    judged = [i for i in source.summary.iterations if i.statuses]
    for iteration in judged:
        add(f"iteration {iteration.number}, candidates", f"iteration {iteration.number}", iteration.statuses)
    for kind, exists in (("judge_eval", source.summary.judges), ("judgements", judged)):
        if exists:
            queries.append(
                "SELECT iteration, count(*) AS n, count(*) FILTER (status != 'ok') AS unscored, 100 * avg((status != 'ok')::INT) AS "
                f"percent, histogram(status) AS by_status FROM {kind} GROUP BY ALL ORDER BY ALL"
            )
    chart = Chart("judge, or candidates of", "without a score (%)", [Series("unscored", points, "bars")], names,
                  y_range=(0, 100), bar_width=0.6)  # fmt: skip
    datasets = [one.dataset for one in source.summary.judges] + [f"iter{i.number}/judgements" for i in judged]
    return Panel("unscored", "Judgements without a score", queries, chart if points else None,
                  ("judgements of", "n", "unscored", "why"), rows, outdated=source.outdated(*datasets))  # fmt: skip


def _number(path: str) -> str:
    """A number in a version's `counts`, in SQL."""
    return f"(counts ->> '$.{path}')::DOUBLE"


def _text(column: str, path: str) -> str:
    return f"{column} ->> '$.{path}'"

"""M0 to Mk with intervals, next to chance, the longest reply and, where comparable, the paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from selfreward.page.figures import Panel, Source
from selfreward.page.svg import Level, Series, chart
from selfreward.statistics import Figure as Statistic
from selfreward.summary.facts import Judge
from selfreward.summary.paper import SETTINGS, paper_value

_NOTES = "SELECT iteration, {what} FROM dataset_versions WHERE dataset = '{kind}' ORDER BY iteration"
# The paper's M0 with IFT alone is its SFT baseline.
_PAPER = {"M0": "SFT"}


def better(source: Source) -> list[Panel]:
    """For M0 to Mk: agreement with humans, win rates, length, and unscored judgements."""
    return list(
        _made(source, [
            ("Judge agreement with humans", _agreement, bool(source.summary.judges)),
            ("Win rate", _win_rates, bool(source.summary.win_rates)),
            ("Length of answers", _lengths, bool(source.summary.win_rates or source.summary.iterations)),
            ("Judgements without a score", _unscored, bool(source.summary.judges or source.summary.iterations)),
        ])
    )  # fmt: skip


def _made(source: Source, figures: Sequence[tuple[str, Callable[[Source], Panel], bool]]) -> Iterator[Panel]:
    for title, make, exists in figures:
        if exists:
            yield source.figure(title, partial(make, source))


def _percent(figure: Statistic | None) -> tuple[float | None, tuple[float, float] | None]:
    if figure is None or figure.value is None:
        return None, None
    ends = None if figure.low is None or figure.high is None else (100 * figure.low, 100 * figure.high)
    return 100 * figure.value, ends


def _interval(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"


def _longest(judge: Judge) -> float | None:
    """Percent of pairs that "the longer reply is better" orders as humans do."""
    found = ((judge.notes.agreement or {}).get("longest") or {}).get("pairwise_ties_half") or {}
    return None if found.get("value") is None else 100 * float(found["value"])


def _agreement(source: Source) -> Panel:
    judges = source.summary.judges
    names = [one.model for one in judges]
    # Ties count half, so that a judge that gives every reply the same score gets 50.
    half = [_percent(one.notes.figure("pairwise_ties_half")) for one in judges]
    ours = [(float(k), value, ends) for k, (value, ends) in enumerate(half) if value is not None]
    longest = next((value for one in judges if (value := _longest(one)) is not None), None)
    levels = [Level("random: 50", 50.0)]
    levels += [] if longest is None else [Level(f"longest reply: {longest:.1f}", longest)]
    # The paper states no policy for ties; its figures fit ties left out.
    paper = [paper_value("judge", "pairwise_ties_left_out", _PAPER.get(name, name)) for name in names]
    theirs = [(float(k), value) for k, value in enumerate(paper) if value is not None]
    series = [Series("this run", [p[:2] for p in ours], "line", [p[2] for p in ours])]
    series += [Series("the paper", theirs, "dashed")] if theirs else []
    rows = []
    for one, (value, ends), theirs_value in zip(judges, half, paper, strict=True):
        left_out = _percent(one.notes.figure("pairwise_ties_left_out"))[0]
        n_pairs = one.accuracy.n if one.accuracy else 0
        rows.append((one.model, value, _interval(ends), n_pairs, left_out, theirs_value, longest))
    query = _NOTES.format(
        kind="judge_eval",
        what="counts -> '$.notes.agreement.judge.pairwise_ties_half' AS judge, "
        "counts -> '$.notes.agreement.judge.pairwise_ties_left_out' AS ties_left_out, "
        "counts -> '$.notes.agreement.longest.pairwise_ties_half' AS longest",
    )
    return Panel(
        "Judge agreement with humans",
        [query],
        chart(
            "judge", "pairs ordered as people do (%)", series, names=names, levels=levels, y_range=(0, 100)
        ),
        [one.label for one in series],
        ("judge", "agreement %", "95 % interval", "pairs", "ties left out %", "paper %", "longest reply %"),
        rows,
        "Pairs of ranked replies of the EFT eval split; equal scores count half. The paper's figures leave ties out and are of "
        f"Llama 2 70B on {SETTINGS['judge'].prompts}: compare them with the column “ties left out”, and for their direction.",
        source.outdated(*(one.dataset for one in judges)),
    )


def _win_rates(source: Source) -> Panel:
    rates = source.summary.win_rates
    names = [rate.model for rate in rates]
    ours, rows = [], []
    for k, rate in enumerate(rates):
        row = rate.figures
        low, high = row.win_rate_ci_low, row.win_rate_ci_high
        ends = None if low is None or high is None else (low, high)
        if row.win_rate is not None:
            ours.append((float(k), row.win_rate, ends))
        lost = ", ".join(f"{reason} {n}" for reason, n in (row.n_lost or {}).items())
        rows.append(
            (rate.model, row.win_rate, _interval(ends), row.n_annotated, row.n_total, lost, row.n_disagree)
        )
    series = [Series("this run", [p[:2] for p in ours], "line", [p[2] for p in ours])]
    comparable = _comparable(source)
    theirs = [
        (float(k), v)
        for k, name in enumerate(names)
        if (v := paper_value("alpaca", "win_rate", name)) is not None
    ]
    series += [Series("the paper", theirs, "dashed")] if theirs and comparable else []
    setting, first = SETTINGS["alpaca"], rates[0].figures
    beside = "" if comparable else (
        f" The paper's win rates are by {setting.judge} on {setting.prompts}, so they do not stand beside these."
    )  # fmt: skip
    return Panel(
        "Win rate",
        [_NOTES.format(kind="annotations", what="counts -> '$.notes.alpaca' AS alpaca")],
        None
        if not ours
        else chart(
            "model",
            "win rate (%)",
            series,
            names=names,
            levels=[Level("the reference: 50", 50.0)],
            y_range=(0, 100),
        ),
        [one.label for one in series],
        ("model", "win rate %", "95 % interval", "judged", "prompts", "lost", "order-dependent"),
        rows,
        f"Against {first.reference} answers, judged by {first.annotator}.{beside}",
        source.outdated(*(rate.dataset for rate in rates)),
    )


def _comparable(source: Source) -> bool:
    """Whether the external judge and the prompts are those of the paper."""
    import re

    setting = SETTINGS["alpaca"]
    # A win rate by another judge or on other prompts is another quantity: one chart would mislead.
    return all(
        re.search(setting.judge_pattern or "", (rate.figures.annotator or "").lower()) is not None
        and rate.figures.n_total == setting.n_prompts
        for rate in source.summary.win_rates
    )


def _lengths(source: Source) -> Panel:
    queries, rows, series, names = [], [], [], [rate.model for rate in source.summary.win_rates]
    lengths = [
        (float(k), float(n))
        for k, r in enumerate(source.summary.win_rates)
        if (n := r.figures.avg_length) is not None
    ]
    if lengths:
        series.append(Series("evaluation answers", lengths))
        rows += [(f"{r.model}, evaluation answers", r.figures.avg_length) for r in source.summary.win_rates]
        reference = source.summary.win_rates[0].figures.avg_length_reference
        rows += [("reference answers", reference)] if reference is not None else []
        queries.append(
            _NOTES.format(kind="annotations", what="counts -> '$.notes.alpaca.avg_length' AS avg_length")
        )
        paper = [
            (float(k), v)
            for k, n in enumerate(names)
            if (v := paper_value("alpaca", "avg_length", n)) is not None
        ]
        series += [Series("the paper", paper, "dashed")] if paper and _comparable(source) else []
    answered = [i for i in source.summary.iterations if source.has(f"iter{i.number}/candidates")]
    if answered:
        query = "SELECT iteration, avg(n_chars) AS characters FROM candidates GROUP BY ALL ORDER BY ALL"
        queries.append(query)
        found = source.rows(query)
        rows += [(f"M{number}, candidates of iteration {number}", characters) for number, characters in found]
        names += [name for n, _ in found if (name := f"M{n}") not in names]
        series.append(
            Series("candidates", [(float(names.index(f"M{n}")), c) for n, c in found if c is not None])
        )
    picture = chart("model", "mean characters", series, names=names, y_range=None) if names else None
    kinds = ("annotations", "candidates")
    datasets = [name for name in source.summary.versions if name.endswith(kinds)]
    return Panel("Length of answers", queries, picture, [s.label for s in series], ("answers", "mean characters"), rows,
                  "Growing answers with growing win rates are what a judge that likes length makes.",
                  source.outdated(*datasets))  # fmt: skip


def _unscored(source: Source) -> Panel:
    judges = source.summary.judges
    rows: list[Sequence[object]] = []
    queries, names, points = [], [], []
    for one in judges:
        if one.judgements:
            names.append(one.model)
            points.append((len(names) - 1.0, 100 * (1 - one.scored / one.judgements)))
        reasons = ", ".join(f"{status} {n}" for status, n in one.statuses.items() if status != "ok")
        rows.append((f"{one.model}, EFT eval split", one.judgements, one.judgements - one.scored, reasons))
    if judges:
        queries.append("SELECT iteration, status, count(*) AS n FROM judge_eval GROUP BY ALL ORDER BY ALL")
    judged = [i for i in source.summary.iterations if i.statuses]
    for iteration in judged:
        total, scored = sum(iteration.statuses.values()), iteration.statuses.get("ok", 0)
        names.append(f"iteration {iteration.number}")
        points.append((len(names) - 1.0, 100 * (1 - scored / total)))
        reasons = ", ".join(f"{status} {n}" for status, n in iteration.statuses.items() if status != "ok")
        rows.append((f"iteration {iteration.number}, candidates", total, total - scored, reasons))
    if judged:
        queries.append("SELECT iteration, status, count(*) AS n FROM judgements GROUP BY ALL ORDER BY ALL")
    picture = chart("judge, or candidates of", "without a score (%)", [Series("unscored", points, "bars")],
                    names=names, y_range=(0, 100), bar_width=0.6)  # fmt: skip
    datasets = [one.dataset for one in judges] + [f"iter{i.number}/judgements" for i in judged]
    return Panel("Judgements without a score", queries, picture, (), ("judgements of", "n", "unscored", "why"), rows,
                  outdated=source.outdated(*datasets))  # fmt: skip

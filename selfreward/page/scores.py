"""The judge: scores by judge and iteration, scores against length, self-consistency, injection flags."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from selfreward.page.bins import histogram
from selfreward.page.figures import Panel, Source
from selfreward.page.svg import Chart, Series

# Each dot is an SVG element: more would make the page slow to open.
_MAX_DOTS = 1500


def judge(source: Source) -> list[Panel]:
    """Of each kind of figure all iterations side by side."""
    figures = []
    kinds: list[tuple[str, str, tuple[str, ...], Callable[[Source, int], Panel]]] = [
        ("scores", "Scores", ("judgements",), _scores),
        ("mean-scores", "Mean scores of candidates", ("scores",), _mean_scores),
        ("score-length", "Score against length", ("scores", "candidates"), _score_length),
    ]
    for id, title, needed, make in kinds:
        for number in (iteration.number for iteration in source.summary.iterations):
            if source.has(*(f"iter{number}/{kind}" for kind in needed)):
                figures.append(
                    source.figure(
                        f"iter{number}-{id}", f"{title}, iteration {number}", partial(make, source, number)
                    )
                )
    if source.last("judgements"):
        figures.append(source.figure("self-consistency", "Self-consistency", lambda: _consistency(source)))
        figures.append(source.figure("injection", "Injection flags", lambda: _injection(source)))
    if any(one.histogram for one in source.summary.judges):
        figures.insert(
            0, source.figure("eval-scores", "Scores of the same replies, by judge", lambda: _by_judge(source))
        )
    return figures


def _range(source: Source, number: int) -> tuple[float, float] | None:
    """The judge's whole scale, so that scores which nothing received show as empty; None for imported judgements."""
    version = source.summary.versions.get(f"iter{number}/judgements")
    params = (version.manifest["params"] if version else {}).get("judging") or {}
    low, high = params.get("min_score"), params.get("max_score")
    return None if low is None or high is None else (low - 0.5, high + 0.5)


def _by_judge(source: Source) -> Panel:
    query = (
        "SELECT iteration, score, 100 * count(*) / sum(count(*)) OVER (PARTITION BY iteration) AS percent, count(*) AS n "
        "FROM (SELECT iteration, round(score) AS score FROM judge_eval WHERE score IS NOT NULL) "
        # Named: DuckDB refuses GROUP BY ALL beside a window that has a column of the group in its PARTITION BY.
        "GROUP BY iteration, score ORDER BY ALL"
    )
    labels = {
        int(one.dataset.removeprefix("iter").partition("/")[0]): one.model for one in source.summary.judges
    }
    found = [row for row in source.rows(query) if row[0] in labels]
    series = [
        Series(
            label,
            [(float(score), float(percent)) for number, score, percent, _ in found if number == k],
            "bars",
        )
        for k, label in labels.items()
    ]
    series = [one for one in series if one.points]
    note = (
        "The same ranked replies before every model: how the judge's scale is used, and whether it collapses. Scores that are "
        "no whole points are rounded."
    )
    return Panel("eval-scores", "Scores of the same replies, by judge", [query],
                  Chart("score of one judgement", "judgements (%)", series), note=note,
                  outdated=source.outdated(*(one.dataset for one in source.summary.judges)))  # fmt: skip


def _scores(source: Source, number: int) -> Panel:
    bins = histogram(source, f"iter{number}.judgements", "score")
    chart = Chart("score of one judgement", "judgements", [Series("judgements", bins.points, "bars")],
                  x_range=_range(source, number), bar_width=bins.width)  # fmt: skip
    iteration = next(i for i in source.summary.iterations if i.number == number)
    unscored = sum(n for status, n in iteration.statuses.items() if status != "ok")
    queries = [bins.query]
    note = bins.shown_width if bins.points else "No judgement has a score."
    if unscored:
        queries.append(f"SELECT count(*) AS unscored FROM iter{number}.judgements WHERE score IS NULL")
        note += f" Not drawn: {unscored:,} judgements without a score."
    return Panel(f"iter{number}-scores", f"Scores, iteration {number}", queries, chart if bins.points else None,
                  note=note.strip(), outdated=source.outdated(f"iter{number}/judgements"))  # fmt: skip


def _mean_scores(source: Source, number: int) -> Panel:
    bins = histogram(source, f"iter{number}.scores", "score")
    chart = Chart("mean score of a candidate", "candidates", [Series("candidates", bins.points, "bars")],
                  x_range=_range(source, number), bar_width=bins.width)  # fmt: skip
    return Panel(f"iter{number}-mean-scores", f"Mean scores of candidates, iteration {number}", [bins.query],
                  chart if bins.points else None, note=bins.shown_width if bins.points else "No candidate has a score.",
                  outdated=source.outdated(f"iter{number}/scores"))  # fmt: skip


def _score_length(source: Source, number: int) -> Panel:
    joined = f"FROM iter{number}.candidates c JOIN iter{number}.scores s USING (candidate_id) WHERE s.score IS NOT NULL"
    query = f"SELECT c.n_chars, s.score {joined} ORDER BY md5(candidate_id) LIMIT {_MAX_DOTS}"
    relation = f"SELECT corr(c.n_chars, s.score) AS correlation, count(*) AS n {joined}"
    dots = [(float(length), float(score)) for length, score in source.rows(query)]
    correlation, n = source.rows(relation)[0] if len(dots) > 1 else (None, len(dots))
    # DuckDB gives NULL or NaN if all lengths or all scores are equal.
    exists = correlation is not None and correlation == correlation
    note = (
        f"Correlation {correlation:.2f} over {n:,} candidates."
        if exists
        else f"{n:,} scored candidates; no correlation."
    )
    note += f" Drawn: {_MAX_DOTS:,} of them." if n > _MAX_DOTS else ""
    chart = (
        Chart("characters of the answer", "mean score", [Series("candidates", dots, "dots")])
        if dots
        else None
    )
    datasets = f"iter{number}/scores", f"iter{number}/candidates"
    return Panel(f"iter{number}-score-length", f"Score against length, iteration {number}", [query, relation], chart,
                  note=note, outdated=source.outdated(*datasets))  # fmt: skip


def _consistency(source: Source) -> Panel:
    query = (
        "SELECT iteration, count(*) AS n_candidates, 100 * avg((low = high)::INT) AS all_equal_percent, avg(v) AS variance, "
        "avg(high - low) AS spread FROM (SELECT iteration, candidate_id, min(score) AS low, max(score) AS high, "
        "var_samp(score) AS v FROM judgements WHERE score IS NOT NULL GROUP BY ALL HAVING count(*) > 1) GROUP BY ALL ORDER BY ALL"
    )
    head = (
        "iteration",
        "candidates judged twice or more",
        "all judgements equal %",
        "mean variance",
        "mean spread",
    )
    rows = source.rows(query)
    note = (
        "Candidates with two scored judgements or more; spread is the highest score minus the lowest. A judge that draws its "
        "scores at random shows here."
    )
    return Panel("self-consistency", "Self-consistency", [query], head=head, rows=rows,
                  note=note if rows else "No candidate has two scores.",
                  outdated=source.outdated(*_all(source, "judgements")))  # fmt: skip


def _injection(source: Source) -> Panel:
    query = (
        "SELECT iteration, count(*) AS judgements, count(*) FILTER (injection_suspected) AS flagged, "
        "count(DISTINCT candidate_id) FILTER (injection_suspected) AS n_candidates, "
        "avg(score) FILTER (injection_suspected) AS mean_flagged, avg(score) FILTER (NOT injection_suspected) AS mean_others "
        "FROM judgements GROUP BY ALL ORDER BY ALL"
    )
    queries, datasets = [query], _all(source, "judgements")
    head = [
        "iteration",
        "judgements",
        "flagged",
        "candidates flagged",
        "mean score, flagged",
        "mean score, others",
    ]
    rows = source.rows(query)
    if source.last("pairs"):
        # By whether a flag was rewarded: a flagged answer may not be chosen, but may be rejected.
        chosen = (
            "SELECT p.iteration, count(*) FILTER (c.injection_suspected) AS flagged_chosen, "
            "count(*) FILTER (r.injection_suspected) AS flagged_rejected FROM pairs p "
            "JOIN scores c ON c.candidate_id = p.chosen_id AND c.iteration = p.iteration "
            "JOIN scores r ON r.candidate_id = p.rejected_id AND r.iteration = p.iteration GROUP BY ALL ORDER BY ALL"
        )
        if source.last("scores"):
            queries.append(chosen)
            used = {number: counts for number, *counts in source.rows(chosen)}
            head += ["flagged, chosen", "flagged, rejected"]
            rows = [(*row, *used.get(row[0], (0, 0))) for row in rows]
    return Panel("injection", "Injection flags", queries, head=head, rows=rows,
                  note="Answers that seem to speak to the judge, not to the user. The command “selfreward judge attack” tries such texts on a judge.",
                  outdated=source.outdated(*datasets))  # fmt: skip


def _all(source: Source, kind: str) -> list[str]:
    return [name for name in source.summary.versions if name.endswith(f"/{kind}")]

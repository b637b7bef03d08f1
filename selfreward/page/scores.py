"""The judge: scores by iteration, scores against length, self-consistency, injection flags."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from selfreward.page.figures import Panel, Source
from selfreward.page.svg import Series, chart


def judge(source: Source) -> list[Panel]:
    """Scores by iteration, score against length, self-consistency, injection flags."""
    figures = []
    for iteration in source.summary.iterations:
        number = iteration.number
        datasets = f"iter{number}/judgements", f"iter{number}/scores", f"iter{number}/candidates"
        if source.has(datasets[0]):
            figures.append(source.figure(f"Scores, iteration {number}", partial(_scores, source, number)))
        if source.has(*datasets[1:]):
            title = f"Score against length, iteration {number}"
            figures.append(source.figure(title, partial(_score_length, source, number)))
    if any(source.has(f"iter{i.number}/judgements") for i in source.summary.iterations):
        figures.append(source.figure("Self-consistency", lambda: _consistency(source)))
        figures.append(source.figure("Injection flags", lambda: _injection(source)))
    return figures


def histogram_query(rows: str, column: str, where: str = "true", bins: int = 24) -> str:
    """Lower edge of a bin, width, rows; equal values give one bin."""
    # A width of at least 1e-9, since equal values would divide by zero.
    return (
        f"WITH v AS (SELECT {column} AS x FROM {rows} WHERE {column} IS NOT NULL AND {where}), "
        f"e AS (SELECT min(x) AS low, greatest((max(x) - min(x)) / {bins}, 1e-9) AS width FROM v) "
        f"SELECT low + width * least(floor((x - low) / width), {bins - 1}) AS bin, any_value(width) AS width, "
        "count(*) AS n FROM v, e GROUP BY ALL ORDER BY ALL"
    )


def _scores(source: Source, number: int) -> Panel:
    title, rows = f"Scores, iteration {number}", f"iter{number}.judgements"
    query = f"SELECT score, count(*) AS n FROM {rows} WHERE score IS NOT NULL GROUP BY ALL ORDER BY ALL"
    found = [(float(score), int(n)) for score, n in source.rows(query)]
    width = 1.0
    # Scores from token probabilities are all different: one bar each would be noise.
    if len(found) > 24:
        query = histogram_query(rows, "score")
        binned = source.rows(query)
        width = binned[0][1]
        found = [(low + width / 2, n) for low, width, n in binned]
    elif len(found) > 1:
        width = min(1.0, *(b[0] - a[0] for a, b in pairwise(found)))
    picture = chart(
        "score of one judgement", "judgements", [Series("judgements", found, "bars")], bar_width=width
    )
    return Panel(title, [query], picture if found else None, note="" if found else "No judgement has a score.",
                  outdated=source.outdated(f"iter{number}/judgements"))  # fmt: skip


# Each dot is an SVG element: more would make the page slow to open.
_MAX_DOTS = 1500


def _score_length(source: Source, number: int) -> Panel:
    query = (
        f"SELECT c.n_chars, s.score FROM iter{number}.candidates c JOIN iter{number}.scores s USING (candidate_id) "
        f"WHERE s.score IS NOT NULL ORDER BY md5(candidate_id) LIMIT {_MAX_DOTS}"
    )
    relation = (
        "SELECT corr(c.n_chars, s.score) AS correlation, count(*) AS n "
        f"FROM iter{number}.candidates c JOIN iter{number}.scores s USING (candidate_id) WHERE s.score IS NOT NULL"
    )
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
    picture = (
        chart("characters of the answer", "mean score", [Series("candidates", dots, "dots")])
        if dots
        else None
    )
    datasets = f"iter{number}/scores", f"iter{number}/candidates"
    return Panel(f"Score against length, iteration {number}", [query, relation], picture, note=note,
                  outdated=source.outdated(*datasets))  # fmt: skip


def _consistency(source: Source) -> Panel:
    query = (
        "SELECT iteration, count(*) AS candidates, 100 * avg((low = high)::INT) AS all_equal_percent, avg(v) AS variance FROM "
        "(SELECT iteration, candidate_id, min(score) AS low, max(score) AS high, var_samp(score) AS v FROM judgements "
        "WHERE score IS NOT NULL GROUP BY ALL HAVING count(*) > 1) GROUP BY ALL ORDER BY ALL"
    )
    head = ("iteration", "candidates judged twice or more", "all judgements equal %", "mean variance")
    rows = source.rows(query)
    note = (
        "Candidates with two scored judgements or more; a judge that draws its scores at random shows here."
    )
    return Panel("Self-consistency", [query], head=head, rows=rows, note=note if rows else "No candidate has two scores.",
                  outdated=source.outdated(*_all(source, "judgements")))  # fmt: skip


def _injection(source: Source) -> Panel:
    query = (
        "SELECT iteration, count(*) AS judgements, count(*) FILTER (injection_suspected) AS flagged, "
        "count(DISTINCT candidate_id) FILTER (injection_suspected) AS candidates FROM judgements GROUP BY ALL ORDER BY ALL"
    )
    return Panel("Injection flags", [query], head=("iteration", "judgements", "flagged", "candidates flagged"),
                  rows=source.rows(query), note="Answers that seem to speak to the judge, not to the user.",
                  outdated=source.outdated(*_all(source, "judgements")))  # fmt: skip


def _all(source: Source, kind: str) -> list[str]:
    return [name for name in source.summary.versions if name.endswith(f"/{kind}")]

"""The data: funnels, lengths, chosen against rejected length, margins, and the audits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from selfreward.page.bins import histogram
from selfreward.page.figures import Panel, Percent, Source
from selfreward.page.svg import Chart, Series
from selfreward.summary.funnel import FunnelStep

# Each dot is an SVG element: more would make the page slow to open.
_MAX_DOTS = 1500
# Kind of dataset -> how its rows divide; sums over the groups are rows of the result, too.
_COUNTS = {
    "prompts": "SELECT kept, reason, count(*) AS n FROM {0} GROUP BY GROUPING SETS ((kept, reason), (kept), ()) ORDER BY ALL",
    "candidates": "SELECT finish_reason, count(*) AS n FROM {0} GROUP BY ROLLUP (finish_reason) ORDER BY ALL",
    "judgements": "SELECT status, count(*) AS n FROM {0} GROUP BY ROLLUP (status) ORDER BY ALL",
    "scores": "SELECT count(score) AS scored, count(*) - count(score) AS unscored FROM {0}",
    "eft": "SELECT split, accepted, reason, count(*) AS n FROM {0} "
    "GROUP BY GROUPING SETS ((split, accepted, reason), (split, accepted), (split), ()) ORDER BY ALL",
}
# As the builder of pairs compares: whole answers with a score, two or more of a prompt.
_COMPARABLE = (
    "SELECT count(*) AS comparable, count(*) FILTER (low < high) AS not_tied FROM (SELECT min(s.score) AS low, max(s.score) AS high "
    "FROM iter{0}.scores s JOIN iter{0}.candidates c USING (candidate_id) WHERE s.score IS NOT NULL AND c.finish_reason = 'stop' "
    r"AND NOT regexp_full_match(c.response, '\p{{Zs}}*') GROUP BY c.prompt_id HAVING count(*) > 1)"
)
# What was lost on the way is in no row, only in the manifests.
_DROPPED = (
    "SELECT dataset, iteration, n_rows, counts -> '$.in' AS rows_in, counts -> '$.dropped' AS dropped FROM dataset_versions "
    "WHERE dataset = '{0}' AND iteration IS NOT DISTINCT FROM {1}"
)


def data(source: Source) -> list[Panel]:
    """Of each kind of figure all iterations side by side."""
    figures, iterations = [], source.summary.iterations
    if source.summary.eft:
        figures.append(
            _funnel(
                source, "eft-funnel", "From ranked replies to a judge's training rows", source.summary.eft
            )
        )
    for iteration in iterations:
        id = f"iter{iteration.number}-funnel"
        figures.append(_funnel(source, id, f"Funnel, iteration {iteration.number}", iteration.funnel))
    for kind, id, title, make in (
        ("candidates", "lengths", "Lengths of candidates", _lengths),
        ("pairs", "pair-lengths", "Chosen against rejected length", _sides),
        ("pairs", "margins", "Pair margins", _margins),
    ):
        for number in (iteration.number for iteration in iterations):
            version = source.summary.versions.get(f"iter{number}/{kind}")
            if version and version.n_rows:
                told = f"iter{number}-{id}", f"{title}, iteration {number}"
                figures.append(source.figure(*told, partial(make, source, number, *told)))
    return [*figures, source.figure("audits", "Audits", lambda: _audits(source))]


def _funnel(source: Source, id: str, title: str, steps: Sequence[FunnelStep]) -> Panel:
    present = [step for step in steps if step.n is not None]
    rows = []
    for step in present:
        lost = ", ".join(
            f"{reason} {n:,}" for reason, n in sorted(step.lost.items(), key=lambda e: -e[1]) if n
        )
        share = None if step.share is None else Percent(100 * step.share)
        rows.append((step.what, step.n, share, lost, step.paper))
    queries = []
    for dataset in dict.fromkeys(step.dataset for step in present):
        iteration, _, kind = dataset.rpartition("/")
        if kind in _COUNTS:
            queries.append(_COUNTS[kind].format(dataset.replace("/", ".")))
        if kind in ("eft", "pairs"):
            queries.append(_DROPPED.format(kind, iteration.removeprefix("iter") or "NULL"))
        if any(step.what == "prompts comparable" and step.dataset == dataset for step in present):
            queries.append(_COMPARABLE.format(iteration.removeprefix("iter")))
    head = ("step", "rows", "% of the first", "lost on the way there", "paper")
    return Panel(
        id, title, queries, head=head, rows=rows, outdated=source.outdated(*{s.dataset for s in present})
    )


def _lengths(source: Source, number: int, id: str, title: str) -> Panel:
    bins = histogram(source, f"iter{number}.candidates", "n_chars")
    chart = Chart(
        "characters", "candidates", [Series("candidates", bins.points, "bars")], bar_width=bins.width
    )
    return Panel(id, title, [bins.query], chart, note=bins.shown_width,
                  outdated=source.outdated(f"iter{number}/candidates"))  # fmt: skip


def _sides(source: Source, number: int, id: str, title: str) -> Panel:
    view = f"iter{number}.pairs"
    sides = f"(SELECT pair_id, len(chosen[-1].content) AS chosen, len(rejected[-1].content) AS rejected FROM {view})"
    # By hash: a fixed draw that favors neither early prompts nor long answers.
    dots = f"SELECT chosen, rejected FROM {sides} ORDER BY md5(pair_id) LIMIT {_MAX_DOTS}"
    longer = (
        f"SELECT 100 * avg((chosen > rejected)::INT) AS longer_chosen_percent, count(*) AS n FROM {sides}"
    )
    points = [(float(rejected), float(chosen)) for chosen, rejected in source.rows(dots)]
    share, n = source.rows(longer)[0]
    # One diagonal over both axes: dots above it are pairs whose chosen answer is longer.
    end = max(max(point) for point in points)
    series = [
        Series("pairs", points, "dots"),
        Series("equally long", [(0.0, 0.0), (end, end)], "dashed", guide=True),
    ]
    note = f"The chosen answer is the longer one in {share:.0f} % of {n:,} pairs."
    note += f" Drawn: {_MAX_DOTS:,} of them." if n > _MAX_DOTS else ""
    chart = Chart("characters of the rejected answer", "characters of the chosen one", series)
    return Panel(id, title, [dots, longer], chart, note=note, outdated=source.outdated(f"iter{number}/pairs"))


def _margins(source: Source, number: int, id: str, title: str) -> Panel:
    bins = histogram(source, f"iter{number}.pairs", "margin")
    chart = Chart("chosen score minus rejected score", "pairs", [Series("pairs", bins.points, "bars")], bar_width=bins.width)  # fmt: skip
    return Panel(
        id, title, [bins.query], chart, note=bins.shown_width, outdated=source.outdated(f"iter{number}/pairs")
    )


_WORST_FIRST = ("error", "fail", "warn", "pass", "skipped")


def _audits(source: Source) -> Panel:
    again = f"selfreward audit {source.told.path}"
    if not source.has("audits"):
        # A published copy has the verdicts beside it, in the card.
        asked = f"The audits have not been asked yet: {again}, then this report again."
        beside = (
            "Every audit's verdict, figure and limit: README.md and selfreward/audits.json, beside this page."
        )
        return Panel("audits", "Audits", note=asked if source.told.folder else beside)
    notes = source.summary.versions["audits"].manifest["counts"].get("notes") or {}
    query = "SELECT audit, verdict, figure, threshold, count(*) AS saved_rows FROM audits GROUP BY ALL ORDER BY ALL"
    if "results" not in notes:
        verdicts = list((notes.get("verdicts") or {}).items())
        return Panel("audits", "Audits", [query], head=("check", "verdict"), rows=verdicts,
                      note=f"Saved by an earlier release, without figures: {again} prints them.")  # fmt: skip
    results = sorted(notes["results"], key=lambda result: _WORST_FIRST.index(result["verdict"]))
    rows = [
        (r["name"], r["verdict"], r["figure_text"] or "-",
         f"{'at most' if r['at_most'] else 'at least'} {r['threshold']:g}", r["n_rows"], r["protects_from"], r["reason"])
        for r in results
    ]  # fmt: skip
    stored = "SELECT counts -> '$.notes.results' AS results FROM dataset_versions WHERE dataset = 'audits'"
    head = ("check", "verdict", "figure", "expected", "rows", "protects from", "")
    return Panel("audits", "Audits", [stored, query], head=head, rows=rows, note=f"Ask again: {again}",
                  outdated=source.outdated("audits"))  # fmt: skip

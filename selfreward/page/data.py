"""The data section: funnels, lengths, margins, audits, and five real pairs with everything around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from selfreward.errors import SelfrewardError
from selfreward.page.figures import Panel, Source, literal
from selfreward.page.scores import histogram_query
from selfreward.page.svg import Series, chart
from selfreward.summary.funnel import FunnelStep

N_PAIRS = 5


def data(source: Source) -> list[Panel]:
    """All panels except the example pairs."""
    figures = []
    if source.summary.eft:
        figures.append(_funnel(source, "From ranked replies to a judge's training rows", source.summary.eft))
    for iteration in source.summary.iterations:
        number = iteration.number
        figures.append(_funnel(source, f"Funnel, iteration {number}", iteration.funnel))
        if source.has(f"iter{number}/candidates"):
            figures.append(source.figure(f"Lengths, iteration {number}", partial(_lengths, source, number)))
        if source.has(f"iter{number}/pairs") and source.summary.versions[f"iter{number}/pairs"].n_rows:
            figures.append(
                source.figure(f"Pair lengths, iteration {number}", partial(_sides, source, number))
            )
            figures.append(
                source.figure(f"Pair margins, iteration {number}", partial(_margins, source, number))
            )
    return [*figures, source.figure("Audits", lambda: _audits(source))]


def _funnel(source: Source, title: str, steps: Sequence[FunnelStep]) -> Panel:
    present = [step for step in steps if step.n is not None]
    rows = []
    for step in present:
        lost = ", ".join(
            f"{reason} {n:,}" for reason, n in sorted(step.lost.items(), key=lambda e: -e[1]) if n
        )
        share = None if step.share is None else f"{100 * step.share:.1f}"
        rows.append((step.what, step.n, share, lost, step.paper))
    queries = []
    for dataset in dict.fromkeys(step.dataset for step in present):
        kind = dataset.rpartition("/")[2]
        columns = {"prompts": "kept, reason", "candidates": "finish_reason", "judgements": "status",
                   "scores": "score IS NULL AS unscored", "eft": "split, accepted, reason"}.get(kind)  # fmt: skip
        if columns:
            queries.append(
                f"SELECT {columns}, count(*) AS n FROM {dataset.replace('/', '.')} GROUP BY ALL ORDER BY n DESC"
            )
        else:
            # Why a prompt has no pair is in no row, only in the manifest of `pairs`.
            number = dataset.removeprefix("iter").partition("/")[0]
            queries.append(
                "SELECT n_rows, counts -> '$.dropped' AS dropped FROM dataset_versions "
                f"WHERE dataset = '{kind}' AND iteration = {number}"
            )
    head = ("step", "rows", "% of the first", "lost on the way there", "paper")
    return Panel(
        title, queries, head=head, rows=rows, outdated=source.outdated(*{s.dataset for s in present})
    )


def _lengths(source: Source, number: int) -> Panel:
    query = histogram_query(f"iter{number}.candidates", "n_chars")
    found = source.rows(query)
    width = float(found[0][1]) if found else 1.0
    points = [(float(low) + width / 2, float(n)) for low, _, n in found]
    picture = chart("characters", "candidates", [Series("all candidates", points, "bars")], bar_width=width)
    return Panel(f"Lengths, iteration {number}", [query], picture if found else None,
                  outdated=source.outdated(f"iter{number}/candidates"))  # fmt: skip


def _sides(source: Source, number: int) -> Panel:
    view = f"iter{number}.pairs"
    sides = f"(SELECT len(chosen[-1].content) AS chosen, len(rejected[-1].content) AS rejected FROM {view})"
    dots = f"SELECT chosen, rejected FROM {sides} LIMIT 1500"
    longer = (
        f"SELECT 100 * avg((chosen > rejected)::INT) AS longer_chosen_percent, count(*) AS n FROM {sides}"
    )
    points = [(float(rejected), float(chosen)) for chosen, rejected in source.rows(dots)]
    share, n = source.rows(longer)[0]
    # One diagonal over both axes: dots above it are pairs whose chosen answer is longer.
    end = max(max(point) for point in points)
    series = [Series("pairs", points, "dots"), Series("equally long", [(0.0, 0.0), (end, end)], "dashed")]
    return Panel(
        f"Pair lengths, iteration {number}",
        [dots, longer],
        chart("characters of the rejected answer", "characters of the chosen one", series),
        [one.label for one in series],
        note=f"The chosen answer is the longer one in {share:.0f} % of {n:,} pairs.",
        outdated=source.outdated(f"iter{number}/pairs"),
    )


def _margins(source: Source, number: int) -> Panel:
    query = histogram_query(f"iter{number}.pairs", "margin")
    found = source.rows(query)
    # Equal margins give a width of almost 0; the bar must stay visible.
    width = max(float(found[0][1]), 0.05)
    points = [(float(low) + width / 2, float(n)) for low, _, n in found]
    return Panel(f"Pair margins, iteration {number}", [query],
                  chart("chosen score minus rejected score", "pairs", [Series("pairs", points, "bars")], bar_width=width),
                  outdated=source.outdated(f"iter{number}/pairs"))  # fmt: skip


_WORST_FIRST = ("error", "fail", "warn", "pass", "skipped")


def _audits(source: Source) -> Panel:
    again = f"selfreward audit {source.report.path}"
    if not source.has("audits"):
        return Panel("Audits", note=f"The audits have not been asked yet: {again}, then this report again.")
    notes = source.summary.versions["audits"].manifest["counts"].get("notes") or {}
    query = "SELECT audit, verdict, figure, threshold, count(*) AS saved_rows FROM audits GROUP BY ALL ORDER BY ALL"
    if "results" not in notes:
        verdicts = list((notes.get("verdicts") or {}).items())
        return Panel("Audits", [query], head=("check", "verdict"), rows=verdicts,
                      note=f"Saved by an earlier release, without figures: {again} prints them.")  # fmt: skip
    results = sorted(notes["results"], key=lambda result: _WORST_FIRST.index(result["verdict"]))
    rows = [
        (r["name"], r["verdict"], r["figure_text"] or "-",
         f"{'at most' if r['at_most'] else 'at least'} {r['threshold']:g}", r["n_rows"], r["protects_from"], r["reason"])
        for r in results
    ]  # fmt: skip
    stored = "SELECT counts -> '$.notes.results' AS results FROM dataset_versions WHERE dataset = 'audits'"
    head = ("check", "verdict", "figure", "expected", "rows", "protects from", "")
    return Panel("Audits", [stored, query], head=head, rows=rows, note=f"Ask again: {again}",
                  outdated=source.outdated("audits"))  # fmt: skip


# -- rows ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerShown:
    """One candidate, its judgements, and its use."""

    id: str
    role: str
    response: str
    score: float | None
    judgements: Sequence[tuple[float | None, str, str]]
    """Score, status, text."""


@dataclass(frozen=True)
class PairShown:
    """One pair and all its sources."""

    id: str
    iteration: int
    prompt: str
    margin: float
    answers: Sequence[AnswerShown]
    demonstrations: Sequence[tuple[str, str]]
    """Id, text."""
    queries: Sequence[str]


def five_pairs(source: Source) -> tuple[list[PairShown], str]:
    """Five pairs of the last iteration with pairs, and the reason if they cannot be shown."""
    numbers = [i.number for i in source.summary.iterations if i.lengths.chosen]
    if not numbers:
        return [], "There are no pairs yet."
    # By hash: a fixed draw that favors neither early prompts nor large margins.
    query = (
        "SELECT pair_id, prompt_id, prompt, chosen_id, rejected_id, margin, rule FROM "
        f"iter{numbers[-1]}.pairs ORDER BY md5(pair_id) LIMIT {N_PAIRS}"
    )
    try:
        return [_pair(source, numbers[-1], row) for row in source.rows(query)], ""
    # Imported rows may lack columns or hold odd values; the rest of the page must still be written.
    except (SelfrewardError, ValueError, TypeError, KeyError, IndexError) as error:
        return [], f"The rows around the pairs cannot be read: {error}"


def _pair(source: Source, number: int, row: tuple[Any, ...]) -> PairShown:
    pair_id, prompt_id, prompt, chosen_id, rejected_id, margin, rule = row
    queries: list[str] = []

    def ask(query: str, *needed: str) -> list[tuple[Any, ...]]:
        # A run with imported pairs may have nothing that led to them.
        if not source.has(*needed):
            return []
        queries.append(query)
        return source.rows(query)

    queries.append(f"FROM iter{number}.pairs WHERE pair_id = {literal(pair_id)}")
    answers = ask(
        "SELECT c.candidate_id, c.response, c.finish_reason, s.score, s.injection_suspected "
        f"FROM iter{number}.candidates c LEFT JOIN iter{number}.scores s USING (candidate_id) "
        f"WHERE c.prompt_id = {literal(prompt_id)} ORDER BY c.sample",
        f"iter{number}/candidates", f"iter{number}/scores",
    )  # fmt: skip
    judged = ask(
        f"SELECT candidate_id, score, status, judgement FROM iter{number}.judgements "
        f"WHERE prompt_id = {literal(prompt_id)} ORDER BY candidate_id, sample",
        f"iter{number}/judgements",
    )
    scores = {answer[0]: answer[3] for answer in answers}
    roles = {chosen_id: "chosen", rejected_id: "rejected"}
    shown = [
        AnswerShown(id, roles.get(id) or _why_not(text, ended, score, flagged, scores.get(chosen_id), scores.get(rejected_id), rule),
               text, score, [(s, status, said) for candidate, s, status, said in judged if candidate == id])
        for id, text, ended, score, flagged in answers
    ]  # fmt: skip
    order = ["chosen", "rejected"]
    shown.sort(key=lambda answer: order.index(answer.role) if answer.role in order else 2)
    return PairShown(pair_id, number, str(prompt[-1]["content"]), margin, shown,
                     _demonstrations(source, ask, number, prompt_id), queries)  # fmt: skip


def _why_not(text: str, ended: str, score: float | None, flagged: bool | None, best: float | None, worst: float | None,
             rule: str) -> str:  # fmt: skip
    """Why a candidate is not in the pair, as the builder of pairs decides it."""
    # In the order of `builders.pairs`: the first reason that holds is the one that was counted.
    if ended == "error":
        return "not used: the request failed"
    if ended == "length":
        return "not used: cut off at the limit of tokens"
    if not text.strip(" "):
        return "not used: empty"
    if score is None:
        return "not used: no judgement of it has a score"
    if flagged and best is not None and score >= best:
        return "not used: it seems to speak to the judge, so it may not be chosen"
    if best is not None and worst is not None and worst < score < best:
        return f"not used: its score lies between those of the pair (rule {rule})"
    if score in (best, worst):
        return f"not used: as good as one of the pair, which the rule {rule} took first"
    return f"not used: the rule {rule} did not take it"


def _demonstrations(source: Source, ask: Any, number: int, prompt_id: str) -> list[tuple[str, str]]:
    asked = f"SELECT demonstration_ids FROM iter{number}.prompts WHERE prompt_id = {literal(prompt_id)}"
    found = ask(asked, f"iter{number}/prompts")
    ids = [str(id) for id in (found[0][0] or [])] if found else []
    if not ids:
        return []
    listed = ", ".join(map(literal, ids))
    texts = dict(ask(f"SELECT ift_id, prompt FROM ift WHERE ift_id IN ({listed})", "ift"))
    texts |= dict(ask(f"SELECT prompt_id, prompt FROM prompts WHERE prompt_id IN ({listed})"))
    return [(id, texts.get(id, "(this row is missing)")) for id in ids]

"""The page itself: its sections in order, the two sentences, the flow as a picture, and the file.

Everything from rows and configurations goes through `shown` and the template's escaping; the page's policy allows no
script at all and no style but its own, and loads nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from markupsafe import Markup

from selfreward.errors import SelfrewardError
from selfreward.page import data, made, measures, scores
from selfreward.page.figures import Part, Source, shown
from selfreward.page.svg import Box, flow
from selfreward.secrets import mask
from selfreward.sql.views import OpenRun
from selfreward.store import durable
from selfreward.summary.funnel import FunnelStep
from selfreward.summary.report import PAGE, Report
from selfreward.summary.settings import Settings, settings_of

_HERE = Path(__file__).parent
_MAX_REASONS = 3


def write_page(report: Report) -> Path:
    """Write `report.html` into the run folder, whole or not at all."""
    path = report.path / PAGE
    # A lone surrogate in a row must not prevent the whole page.
    durable.replace_file(path, render(report).encode("utf-8", "replace"))
    return path


def render(report: Report) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Strict: a misspelled name in the template is an error, not an empty place.
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    style = (_HERE / "page.css").read_text("utf-8")
    # The page's policy admits only this style, by hash: a text from a row cannot bring its own.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    with OpenRun(report.path) as opened:
        source = Source(report, opened)
        pairs, no_pairs = data.five_pairs(source)
        settings, unread = _settings(source)
        config = report.path / "config.yaml"
        return environment.get_template("page.html.jinja").render(
            style=Markup(style),
            style_hash=digest,
            run=report.path.resolve().name,
            path=str(report.path),
            said=two_sentences(source, settings),
            flow=_flow(source),
            outdated=report.summary.outdated,
            sections=_sections(source),
            pairs=pairs,
            no_pairs=no_pairs,
            config=mask(config.read_text("utf-8", "replace")) if config.is_file() else "",
            differences=settings.differences,
            unread=unread,
            versions=made.versions(source),
            next=report.next,
        )


def _settings(source: Source) -> tuple[Settings, str]:
    """The settings of the run, or the reason why they cannot be read."""
    try:
        return settings_of(source.report.path, source.summary.versions), ""
    except SelfrewardError as error:
        return Settings(None), str(error)


def _sections(source: Source) -> list[Part]:
    better, judge, training = measures.better(source), scores.judge(source), made.training(source)
    return [
        Part("better", "Does it get better?", better, "" if better else "Nothing has been measured yet."),
        Part("judge", "The judge", judge, "" if judge else "Nothing has been judged yet."),
        Part("data", "The data", data.data(source)),
        Part("pairs", "Five real pairs", part=True),
        Part(
            "training",
            "Training",
            training,
            "" if source.summary.trained else "No model was trained in this run.",
        ),
    ]


def two_sentences(source: Source, settings: Settings) -> list[str]:
    """The run, summarized from its facts."""
    summary, config = source.summary, settings.config
    rows = {kind: sum(v.n_rows for name, v in summary.versions.items() if name.endswith(f"/{kind}"))
            for kind in ("prompts", "candidates", "judgements", "pairs")}  # fmt: skip
    model = config.model if config else "an unnamed model"
    seeds = summary.versions.get("seeds")
    start = f" from {seeds.n_rows:,} ranked replies" if seeds else ""
    n = len(summary.iterations)
    first = (
        f"A self-rewarding run of {model}{start}: in {n} iteration{'s' * (n != 1)} it made {rows['prompts']:,} prompts, "
        f"{rows['candidates']:,} candidate answers, {rows['judgements']:,} judgements of them and {rows['pairs']:,} "
        "preference pairs."
    )
    trained = ", ".join(one.model for one in summary.trained)
    second = f"It trained {trained}" if trained else "It trained no model"
    measured = [(j.model, j.accuracy) for j in summary.judges if j.accuracy]
    if measured:
        ordered = ", ".join(
            f"{name} {100 * figure.value:.0f} %" for name, figure in measured if figure.value is not None
        )
        second += f"; pairs of replies ordered as people order them: {ordered} (a coin: 50 %)"
    else:
        second += "; how its judge agrees with people has not been measured, or no judgement had a score"
    stale = f"; {len(summary.outdated)} of its results are outdated" if summary.outdated else ""
    return [first, f"{second}{stale}."]


def _flow(source: Source) -> Markup:
    """Seeds to M1, then each iteration from prompts to the model that its pairs train."""
    summary = source.summary

    def box(name: str, target: str, lost: Mapping[str, int] | None = None, label: str | None = None) -> Box:
        version = summary.versions.get(name)
        said = "not made" if version is None else "OUTDATED" if name in summary.outdated else ""
        rows = f"{version.n_rows:,} rows" if version else ""
        dropped = lost if lost is not None else version.manifest["counts"]["dropped"] if version else {}
        return Box(label or name.rpartition("/")[2], f"{rows} {said}".strip(), target, _losses(dropped),
                   name in summary.outdated)  # fmt: skip

    lines = []
    # SFT exists only if the judgements to imitate were sampled from it.
    first = "SFT" if "SFT" in summary.versions else "M1"
    if {"seeds", "ift", "eft", first} & summary.versions.keys():
        ift, eft = [box("seeds", "data"), box("ift", "data")], [box("seeds", "data"), box("eft", "data")]
        lines.append(
            ("answers to imitate", [*ift, *[box(first, "training", {})] * (first in summary.versions)])
        )
        lines.append(
            ("judgements to imitate", [*eft, *[box(first, "training")] * (first in summary.versions)])
        )
    for iteration in summary.iterations:
        steps = {step.what: step for step in iteration.funnel}
        number, trained = iteration.number, f"M{iteration.number + 1}"
        made_of = [
            box(f"iter{number}/prompts", "data"),
            box(f"iter{number}/candidates", "data", _lost(steps, "prompts kept")),
            box(f"iter{number}/judgements", "judge", _lost(steps, "candidates whole")),
            box(f"iter{number}/scores", "judge", _lost(steps, "judgements scored")),
            box(
                f"iter{number}/pairs",
                "pairs",
                _lost(steps, "prompts comparable", "prompts not tied", "pairs"),
            ),
        ]
        # Meta-rewarding trains the same model on pairs of judgements.
        for kind, lost in (("meta_judgements", "comparisons with a winner"), ("judge_pairs", "judge pairs")):
            if f"iter{number}/{kind}" in summary.versions:
                made_of.append(box(f"iter{number}/{kind}", "judge", _lost(steps, lost)))
        if trained in summary.versions:
            made_of.append(box(trained, "training"))
        lines.append((f"iteration {number}", made_of))
    return flow(lines)


def _lost(steps: Mapping[str, FunnelStep], *names: str) -> dict[str, int]:
    return {reason: n for name in names if name in steps for reason, n in steps[name].lost.items()}


def _losses(lost: Mapping[str, int]) -> list[str]:
    """The largest losses by reason, the others as one sum."""
    sorted_ = sorted(((n, reason) for reason, n in lost.items() if n), reverse=True)
    told = [f"−{n:,} {shown(reason)[:20].replace('_', ' ')}" for n, reason in sorted_[:_MAX_REASONS]]
    more = sum(n for n, _ in sorted_[_MAX_REASONS:])
    return [*told, f"−{more:,} for other reasons"] if more else told

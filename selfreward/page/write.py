"""The page itself: its sections in order, the two sentences, and the file.

Everything from rows and configurations goes through `shown` and the template's escaping. The page's policy allows its own
style and its own script, each by hash, and loads nothing; without the script only sorting and filtering are missing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from selfreward.errors import SelfrewardError
from selfreward.page import data, made, measures, pairs, rows, scores
from selfreward.page.figures import Panel, Part, Percent, Source, Told, shown
from selfreward.page.flow import Line, flow
from selfreward.secrets import mask
from selfreward.sql.views import OpenRun
from selfreward.store import durable
from selfreward.summary.facts import Summary
from selfreward.summary.report import PAGE, Report
from selfreward.summary.settings import Settings, settings_of

_HERE = Path(__file__).parent
# Kind of dataset -> where the boxes of the flow lead.
_TARGETS = {
    "seeds": "rows-seeds",
    "ift": "rows-ift",
    "eft": "rows-eft",
    "prompts": "rows-prompts",
    "candidates": "rows-candidates",
    "judgements": "rows-judgements",
    "scores": "rows-scores",
    "pairs": "pairs",
}
_SECTIONS = {"seeds": "data", "ift": "data", "eft": "data", "prompts": "data", "candidates": "data",
             "judgements": "judge", "scores": "judge", "pairs": "pairs"}  # fmt: skip


@dataclass(frozen=True)
class Page:
    """Everything on a page, before it is text."""

    told: Told
    summary: Summary
    said: Sequence[str]
    flow: Sequence[Line]
    sections: Sequence[Part]
    versions: Sequence[Panel]

    @property
    def panels(self) -> list[Panel]:
        """All figures, in order."""
        return [*(panel for part in self.sections for panel in part.figures), *self.versions]

    def pictures(self) -> dict[str, str]:
        """Every chart as a picture of its own: id -> SVG."""
        return {panel.id: panel.chart.file(panel.title) for panel in self.panels if panel.chart}


def write_page(report: Report) -> Path:
    """Write `report.html` into the run folder, whole or not at all."""
    path = report.path / PAGE
    # A lone surrogate in a row must not prevent the whole page.
    durable.replace_file(path, render(page_of(report)).encode("utf-8", "replace"))
    return path


def page_of(report: Report) -> Page:
    """The page of a run folder."""
    path, summary = report.path, report.summary
    settings, unread = _settings(path, summary)
    config = path / "config.yaml"
    text = mask(config.read_text("utf-8", "replace")) if config.is_file() else ""
    told = Told(path.resolve().name, str(path), settings, text, report.next, unread, folder=path)
    timed = {step.name: step.seconds for step in report.steps if step.seconds and step.status == "built"}
    return make_page(path, summary, told, timed)


def make_page(path: Path, summary: Summary, told: Told, seconds: dict[str, float] | None = None) -> Page:
    """The page of the summarized versions of a run, and of no other."""
    with OpenRun(path, versions=summary.versions) as opened:
        source = Source(summary, opened, told, seconds or {})
        sections = _sections(source)
        there = {group.id for part in sections for group in part.rows}
        targets = {kind: id if id in there else _SECTIONS[kind] for kind, id in _TARGETS.items()}
        lines = flow(source, targets)
        return Page(told, summary, two_sentences(source), lines, sections, made.versions(source))


def render(page: Page) -> str:
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
    environment.tests["share"] = lambda value: isinstance(value, Percent)
    style = "".join((_HERE / name).read_text("utf-8") for name in ("plots.css", "page.css"))
    script = (_HERE / "page.js").read_text("utf-8")
    # The policy admits only these, by hash: a text from a row cannot bring its own.
    return environment.get_template("page.html.jinja").render(
        page=page, told=page.told, summary=page.summary, style=Markup(style), style_hash=_digest(style),
        script=Markup(script), script_hash=_digest(script),
    )  # fmt: skip


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _settings(path: Path, summary: Summary) -> tuple[Settings, str]:
    """The settings of the run, or the reason why they cannot be read."""
    try:
        return settings_of(path, summary.versions), ""
    except SelfrewardError as error:
        return Settings(None), str(error)


def _sections(source: Source) -> list[Part]:
    better, judge = measures.better(source), scores.judge(source)
    five = source.shown_rows("rows-pairs", "Pairs", lambda: pairs.five_pairs(source))
    no_model = "No model was trained in this run." if source.told.folder else "No model is part of this copy."
    trained_on = "Of what its models were trained on, the data and the pairs above show five rows each."
    return [
        Part("better", "Does it get better?", "" if better else "Nothing has been measured yet.", better,
             rows.real_rows(source, rows.BETTER)),
        Part("judge", "The judge", "" if judge else "Nothing has been judged yet.", judge, rows.real_rows(source, rows.JUDGE)),
        Part("data", "The data", "", data.data(source), rows.real_rows(source, rows.DATA)),
        Part("pairs", "Five real pairs", "", (), [five]),
        Part("training", "Training", trained_on if source.summary.trained else no_model, made.training(source)),
    ]  # fmt: skip


def two_sentences(source: Source) -> list[str]:
    """The run, summarized from its facts."""
    summary, config = source.summary, source.told.settings.config
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
    untold = source.told.folder is None and config is not None and config.train
    none = "The models that it trained are not part of this copy" if untold else "It trained no model"
    second = f"It trained {trained}" if trained else none
    measured = [(j.model, j.accuracy) for j in summary.judges if j.accuracy]
    if measured:
        ordered = ", ".join(
            f"{name} {100 * figure.value:.0f} %" for name, figure in measured if figure.value is not None
        )
        second += f"; pairs of replies ordered as they are ranked: {ordered} (a coin: 50 %)"
    else:
        second += "; how its judge agrees with people has not been measured, or no judgement had a score"
    stale = f"; {len(summary.outdated)} of its results are outdated" if summary.outdated else ""
    return [first, f"{second}{stale}."]

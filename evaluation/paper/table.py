"""`selfreward evaluate paper RUN`: a run's figures beside the paper's, with the differences between the two.

Few comparisons of single numbers are fair: another base model, judge, prompt set or number of prompts makes another
experiment. Every row therefore lists what differs, and is `fair` only if nothing does. The paper's *claims* can be
tested on a run of any size, because both sides are the run's own models (see `claims`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from selfreward.config.run import RunConfig
from selfreward.evaluation.paper.claims import Claim, claims_of
from selfreward.evaluation.paper.run_figures import RunFigure, run_figures
from selfreward.store.run import Run
from selfreward.summary.paper import BASE_MODEL, SETTINGS, PaperFigure, paper_figures
from selfreward.text import format_table


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of the paper, the run's counterpart if there is one, and how their conditions differ."""

    measure: str
    figure: str
    model: str
    against: str | None
    part: str | None
    unit: str
    paper: float | None
    """NULL: the paper has no such model."""
    run: float | None = None
    """NULL: not measured in this run."""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    differences: tuple[str, ...] = ()
    """Conditions that a fair comparison would share and this one does not."""
    outdated: bool = False
    """Whether the run has since rebuilt the model or the rows behind its figure."""

    @property
    def fair(self) -> bool | None:
        """None if one of the two figures is missing."""
        return None if self.paper is None or self.run is None else not self.differences


@dataclass(frozen=True, slots=True)
class PaperReport:
    """All comparisons and claims of a run."""

    base_model: str
    comparisons: tuple[Comparison, ...]
    claims: tuple[Claim, ...]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        rows = [{**asdict(row), "fair": row.fair} for row in self.comparisons]
        return {"base_model": self.base_model, "rows": rows, "claims": [asdict(c) for c in self.claims]}


def compare_with_paper(run: Run, config: RunConfig) -> PaperReport:
    """Every figure of the paper with the run's counterparts, and the claims."""
    own = run_figures(run)
    rows: list[Comparison] = []
    for published in paper_figures():
        mine = [figure for figure in own if _is_counterpart(figure, published)]
        rows += [_row(published, figure, config) for figure in mine] or [_row(published, None, config)]
    counterparts = {id(f) for p in paper_figures() for f in own if _is_counterpart(f, p)}
    known = {(p.measure, p.figure, p.part) for p in paper_figures()}
    # models that the paper does not have (M4, say) are shown without a counterpart
    for figure in own:
        if id(figure) not in counterparts and (figure.measure, figure.figure, figure.part) in known:
            rows.append(_row(None, figure, config))
    return PaperReport(config.model, tuple(rows), tuple(claims_of(own)))


def _is_counterpart(figure: RunFigure, published: PaperFigure) -> bool:
    keys = ("measure", "figure", "model", "against", "part")
    # what these were measured against is a condition, which `_differences` checks
    ignored = ("against",) if published.measure in ("alpaca", "judge", "mt_bench") else ()
    return all(getattr(figure, k) == getattr(published, k) for k in keys if k not in ignored)


def _row(published: PaperFigure | None, mine: RunFigure | None, config: RunConfig) -> Comparison:
    """A row for a figure of the paper and the run's counterpart; one of the two may be None."""
    named = published or mine
    assert named is not None
    keys = ("measure", "figure", "model", "against", "part", "unit")
    row = Comparison(
        **{key: getattr(named, key) for key in keys}, paper=published.value if published else None
    )
    if mine is None:
        return row
    between = tuple(_differences(published, mine, config)) if published else ()
    return replace(
        row,
        run=mine.value,
        low=mine.low,
        high=mine.high,
        n=mine.n,
        differences=between,
        outdated=mine.outdated,
    )


def _differences(published: PaperFigure, mine: RunFigure, config: RunConfig) -> Iterator[str]:
    """The differences between the conditions of the two figures, in words."""
    if mine.outdated:
        yield "OUTDATED: of a model or of rows that the run has made anew since"
    setting = SETTINGS[published.measure]
    # these rows are selected from human data alone, so the base model cannot change their number
    from_people_alone = published.figure in ("ift rows", "eft rows, eval")
    if not is_papers_base(config.model) and not from_people_alone:
        yield f"base model {config.model}, not {BASE_MODEL}"
    if setting.judge_pattern and not re.search(setting.judge_pattern, (mine.judge or "").lower()):
        yield f"judged by {mine.judge or 'an unnamed judge'}, not {setting.judge}"
    if published.measure == "alpaca" and mine.reference != "gpt4_1106_preview":
        yield f"against {mine.reference or 'unnamed'} answers, not GPT-4 Turbo's"
    if published.measure == "head_to_head" and mine.prompts == "eft eval split":
        yield "on the EFT eval split, not held-out IFT prompts"
    if published.measure == "judge":
        yield f"on other human-ranked replies ({mine.n_prompts} prompts)"
    if published.measure == "nlp":
        yield "the paper states neither shots nor metric"
    if setting.n_prompts and mine.n_prompts is not None and mine.n_prompts != setting.n_prompts:
        yield f"{mine.n_prompts} prompts, not {setting.n_prompts}"
    if published.measure == "data" and "oasst1" not in config.seeds.source.lower():
        yield f"seeds {config.seeds.source}, not Open Assistant"


def is_papers_base(model: str) -> bool:
    """Whether a model string names the base model Llama 2 70B.

    >>> is_papers_base("hf:meta-llama/Llama-2-70b-hf"), is_papers_base("hf:meta-llama/Llama-2-70b-chat-hf")
    (True, False)
    """
    # the chat model is fine-tuned already, so it is not the paper's starting point
    name = model.lower().replace("_", "-")
    return "llama-2-70b" in name and "chat" not in name


def format_paper(report: PaperReport) -> str:
    """The table, the notes on its differences, and the claims."""
    measured = [row for row in report.comparisons if row.run is not None]
    absent = [row for row in report.comparisons if row.run is None]
    notes = list(dict.fromkeys(d for row in measured for d in row.differences))
    table = [
        (
            _what(row),
            (row.model if row.against is None or row.measure == "judge" else f"{row.model} v {row.against}")
            + " OUTDATED" * row.outdated,
            row.run,
            "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}",
            row.n,
            row.paper,
            {None: "", True: "fair", False: "not fair: "}[row.fair]
            + ", ".join(str(notes.index(d) + 1) for d in row.differences),
        )
        for row in measured
    ]
    head = ("figure", "model", "this run", "95 % interval", "n", "paper", "comparison")
    parts = [f"{report.base_model} beside the paper's {BASE_MODEL} (arXiv 2401.10020)"]
    parts.append(
        format_table(head, table) if table else "nothing of the paper's has been measured in this run yet"
    )
    parts.append("\n".join(f"{n}. {note}" for n, note in enumerate(notes, start=1)))
    claims = [(c.claim, c.verdict, c.run, c.paper) for c in report.claims]
    parts.append(
        "The paper's claims, asked of this run's own models (fair: one judge, one set of prompts)\n"
        + format_table(("claim", "here", "this run", "paper"), claims)
    )
    if absent:
        counts: dict[str, int] = {}
        for row in absent:
            counts[row.measure] = counts.get(row.measure, 0) + 1
        missing = ", ".join(f"{measure} {n}" for measure, n in counts.items())
        parts.append(f"not measured in this run: {len(absent)} of the paper's figures ({missing})")
    return "\n\n".join(part for part in parts if part)


def _what(row: Comparison) -> str:
    part = f", {row.part}" if row.part else ""
    return f"{row.measure} {row.figure.replace('_', ' ')}{part}"

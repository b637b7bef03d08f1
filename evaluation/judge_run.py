"""A judge over replies that people ranked: every reply scored, each template measured (the paper's five measures).

    runs = evaluate_judge(JudgeJob(model="hf:M1", data="validation.jsonl.gz", out=Path("judge"), templates=("additive",)))
    print(format_agreement(runs["additive"].agreement))

OUT holds `<template>.jsonl`, one row for each reply with its scores and judgements (what `selfreward judge agreement`
reads), and the journal. The same folder again asks for nothing twice. Replies that the judge leaves unscored stay in the
rows with a status, and in the measures as `judging.agreement` says.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.asking import Terms, asking
from evaluation.contestants import Models
from evaluation.ranked_replies import RankedReplies, Row, read_ranked
from evaluation.results import FIGURES, Evaluation, EvaluationFigure, publish, write_rows
from judging.agreement import Agreement, measure_agreement
from judging.judge import Item, Judged, judge_items
from judging.templates import JudgeTemplate, load_template
from judging.verdicts import VerdictAgreement, verdict_agreement, verdicts_from_scores
from selfreward import durable, lock
from selfreward.config import JudgingConfig
from selfreward.errors import UsageError
from selfreward.progress import say
from selfreward.sealed import digest
from selfreward.store import Run

SCORES = "judge_scores"


@dataclass(frozen=True, slots=True)
class JudgeJob:
    """Which judge, on what, how."""

    model: str
    data: str
    out: Path
    templates: tuple[str, ...] = ("additive",)
    samples: int = 1
    mode: str = "sampled"
    justify: bool = True
    """Mode expected: a greedy justification before the score, or none."""
    temperature: float = 0.7
    max_tokens: int = 200
    n_prompts: int | None = None
    lang: str = "en"
    split: str = "train"
    seed: int = 0
    models: Models = field(default_factory=Models)
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class JudgeRun:
    """One template's outcome."""

    template: str
    judge: str
    agreement: Agreement
    pairs: VerdictAgreement | None
    """Where every prompt has two replies: verdicts as of a pairwise judge, ties of people included."""
    by_status: dict[str, int]
    scored: Path
    source: str
    dropped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            **self.agreement.to_dict(),
            "judge": self.judge,
            "by_status": self.by_status,
            "verdicts": None if self.pairs is None else self.pairs.to_dict(),
            "scored": str(self.scored),
            "source": self.source,
            "dropped": self.dropped,
        }


@dataclass(frozen=True, slots=True)
class JudgeScore:
    """One reply under one judge and template; row of the run's `judge_scores`."""

    evaluation_id: str
    judge: str
    template: str
    prompt_id: str
    response_id: str
    human_rank: float | None
    human_score: float | None
    n_chars: int
    score: float | None
    """Mean of the scored judgements; NULL where there is none."""
    n_judgements: int
    n_scored: int
    statuses: str
    """Of the judgements, in order, separated by blanks."""


def evaluate_judge(job: JudgeJob) -> dict[str, JudgeRun]:
    """Score every reply with every template; the measures by template. What was dropped is said on stderr."""
    templates = {_slug(name): load_template(name) for name in job.templates}
    if len(templates) < len(job.templates):
        raise UsageError(f"two of the templates {', '.join(job.templates)} have one name; rename a file")
    replies = read_ranked(job.data, job.lang, job.split, job.n_prompts)
    _say_what_is_measured(replies)
    ref = job.models.ref(job.model)
    durable.make_folder(job.out)
    found: dict[str, JudgeRun] = {}
    with (
        lock.hold(job.out, "selfreward evaluate judge"),
        asking(ref, job.out / ".work", "judgements", job.models.terms_for(job.model, job.terms)) as asked,
    ):
        for name, template in templates.items():
            settings = _settings(job, template)
            items = [Item(_item_id(name, row), row["prompt"], row["response"]) for row in replies.rows]
            judged = judge_items(asked, asked.engine, items, template, settings, job.seed)
            rows = scored_rows(name, replies.rows, judged)
            path = _write(job.out / f"{name}.jsonl", rows)
            found[name] = _measure(name, ref.name, template, rows, path, replies)
    return found


def scored_rows(template: str, replies: Sequence[Row], judged: Sequence[Judged]) -> list[Row]:
    """The replies with `score` (mean of the scored judgements, or None), `scores`, `statuses` and `judgements`."""
    by_item: dict[str, list[Judged]] = {}
    for judgement in judged:
        by_item.setdefault(judgement.item_id, []).append(judgement)
    rows = []
    for reply in replies:
        mine = by_item[_item_id(template, reply)]
        scores = [judgement.score for judgement in mine if judgement.score is not None]
        rows.append(
            {
                **reply,
                "n_chars": len(reply["response"]),
                "score": sum(scores) / len(scores) if scores else None,
                "scores": [judgement.score for judgement in mine],
                "statuses": [judgement.status for judgement in mine],
                "judgements": [judgement.text for judgement in mine],
            }
        )
    return rows


def publish_judge(run: Run, job: JudgeJob, result: JudgeRun) -> None:
    """Scores and figures of one template as tables of a run."""
    rows = [json.loads(line) for line in result.scored.read_text(encoding="utf-8").splitlines()]
    evaluation = Evaluation(
        measure="judge",
        model=result.judge,
        against="people",
        judge=result.judge,
        prompts=result.source,
        n_prompts=result.agreement.counts.n_prompts,
        settings={
            "template": result.template,
            "rows": digest(sorted([r["prompt_id"], r["response_id"]] for r in rows)),
            "settings": _settings(job, load_template(_of_slug(job, result.template))).model_dump(),
            "seed": job.seed,
        },
    )
    scores = [_score_row(evaluation.id, result, row) for row in rows]
    figures = [
        evaluation.of_figure(
            name,
            figure,
            scale=1.0 if name.startswith(("spearman", "kendall")) else 100.0,
            unit="correlation" if name.startswith(("spearman", "kendall")) else "percent",
            part=part,
        )
        for part, measures in (
            (None, result.agreement.judge),
            ("unscored_wrong", result.agreement.judge_unscored_wrong),
        )
        for name in measures.__dataclass_fields__
        for figure in [getattr(measures, name)]
    ]
    counts = result.agreement.counts
    share = 100 * counts.n_scored / counts.n_rows
    figures.append(evaluation.figure("scored", share, n=counts.n_rows, of="responses"))
    publish(run, evaluation, {SCORES: (scores, JudgeScore), FIGURES: (figures, EvaluationFigure)})


def _score_row(evaluation_id: str, result: JudgeRun, row: Row) -> JudgeScore:
    return JudgeScore(
        evaluation_id=evaluation_id,
        judge=result.judge,
        template=result.template,
        prompt_id=row["prompt_id"],
        response_id=row["response_id"],
        human_rank=row.get("human_rank"),
        human_score=row.get("human_score"),
        n_chars=row["n_chars"],
        score=row["score"],
        n_judgements=len(row["scores"]),
        n_scored=sum(score is not None for score in row["scores"]),
        statuses=" ".join(row["statuses"]),
    )


def _settings(job: JudgeJob, template: JudgeTemplate) -> JudgingConfig:
    return JudgingConfig.model_validate(
        {
            "mode": job.mode,
            "justify": job.justify,
            "samples": 1 if job.mode == "expected" else job.samples,
            "temperature": job.temperature,
            "max_tokens": job.max_tokens,
            "max_attempts": 1,  # a measure of the judge as it is: no second try for what it leaves unscored
            "min_score": template.minimum,
            "max_score": template.maximum,
        }
    )


def _measure(
    name: str, judge: str, template: JudgeTemplate, rows: list[Row], path: Path, replies: RankedReplies
) -> JudgeRun:
    import pandas as pd

    frame = pd.DataFrame(rows).astype({"score": "float64"})
    return JudgeRun(
        template=name,
        judge=judge,
        agreement=measure_agreement(frame, perfect_score=template.maximum),
        pairs=_pair_verdicts(rows),
        by_status=dict(Counter(status for row in rows for status in row["statuses"]).most_common()),
        scored=path,
        source=replies.source,
        dropped=replies.dropped,
    )


def _pair_verdicts(rows: Sequence[Row]) -> VerdictAgreement | None:
    """Verdicts on pairs (PandaLM, chosen and rejected), people's ties among them; None for longer rankings."""
    by_prompt: dict[str, list[Row]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt_id"], []).append(row)
    pairs = list(by_prompt.values())
    if any(len(pair) != 2 or "human_rank" not in pair[0] for pair in pairs):
        return None
    people = [
        0 if a["human_rank"] == b["human_rank"] else 1 if a["human_rank"] < b["human_rank"] else 2
        for a, b in pairs
    ]
    judge = verdicts_from_scores([a["score"] for a, _ in pairs], [b["score"] for _, b in pairs])
    return verdict_agreement(judge, people)


def _say_what_is_measured(replies: RankedReplies) -> None:
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in replies.dropped.items())
    say(
        f"{replies.source}: {len(replies.rows):,} replies to {replies.n_prompts:,} prompts"
        + (f"; left out: {dropped}" if dropped else "")
    )


def _write(path: Path, rows: Sequence[Row]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return write_rows(path, text)


def _item_id(template: str, row: Row) -> str:
    return f"{template}/{row['prompt_id']}/{row['response_id']}"


def _slug(name: str) -> str:
    """A template's name, or the stem of its file, as a file name."""
    return re.sub(r"[^\w.-]+", "-", Path(name).stem if Path(name).suffix else Path(name).name)


def _of_slug(job: JudgeJob, slug: str) -> str:
    return next(name for name in job.templates if _slug(name) == slug)

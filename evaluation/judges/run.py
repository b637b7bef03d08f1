"""A judge over replies that people ranked: every reply scored, each template measured (the paper's five measures).

    runs = evaluate_judge(JudgeJob(model="hf:M1", data="validation.jsonl.gz", out=Path("judge"), templates=("additive",)))
    print(format_agreement(runs["additive"].agreement))

OUT holds `<template>.jsonl`, one row for each reply with its scores and judgements (what `selfreward judge agreement`
reads), and the journal. The same folder again asks for nothing twice. Replies that the judge leaves unscored stay in the
rows with a status, and in the measures as `selfreward.judging.agreement.agreement` says.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfreward.config.run import JudgingConfig
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.answers import Models
from selfreward.evaluation.ask.requests import Terms, asking
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure, publish, write_rows
from selfreward.evaluation.judges.ranked_replies import RankedReplies, Row, read_ranked, run_replies
from selfreward.judging.agreement.agreement import Agreement, measure_agreement
from selfreward.judging.agreement.rating_tables import HUMAN_COLUMNS, check_ratings
from selfreward.judging.files import first_error, template_settings, with_judgements
from selfreward.judging.judge import Item, judge_items
from selfreward.judging.parsing.verdicts import (
    Ceiling,
    VerdictAgreement,
    verdict_agreement,
    verdicts_from_scores,
)
from selfreward.judging.prompts.templates import JudgeTemplate, load_template
from selfreward.progress import say
from selfreward.store import durable, lock
from selfreward.store.run import Run
from selfreward.store.sealed import digest

SCORES = "judge_scores"


@dataclass(frozen=True, slots=True)
class JudgeJob:
    """Which judge, on what, how."""

    model: str
    data: str | None
    """A file, a dataset folder or a Hub dataset; None: the EFT eval split of the run."""
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
    ceiling: Ceiling | None
    """Where several annotators compared each pair: how far they agree with each other."""
    by_status: dict[str, int]
    n_tokens: int
    """Tokens that the judge wrote for these judgements, in this run of the command or an earlier one."""
    scored: Path
    source: str
    dropped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """For `--json`: the measures as `judge agreement --json` names them, and what they are of."""
        return {
            **self.agreement.to_dict(),
            "model": self.judge,
            "template": self.template,
            "by_status": self.by_status,
            "new_tokens": self.n_tokens,
            "verdicts": None if self.pairs is None else self.pairs.to_dict(),
            "annotators": None if self.ceiling is None else self.ceiling.to_dict(),
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
    replies = replies_of(job)
    say(replies.sentence)
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
            records = [{**row, "n_chars": len(row["response"])} for row in replies.rows]
            rows = with_judgements(records, [item.id for item in items], judged)
            if error := first_error(judged):
                say(f"{name}: the first engine error: {error}")
            path = _write(job.out / f"{name}.jsonl", rows)
            n_tokens = sum(judgement.n_tokens for judgement in judged)
            found[name] = _measure(name, ref.name, template, rows, path, replies, n_tokens)
    return found


def replies_of(job: JudgeJob) -> RankedReplies:
    """What people ranked: the data given, or the run's own; checked before the first request as the measures check it."""
    if job.data is not None:
        replies = read_ranked(job.data, job.lang, job.split, job.n_prompts)
    elif job.models.run is not None:
        replies = run_replies(job.models.run, job.n_prompts)
    else:
        raise UsageError("nothing to judge: give --data FILE, or --run RUN for its EFT eval split")
    for row in replies.rows:
        for column in HUMAN_COLUMNS:
            value = row.get(column)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise InputError(
                    f"{replies.source}: column {column} of response_id {row['response_id']!r} (prompt_id "
                    f"{row['prompt_id']!r}) holds {value!r:.60}, expected a number"
                )
    columns = {name: [row.get(name) for row in replies.rows] for name in replies.rows[0]}
    check_ratings(columns | {"score": [None] * len(replies.rows)}, where=replies.source)
    return replies


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
    return template_settings(
        template,
        mode=job.mode,
        justify=job.justify,
        samples=1 if job.mode == "expected" else job.samples,
        temperature=job.temperature,
        max_tokens=job.max_tokens,
        max_attempts=1,  # a measure of the judge as it is: no second try for what it leaves unscored
    )


def _measure(
    name: str,
    judge: str,
    template: JudgeTemplate,
    rows: list[Row],
    path: Path,
    replies: RankedReplies,
    n_tokens: int,
) -> JudgeRun:
    import pandas as pd

    frame = pd.DataFrame(rows).astype({"score": "float64"})
    return JudgeRun(
        template=name,
        judge=judge,
        agreement=measure_agreement(frame, perfect_score=template.maximum),
        pairs=_pair_verdicts(rows),
        ceiling=replies.ceiling,
        n_tokens=n_tokens,
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

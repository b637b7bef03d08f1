"""A judge over replies that people ranked: every reply scored, each template measured (the paper's five measures).

OUT holds `<template>.jsonl`, one row for each reply with its scores and judgements (what `selfreward judge agreement`
reads), and the journal. The same folder again asks for nothing twice. Replies that the judge leaves unscored stay in the
rows with a status, and in the measures as `selfreward.judging.agreement.agreement` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.config.run import JudgingConfig
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.judges.ranked_replies import RankedReplies, ReplyRow, by_prompt, human_verdict
from selfreward.judging.agreement.agreement import Agreement, measure_agreement
from selfreward.judging.files import first_error, with_judgements
from selfreward.judging.judge import Item, judge_items
from selfreward.judging.parsing.verdicts import (
    AnnotatorAgreement,
    VerdictAgreement,
    verdict_agreement,
    verdicts_from_scores,
)
from selfreward.judging.prompts.templates import JudgeTemplate
from selfreward.progress import say
from selfreward.store.sealed import digest

SCORES = "judge_scores"


@dataclass(frozen=True, slots=True)
class Judging:
    """How replies are judged: one template under the name of its file, and the settings."""

    name: str
    template: JudgeTemplate
    settings: JudgingConfig
    seed: int


@dataclass(frozen=True, slots=True)
class JudgedReplies:
    """Every reply with its judgements, by one judge with one template."""

    model: str
    """The judge as the user calls it."""
    judge: str
    how: Judging
    replies: RankedReplies
    rows: list[ReplyRow]
    path: Path
    n_tokens: int


@dataclass(frozen=True, slots=True)
class JudgeRun:
    """One template's outcome."""

    template: str
    judge: str
    agreement: Agreement
    pairs: VerdictAgreement | None
    """Where every prompt has two replies: verdicts as of a pairwise judge, ties of people included."""
    annotators: AnnotatorAgreement | None
    """Where several annotators compared each pair: how far they agree with each other."""
    by_status: dict[str, int]
    n_tokens: int
    """Tokens that the judge wrote for these judgements, in this run of the command or an earlier one."""
    scored: Path
    replies: JudgedReplies

    def to_dict(self) -> dict[str, Any]:
        """For `--json`: the measures as `judge agreement --json` names them, and what they are of."""
        return {
            **self.agreement.to_dict(),
            "model": self.judge,
            "template": self.template,
            "by_status": self.by_status,
            "new_tokens": self.n_tokens,
            "verdicts": None if self.pairs is None else self.pairs.to_dict(),
            "annotators": None if self.annotators is None else self.annotators.to_dict(),
            "scored": str(self.scored),
            "source": self.replies.replies.source,
            "dropped": self.replies.replies.dropped,
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


def judge_replies(
    ask: ModelAccess, model: str, replies: RankedReplies, ways: Sequence[Judging]
) -> list[JudgedReplies]:
    """Score every reply with every template; OUT gets a file for each."""
    judge = ask.models.ref(model).name
    found = []
    with ask.judge(model, "judgements") as generation:
        for how in ways:
            items = [Item(_item_id(how.name, row), row["prompt"], row["response"]) for row in replies.rows]
            judged = judge_items(generation, generation.engine, items, how.template, how.settings, how.seed)
            records = [{**row, "n_chars": len(row["response"])} for row in replies.rows]
            rows = with_judgements(records, [item.id for item in items], judged)
            if error := first_error(judged):
                say(f"{how.name}: the first engine error: {error}")
            path = ask.write(f"{how.name}.jsonl", rows)
            n_tokens = sum(judgement.n_tokens for judgement in judged)
            found.append(JudgedReplies(model, judge, how, replies, rows, path, n_tokens))
    return found


def measure_judge(judged: JudgedReplies) -> JudgeRun:
    """The measures of one judge with one template."""
    import pandas as pd

    frame = pd.DataFrame(judged.rows).astype({"score": "float64"})
    statuses = Counter(status for row in judged.rows for status in row["statuses"])
    return JudgeRun(
        template=judged.how.name,
        judge=judged.judge,
        agreement=measure_agreement(frame, perfect_score=judged.how.template.maximum),
        pairs=_pair_verdicts(judged.rows),
        annotators=judged.replies.annotators,
        by_status=dict(statuses.most_common()),
        n_tokens=judged.n_tokens,
        scored=judged.path,
        replies=judged,
    )


def judge_tables(result: JudgeRun) -> Tables:
    """Scores and figures of one template."""
    how, rows, counts = result.replies.how, result.replies.rows, result.agreement.counts
    evaluation = Evaluation(
        measure="judge",
        model=result.judge,
        against="people",
        judge=result.judge,
        prompts=result.replies.replies.source,
        n_prompts=counts.n_prompts,
        settings={
            "template": result.template,
            "rows": digest(sorted([r["prompt_id"], r["response_id"]] for r in rows)),
            "settings": how.settings.model_dump(),
            "seed": how.seed,
        },
    )
    parts = ((None, result.agreement.judge), ("unscored_wrong", result.agreement.judge_unscored_wrong))
    figures = []
    for part, measures in parts:
        for name in measures.__dataclass_fields__:
            unit = "correlation" if name.startswith(("spearman", "kendall")) else "percent"
            figures.append(evaluation.of_figure(name, getattr(measures, name), unit, part=part))
    share = 100 * counts.n_scored / counts.n_rows
    figures.append(evaluation.figure("scored", share, n=counts.n_rows, of="responses"))
    return Tables(evaluation, figures, {SCORES: [_score_row(result, row) for row in rows]})


def _score_row(result: JudgeRun, row: ReplyRow) -> JudgeScore:
    return JudgeScore(
        evaluation_id="",
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


def _pair_verdicts(rows: Sequence[ReplyRow]) -> VerdictAgreement | None:
    """Verdicts on pairs (PandaLM, chosen and rejected), people's ties among them; None for longer rankings."""
    pairs = by_prompt(rows)
    if any(len(pair) != 2 or "human_rank" not in pair[0] for pair in pairs):
        return None
    people = [human_verdict(a, b) for a, b in pairs]
    judge = verdicts_from_scores([a["score"] for a, _ in pairs], [b["score"] for _, b in pairs])
    return verdict_agreement(judge, people)


def _item_id(template: str, row: ReplyRow) -> str:
    return f"{template}/{row['prompt_id']}/{row['response_id']}"

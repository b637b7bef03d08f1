"""A judge over human-ranked replies: every reply scored, each template measured (the paper's five measures).

OUT holds `<template>.jsonl`, one row for each reply with its scores and judgements (what `selfreward judge agreement`
reads), and the journal. The same folder never sends a request twice. Replies that the judge leaves unscored stay in the
rows with a status, and in the measures as `selfreward.judging.agreement.agreement` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.config.judging import JudgingConfig
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.judges.ranked_replies import RankedReplies, ReplyRow, by_prompt, human_verdict
from selfreward.judging.agreement.agreement import Agreement, measure_agreement
from selfreward.judging.judge.files import first_error, with_judgements
from selfreward.judging.judge.judge import Item, judge_items
from selfreward.judging.parsing.verdicts import (
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
class JudgedRows:
    """One judge's output, row by row."""

    model: str
    """The judge as the user calls it."""
    judge: str
    replies: RankedReplies
    rows: list[ReplyRow]
    path: Path

    @property
    def by_status(self) -> dict[str, int]:
        """Judgements by status."""
        return dict(Counter(status for row in self.rows for status in row["statuses"]).most_common())

    def facts(self) -> dict[str, Any]:
        """The fields in `--json` common to all judges."""
        people = self.replies.annotators
        return {
            "by_status": self.by_status,
            "annotators": None if people is None else people.to_dict(),
            "source": self.replies.source,
            "dropped": self.replies.dropped,
        }


@dataclass(frozen=True, slots=True)
class JudgedReplies(JudgedRows):
    """Every reply with its judgements, with one template."""

    how: Judging
    n_tokens: int
    """Tokens that the judge wrote for these judgements, in this run of the command or an earlier one."""


@dataclass(frozen=True, slots=True)
class JudgeRun:
    """One template's outcome."""

    judged: JudgedReplies
    agreement: Agreement
    pairs: VerdictAgreement | None
    """If every prompt has two replies: verdicts as of a pairwise judge, human ties included."""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`: the measures as `judge agreement --json` names them, and their origin."""
        return {
            **self.agreement.to_dict(),
            "model": self.judged.judge,
            "template": self.judged.how.name,
            "new_tokens": self.judged.n_tokens,
            "verdicts": None if self.pairs is None else self.pairs.to_dict(),
            "scored": str(self.judged.path),
            **self.judged.facts(),
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
    """Mean of the scored judgements; NULL if there is none."""
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
    # one engine start for all templates
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
            found.append(JudgedReplies(model, judge, replies, rows, path, how, n_tokens))
    return found


def measure_judge(judged: JudgedReplies) -> JudgeRun:
    """The measures of one judge with one template."""
    import pandas as pd

    # scores that are all NULL would otherwise get the type object, which the measures refuse
    frame = pd.DataFrame(judged.rows).astype({"score": "float64"})
    agreement = measure_agreement(frame, perfect_score=judged.how.template.maximum)
    return JudgeRun(judged, agreement, _pair_verdicts(judged.rows))


def judge_tables(result: JudgeRun) -> Tables:
    """Scores and figures of one template."""
    judged, counts = result.judged, result.agreement.counts
    evaluation = Evaluation(
        measure="judge",
        model=judged.judge,
        against="people",
        judge=judged.judge,
        prompts=judged.replies.source,
        n_prompts=counts.n_prompts,
        settings={
            "template": judged.how.name,
            "rows": digest(sorted([r["prompt_id"], r["response_id"]] for r in judged.rows)),
            "settings": judged.how.settings.model_dump(),
            "seed": judged.how.seed,
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
    return Tables(evaluation, figures, {SCORES: [_score_row(judged, row) for row in judged.rows]})


def _score_row(judged: JudgedReplies, row: ReplyRow) -> JudgeScore:
    return JudgeScore(
        evaluation_id="",
        judge=judged.judge,
        template=judged.how.name,
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
    """Verdicts on pairs (PandaLM, chosen and rejected), including human ties; None for longer rankings."""
    pairs = by_prompt(rows)
    # ranks within a longer list are no independent pairs
    if any(len(pair) != 2 or "human_rank" not in pair[0] for pair in pairs):
        return None
    people = [human_verdict(a, b) for a, b in pairs]
    judge = verdicts_from_scores([a["score"] for a, _ in pairs], [b["score"] for _, b in pairs])
    return verdict_agreement(judge, people)


def _item_id(template: str, row: ReplyRow) -> str:
    return f"{template}/{row['prompt_id']}/{row['response_id']}"

"""What people said of single judgements (`reviews`, given in `selfreward view`): how often they agree with the judge.

    selfreward judge agreement runs/demo

`agree` and `disagree` are counted for each judge, with a 95 % bootstrap interval over prompts, several judgements of a
prompt being no independent evidence; `flagged` is no verdict. Where a reviewer gave a score, it is a human rating of the
answer, and the measures of `selfreward.judging.agreement.agreement` apply: the mean of people's scores beside the mean of
the judge's, answer by answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfreward.errors import InputError
from selfreward.judging.agreement.rating_files import read_columns
from selfreward.judging.agreement.rating_tables import Columns
from selfreward.statistics import Figure, Resampler, Share, share_figures
from selfreward.text import format_table

_NEEDED = ("verdict", "prompt_id", "judge", "score", "human_score", "candidate_id")


@dataclass(frozen=True, slots=True)
class JudgeReviewed:
    """How one judge fared; `agreed` is the share of its judgements with a verdict that people agree with."""

    judge: str
    n_agree: int
    n_disagree: int
    agreed: Figure


@dataclass(frozen=True, slots=True)
class Reviewed:
    """All verdicts of a table of reviews."""

    judges: list[JudgeReviewed]
    n_flagged: int
    n_reviewers: int
    n_human_scores: int

    def __str__(self) -> str:
        rows = [
            (
                one.judge,
                one.n_agree,
                one.n_disagree,
                _percent(one.agreed.value),
                _percent(one.agreed.low),
                _percent(one.agreed.high),
            )
            for one in self.judges
        ]
        head = ("judge", "agree", "disagree", "agreed %", "from", "to")
        table = format_table(head, rows) if rows else "no judgement has a verdict yet"
        return (
            f"Verdicts of {self.n_reviewers} reviewer{'s' * (self.n_reviewers != 1)} on single judgements "
            f"({self.n_flagged} rows only flagged, {self.n_human_scores} scores of people)\n{table}"
        )


def reviews_path(file: Path) -> Path:
    """The folder of a run's reviews, if `file` is a run; InputError if it has none. Other files as they are."""
    if not (file / "run.json").is_file():
        return file
    path = file / "datasets" / "reviews"
    if not path.is_dir():
        raise InputError(f"{file}: has no reviews yet; give verdicts in: selfreward view {file}")
    return path


def read_reviews(file: Path) -> Columns | None:
    """The columns of a table of reviews; None if it is a table of ratings."""
    columns, _ = read_columns(file)
    if "verdict" not in columns:
        return None
    if missing := [name for name in _NEEDED if name not in columns]:
        raise InputError(
            f"{file}: a table of reviews needs the column {missing[0]}; it has {', '.join(columns)}"
        )
    return columns


def measure_reviews(columns: Columns, n_bootstrap: int = 1000, seed: int = 0) -> Reviewed:
    """The share of judgements that people agree with, by judge."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    by_judge: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["verdict"] in ("agree", "disagree") and row["judge"]:
            by_judge[str(row["judge"])].append(row)
    return Reviewed(
        [_judge(judge, found, n_bootstrap, seed) for judge, found in sorted(by_judge.items())],
        Counter(row["verdict"] for row in rows)["flagged"],
        len({row.get("reviewer") for row in rows}),
        sum(row["human_score"] is not None for row in rows),
    )


def _judge(judge: str, rows: list[dict[str, Any]], n_bootstrap: int, seed: int) -> JudgeReviewed:
    prompts = sorted({str(row["prompt_id"]) for row in rows})
    place = {prompt: number for number, prompt in enumerate(prompts)}
    agree, given = np.zeros(len(prompts)), np.zeros(len(prompts))
    for row in rows:
        given[place[str(row["prompt_id"])]] += 1
        agree[place[str(row["prompt_id"])]] += row["verdict"] == "agree"
    share = Share(agree, given, "judgements")
    n = int(agree.sum())
    figures = share_figures({"agreed": share}, Resampler(len(prompts), n_bootstrap, seed))
    return JudgeReviewed(judge, n, len(rows) - n, figures["agreed"])


def ratings(columns: Columns) -> list[dict[str, Any]]:
    """People's scores as ratings of answers, one row for each answer that has one."""
    given: dict[tuple[str, str], list[tuple[float, float | None]]] = defaultdict(list)
    for prompt, candidate, human, score in zip(
        columns["prompt_id"], columns["candidate_id"], columns["human_score"], columns["score"], strict=True
    ):
        if human not in (None, "") and candidate:
            given[str(prompt), str(candidate)].append(
                (float(human), None if score in (None, "") else float(score))
            )
    rows = []
    for (prompt, candidate), pairs in given.items():
        scores = [score for _, score in pairs if score is not None]
        human = sum(value for value, _ in pairs) / len(pairs)
        mean = sum(scores) / len(scores) if scores else None
        rows.append({"prompt_id": prompt, "candidate_id": candidate, "human_score": human, "score": mean})
    return rows


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)

"""The sentence about each iteration's signal: what the intervals allow, and the margins against the judge's own spread."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_run import make_sample_run

from selfreward.notes import JudgeEvalNotes
from selfreward.store.run import Run
from selfreward.summary.advice import advice
from selfreward.summary.facts import Judge, summarize


def notes(value, low, high):
    figure = {"value": value, "low": low, "high": high, "n": 200, "of": "pairs"}
    return JudgeEvalNotes.read({"agreement": {"judge": {"pairwise_ties_half": figure}}})


@pytest.fixture
def summary(tmp_path):
    make_sample_run(tmp_path / "run", iterations=1)
    return summarize(Run(tmp_path / "run"))


def said(summary, *judges):
    (sentence,) = advice(replace(summary, judges=judges))
    return sentence


def judge(summary, notes, scored=10):
    found = advice(summary)[0].split(": ")[1].split(" was")[0]
    return Judge("iter1/judge_eval", found, {"ok": scored, "no_score": 10 - scored}, [], notes)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((0.72, 0.66, 0.78), "72 % [66, 78] of 200 held-out pairs as their ranks do, more than chance"),
        ((0.52, 0.45, 0.59), "not told from chance"),
        ((0.40, 0.33, 0.47), "LESS than chance"),
    ],
)
def test_what_the_interval_allows_to_say(summary, ends, words):
    assert words in said(summary, judge(summary, notes(*ends)))


def test_a_judge_without_a_score_is_not_called_a_coin(summary):
    assert "none of its 10 measured judgements" in said(
        summary, judge(summary, notes(None, None, None), scored=0)
    )


def test_a_judge_that_was_not_measured(summary):
    assert "was not measured against ranks" in said(summary)


def test_margins_against_the_judges_own_spread(summary):
    # By hand: score_variance is of n = 3 judgements with divisor n, so the squared error of a mean is variance / 2.
    pairs = summary.versions["iter1/pairs"].table().to_pylist()
    scores = {row["candidate_id"]: row for row in summary.versions["iter1/scores"].table().to_pylist()}
    clear = sum(
        row["margin"]
        > 1.96 * sum(scores[row[side]]["score_variance"] / 2 for side in ("chosen_id", "rejected_id")) ** 0.5
        for row in pairs
    )
    assert {score["n_scored"] for score in scores.values()} == {3}
    assert f"{100 * clear / len(pairs):.0f} % of {len(pairs)} pairs are further apart" in said(summary)

"""Verdicts of people on single judgements count into `judge agreement`, from a run or from an exported table."""

from __future__ import annotations

import json

import pytest
from sample_run import make_sample_run
from scripted_run import cli

from selfreward.exchange.exporting import export_file
from selfreward.judging.agreement.reviews import measure_reviews, ratings
from selfreward.view.reviews import Reviews
from selfreward.view.shelf import Shelf


@pytest.fixture
def reviewed(tmp_path):
    """Ann agrees with 2 of 3 judgements of prompts of their own, flags another, and scores two answers."""
    run = make_sample_run(tmp_path / "run", 1)
    rows = run.current("iter1/judgements").table().to_pylist()
    by_prompt = list({row["prompt_id"]: row for row in rows}.values())
    another = next(
        r
        for r in rows
        if r["prompt_id"] == by_prompt[1]["prompt_id"] and r["candidate_id"] != by_prompt[1]["candidate_id"]
    )
    reviews = Reviews(Shelf(run.path), "ann")
    reviews.save("iter1/judgements", by_prompt[0], "agree", "", None)
    reviews.save("iter1/judgements", by_prompt[1], "agree", "", 4.0)
    reviews.save("iter1/judgements", by_prompt[2], "disagree", "too kind", 1.0)
    reviews.save("iter1/judgements", another, "flagged", "", 2.0)
    return run


def test_two_of_three_are_two_thirds_and_a_flag_is_no_verdict(reviewed):
    columns = reviewed.current("reviews").table().to_pydict()
    found = measure_reviews(columns)
    (judge,) = found.judges
    assert (judge.n_agree, judge.n_disagree, found.n_flagged, found.n_reviewers) == (2, 1, 1, 1)
    assert judge.agreed.value == pytest.approx(2 / 3)
    assert judge.agreed.low < 2 / 3 < judge.agreed.high
    assert [row["human_score"] for row in ratings(columns)] == [4.0, 1.0, 2.0]


def test_the_command_takes_a_run_or_a_file(reviewed, tmp_path):
    done = cli("judge", "agreement", reviewed.path, cwd=tmp_path)
    assert (done.returncode, "66.7" in done.stdout, "Scores of people" in done.stdout) == (0, True, True), (
        done.stderr
    )
    for name in ("reviews.csv", "reviews.jsonl", "reviews.parquet"):
        export_file(reviewed, "reviews", tmp_path / name)
        given = json.loads(cli("judge", "agreement", tmp_path / name, "--json", cwd=tmp_path).stdout)
        assert given["reviews"]["judges"][0]["n_agree"] == 2
        assert given["reviews"]["n_human_scores"] == 3


def test_a_run_without_reviews_is_one_sentence(tmp_path):
    run = make_sample_run(tmp_path / "run", 1)
    done = cli("judge", "agreement", run.path, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "has no reviews yet" in done.stderr

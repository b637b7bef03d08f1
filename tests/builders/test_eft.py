"""EFT: which generated judgements are kept, and the re-balancing of scores; worked out by hand."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_run import config_for, write_script

from selfreward.builders.eft import agreeing_targets, agrees_with_ranks, down_sample
from selfreward.builders.seeds.split import split_prompts
from selfreward.builders.seeds.targets import score_of_quality, score_of_rank
from selfreward.config.data import SplitConfig
from selfreward.errors import EmptyResultError
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Run
from selfreward.tables import Eft, Seed


def eft(eft_id, rank=0, score=None, prompt_id="p", split="train"):
    return Eft(eft_id, split, prompt_id, "q", eft_id, "r", rank, "j", "t", score, True, None, "s", eft_id)


@pytest.mark.parametrize(
    ("ranked", "strict", "no_inversion", "best"),
    [
        pytest.param([(0, 5.0), (1, 3.0), (2, 1.0)], True, True, True, id="same order"),
        pytest.param([(0, 5.0), (1, 3.0), (2, 3.0)], False, True, True, id="tie below the best"),
        pytest.param([(0, 5.0), (1, 5.0), (2, 3.0)], False, True, False, id="tie with the best"),
        pytest.param([(0, 5.0), (1, 1.0), (2, 3.0)], False, False, True, id="inversion below the best"),
        pytest.param([(0, 1.0), (1, 3.0)], False, False, False, id="inverted"),
        pytest.param([(0, 1.0), (0, 3.0)], True, True, True, id="people see no difference"),
    ],
)
def test_agreement_rules(ranked, strict, no_inversion, best):
    assert agrees_with_ranks(ranked, "strict") is strict
    assert agrees_with_ranks(ranked, "no_inversion") is no_inversion
    assert agrees_with_ranks(ranked, "best") is best


def test_the_target_is_the_sample_nearest_the_mean_of_an_agreeing_prompt():
    """Means 4 (5, 3, 4) and 1: the order agrees with ranks 0 and 1; the sample with score 4 is nearest 4."""
    rows = [eft("a", 0), eft("b", 1)]
    scored = {"a": [(5.0, "five"), (3.0, "three"), (4.0, "four")], "b": [(1.0, "one")]}
    targets = agreeing_targets(rows, scored, "strict")
    assert (targets["a"].text, targets["a"].score, targets["a"].reason) == ("four", 4.0, None)
    assert targets["b"].reason is None


def test_a_prompt_that_disagrees_or_has_an_unscored_response_is_kept_with_its_reason():
    rows = [eft("a", 0), eft("b", 1), eft("c", 0, prompt_id="q"), eft("d", 1, prompt_id="q")]
    scored = {"a": [(1.0, "low")], "b": [(4.0, "high")], "c": [(4.0, "x")]}
    reasons = {key: target.reason for key, target in agreeing_targets(rows, scored, "strict").items()}
    assert reasons == {
        "a": "disagrees_with_ranks",
        "b": "disagrees_with_ranks",
        "c": "sibling_unscored",
        "d": "unscored",
    }


def test_down_sampling_cuts_the_modal_score_to_its_share():
    """Scores 4 x 8, 3 x 2, 5 x 2 at a share of 0.5: four rows are others, so four 4s may stay, 4 of 8."""
    rows = [eft(f"{score}-{i}", score=score) for score, n in ((4.0, 8), (3.0, 2), (5.0, 2)) for i in range(n)]
    kept = Counter(row.target_score for row in down_sample(rows, 0.5, seed=0) if row.accepted)
    assert kept == {4.0: 4, 3.0: 2, 5.0: 2}


@given(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]), min_size=1, max_size=60),
    st.sampled_from([0.3, 0.4, 0.6]),
)
def test_down_sampling_reaches_the_share_or_changes_nothing_and_loses_no_row(scores, share):
    rows = [eft(str(i), score=score) for i, score in enumerate(scores)]
    result = down_sample(rows, share, seed=0)
    assert [row.eft_id for row in result] == [row.eft_id for row in rows]
    kept = Counter(row.target_score for row in result if row.accepted)
    if len(set(scores)) * share < 1:
        assert sum(kept.values()) == len(scores)
    else:
        assert max(kept.values()) <= share * sum(kept.values()) + 1e-9
    assert all((row.reason is None) == row.accepted for row in result)


def seeds(n, ranks=(0, 1)):
    return [
        Seed(f"{p}-{r}", f"p{p}", f"prompt {p}", f"reply {r}", r, None, "en", None, "s")
        for p in range(n)
        for r in ranks
    ]


def test_the_split_is_disjoint_by_prompt_and_independent_of_order():
    rows = seeds(100)
    parts = split_prompts(rows, SplitConfig(eft_train=0.4, eft_eval=0.13), seed=3)
    assert Counter(parts.values()) == {"eft_eval": 13, "eft_train": 40, "ift": 47}
    assert split_prompts(rows[::-1], SplitConfig(eft_train=0.4, eft_eval=0.13), seed=3) == parts
    assert split_prompts(rows, SplitConfig(eft_train=0.4, eft_eval=0.13), seed=4) != parts


def test_prompts_without_an_order_of_replies_are_never_eft():
    parts = split_prompts(seeds(10, ranks=(0, 0)), SplitConfig(eft_train=0.5, eft_eval=0.5), seed=0)
    assert set(parts.values()) == {"ift"}


def test_the_same_prompt_under_two_ids_lands_on_one_side():
    rows = [Seed(f"{p}-{r}", f"p{p}", "  Same   PROMPT" if p else "same prompt", str(r), r, None, "en", None, "s")
            for p in (0, 1) for r in (0, 1)]  # fmt: skip
    assert len(set(split_prompts(rows, SplitConfig(eft_train=0.5, eft_eval=0.5), seed=0).values())) == 1


def test_a_run_that_trains_nothing_needs_no_row_to_train_on(tmp_path):
    """One reply for each prompt: IFT takes them all, so EFT has no row."""
    rows = [
        {"prompt": f"Question number {k}: how is it done?", "response": "So.", "rank": 0} for k in range(9)
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {
        "seeds": {"source": str(tmp_path / "own.jsonl"), "format": "table"},
        "eft": {"targets": "written"},
    }
    script = write_script(tmp_path / "script.yaml")
    judging_only = config_for(script, **changes, evaluate={"alpaca": None})
    steps = {step.name: step for step in run_pipeline(judging_only, tmp_path / "run")}
    assert steps["eft"].n_out == 0
    assert steps["iter1/pairs"].n_out > 0
    with pytest.raises(EmptyResultError, match="no training row is left of 9 seed replies: held_for_ift 9"):
        run_pipeline(config_for(script, **changes, train=True), tmp_path / "trained", until="eft")


@pytest.mark.parametrize(
    ("rank", "worst", "score"),
    [(0, 1, 5.0), (1, 1, 0.0), (1, 2, 2.0), (1, 3, 3.0), (2, 3, 2.0), (0, 0, 2.0), (3, 7, 3.0)],
)
def test_the_score_of_a_rank(rank, worst, score):
    """5 - 5 * rank / worst: 2.5 becomes 2, 3.33 becomes 3, 1.67 becomes 2, 2.86 becomes 3."""
    assert score_of_rank(rank, worst, 0.0, 5.0) == score


@given(st.integers(1, 20), st.floats(-10, 10), st.floats(0.5, 20))
def test_a_worse_rank_never_has_a_better_score(worst, low, width):
    scores = [score_of_rank(rank, worst, low, low + width) for rank in range(worst + 1)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("quality", "score"), [(0.0, 1.0), (1.0, 5.0), (0.7, 4.0), (1.3, 5.0), (-0.1, 1.0)])
def test_the_score_of_a_quality_label(quality, score):
    """1 to 5: 1 + 4 * 0.7 = 3.8 becomes 4."""
    assert score_of_quality(quality, 1.0, 5.0) == score


@pytest.mark.parametrize("targets", ["ranks", "quality"])
def test_targets_without_any_model(tmp_path, targets):
    table = tmp_path / "seeds.csv"
    lines = [f"Why {i}?,answer {i} {rank},{rank},{1 - rank / 2}" for i in range(8) for rank in (0, 1, 2)]
    table.write_text("prompt,response,rank,quality\n" + "\n".join(lines) + "\nWhy 9?,a,0,\nWhy 9?,b,1,0.2\n")
    config = config_for(
        write_script(tmp_path / "script.yaml"),
        seeds={"source": str(table)},
        split={"eft_train": 0.8, "eft_eval": 0.0},
        eft={"targets": targets, "max_share_per_score": 1.0},
        judging={"template": "rule"},
    )
    run_pipeline(config, tmp_path / "run", until="eft")
    rows = Run(tmp_path / "run").current("eft").table().to_pylist()
    by_rank = {"ranks": {0: 5.0, 1: 2.0, 2: 0.0}, "quality": {0: 5.0, 1: 2.0, 2: 0.0}}[targets]
    complete = [row for row in rows if row["prompt"] != "Why 9?"]
    assert complete
    assert all(row["target_score"] == by_rank[row["human_rank"]] for row in complete)
    assert all(row["target"] == f"Score: {row['target_score']:g}" for row in complete)
    assert {row["reason"] for row in rows if row["target"] is None} <= {"no_quality"}

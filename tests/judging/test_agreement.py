"""Agreement with people: every measure by hand, then against scipy, then as a property; and what bad input says."""

import gzip
import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.errors import InputError
from selfreward.judging.agreement.agreement import format_agreement, join_rows, measure_agreement, read_rows
from selfreward.statistics import Resampler, krippendorff_alpha

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def table(*rows: tuple[str, float, float | None], **columns: list) -> pd.DataFrame:
    prompts, ranks, scores = zip(*rows, strict=True)
    frame = pd.DataFrame({"prompt_id": prompts, "human_rank": ranks, "score": scores}).astype(
        {"score": "float64"}
    )
    return frame.assign(**columns)


BY_HAND = table(
    *[("A", 0, 5.0), ("A", 1, 3.0), ("A", 2, 3.0)],  # right, right, tied
    *[("B", 0, 4.0), ("B", 1, 5.0)],  # wrong
    *[("C", 0, 4.0), ("C", 1, 4.0)],  # tied
    *[("D", 0, 4.5), ("D", 1, None), ("D", 1, 2.0)],  # unscored, right, and one pair tied by people
    *[("E", 0, 4.0), ("E", 1, 3.0)],  # right
    ("F", 0, 5.0),  # one response
    *[("G", 0, 5.0), ("G", 0, 1.0)],  # tied by people
)


def test_pairs_are_counted_by_what_became_of_them():
    """10 pairs: 2 tied by people (D, G), 4 right (A, A, D, E), 2 tied (A, C), 1 wrong (B), 1 unscored (D)."""
    counts = measure_agreement(BY_HAND).counts
    assert (counts.n_pairs, counts.n_pairs_human_tied) == (10, 2)
    assert (counts.n_pairs_right, counts.n_pairs_score_tied) == (4, 2)
    assert (counts.n_pairs_wrong, counts.n_pairs_unscored) == (1, 1)
    assert (counts.n_rows, counts.n_scored, counts.n_unscored) == (15, 14, 1)
    assert (counts.n_prompts, counts.n_prompts_one_response, counts.n_prompts_human_tied) == (7, 1, 1)
    assert (counts.n_prompts_measured, counts.n_prompts_fully_scored) == (5, 4)


def test_pairwise_accuracy_under_all_three_treatments_of_ties():
    """4 right, 2 tied, 1 wrong: 4 of 5 left out, 5 of 7 half, 4 of 7 wrong; 1 unscored joins the denominators."""
    agreement = measure_agreement(BY_HAND)
    judge, strict = agreement.judge, agreement.judge_unscored_wrong
    assert (judge.pairwise_ties_left_out.value, judge.pairwise_ties_left_out.n) == (4 / 5, 5)
    assert (judge.pairwise_ties_half.value, judge.pairwise_ties_half.n) == (5 / 7, 7)
    assert (judge.pairwise_ties_wrong.value, judge.pairwise_ties_wrong.n) == (4 / 7, 7)
    assert (strict.pairwise_ties_left_out.value, strict.pairwise_ties_left_out.n) == (4 / 6, 6)
    assert (strict.pairwise_ties_half.value, strict.pairwise_ties_half.n) == (5 / 8, 8)
    assert (strict.pairwise_ties_wrong.value, strict.pairwise_ties_wrong.n) == (4 / 8, 8)


def test_five_best_is_over_perfect_scores_in_prompts_that_people_order():
    """Fives: A's best and B's second; F's and G's do not count, for there any answer would be the best. 1 of 2."""
    figure = measure_agreement(BY_HAND).judge.five_best
    assert (figure.value, figure.n, figure.of) == (1 / 2, 2, "responses")


def test_exact_match_needs_every_ordered_pair_right():
    """Fully scored: A, B, C, E, of which only E is right throughout: 1 of 4; with D as a miss, 1 of 5."""
    agreement = measure_agreement(BY_HAND)
    assert (agreement.judge.exact_match.value, agreement.judge.exact_match.n) == (1 / 4, 4)
    assert (
        agreement.judge_unscored_wrong.exact_match.value,
        agreement.judge_unscored_wrong.exact_match.n,
    ) == (1 / 5, 5)


def test_a_tie_of_people_fits_any_score_order():
    rows = table(("p", 0, 5), ("p", 1, 4), ("p", 1, 3))
    assert measure_agreement(rows).judge.exact_match.value == 1


def test_correlations_are_means_over_prompts_with_undefined_as_zero():
    """A: centred human ranks (-1, 0, 1), centred score midranks (-1, .5, .5): rho = 1.5 / sqrt(2 * 1.5) = sqrt(3)/2;
    tau-b = 2 / sqrt(3 * 2). B: -1. C: undefined, 0. D (its two scored): 1. E: 1. Five prompts, four defined."""
    judge = measure_agreement(BY_HAND).judge
    rho, tau = math.sqrt(3) / 2, 2 / math.sqrt(6)
    assert judge.spearman.value == pytest.approx((rho - 1 + 0 + 1 + 1) / 5)
    assert judge.kendall_tau.value == pytest.approx((tau - 1 + 0 + 1 + 1) / 5)
    assert judge.spearman_defined.value == pytest.approx((rho - 1 + 1 + 1) / 4)
    assert judge.kendall_tau_defined.value == pytest.approx((tau - 1 + 1 + 1) / 4)
    assert (judge.spearman.n, judge.spearman_defined.n, judge.spearman.n_undefined) == (5, 4, 1)


def test_an_unscored_response_makes_the_correlation_of_its_prompt_zero_in_the_strict_column():
    strict = measure_agreement(BY_HAND).judge_unscored_wrong
    assert strict.spearman.value == pytest.approx((math.sqrt(3) / 2 - 1 + 0 + 0 + 1) / 5)


def test_the_random_baseline_is_the_expectation_of_a_random_order():
    """Exact: A 1/3!, B, C, E 1/2!, D 2!/3!: mean 0.4. A first choice is best: 1/3, 1/2, 1/2, 1/3, 1/2: mean 13/30."""
    random = measure_agreement(BY_HAND).random
    assert random.exact_match.value == pytest.approx(0.4)
    assert random.five_best.value == pytest.approx(13 / 30)
    assert (random.pairwise_ties_half.value, random.spearman.value, random.kendall_tau.value) == (0.5, 0, 0)


def test_the_longest_answer_judge_goes_by_length_alone():
    """p: 30 > 20 > 10 characters against ranks 1, 0, 2: pairs wrong, right, right; its five is not the best. q: tied
    lengths, both get the five, one of them is best. Pairwise 2 of 3 without the tie; fives 1 of 3."""
    rows = table(
        ("p", 1, 1), ("p", 0, 1), ("p", 2, None), ("q", 0, 1), ("q", 1, 1), n_chars=[30, 20, 10, 7, 7]
    )
    agreement = measure_agreement(rows)
    assert agreement.longest is not None
    assert agreement.longest_where_scored is not None
    assert agreement.longest.pairwise_ties_left_out.value == pytest.approx(2 / 3)
    assert agreement.longest.five_best.value == pytest.approx(1 / 3)
    assert agreement.longest_where_scored.pairwise_ties_left_out.value == 0
    assert agreement.longest_where_scored.pairwise_ties_half.n == 2


def test_length_comes_from_the_response_where_no_column_has_it_and_is_none_without_either():
    with_text = BY_HAND.assign(response=["x" * (k + 1) for k in range(len(BY_HAND))])
    with_count = BY_HAND.assign(n_chars=range(1, len(BY_HAND) + 1))
    assert measure_agreement(with_text) == measure_agreement(with_count)
    assert measure_agreement(BY_HAND).longest is None
    assert measure_agreement(BY_HAND).score_length is None


def test_human_scores_are_higher_is_better():
    by_score = BY_HAND.drop(columns="human_rank").assign(human_score=-BY_HAND.human_rank)
    assert measure_agreement(by_score) == measure_agreement(BY_HAND)


def test_means_that_differ_only_by_rounding_are_tied():
    """(4.1 + 4.2 + 4.3) / 3 and (4.3 + 4.2 + 4.1) / 3 differ in the last bit."""
    one, other = (4.1 + 4.2 + 4.3) / 3, (4.3 + 4.2 + 4.1) / 3
    rows = table(("p", 0, one), ("p", 1, other))
    assert measure_agreement(rows).counts.n_pairs_score_tied == 1


def test_a_table_without_any_score_is_shown_and_not_averaged():
    agreement = measure_agreement(table(("p", 0, None), ("p", 1, None), n_chars=[5, 3]))
    assert agreement.judge.pairwise_ties_half.value is None
    assert agreement.judge.pairwise_ties_half.n == 0
    assert agreement.judge_unscored_wrong.pairwise_ties_half.value == 0
    assert agreement.score_length is not None
    assert agreement.score_length.value is None
    json.dumps(agreement.to_dict(), allow_nan=False)
    assert "–" in format_agreement(agreement)


def random_table(seed: int, n_prompts: int = 60) -> pd.DataFrame:
    """Prompts of 2 to 6 responses, ties on both sides, some unscored, three samples each."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(2, 7, n_prompts)
    n = int(sizes.sum())
    samples = generator.integers(0, 6, (n, 3)).astype(float)
    score = samples.mean(axis=1).round(0)
    score[generator.random(n) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{k}" for k in range(n_prompts)], sizes),
            "human_rank": generator.integers(0, 4, n),
            "score": score,
            "scores": samples.tolist(),
            "n_chars": generator.integers(5, 60, n),
        }
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["spearman", "kendall_tau"])
def test_correlations_are_those_of_scipy(name, seed):
    """Per prompt over its scored responses, prompts without a scored pair that people order left out, NaN as 0."""
    stats = pytest.importorskip("scipy.stats")
    function = {"spearman": stats.spearmanr, "kendall_tau": stats.kendalltau}[name]
    rows = random_table(seed)
    expected = []
    for _, prompt in rows[rows.score.notna()].groupby("prompt_id"):
        if prompt.human_rank.nunique() > 1:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # scipy warns of constant input, which is the case counted here
                expected.append(function(-prompt.human_rank, prompt.score).statistic)
    judge = measure_agreement(rows, n_bootstrap=0).judge
    figure, defined = getattr(judge, name), getattr(judge, f"{name}_defined")
    assert figure.n == len(expected)
    assert figure.n_undefined == np.isnan(expected).sum()
    assert figure.value == pytest.approx(np.nan_to_num(expected).mean())
    assert defined.value == pytest.approx(np.nanmean(expected))


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_those_of_a_plain_loop(seed):
    """The same definitions written as nested loops, without numpy."""
    rows = random_table(seed)
    right = tied = wrong = exact = complete = fives = best_fives = 0
    for _, prompt in rows.groupby("prompt_id"):
        responses = list(zip(prompt.human_rank, prompt.score, strict=True))
        pairs = [(a, b) for a in responses for b in responses if a[0] < b[0]]
        if not pairs:
            continue
        right += sum(a[1] > b[1] for a, b in pairs)
        tied += sum(a[1] == b[1] for a, b in pairs)
        wrong += sum(a[1] < b[1] for a, b in pairs)
        complete += not prompt.score.isna().any()
        exact += all(a[1] > b[1] for a, b in pairs)
        fives += sum(score >= 4 for _, score in responses)
        best_fives += sum(score >= 4 and rank == min(responses)[0] for rank, score in responses)
    judge = measure_agreement(rows, n_bootstrap=0, perfect_score=4).judge
    assert judge.pairwise_ties_left_out.value == pytest.approx(right / (right + wrong))
    assert judge.pairwise_ties_half.value == pytest.approx((right + tied / 2) / (right + tied + wrong))
    assert judge.exact_match.value == pytest.approx(exact / complete)
    assert judge.five_best.value == pytest.approx(best_fives / fives)


def test_the_correlation_with_length_and_its_interval_are_those_of_scipy_on_repeated_rows():
    stats = pytest.importorskip("scipy.stats")
    rows = random_table(1, n_prompts=20)
    scored = rows[rows.score.notna()]
    figure = measure_agreement(rows, n_bootstrap=40, seed=3).score_length
    assert figure is not None
    assert figure.value == pytest.approx(stats.spearmanr(scored.score, scored.n_chars).statistic)
    prompts = np.unique(rows.prompt_id)
    expected = []
    for weights in Resampler(len(prompts), 40, 3).apply(lambda block: block):
        times = scored.prompt_id.map(dict(zip(prompts, weights.astype(int), strict=True)))
        drawn = scored.loc[scored.index.repeat(times)]
        expected.append(stats.spearmanr(drawn.score, drawn.n_chars).statistic)
    assert [figure.low, figure.high] == pytest.approx(np.percentile(expected, [2.5, 97.5]))


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    """400 prompts with one pair each, 300 right: 0.75 +- 1.96 * sqrt(0.75 * 0.25 / 400) = [0.7076, 0.7924]."""
    rows = table(*[(f"p{k}", rank, float(rank != (k % 4 > 0))) for k in range(400) for rank in (0, 1)])
    figure = measure_agreement(rows, n_bootstrap=4000).judge.pairwise_ties_half
    assert figure.value == 0.75
    assert [figure.low, figure.high] == pytest.approx([0.7076, 0.7924], abs=0.005)


def test_one_prompt_gives_no_interval_and_no_bootstrap_gives_none():
    alone = measure_agreement(table(("p", 0, 2), ("p", 1, 1))).judge.pairwise_ties_half
    assert (alone.value, alone.low, alone.high) == (1, None, None)
    without = measure_agreement(BY_HAND, n_bootstrap=0).judge.pairwise_ties_half
    assert (without.value, without.low, without.n_resamples) == (5 / 7, None, 0)


def test_a_thousand_resamples_of_five_hundred_prompts_take_under_two_seconds():
    rows = random_table(0, n_prompts=500)
    started = time.process_time()
    measure_agreement(rows)
    assert time.process_time() - started < 2


def test_samples_of_a_response_are_compared_with_each_other():
    """Samples (4,4), (3,5), (5,None), (2,2,None): over three responses, two agree; variances 0, 2, 0: mean 2/3.

    Alpha, values 4 4 3 5 2 2 (n = 6, sum 20, sum of squares 74): chance 6 * 74 - 400 = 44; within 0, 2 * 34 - 64 = 4,
    0: 1 - 5 * 4 / 44 = 6/11."""
    rows = table(("p", 0, 4), ("p", 1, 4), ("q", 0, 5), ("q", 1, 2))
    rows["scores"] = [[4, 4], [3, 5], [5, None], [2, 2, None]]
    consistency = measure_agreement(rows).self_consistency
    assert consistency is not None
    assert consistency.all_agree.value == pytest.approx(2 / 3)
    assert consistency.variance.value == pytest.approx(2 / 3)
    assert consistency.alpha.value == pytest.approx(6 / 11)
    assert (consistency.n_responses, consistency.n_left_out) == (3, 1)
    assert (consistency.n_samples, consistency.n_unscored_samples) == (9, 2)


# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): the four observers of section C and D (missing
# data, twelve units), the two observers of section A (binary) and B (nominal).
FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
BINARY = ["0100000010", "1110010000"]
NOMINAL = ["aabbdcccedda", "babbbccceddd"]


@pytest.mark.parametrize(
    ("observers", "metric", "published"),
    [
        pytest.param(FOUR_OBSERVERS, "nominal", 0.743, id="four observers, nominal"),
        pytest.param(FOUR_OBSERVERS, "interval", 0.849, id="four observers, interval"),
        pytest.param([[int(c) for c in row] for row in BINARY], "nominal", 0.095, id="binary"),
        pytest.param([[ord(c) for c in row] for row in NOMINAL], "nominal", 0.692, id="five categories"),
    ],
)
def test_alpha_is_what_krippendorff_publishes(observers, metric, published):
    units = list(zip(*observers, strict=True))
    assert krippendorff_alpha(units, metric) == pytest.approx(published, abs=0.0005)


@pytest.mark.parametrize("metric", ["nominal", "interval"])
@pytest.mark.parametrize("units", [[], [[1.0]], [[2.5, 2.5], [2.5, 2.5]]])
def test_alpha_is_undefined_where_there_is_nothing_to_disagree_about(units, metric):
    assert krippendorff_alpha(units, metric) is None


few_scores = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5, 4.0, 5.0]))
rated = st.tuples(st.sampled_from("abcd"), st.integers(0, 3), few_scores, st.integers(1, 9))


@st.composite
def measurable(draw):
    rows = [*draw(st.lists(rated, max_size=20)), ("z", 0, draw(few_scores), 3), ("z", 1, draw(few_scores), 2)]
    return rows, draw(st.permutations(rows))


def frame_of(rows: list[tuple[str, int, float | None, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["prompt_id", "human_rank", "score", "n_chars"])
    return frame.astype({"score": "float64"})


@given(measurable())
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_changes_nothing(both_orders):
    rows, shuffled = both_orders
    one = measure_agreement(frame_of(rows), n_bootstrap=20)
    assert one == measure_agreement(frame_of(shuffled), n_bootstrap=20)


@given(measurable())
@settings(max_examples=60, deadline=None)
def test_every_figure_is_within_its_bounds_and_its_interval(both_orders):
    agreement = measure_agreement(frame_of(both_orders[0]), n_bootstrap=20)
    record = agreement.to_dict()
    for judge in ("judge", "judge_unscored_wrong", "longest", "longest_where_scored", "random"):
        for name, figure in record[judge].items():
            least = -1 if "spearman" in name or "kendall" in name else 0
            for value in (figure["value"], figure["low"], figure["high"]):
                assert value is None or least - 1e-12 <= value <= 1 + 1e-12
    counts = agreement.counts
    outcomes = (
        counts.n_pairs_right,
        counts.n_pairs_score_tied,
        counts.n_pairs_wrong,
        counts.n_pairs_unscored,
    )
    assert counts.n_pairs == counts.n_pairs_human_tied + sum(outcomes)
    assert format_agreement(agreement)


@given(st.lists(st.permutations(range(4)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_turning_the_scores_round_turns_accuracy_a_into_one_minus_a(orders):
    rows = table(
        *[(f"p{k}", rank, float(s)) for k, order in enumerate(orders) for rank, s in enumerate(order)]
    )
    one = measure_agreement(rows, n_bootstrap=0).judge
    turned = measure_agreement(rows.assign(score=-rows.score), n_bootstrap=0).judge
    for name in ("pairwise_ties_left_out", "pairwise_ties_half", "pairwise_ties_wrong"):
        assert getattr(turned, name).value == pytest.approx(1 - getattr(one, name).value)
    assert turned.spearman.value == pytest.approx(-one.spearman.value)
    assert turned.kendall_tau.value == pytest.approx(-one.kendall_tau.value)


GOOD = [
    {
        "prompt_id": "p",
        "response_id": "a",
        "human_rank": 0,
        "score": 4.5,
        "scores": [4, 5],
        "response": "yes, so",
    },
    {
        "prompt_id": "p",
        "response_id": "b",
        "human_rank": 1,
        "score": None,
        "scores": [None, None],
        "response": "no",
    },
    {"prompt_id": "q", "response_id": "a", "human_rank": 0, "score": 3, "scores": [3, 3], "response": "é"},
    {"prompt_id": "q", "response_id": "b", "human_rank": 1, "score": 2, "scores": [2, None], "response": "1"},
]


def write(path: Path, rows: list) -> Path:
    """The rows in the format of the file's name."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".csv"):
        pd.DataFrame(rows).assign(scores=[json.dumps(row["scores"]) for row in rows]).to_csv(
            path, index=False
        )
    elif path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(lines if path.name.endswith(".jsonl") else json.dumps(rows))
    return path


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.json", "t.csv", "t.parquet"])
def test_every_kind_of_file_gives_the_same_measurement(tmp_path, name):
    agreement = measure_agreement(read_rows(write(tmp_path / name, GOOD)))
    assert agreement == measure_agreement(pa.Table.from_pylist(GOOD))
    assert agreement.counts.n_unscored == 1
    assert agreement.longest is not None
    assert agreement.self_consistency is not None


def changed(row: int, **cells) -> list[dict]:
    return [{**good, **cells} if k == row - 1 else good for k, good in enumerate(GOOD)]


def without(column: str) -> list[dict]:
    return [{name: cell for name, cell in row.items() if name != column} for row in GOOD]


NAN = float("nan")
BAD = [
    pytest.param(without("score"), ["no column score"], id="no score column"),
    pytest.param(without("human_rank"), ["no column human_rank"], id="no rank column"),
    pytest.param(without("prompt_id"), ["no column prompt_id"], id="no prompt column"),
    pytest.param(changed(2, human_rank=None), ["row 2", "human_rank", "nothing"], id="rank missing"),
    pytest.param(changed(3, score="3"), ["row 3", "column score", "'3'"], id="score as text"),
    pytest.param(changed(3, score=NAN), ["row 3", "column score", "nan", "NULL"], id="score NaN"),
    pytest.param(changed(3, score=True), ["row 3", "column score", "True"], id="score as boolean"),
    pytest.param(changed(4, scores=[2, "x"]), ["row 4", "column scores", "'x'"], id="sample as text"),
    pytest.param(changed(4, scores=2), ["row 4", "column scores", "list"], id="samples not a list"),
    pytest.param(changed(4, response_id="a"), ["row 4", "column response_id", "row 3"], id="duplicate id"),
    pytest.param(changed(1, prompt_id=None), ["row 1", "column prompt_id"], id="prompt id missing"),
    pytest.param(changed(1, response=None), ["row 1", "column response"], id="response missing"),
    pytest.param([GOOD[0], GOOD[2]], ["row 1", "prompt_id", "one response only"], id="one response each"),
    pytest.param(
        [{**row, "human_rank": 1} for row in GOOD], ["row 1", "human_rank", "the same"], id="ranks tied"
    ),
    pytest.param([], ["no"], id="empty"),
    pytest.param([GOOD[0], [1]], ["row 2", "[1]"], id="a row that is no object"),
]


@pytest.mark.parametrize(("rows", "words"), BAD)
@pytest.mark.parametrize("name", ["bad.jsonl", "bad.json"])
def test_a_bad_table_ends_in_one_sentence_that_names_column_and_row(tmp_path, name, rows, words):
    with pytest.raises(InputError) as caught:
        read_rows(write(tmp_path / name, rows))
    message = str(caught.value)
    assert message.startswith(name)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_csv_says_the_same_of_words_among_the_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("prompt_id,human_rank,score\np,0,4\np,1,four\n")
    with pytest.raises(InputError, match=r"t.csv, row 2, column score: found the text 'four'"):
        read_rows(path)
    path.write_text("prompt_id,human_rank,score\np,0,4\np,1\n")
    with pytest.raises(InputError, match=r"row 2 has 2 cells"):
        read_rows(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("t.jsonl", b'{"prompt_id": \n', id="broken JSON"),
        pytest.param("t.jsonl.gz", b"not gzip", id="not gzip"),
        pytest.param("t.jsonl.gz", gzip.compress(b"{}" * 500)[:-12], id="gzip cut off"),
        pytest.param("t.parquet", b"not parquet", id="not Parquet"),
        pytest.param("t.csv", b"prompt_id\n\xff\xfe", id="not UTF-8"),
        pytest.param("t.json", b"{}", id="JSON, no list"),
        pytest.param("t.txt", b"", id="unknown kind"),
        pytest.param("absent.csv", None, id="no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence_too(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        read_rows(tmp_path / name)


def test_a_nan_in_an_arrow_table_is_refused_and_in_a_frame_is_null():
    rows = changed(3, score=NAN)
    with pytest.raises(InputError, match="row 3, column score"):
        measure_agreement(pa.Table.from_pylist(rows))
    assert measure_agreement(pd.DataFrame(rows)).counts.n_unscored == 2


KEYS = ["prompt_id", "response_id"]


def split() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = pd.DataFrame(GOOD)
    return rows[[*KEYS, "human_rank", "response"]], rows[[*KEYS, "score", "response"]]


def test_ranks_and_scores_from_two_tables_join_whatever_their_order():
    ranks, scores = split()
    joined = join_rows(ranks, scores.iloc[::-1], KEYS)
    assert joined.human_rank.tolist() == [0, 1, 0, 1]
    assert joined.score.fillna(-1).tolist() == [4.5, -1, 3, 2]


def test_tables_that_do_not_join_say_how_many_and_which_first():
    ranks, scores = split()
    with pytest.raises(
        InputError, match=r"row 3.*prompt_id, response_id.*'q', 'a'.*2 of 4 rows.*2 rows of s.csv"
    ):
        join_rows(ranks, scores[:2], KEYS, left_name="r.csv", right_name="s.csv")
    with pytest.raises(InputError, match=r"s.csv, row 1.*first of 1 of 4"):
        join_rows(ranks[1:], scores, KEYS, right_name="s.csv")
    with pytest.raises(InputError, match=r"row 5.*stands in row 1 already"):
        join_rows(ranks, pd.concat([scores, scores[:1]]), KEYS)
    with pytest.raises(InputError, match=r"no column candidate_id"):
        join_rows(ranks, scores, "candidate_id")
    with pytest.raises(InputError, match=r"row 2, column response: 'no' where the right table has 'other'"):
        join_rows(ranks, scores.assign(response=["yes, so", "other", "é", "1"]), KEYS)


def test_the_table_shows_every_measure_with_its_n_and_the_paper_beside():
    rows = random_table(2)
    text = format_agreement(measure_agreement(rows))
    for word in (
        "78.7",
        "41.5",
        "13.1",
        "0.279",
        "0.253",
        "ties half",
        "ties wrong",
        "random",
        "longest",
        "alpha",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 120
    assert format_agreement(measure_agreement(rows, n_bootstrap=0)).count("[") == 0


def test_first_turn_replies_of_the_open_assistant_validation_set_are_measured():
    """188 trees and 542 ranked first-turn replies (data/README.md); labellers' `quality` stands in for a judge."""
    path = SHARED / "oasst" / "oasst1-en-validation.messages.jsonl.gz"
    if not path.exists():
        pytest.skip("the Open Assistant validation set is not in ../shared/data")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        messages = [json.loads(line) for line in file]
    roots = {message["message_id"] for message in messages if message["parent_id"] is None}
    rows = [
        {
            "prompt_id": message["parent_id"],
            "response_id": message["message_id"],
            "human_rank": message["rank"],
            "score": dict(zip(message["labels"]["name"], message["labels"]["value"], strict=True)).get(
                "quality"
            ),
            "response": message["text"],
        }
        for message in messages
        if message["parent_id"] in roots and message["rank"] is not None
    ]
    agreement = measure_agreement(pd.DataFrame(rows), perfect_score=1.0)
    assert (agreement.counts.n_rows, agreement.counts.n_pairs) == (542, 531)
    figure = agreement.judge.pairwise_ties_half
    assert figure.value is not None
    assert figure.low is not None
    assert 0.5 < figure.low < figure.value < 0.75


def test_pairs_of_similar_length_are_measured_by_themselves():
    """Lengths 100, 91 (within a tenth of 100), 50: one pair is alike, the judge has it wrong; the other two right."""
    rows = pd.DataFrame(
        {
            "prompt_id": ["p"] * 3 + ["q"] * 2,
            "human_rank": [1, 0, 2, 0, 1],
            "score": [4.0, 3.0, 1.0, 2.0, 2.0],
            "n_chars": [100, 91, 50, 10, 10],
        }
    )
    found = measure_agreement(rows, n_bootstrap=0).similar_length
    assert found is not None
    # One of p wrong, the tie of q half.
    assert (found.value, found.n) == (0.25, 2)
    assert measure_agreement(rows.drop(columns="n_chars"), n_bootstrap=0).similar_length is None

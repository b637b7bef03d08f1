"""Human verdicts: majority, agreement, a judge against people, position flips, and chosen/rejected tables."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.errors import InputError
from selfreward.judging.agreement.agreement import measure_agreement
from selfreward.judging.agreement.human import (
    ANNOTATORS,
    annotator_agreement,
    has_majority,
    majority_verdict,
    pair_rows,
    position_flips,
    preference_rows,
    read_pandalm,
    verdict_agreement,
    verdicts_from_scores,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PANDALM = SHARED / "human_pairs" / "pandalm-testset-v1.json.gz"

PAIR = {
    "idx": 0,
    "cmp_key": "bloom-7b_llama-7b",
    "instruction": "Add the numbers.",
    "input": "2 and 3",
    "response1": "5",
    "response2": "It is 6.",
    **dict(zip(ANNOTATORS, (1, 1, 0), strict=True)),
}


@pytest.mark.parametrize(
    ("verdicts", "majority", "decided"),
    [
        pytest.param([1, 1, 2], 1, True, id="two of three"),
        pytest.param([0, 0, 2], 0, True, id="tie by majority"),
        pytest.param([0, 1, 2], 0, False, id="three ways is a tie"),
        pytest.param([2, 1], 0, False, id="half is no majority"),
        pytest.param([2], 2, True, id="one annotator"),
    ],
)
def test_the_majority_is_more_than_half_and_a_tie_otherwise(verdicts, majority, decided):
    assert (majority_verdict(verdicts), has_majority(verdicts)) == (majority, decided)


def test_the_agreement_of_three_annotators_by_hand():
    """Pairs 111, 112, 012. Equal pairs of verdicts: 3 + 1 + 0 of 9. Unanimous: 1 of 3.

    Each against the rest: 111: 3 right. 112: the 1s face (1, 2), a split, so a tie: wrong; the 2 faces (1, 1): wrong.
    012: the 0 faces (1, 2), a tie: right; the 1 faces (0, 2), a tie: wrong; the 2 likewise. 4 of 9; decided 3 of 4.
    Alpha: values 0 x 1, 1 x 6, 2 x 2 (n = 9). Observed disagreement per pair (3 - sum n(n-1)/2): 0, 2, 3, so 5/9;
    expected (81 - (1 + 36 + 4)) / 72 = 5/9: alpha = 0."""
    agreement = annotator_agreement([[1, 1, 1], [1, 1, 2], [0, 1, 2]])
    assert agreement.pairwise.value == pytest.approx(4 / 9)
    assert agreement.unanimous.value == pytest.approx(1 / 3)
    assert (agreement.leave_one_out.value, agreement.leave_one_out.n) == (pytest.approx(4 / 9), 9)
    assert (agreement.leave_one_out_decided.value, agreement.leave_one_out_decided.n) == (3 / 4, 4)
    assert agreement.alpha.value == pytest.approx(0)
    assert (agreement.n_no_majority, agreement.majority_counts) == (1, {"tie": 1, "first": 2, "second": 0})


def test_annotators_are_a_table_of_two_or_more():
    with pytest.raises(InputError, match="two annotators or more"):
        annotator_agreement([[1], [2]])


def test_a_judge_against_the_majority_by_hand():
    """People 1 1 2 2 0 0, judge 1 2 2 None 0 1: same in 3 of 5 scored, 3 of 6 in all; both name a winner in 3 pairs, 2
    right. People say 0, 1, 2 twice each: 2 of 6 for a judge that always says one."""
    agreement = verdict_agreement([1, 2, 2, None, 0, 1], [1, 1, 2, 2, 0, 0])
    assert (agreement.accuracy.value, agreement.accuracy.n) == (3 / 5, 5)
    assert (agreement.accuracy_unscored_wrong.value, agreement.accuracy_unscored_wrong.n) == (3 / 6, 6)
    assert (agreement.accuracy_no_ties.value, agreement.accuracy_no_ties.n) == (pytest.approx(2 / 3), 3)
    assert agreement.commonest.value == pytest.approx(2 / 6)
    assert agreement.confusion["second"] == {"tie": 0, "first": 0, "second": 1, "unscored": 1}
    assert agreement.n_unscored == 1
    json.dumps(agreement.to_dict(), allow_nan=False)


def test_verdicts_that_are_none_or_do_not_match_are_refused():
    with pytest.raises(InputError, match="judge, row 2: found 3"):
        verdict_agreement([1, 3], [1, 1])
    with pytest.raises(InputError, match=r"2 judge's verdicts and 1"):
        verdict_agreement([1, 2], [1])


def test_a_pointwise_judge_gives_a_verdict_by_comparing_its_two_scores():
    verdicts = verdicts_from_scores([4.0, 1.0, 3.0, None, 2.0], [3.0, 2.0, 3.0, 1.0, float("nan")])
    assert verdicts == [1, 2, 0, None, None]


def test_flips_by_hand():
    """(1,2) and (2,1) name the same response twice, (0,0) a tie twice: kept. (1,1): the first shown won twice, (2,2)
    the second, (0,1): a tie once: flipped. (None,1): not counted. 3 of 6."""
    flips = position_flips([1, 2, 0, 1, 2, 0, None], [2, 1, 0, 1, 2, 1, 1])
    assert (flips.flipped.value, flips.flipped.n) == (3 / 6, 6)
    assert flips.first_twice.value == flips.second_twice.value == flips.tie_once.value == pytest.approx(1 / 6)
    assert (flips.n_pairs, flips.n_unscored) == (7, 1)


verdict_lists = st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 2))] * 2), min_size=1, max_size=20)


@given(verdict_lists)
@settings(max_examples=50, deadline=None)
def test_the_parts_of_the_flip_rate_add_up_to_it(pairs):
    flips = position_flips([ab for ab, _ in pairs], [ba for _, ba in pairs], n_bootstrap=10)
    if flips.flipped.value is None:
        assert flips.n_unscored == len(pairs)
        return
    parts = (flips.first_twice.value, flips.second_twice.value, flips.tie_once.value)
    assert sum(part for part in parts if part is not None) == pytest.approx(flips.flipped.value)


def written(tmp_path: Path, pairs: object) -> Path:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(pairs))
    return path


def test_a_pandalm_pair_is_read_with_its_majority(tmp_path):
    second = {
        **PAIR,
        "idx": 1,
        "input": "",
        "response1": True,
        **dict(zip(ANNOTATORS, (0, 1, 2), strict=True)),
    }
    first, other = read_pandalm(written(tmp_path, [PAIR, second])).to_dict("records")
    assert (first["prompt"], first["majority"], first["has_majority"]) == (
        "Add the numbers.\n\n2 and 3",
        1,
        True,
    )
    assert (first["model_1"], first["model_2"]) == ("bloom-7b", "llama-7b")
    assert (other["prompt"], other["response_1"]) == ("Add the numbers.", "True")
    assert (other["majority"], other["has_majority"]) == (0, False)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        pytest.param([{**PAIR, "annotator2": 3}], "row 1, column annotator2: found 3", id="not a verdict"),
        pytest.param(
            [{**PAIR, "annotator2": "1"}], "row 1, column annotator2: found '1'", id="verdict as text"
        ),
        pytest.param([PAIR, PAIR], "row 2, column idx: 0 stands in row 1", id="duplicate"),
        pytest.param([{**PAIR, "response2": None}], "row 1, column response2: found None", id="no response"),
        pytest.param([{"idx": 0}], "row 1 has no instruction", id="column missing"),
        pytest.param({"data": [PAIR]}, "holds one JSON object", id="no list"),
    ],
)
def test_a_bad_pandalm_file_names_row_and_column(tmp_path, pairs, message):
    with pytest.raises(InputError, match=message):
        read_pandalm(written(tmp_path, pairs))


def test_pairs_become_rows_for_a_pointwise_judge(tmp_path):
    tie = {**PAIR, "idx": 1, **dict(zip(ANNOTATORS, (0, 0, 2), strict=True))}
    rows = pair_rows(read_pandalm(written(tmp_path, [PAIR, tie])))
    assert rows.response_id.tolist() == ["0-1", "0-2", "1-1", "1-2"]
    assert rows.human_rank.tolist() == [0, 1, 0, 0]
    counts = measure_agreement(rows.assign(score=[3.0, 2.0, 3.0, 2.0])).counts
    assert (counts.n_pairs_right, counts.n_prompts_human_tied) == (1, 1)


def test_the_published_annotators_agree_as_their_verdicts_say():
    """Of 999 pairs 879 are unanimous (426 + 368 + 85) and 120 are two against one, none goes three ways; so of 2,997
    pairs of verdicts 879 * 3 + 120 are equal, and the majorities are 105, 422 and 472 (counted from the file)."""
    if not PANDALM.exists():
        pytest.skip("PandaLM's test set is not in ../shared/data")
    pairs = read_pandalm(PANDALM)
    agreement = annotator_agreement(pairs[list(ANNOTATORS)].to_numpy().tolist())
    assert agreement.unanimous.value == pytest.approx(879 / 999)
    assert agreement.pairwise.value == pytest.approx((879 * 3 + 120) / 2997)
    assert agreement.n_no_majority == 0
    assert agreement.majority_counts == {"tie": 105, "first": 422, "second": 472}
    lengths = verdicts_from_scores(pairs.response_1.str.len().tolist(), pairs.response_2.str.len().tolist())
    longest = verdict_agreement(lengths, pairs.majority.tolist())
    assert longest.accuracy.value is not None
    assert agreement.leave_one_out.value is not None
    assert longest.accuracy.value < agreement.leave_one_out.value


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize("as_arrow", [False, True])
def test_chosen_and_rejected_become_ranked_rows(as_arrow):
    columns = {"question": ["Why?", "Why?"], "good": ["because", "same"], "bad": ["so", "same"]}
    table = pa.table(columns) if as_arrow else pd.DataFrame(columns)
    rows = preference_rows(table, prompt="question", chosen="good", rejected="bad")
    assert rows.response.tolist() == ["because", "so", "same", "same"]
    assert rows.human_rank.tolist() == [0, 1, 0, 0]
    assert rows.prompt_id.nunique() == 2
    assert rows.response_id.is_unique


def test_message_lists_are_taken_apart():
    user, assistant = message("user", "Why?"), message("assistant", "Because.")
    implicit = pd.DataFrame(
        {"chosen": [[user, assistant]], "rejected": [[user, message("assistant", "No.")]]}
    )
    rows = preference_rows(implicit)
    assert (rows.prompt[0], rows.response.tolist()) == ("Why?", ["Because.", "No."])
    explicit = pd.DataFrame(
        {"prompt": [[user, assistant, message("user", "So?")]], "chosen": ["a"], "rejected": ["b"]}
    )
    assert preference_rows(explicit).prompt[0] == "User: Why?\n\nAssistant: Because.\n\nUser: So?"


def test_a_preference_table_that_does_not_fit_names_column_and_row():
    with pytest.raises(InputError, match="no column rejected; it has: prompt, chosen"):
        preference_rows(pd.DataFrame({"prompt": ["p"], "chosen": ["a"]}))
    with pytest.raises(InputError, match="Row 2, column rejected: found None"):
        preference_rows(pa.table({"prompt": ["p", "q"], "chosen": ["a", "b"], "rejected": ["c", None]}))
    with pytest.raises(InputError, match="Row 1, column chosen: the table has no column prompt"):
        preference_rows(pd.DataFrame({"chosen": ["a"], "rejected": ["b"]}))

"""The pair rules beyond the paper's, and the settings that every rule shares, on rows worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from selfreward.builders.pair_rules import check_needs, further_inputs, rule_text
from selfreward.builders.pairs import build
from selfreward.config.files import check_config
from selfreward.config.judging import PairsConfig
from selfreward.errors import InputError, UsageError
from selfreward.tables import Candidate, Judgement, Prompt, Score, to_table


def tables_of(rows):
    """`rows`: prompt_id, candidate_id, the judgements' scores (a list for each judge), and the model that answered."""
    prompts = [
        Prompt(p, 1, p, [], "g", True, None, None, None, 0, 0) for p in dict.fromkeys(r[0] for r in rows)
    ]
    candidates, scores, judgements = [], [], []
    models = list(dict.fromkeys(r[3] if len(r) > 3 else "M2" for r in rows))
    for number, (prompt_id, candidate_id, given, *more) in enumerate(rows):
        model = more[0] if more else "M2"
        of_each = given if isinstance(given[0], list) else [given]
        response = more[1] if len(more) > 1 else f"answer {candidate_id}"
        sample = 100 * models.index(model) + number
        candidates.append(
            Candidate(candidate_id, 1, prompt_id, sample, response, "stop", 1, len(response), model, 0, None)
        )
        first = of_each[0]
        mean = sum(first) / len(first)
        variance = sum((score - mean) ** 2 for score in first) / len(first)
        scores.append(
            Score(
                candidate_id, "a", "t", "sampled", 1, prompt_id, mean, variance, len(first), len(first), False
            )
        )
        judgements += [
            Judgement(f"{candidate_id}{judge}{i}", 1, prompt_id, candidate_id, i, judge, "t", "sampled", "", score,
                      "ok", "stop", 1, 1, False, 0)
            for judge, found in zip("ab", of_each, strict=False)
            for i, score in enumerate(found)
        ]  # fmt: skip
    judgements.sort(key=lambda row: row.judge)
    made = ((prompts, Prompt), (candidates, Candidate), (scores, Score), (judgements, Judgement))
    return {name: to_table(found, row) for name, (found, row) in zip(
        ("prompts", "candidates", "scores", "judgements"), made, strict=True)}  # fmt: skip


def make(rows, rule, text=None, **settings):
    tables = tables_of(rows)
    job = SimpleNamespace(
        table=lambda role: tables[role],
        inputs=tables,
        section=lambda name, cls: PairsConfig(**settings, rule=rule),
        texts={"rule": text or rule_text(rule)},
        iteration=1,
    )
    result = build(job)
    assert result.counts.n_in == result.counts.n_out + sum(result.counts.dropped.values())
    return [(r["chosen_id"], r["rejected_id"]) for r in result.table.to_pylist()], result.counts


def test_past_future_chooses_from_the_new_model_and_rejects_from_the_older():
    """The new model's worst (1.0) is not rejected, the older's best (5.0) not chosen; in q the old one is not beaten."""
    rows = [("p", "a", [4, 4], "M2"), ("p", "b", [1, 1], "M2"), ("p", "c", [5, 5], "M1"), ("p", "d", [2, 2], "M1"),
            ("q", "e", [3, 3], "M2"), ("q", "f", [3, 3], "M1")]  # fmt: skip
    pairs, counts = make(rows, "past_future")
    assert pairs == [("a", "d")]
    assert counts.dropped == {"tied": 1}


def test_consistent_keeps_prompts_that_two_judges_rank_alike():
    """p: judge a says 3 > 2 > 1, b says 5 > 4 > 0, tau 1. q: b reverses one of three comparisons, tau (2 - 1) / 3.
    r: b is tied, tau 0."""
    rows = [("p", "a", [[3], [5]]), ("p", "b", [[2], [4]]), ("p", "c", [[1], [0]]),
            ("q", "d", [[3], [4]]), ("q", "e", [[2], [5]]), ("q", "f", [[1], [0]]),
            ("r", "g", [[3], [2]]), ("r", "h", [[1], [2]])]  # fmt: skip
    assert make(rows, "consistent", min_consistency=0.34)[0] == [("a", "c")]
    assert make(rows, "consistent", min_consistency=0.33)[0] == [("a", "c"), ("d", "f")]
    assert make(rows, "consistent")[0] == [("a", "c"), ("d", "f"), ("g", "h")]


def test_margin_in_errors_is_the_margin_in_units_of_the_judge_s_sampling_error():
    """Each candidate's two judgements lie 1 apart: variance 0.5 of one judgement, so that the difference of two means has
    the standard error sqrt(0.5 (1/2 + 1/2)) = 0.707. p differs by 1 = 1.41 of them, q by 2 = 2.83."""
    rows = [("p", "a", [3, 4]), ("p", "b", [2, 3]), ("q", "c", [3, 4]), ("q", "d", [1, 2])]
    assert make(rows, "margin_in_errors", min_margin=1.41)[0] == [("a", "b"), ("c", "d")]
    assert make(rows, "margin_in_errors", min_margin=1.42)[0] == [("c", "d")]


def test_near_ties_drops_what_the_range_test_cannot_tell_apart():
    """As above; 4 degrees of freedom and 2 answers: the 95 % quantile of the studentized range is 3.926 (any table), and
    the answers must differ by 3.926 sqrt(0.5 / 2 (1/2 + 1/2)) = 1.963. p differs by 1, q by 2."""
    rows = [("p", "a", [3, 4]), ("p", "b", [2, 3]), ("q", "c", [3, 4]), ("q", "d", [1, 2])]
    pairs, counts = make(rows, "near_ties")
    assert pairs == [("c", "d")]
    assert counts.dropped == {"rule": 1}
    assert make(rows, "near_ties", level=0.01)[0] == []


def test_rules_about_the_sampling_error_need_two_judgements_of_a_candidate():
    with pytest.raises(
        InputError, match=r"no candidate has two scored judgements.*judging.samples of 2 or more"
    ):
        make([("p", "a", [3]), ("p", "b", [2])], "near_ties")


def test_all_pairs_gives_the_widest_margins_of_a_prompt_up_to_per_prompt():
    rows = [("p", "a", [5]), ("p", "b", [3]), ("p", "c", [1]), ("q", "d", [2]), ("q", "e", [2])]
    pairs, counts = make(rows, "all_pairs", per_prompt=2)
    assert pairs == [("a", "c"), ("a", "b")]
    assert (counts.n_in, counts.dropped) == (3, {"tied": 1})
    assert make(rows, "all_pairs", per_prompt=9)[0] == [("a", "c"), ("a", "b"), ("b", "c")]
    assert make(rows, "all_pairs", per_prompt=9, min_margin=2)[0] == [("a", "c")]


def test_more_pairs_than_per_prompt_and_repeated_ones_are_refused():
    rows = [("p", "a", [5]), ("p", "b", [3]), ("p", "c", [1])]
    every = "SELECT a.prompt_id, a.candidate_id AS chosen_id, b.candidate_id AS rejected_id FROM eligible a, eligible b"
    with pytest.raises(InputError, match=r"more pairs for a prompt than pairs.per_prompt 1"):
        make(rows, "mine", f"{every} WHERE a.score > b.score")
    twice = f"{every} WHERE a.score > b.score AND b.score = 1 AND a.score = 5"
    with pytest.raises(InputError, match="returns a pair twice"):
        make(rows, "mine", f"{twice} UNION ALL {twice}", per_prompt=2)


def test_candidates_with_too_few_scored_judgements_enter_no_pair():
    rows = [("p", "a", [5]), ("p", "b", [3, 3]), ("p", "c", [1, 1]), ("q", "d", [5]), ("q", "e", [1, 1])]
    pairs, counts = make(rows, "max_min", min_scored=2)
    assert pairs == [("b", "c")]
    assert counts.dropped == {"too_few_scored": 1}
    assert counts.notes["candidates_excluded"] == {"too_few_scored": 2}


def test_a_pair_of_nearly_equal_answers_is_dropped_by_the_audit_s_measure():
    """Seven words have three runs of five. One word changed at the end leaves two of them: 2 / (3 + 3 - 2) = 0.5."""
    rows = [("p", "a", [5], "M2", "one two three four five six seven"),
            ("p", "b", [1], "M2", "one two three four five six eight")]  # fmt: skip
    assert make(rows, "max_min", max_similarity=0.5)[0] == [("a", "b")]
    assert make(rows, "max_min", max_similarity=0.49)[1].dropped == {"near_identical": 1}


def test_a_rule_gets_the_inputs_that_it_names_and_no_others():
    assert further_inputs(rule_text("max_min"), 3) == {}
    assert further_inputs(rule_text("consistent"), 3) == {"judgements": "iter3/judgements"}
    assert further_inputs("FROM earlier_scores", 3) == {"scores1": "iter1/scores", "scores2": "iter2/scores"}
    assert further_inputs("-- earlier_scores\nFROM eligible", 3) == {}


def test_a_rule_that_needs_what_the_run_has_not_is_refused_before_it_starts():
    config = check_config({"pairs": {"rule": "consistent"}}, "test")
    with pytest.raises(
        UsageError, match=r"compares the scores of 2 judges, but iteration 1 has 1 \(judging.judge\)"
    ):
        check_needs(rule_text("consistent"), config, 1)
    first = check_config({"pairs": {"rule": "past_future"}, "candidates": {"also": ["first"]}}, "test")
    # In the first iteration M1 is the model itself.
    with pytest.raises(UsageError, match=r"answers of 2 models, but iteration 1 has 1"):
        check_needs(rule_text("past_future"), first, 1)
    check_needs(rule_text("past_future"), first, 2)

"""Pair rules on tables small enough to work out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from selfreward.builders.pairs import build, rule_text
from selfreward.config.judging import PairsConfig
from selfreward.errors import InputError, UsageError
from selfreward.tables import Candidate, Prompt, Score, to_table

SETTINGS = {"min_margin": 0.0, "length_band": 0.5, "positive_score": 5.0, "allow_injection_suspected": False}


def make_pairs(rows, rule="max_min", text=None, **settings):
    """`rows`: prompt_id, candidate_id, score, n_chars, and optionally changes to the candidate or score row."""
    prompts = [
        Prompt(p, 1, f"prompt {p}", [], "g", True, None, None, None, 0, 0)
        for p in dict.fromkeys(r[0] for r in rows)
    ]
    candidates, scores = [], []
    for number, (prompt_id, candidate_id, score, n_chars, *more) in enumerate(rows):
        changes = more[0] if more else {}
        response = changes.get("response", candidate_id * n_chars)
        candidates.append(
            Candidate(
                candidate_id,
                1,
                prompt_id,
                number,
                response,
                changes.get("finish_reason", "stop"),
                1,
                n_chars,
                "m",
                0,
                None,
            )
        )
        scores.append(
            Score(
                candidate_id,
                "m",
                "t",
                "sampled",
                1,
                prompt_id,
                score,
                changes.get("variance", 0.0),
                3,
                3,
                changes.get("injection", False),
            )
        )
    tables = {
        "prompts": to_table(prompts, Prompt),
        "candidates": to_table(candidates, Candidate),
        "scores": to_table(scores, Score),
    }
    values = {**SETTINGS, **settings, "rule": rule}
    job = SimpleNamespace(
        table=lambda role: tables[role],
        section=lambda name, cls: PairsConfig(**values),
        texts={"rule": text or rule_text(rule)},
        iteration=1,
    )
    result = build(job)
    assert result.counts.n_in == result.counts.n_out + sum(result.counts.dropped.values())
    pairs = {(r["prompt_id"], r["chosen_id"], r["rejected_id"]) for r in result.table.to_pylist()}
    return pairs, result.counts


def test_max_min_takes_the_highest_against_the_lowest_score():
    pairs, counts = make_pairs([("p", "a", 3.0, 5), ("p", "b", 4.5, 5), ("p", "c", 1.0, 5)])
    assert pairs == {("p", "b", "c")}
    assert counts.n_out == 1


def test_equal_scores_give_no_pair_and_are_counted_as_tied():
    pairs, counts = make_pairs([("p", "a", 3.0, 5), ("p", "b", 3.0, 5)])
    assert not pairs
    assert counts.dropped == {"tied": 1}


def test_equal_maxima_are_broken_by_lower_variance_then_lower_sample():
    rows = [("p", "a", 4.0, 5, {"variance": 0.5}), ("p", "b", 4.0, 5, {"variance": 0.1}), ("p", "c", 1.0, 5),
            ("q", "d", 4.0, 5), ("q", "e", 4.0, 5), ("q", "f", 1.0, 5)]  # fmt: skip
    assert make_pairs(rows)[0] == {("p", "b", "c"), ("q", "d", "f")}


def test_unscored_truncated_empty_and_failed_candidates_never_enter_a_pair():
    rows = [("p", "a", 4.0, 5), ("p", "b", None, 5), ("p", "c", 0.0, 5, {"finish_reason": "length"}),
            ("p", "d", 0.0, 5, {"finish_reason": "error"}), ("p", "e", 0.0, 0, {"response": " "}),
            ("p", "f", 2.0, 5)]  # fmt: skip
    pairs, counts = make_pairs(rows)
    assert pairs == {("p", "a", "f")}
    assert counts.notes["candidates_excluded"] == {"unscored": 1, "truncated": 1, "failed": 1, "empty": 1}


def test_a_flagged_candidate_may_be_rejected_but_not_chosen_unless_configured():
    rows = [("p", "a", 5.0, 5, {"injection": True}), ("p", "b", 3.0, 5), ("p", "c", 1.0, 5)]
    assert make_pairs(rows)[0] == {("p", "b", "c")}
    assert make_pairs(rows, allow_injection_suspected=True)[0] == {("p", "a", "c")}


def test_identical_texts_give_no_pair():
    rows = [("p", "a", 5.0, 5, {"response": "same"}), ("p", "b", 1.0, 5, {"response": "same"})]
    assert make_pairs(rows)[1].dropped == {"identical_text": 1}


def test_margin_needs_more_than_the_margin():
    rows = [("p", "a", 3.0, 5), ("p", "b", 2.0, 5), ("q", "c", 3.5, 5), ("q", "d", 2.0, 5)]
    pairs, counts = make_pairs(rows, "margin", min_margin=1.0)
    assert pairs == {("q", "c", "d")}
    assert counts.dropped == {"rule": 1}


def test_length_controlled_takes_the_shortest_near_the_top_and_the_longest_near_the_bottom():
    """Band 0.5: near the top (4.5 and up) are a (9 characters) and b (3); near the bottom (1.5 and down) c (4) and d (8)."""
    rows = [
        ("p", "a", 5.0, 9),
        ("p", "b", 4.5, 3),
        ("p", "c", 1.0, 4),
        ("p", "d", 1.5, 8),
        ("p", "e", 3.0, 1),
    ]
    assert make_pairs(rows, "length_controlled")[0] == {("p", "b", "d")}


def test_length_controlled_with_overlapping_bands_gives_no_pair():
    assert make_pairs([("p", "a", 3.4, 9), ("p", "b", 3.0, 3)], "length_controlled")[0] == set()


def test_positive_only_needs_the_perfect_score():
    rows = [("p", "a", 4.9, 5), ("p", "b", 2.0, 5), ("q", "c", 5.0, 5), ("q", "d", 2.0, 5)]
    assert make_pairs(rows, "positive_only")[0] == {("q", "c", "d")}


def test_a_rule_of_the_users_own_is_checked():
    text = "SELECT prompt_id, min(candidate_id) AS chosen_id, max(candidate_id) AS rejected_id FROM eligible GROUP BY ALL"
    assert make_pairs([("p", "a", 4.0, 5), ("p", "b", 1.0, 5)], text=text)[0] == {("p", "a", "b")}
    with pytest.raises(InputError, match="does not beat"):
        make_pairs([("p", "a", 1.0, 5), ("p", "b", 4.0, 5)], text=text)
    with pytest.raises(InputError, match="expected also"):
        make_pairs([("p", "a", 4.0, 5)], text="SELECT prompt_id FROM eligible")


def test_an_unknown_rule_names_the_known_ones():
    with pytest.raises(UsageError, match=r"length_controlled, margin, margin_in_errors, max_min, near_ties"):
        rule_text("best_worst")

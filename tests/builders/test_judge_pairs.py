"""Pairs of judgements on comparisons small enough to work out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from selfreward.builders.eft import allowed_per_score
from selfreward.builders.judge_pairs import build
from selfreward.config.meta import MetaConfig
from selfreward.judging.judgements import template_name
from selfreward.tables import Candidate, Judgement, MetaJudgement, Prompt, from_table, to_table
from selfreward.tables import JudgePair as Row

TEMPLATE = "Grade {{ instruction }}: {{ response }}"


def make(judgements, comparisons, answer_pairs=10, template=TEMPLATE, **settings):
    """`judgements`: id -> (candidate, text, score). `comparisons`: (first, second, winner)."""
    candidates = sorted({candidate for candidate, _, _ in judgements.values()})
    rows = {
        "prompts": to_table([Prompt("p", 1, "Why?", [], "g", True, None, None, None, 0, 0)], Prompt),
        "candidates": to_table(
            [Candidate(c, 1, "p", n, f"answer {c}", "stop", 1, 8, "m", 0, None) for n, c in enumerate(candidates)],
            Candidate,
        ),
        "judgements": to_table(
            [Judgement(id, 1, "p", c, n, "m", template_name(template), "sampled", text, score, "ok", "stop", 1, 1, False, 0)
             for n, (id, (c, text, score)) in enumerate(judgements.items())],
            Judgement,
        ),
        "meta_judgements": to_table(
            [MetaJudgement(f"mj-{n}", 1, "p", judgements[a][0], a, b, "m", "t", "text", winner,
                           "ok" if winner else "no_score", "stop", 1, 0)
             for n, (a, b, winner) in enumerate(comparisons)],
            MetaJudgement,
        ),
    }  # fmt: skip
    values = {"max_share_per_score": 1.0, "max_share": 0.9, **settings}
    job = SimpleNamespace(
        table=lambda role, columns=None: rows[role].select(columns) if columns else rows[role],
        section=lambda name, cls: MetaConfig(**values),
        texts={"judge_template": TEMPLATE},
        inputs={"pairs": SimpleNamespace(n_rows=answer_pairs)},
        iteration=1,
        seed=0,
    )
    result = build(job)
    result.counts.check("judge_pairs", result.table.num_rows)
    return from_table(result.table, Row), result.counts


JUDGED = {"j1": ("c", "Brief. Score: 2", 2.0), "j2": ("c", "Wordy. Score: 5", 5.0), "j3": ("c", "Third. Score: 3", 3.0)}  # fmt: skip
BOTH = [("j1", "j2", "first"), ("j2", "j1", "second")]


def test_the_judgement_that_wins_in_both_orders_is_chosen_with_the_judges_own_prompt():
    (pair,), counts = make(JUDGED, BOTH)
    assert (pair.chosen_id, pair.rejected_id, pair.chosen_score, pair.rejected_score) == (
        "j1",
        "j2",
        2.0,
        5.0,
    )
    assert [message.content for message in (*pair.prompt, *pair.chosen, *pair.rejected)] == [
        "Grade Why?: answer c",
        "Brief. Score: 2",
        "Wordy. Score: 5",
    ]
    assert (counts.n_in, counts.n_out, counts.dropped) == (1, 1, {})


@pytest.mark.parametrize(
    ("comparisons", "settings", "reason"),
    [
        ([("j1", "j2", None), ("j2", "j1", None)], {}, "no_winner_named"),
        ([("j1", "j2", "first"), ("j2", "j1", "first")], {}, "tied"),
        ([("j1", "j2", "tie"), ("j2", "j1", "tie")], {}, "tied"),
        ([("j1", "j2", "first"), ("j2", "j1", "tie")], {"positions": "consistent"}, "tied"),
        (BOTH, {"max_length_ratio": 0.5}, "chosen_too_long"),
        (BOTH, {"template": "Other {{ instruction }}: {{ response }}"}, "other_template"),
        (BOTH, {"answer_pairs": 0}, "over_max_share"),
    ],
)
def test_an_answer_without_a_pair_is_counted_under_its_reason(comparisons, settings, reason):
    rows, counts = make(JUDGED, comparisons, **settings)
    assert (rows, counts.n_in, counts.dropped) == ([], 1, {reason: 1})


def test_the_same_text_twice_is_no_pair():
    judged = {**JUDGED, "j2": ("c", "Brief. Score: 2 ", 2.0)}
    assert make(judged, BOTH)[1].dropped == {"identical_text": 1}


def test_of_equal_ratings_the_shorter_is_chosen_and_the_longer_rejected():
    """Both j1 and j2 beat j3; then j3 and j4 lose to both alike."""
    judged = {
        "j1": ("c", "Longer text. Score: 2", 2.0), "j2": ("c", "Short. Score: 4", 4.0),
        "j3": ("c", "Bad. Score: 1", 1.0), "j4": ("c", "Bad and long. Score: 1", 1.0),
    }  # fmt: skip
    shown = [
        (a, b, w)
        for x in ("j1", "j2")
        for y in ("j3", "j4")
        for a, b, w in ((x, y, "first"), (y, x, "second"))
    ]
    ((pair,), _) = make(judged, shown)
    assert (pair.chosen_id, pair.rejected_id) == ("j2", "j4")


def many(n, score):
    judged = {
        f"{s}{n_}": (f"c{n_}", f"{s} {n_}", score(n_) if s == "a" else 0.0) for n_ in range(n) for s in "ab"
    }
    shown = [
        (x, y, w)
        for n_ in range(n)
        for x, y, w in ((f"a{n_}", f"b{n_}", "first"), (f"b{n_}", f"a{n_}", "second"))
    ]
    return judged, shown


def test_pairs_of_judgements_are_at_most_their_share_of_the_step():
    """30 % of a step with 7 pairs of answers are 3; of 50 % and 4 pairs of answers, 4."""
    judged, shown = many(8, lambda n: float(n % 4))
    rows, counts = make(judged, shown, answer_pairs=7, max_share=0.3)
    assert (len(rows), counts.dropped) == (3, {"over_max_share": 5})
    assert len(make(judged, shown, answer_pairs=4, max_share=0.5)[0]) == 4


def test_a_common_score_is_thinned_out():
    """Scores 4 4 4 4 4 4 1 2: a share of 0.5 leaves two of the six 4s, so that they are half of four."""
    judged, shown = many(8, lambda n: 4.0 if n < 6 else float(n - 5))
    rows, counts = make(judged, shown, max_share_per_score=0.5)
    assert sorted(row.chosen_score for row in rows) == [1.0, 2.0, 4.0, 4.0]
    assert counts.dropped == {"score_too_common": 4}


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({4.0: 8, 3.0: 2, 1.0: 4}, 0.4, {4.0: 4, 3.0: 2, 1.0: 4}),  # 4 of 10, and then 4 of 10
        ({4.0: 8, 3.0: 2}, 0.4, {4.0: 8, 3.0: 2}),  # two scores cannot each have at most 40 %
        ({}, 0.4, {}),
    ],
)
def test_what_may_stay_of_each_score(counts, share, expected):
    assert allowed_per_score(counts, share) == expected

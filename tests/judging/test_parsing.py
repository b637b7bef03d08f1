"""The score parser against a hand-labelled corpus, generated texts and properties.

`data/judge_replies.jsonl` was written and labelled by hand for this project: `score` and `status` are what a
careful person says about the reply, `why` is the reason.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.judging.parsing.scores import ParsedScore, parse_score

REPLIES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "judge_replies.jsonl").read_text("utf-8").splitlines()
]
STATUSES = {"ok", "no_score", "out_of_range", "truncated", "empty", "engine_error"}
FRAGMENTS = [
    "Score: ", "score", "Score:", "**", "4", "4.5", "/5", " out of 5", "\n", "\n\n", "> ", '"', "“", "”", "'", "<think>",
    "</think>", "<response>", "</response>", "`", "total ", "Rating: ", "is ", "of ", "not a ", "would be too ", "½", "、",
    "３", "：", "İ", "\u200b", "\x00", "\ud800", "-", " - ", "+ 1 ", "= 3", "%", "| ", "{\"score\": ", "}", "\\boxed{",
    "three", "The response says ", "I give it ", "1,000", " " * 50, "5" * 40, "\r\n", "🌟", "评分：", "(0-5)", ", ",
    "[[", "]]", "[RESULT] ", "<|channel|>analysis<|message|>", "<|channel|>final<|message|>", '{"rating": "', '"}', "[{", "}]",
    "Empathy ", "brings the score to ", "would earn it a score of ", "점수는 ", "점입니다",
]  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply["id"])
def test_a_reply_is_read_as_a_careful_person_reads_it(reply):
    parsed = parse_score(reply["text"], reply.get("finish_reason", "stop"))
    assert (parsed.score, parsed.status) == (reply["score"], reply["status"]), reply["why"]


def test_the_corpus_is_large_and_covers_every_status():
    """At least 250 different replies, each with its own id, and every status of the `judgements` table."""
    assert len({(reply["text"], reply.get("finish_reason")) for reply in REPLIES}) == len(REPLIES) >= 250
    assert len({reply["id"] for reply in REPLIES}) == len(REPLIES)
    assert set(Counter(reply["status"] for reply in REPLIES)) == STATUSES


def test_a_hundred_thousand_generated_texts_raise_nothing_and_keep_the_contract():
    """Texts of 1 to 12 fragments that mean something to the parser, lone surrogates and NUL among them."""
    rng = random.Random(7)
    counts: Counter[str] = Counter()
    for _ in range(100_000):
        text = "".join(rng.choices(FRAGMENTS, k=rng.randint(1, 12)))
        parsed = parse_score(text, "length" if rng.random() < 0.2 else "stop")
        counts[parsed.status] += 1
        assert (parsed.score is None) == (parsed.status != "ok")
        assert parsed.score is None or 0 <= parsed.score <= 5
    assert set(counts) == STATUSES - {"engine_error"}, counts


def test_a_deeply_nested_object_is_read_like_any_broken_one():
    assert parse_score('{"score":' * 100_000).status == "no_score"
    assert parse_score("Score: 3\n" + '{"a":[' * 3_000).score == 3


def without_open_marks(text: str) -> bool:
    """Nothing is open at the end that would make the next line a reasoning block or a quotation."""
    return not any(mark in text.lower() for mark in ("<", "["))


@given(st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join))
@settings(max_examples=400, deadline=None)
def test_a_total_on_a_new_last_line_counts_whatever_comes_before(text):
    if without_open_marks(text):
        announced = text.rstrip().endswith(":")  # "it claims:" makes the next line a quotation
        assert announced or parse_score(text + "\nTotal score: 3") == ParsedScore(3.0, "ok")


@given(
    st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join),
    st.sampled_from(["stop", "length", "error", "?"]),
)
@settings(max_examples=400, deadline=None)
def test_a_score_is_a_number_in_the_range_exactly_where_the_status_is_ok(text, finish_reason):
    parsed = parse_score(text, finish_reason)
    assert parsed.status in STATUSES
    if parsed.status == "ok":
        assert parsed.score is not None
        assert math.isfinite(parsed.score)
        assert 0 <= parsed.score <= 5
    else:
        assert parsed.score is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["Warmth", "Humor", "Use of sources"]), st.integers(0, 5)), max_size=4
    ),
    st.lists(st.tuples(st.sampled_from(["Rhythm", "Rhyme"]), st.integers(0, 5)), max_size=4),
    st.integers(0, 5),
    st.sampled_from(
        ["Total score: {}", "**Overall score:** {}/5", "Final score: {}.", "Score: {}", "[[{}]]"]
    ),
)
def test_the_total_counts_whatever_parts_stand_before_and_after_it(before, after, total, form):
    lines = [f"{name} score: {n}" for name, n in before]
    lines += [form.format(total), *(f"{name} score: {n}" for name, n in after)]
    assert parse_score("\n".join(lines)).score == total


@given(
    st.dictionaries(st.sampled_from(["why", "wit_score", "confidence"]), st.integers(0, 5)), st.integers(0, 5)
)
def test_the_score_at_the_top_of_an_object_counts_wherever_it_stands(others, score):
    """Keys around it, an object of parts inside it, figures as numbers or texts."""
    parts = {"parts": [{"score": n} for n in others.values()]}
    for value in (score, str(score), f"{score}/5"):
        for fields in ({"score": value, **others, **parts}, {**parts, **others, "score": value}):
            assert parse_score(json.dumps(fields)).score == score
            assert parse_score("It is so.\n```json\n" + json.dumps(fields, indent=2) + "\n```").score == score


@given(st.decimals(min_value=0, max_value=5, places=2))
def test_every_decimal_in_the_range_is_read_back_as_written(value):
    assert parse_score(f"Good.\n\n**Score:** {value}/5").score == float(value)


@pytest.mark.parametrize(
    ("text", "score", "status"),
    [
        ("Score: 8", 8.0, "ok"),
        ("Score: 8/10", 8.0, "ok"),
        ("I'd rate it 8 out of 10.", 8.0, "ok"),
        ("Score (1-10): 8", 8.0, "ok"),
        ("Score: 0", None, "out_of_range"),
        ("Score: 4/5", None, "out_of_range"),
        ("Score: 10", 10.0, "ok"),
        ("Score: 11", None, "out_of_range"),
    ],
)
def test_another_range_moves_the_limits_and_the_denominator(text, score, status):
    assert parse_score(text, minimum=1, maximum=10) == ParsedScore(score, status)


def test_the_last_statement_is_found_behind_a_megabyte_of_text():
    filler = "The response is fine and has many words. " * 25_000
    assert parse_score("Score: 2\n" + filler).score == 2
    assert parse_score(filler + "\nScore: 2").score == 2
    assert parse_score("Score: 2\n<think>" + filler).score == 2


def test_a_loop_of_mentions_without_a_figure_hides_what_stands_before_it():
    """Two mentions a line, 500 are looked at: a bound on hostile text that fails safe, to no score."""
    assert parse_score("Score: 4\n" + "Score: <total points>\n" * 200).score == 4
    assert parse_score("Score: 4\n" + "Score: <total points>\n" * 1000).status == "no_score"


def test_the_reply_is_not_read_beyond_a_paragraph_break_for_quotation_marks():
    """A stray mark in an earlier paragraph does not turn the score into a quotation."""
    assert parse_score('He said "yes.\n\nIt is fine.\n\nScore: 4\n\nThe "end.').score == 4

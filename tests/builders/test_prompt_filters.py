"""Self-Instruct's filters, reading generated prompts, and overlap with evaluation sets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.builders.self_instruct.filters import (
    REASONS,
    GeneratedPrompt,
    answer_prefix,
    filter_prompt,
    parse_generated_prompt,
    render_demonstrations,
    stop_strings,
)
from selfreward.similarity.overlap import EvaluationIndex, Overlap

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("Name three rivers.", "too_short", id="three words"),
        pytest.param("Name three long rivers.", None, id="four words"),
        pytest.param("word " * 150, None, id="150 words"),
        pytest.param("word " * 151, "too_long", id="151 words"),
        pytest.param("", "too_short", id="empty"),
        pytest.param("Write a program that sorts names.", "starts_with_write_a_program", id="program"),
        pytest.param("write a Program that sorts names.", "starts_with_write_a_program", id="any case"),
        pytest.param("Explain how to write a program.", None, id="program later on"),
        pytest.param("- tell me a joke", "starts_with_punctuation", id="dash"),
        pytest.param("$5 buys how much tea?", "starts_with_punctuation", id="dollar"),
        pytest.param("“Carpe diem” means what exactly?", "starts_with_punctuation", id="curly quote"),
        pytest.param("Écris un poème sur l'hiver.", "starts_with_non_english", id="accent"),
        pytest.param("日本 は どこ です か", "starts_with_non_english", id="another script"),
        pytest.param("3 ways to tie a knot?", None, id="digit"),
        pytest.param("Describe this Image in detail.", "mentions_unavailable", id="image"),
        pytest.param("Sort the maps by their age.", "mentions_unavailable", id="maps"),
        pytest.param("Where should I go  to rest?", "mentions_unavailable", id="go to"),
        pytest.param("Please draw a red cat.", "mentions_unavailable", id="draw"),
        pytest.param("Explain drawing, plotting, and a paragraph.", None, id="only whole words"),
        pytest.param("Imagine you go together with me.", None, id="go together"),
    ],
)
def test_a_filter_names_its_reason(text, reason):
    assert filter_prompt(text, "stop") == reason
    assert reason is None or reason in REASONS


def test_a_truncated_prompt_is_refused_before_anything_else():
    assert filter_prompt("Name three long rivers.", "length") == "truncated"
    assert filter_prompt("", "length") == "truncated"


WANTED = "Explain why the sky is blue."


@pytest.mark.parametrize(
    "completion",
    [
        pytest.param(WANTED, id="bare"),
        pytest.param(f" {WANTED}\n", id="after a prefix"),
        pytest.param(f"Task 9: {WANTED}", id="labelled"),
        pytest.param(f"**Task 9:** {WANTED}", id="bold label"),
        pytest.param(f"**Task 9: {WANTED}**", id="all bold"),
        pytest.param(f"### Task 9\n**Instruction:** {WANTED}", id="two headings"),
        pytest.param(f'9. "{WANTED}"', id="numbered and quoted"),
        pytest.param(f"9) {WANTED}\n10) Name three", id="the list goes on"),
        pytest.param(f"{WANTED}\nTask 10: Name three", id="labels go on"),
        pytest.param(f"{WANTED} Task 10: Name three", id="label on the same line"),
        pytest.param(f"Sure! Here is a new task:\n\n{WANTED}", id="polite"),
        pytest.param(f"Here's a new task:\n\n1. {WANTED}\n2. Name three rivers.", id="polite list"),
        pytest.param(f"Task: {WANTED}\nAnswer: Because of Rayleigh.", id="solved as well"),
        pytest.param(f"{WANTED}\n\nThe answer is: Rayleigh.", id="solved in a sentence"),
        pytest.param(f"New task: “{WANTED}”", id="curly quotes"),
        pytest.param(f"- `{WANTED}`", id="bullet and code"),
        pytest.param(
            f"Task 8: Old one.\nTask 9: {WANTED}\nTask 10: Next.", id="repeats the last demonstration"
        ),
    ],
)
def test_one_prompt_is_read_from_many_shapes(completion):
    assert parse_generated_prompt(completion, "stop") == GeneratedPrompt(WANTED, "stop")


@pytest.mark.parametrize(
    "completion",
    [
        pytest.param("Put these in order:\n1. pear\n2. apple", id="a list inside the prompt"),
        pytest.param("Sort:\n" + "\n".join(f"{n}. item" for n in range(1, 12)), id="a list past ten"),
        pytest.param("Here is a poem:\nRoses are red.\nGo on with it.", id="a text introduced"),
        pytest.param('Translate "hello" and "goodbye"', id="quotes that are not around it"),
        pytest.param("What is 9.5 times 3?", id="a decimal"),
        pytest.param("Is 10. May a holiday?", id="a number inside a line"),
        pytest.param("Sure enough, why do cats purr?", id="starts like a polite line"),
        pytest.param("Fix this:\n\n  x = 1\n   y = 2", id="paragraphs"),
    ],
)
def test_what_belongs_to_the_prompt_stays(completion):
    assert parse_generated_prompt(completion, "stop").text == completion


def test_a_prompt_with_a_marked_end_is_complete_though_the_completion_was_cut():
    assert parse_generated_prompt(f"{WANTED}\n10. Na", "length").finish_reason == "stop"
    assert parse_generated_prompt(WANTED, "length").finish_reason == "length"


@given(st.text(max_size=200))
def test_reading_any_text_never_fails_and_invents_nothing(completion):
    parsed = parse_generated_prompt(completion, "stop")
    assert parsed.text in completion
    filter_prompt(parsed.text, parsed.finish_reason)


def test_reading_a_long_completion_is_fast():
    """100 kB that almost match every marker; backtracking would take minutes, pytest would show it."""
    for piece in (
        "\n" * 50_000,
        "task " * 20_000,
        "*" * 100_000,
        "9" * 100_000,
        "# " * 50_000,
        '"' * 100_000,
    ):
        parse_generated_prompt(piece, "stop")


def test_demonstrations_are_one_line_each_and_come_before_the_request():
    text = render_demonstrations(["Name\n\nthree  rivers.", "Why is the sky blue?"])
    assert "\nTask 1: Name three rivers.\nTask 2: Why is the sky blue?\n" in text
    assert text.index("Task 2:") < text.index("task 3")
    assert answer_prefix(2) == "Task 3:"
    assert stop_strings(2) == ("\nTask 4",)


def test_two_draws_share_the_words_before_the_first_difference():
    one, other = (render_demonstrations(["same", last]) for last in ("a", "b"))
    assert "Task 1: same\nTask 2: " in one[: next(i for i in range(len(one)) if one[i] != other[i])]


def test_an_evaluation_prompt_is_found_exactly_nearly_and_inside_a_longer_text():
    """The 8-word prompt repeated with one word changed has ROUGE-L 7/8; inside 30 other words only an n-gram."""
    index = EvaluationIndex(
        [("set/1", "How do I bake bread without any yeast?"), ("set/2", "日本 語"), ("set/3", "Hi!")]
    )
    assert index.overlap("how do I bake bread, without any yeast") == Overlap("set/1", "exact", 1.0)
    assert index.overlap("How do I bake cakes without any yeast?") == Overlap("set/1", "rouge_l", 0.875)
    longer = "other " * 15 + "how do i bake bread without any yeast" + " more" * 15
    assert index.overlap(longer) == Overlap("set/1", "ngram", None)
    assert index.overlap("日本語") == Overlap("set/2", "exact", 1.0)
    assert index.overlap("中国") is None
    assert index.overlap("How do people bake bread in Italy these days?") is None
    assert index.overlap("") is None
    assert len(index) == 3


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not():
    words = [f"w{number}" for number in range(40)]
    index = EvaluationIndex([("set/1", " ".join(words))])
    assert index.overlap(" ".join(["a"] * 30 + words[5:18])) == Overlap("set/1", "ngram", None)
    assert index.overlap(" ".join(["a"] * 30 + words[5:17])) is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
def test_all_oasst_roots_of_the_validation_set_are_found_in_alpaca_eval():
    """AlpacaEval's 188 "oasst" prompts are exactly the roots of the oasst1 English validation set."""
    with gzip.open(DATA / "alpaca_eval" / "reference_outputs.gpt4_1106_preview.json.gz", "rt") as file:
        rows = json.load(file)
    index = EvaluationIndex((f"alpaca_eval/{place}", row["instruction"]) for place, row in enumerate(rows))
    with gzip.open(DATA / "oasst" / "oasst1-en-validation.messages.jsonl.gz", "rt") as file:
        messages = [json.loads(line) for line in file]
    roots = [message["text"] for message in messages if message["parent_id"] is None]
    overlaps = [index.overlap(root) for root in roots]
    assert len(roots) == 188
    assert {overlap.kind for overlap in overlaps if overlap} == {"exact"}
    assert all(overlaps)

"""Words as hashes, near duplicates, contamination: the fast paths find what the plain definitions find."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import make_sample_run, publish_rows

from selfreward.judging.audits.contamination import _Filter
from selfreward.judging.audits.runner import run_audits
from selfreward.reading.files import read_rows
from selfreward.reading.oasst import read_messages
from selfreward.similarity.near import similar_pairs
from selfreward.similarity.overlap import EvaluationIndex
from selfreward.similarity.rouge import tokens
from selfreward.similarity.words import HashSet, chunks, hash_words
from selfreward.store.run import Run
from selfreward.tables import Ift, Message

TEXTS = st.lists(st.text(alphabet="abAB19 .,\n-é中", max_size=40), max_size=8)
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "one",
    "dog",
    "run",
    "by",
    "my",
    "old",
    "red",
    "tree",
]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=20)


@given(TEXTS, st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_words_and_runs_are_those_of_the_novelty_filter(texts: list[str], n: int) -> None:
    """Equal words have equal hashes, different ones different; runs of n stay within their text."""
    words, expected = hash_words(texts), [tokens(text) for text in texts]
    assert words.n_words.tolist() == [len(text) for text in expected]
    assert_same_classes(words.hashes.tolist(), [word for text in expected for word in text])
    runs, text_of_run = words.ngrams(n)
    listed = [
        (i, tuple(text[k : k + n])) for i, text in enumerate(expected) for k in range(len(text) - n + 1)
    ]
    assert text_of_run.tolist() == [i for i, _ in listed]
    assert_same_classes(runs.tolist(), [run for _, run in listed])
    assert_same_classes(words.whole().tolist(), [tuple(text) for text in expected])


def assert_same_classes(hashes: list[int], things: list) -> None:
    assert len(hashes) == len(things)
    assert len(set(zip(hashes, things, strict=True))) == len(set(things)) == len(set(hashes))


def test_long_words_are_told_apart_beyond_their_first_eight_letters() -> None:
    words = hash_words(["internationally internationals international INTERNATIONALLY"])
    assert len(set(words.hashes.tolist())) == 3


def test_hashes_with_the_same_high_bits_are_told_apart() -> None:
    """5, 6 and 9 share their high 20 bits, so they are looked for one after the other."""
    found = HashSet(np.array([9, 5, 6, 1 << 50, 5], np.uint64))
    asked = np.array([4, 5, 6, 7, 9, 10, 1 << 50, 1 << 51], np.uint64)
    assert found.holds(asked).tolist() == [False, True, True, False, True, False, True, False]
    places, there = found.places(asked)
    assert found.sorted[places[there]].tolist() == [5, 6, 9, 1 << 50]


def test_a_sliced_table_is_cut_into_portions_without_loss() -> None:
    texts = pa.chunked_array([["one two", None, "three"], [], ["four"] * 5])
    portions = [(place, hash_words(part).n_words.tolist()) for place, part in chunks(texts.slice(1), 8)]
    assert [n for _, part in portions for n in part] == [0, 1, 1, 1, 1, 1, 1]
    assert [place for place, _ in portions] == sorted({place for place, _ in portions})


@given(st.lists(SENTENCES, min_size=1, max_size=4), st.lists(SENTENCES, max_size=6))
@settings(max_examples=150, deadline=None)
def test_the_filter_lets_through_whatever_the_evaluation_index_finds(
    evaluation: list[list[str]], trained: list[list[str]]
) -> None:
    prompts, texts = [" ".join(words) for words in evaluation], [" ".join(words) for words in trained]
    index = EvaluationIndex((str(i), text) for i, text in enumerate(prompts))
    found = {i for i, text in enumerate(texts) if index.overlap(text) is not None}
    assert found <= set(_Filter(prompts).places(hash_words(texts), near=True).tolist())


def test_near_duplicates_are_found_with_their_exact_similarity() -> None:
    """20 words have 16 runs of five. A changed last word breaks one: 15 shared of 17, 0.882; a changed middle word
    breaks five: 11 shared of 21, 0.524, too few."""
    words = [f"w{i}" for i in range(20)]
    last, middle = [*words[:19], "x"], [*words[:10], "x", *words[11:]]
    texts = [" ".join(t) for t in (words, last, middle)] + ["", "two words", "Two   words!", "other words"]
    found = list(similar_pairs(pa.chunked_array([texts])))
    assert found == [(0, 1, pytest.approx(15 / 17)), (4, 5, 1.0)]


def test_the_most_similar_earlier_text_is_named() -> None:
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(t) for t in ([*words[:39], "x"], words, [*words, "y"])]
    assert [(a, b) for a, b, _ in similar_pairs(pa.chunked_array([texts]))] == [(0, 1), (1, 2)]


def test_without_evaluation_sets_contamination_is_skipped(tmp_path: Path) -> None:
    run = make_sample_run(
        tmp_path / "run", iterations=1, eft=lambda rows: [r for r in rows if r.split == "train"]
    )
    (result,) = run_audits(run, checks=["contaminated_prompts"]).results
    assert result.verdict == "skipped"
    assert "--against" in result.reason


def test_contamination_by_a_given_file_is_found_as_a_run_of_words_and_as_near(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1)
    prompt = run.current("ift").table()["prompt"][3].as_py().split()
    around = (
        "Before we start, "
        + " ".join(prompt[:13])
        + " and nothing of it is like the rest of what you knew about"
    )
    (tmp_path / "bench.jsonl").write_text(json.dumps({"instruction": around}) + "\n")
    (result,) = run_audits(run, checks=["contaminated_prompts"], against=[tmp_path / "bench.jsonl"]).results
    assert [(row["kind"], row["evaluation_id"]) for row in result.rows] == [("ngram", "bench/0")]
    near = " ".join([*prompt[:-1], "differently"])
    (tmp_path / "bench.jsonl").write_text(json.dumps({"instruction": near}) + "\n")
    (result,) = run_audits(run, checks=["contaminated_prompts"], against=[tmp_path / "bench.jsonl"]).results
    assert [(row["kind"], row["rouge_l"] > 0.9) for row in result.rows] == [("rouge_l", True)]


def test_an_answer_nearly_equal_to_an_evaluation_prompt_is_found_by_its_13_words(tmp_path: Path) -> None:
    """19 of the 20 words in order: ROUGE-L 0.95. ROUGE-L is not asked of answers, so it must not hide the run of 13."""
    words = [f"w{i}" for i in range(20)]
    near = " ".join([*words[:19], "x"])

    def first_answers_nearly_so(rows: list[Ift]) -> list[Ift]:
        return [replace(rows[0], response=near), *rows[1:]]

    run = make_sample_run(tmp_path / "run", iterations=1, ift=first_answers_nearly_so)
    (tmp_path / "bench.jsonl").write_text(json.dumps({"instruction": " ".join(words)}) + "\n")
    (result,) = run_audits(run, checks=["contaminated_answers"], against=[tmp_path / "bench.jsonl"]).results
    found = [(row["part"], row["kind"], row["evaluation_id"]) for row in result.rows]
    assert found == [("response", "ngram", "bench/0")]


def test_an_evaluation_file_that_is_not_there_is_an_error_not_a_pass(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1)
    (result,) = run_audits(
        run, checks=["contaminated_prompts"], against=[tmp_path / "gone.jsonl"], save=False
    ).results
    assert result.verdict == "error"
    assert "gone.jsonl" in result.reason


def test_all_188_roots_of_oasst1_validation_are_alpaca_evals_oasst_prompts(
    tmp_path: Path, shared_data: Path
) -> None:
    """shared/data/README.md: 188 trees; AlpacaEval's `dataset` column calls 188 of its 805 prompts `oasst`."""
    reading = read_messages(
        read_rows(shared_data / "oasst" / "oasst1-en-validation.messages.jsonl.gz"), "oasst1", "en", "oasst1"
    )
    prompts = {seed.prompt_id: seed for seed in reading.rows}
    rows = [
        Ift(
            f"ift-{id}", s.prompt, s.response, [Message("user", s.prompt)], "oasst1", s.seed_id, 0, None, "en"
        )
        for id, s in prompts.items()
    ]
    run = Run.create(tmp_path / "run")
    publish_rows(run, "ift", Ift, rows)
    reference = shared_data / "alpaca_eval" / "reference_outputs.gpt4_1106_preview.json.gz"
    (result,) = run_audits(run, checks=["contaminated_prompts"], against=[reference]).results
    assert result.verdict == "fail"
    assert (result.n_rows, {row["evaluation_dataset"] for row in result.rows}) == (188, {"oasst"})
    assert len({row["evaluation_id"] for row in result.rows}) == 188

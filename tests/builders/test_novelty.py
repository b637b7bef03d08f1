"""The novelty filter: scores as `rouge_score` computes them, exact neighbours, order of arrival."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.similarity import rouge as novelty
from selfreward.similarity.rouge import Nearest, NoveltyIndex, rouge_l, tokens

few_words = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "the", "of", "7", "x1"]), max_size=14).map(
    " ".join
)


def plain_rouge_l(a: list[str], b: list[str]) -> float:
    """ROUGE-L F by the textbook table, rounding in the order of the published package."""
    row = [0] * (len(b) + 1)
    for word in a:
        previous = row
        row = [0]
        for place, other in enumerate(b):
            row.append(previous[place] + 1 if word == other else max(previous[place + 1], row[place]))
    if not row[-1]:
        return 0.0
    precision, recall = row[-1] / len(b), row[-1] / len(a)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Don't STOP!", ["don", "t", "stop"], id="apostrophe separates"),
        pytest.param("naïve café_2", ["na", "ve", "caf", "2"], id="accents and underscores separate"),
        pytest.param("¿Qué? Ελληνικά 日本", ["qu"], id="other scripts vanish"),
        pytest.param(" \n\t", [], id="nothing"),
    ],
)
def test_tokens_are_runs_of_lower_case_ascii_letters_and_digits(text, expected):
    assert tokens(text) == expected


def test_rouge_l_of_a_known_pair():
    """LCS of `police killed the gunman` and `police kill the gunman` is 3 of 4 and 4 (Lin 2004): F = 3/4.

    Against `the gunman kill police` the LCS is `the gunman`, 2 of 4: F = 1/2.
    """
    assert rouge_l("police killed the gunman", "police kill the gunman") == 0.75
    assert rouge_l("police killed the gunman", "the gunman kill police") == 0.5


def test_a_score_at_the_threshold_rounds_as_in_rouge_score():
    """LCS 7 of lengths 10 and 10 is 0.7 exactly: kept. LCS 7 of 8 and 12 is 2 * 7/12 * 7/8 / (7/12 + 7/8),

    in floating point 0.7000000000000001, above the threshold: rejected.
    """
    shared = "a b c d e f g"
    even = NoveltyIndex().screen([("1", f"{shared} x y z"), ("2", f"{shared} u v w")])
    uneven = NoveltyIndex().screen([("1", f"{shared} x"), ("2", f"{shared} q r s t u")])
    assert even[1].nearest == Nearest("1", 0.7)
    assert even[1].novel
    assert uneven[1].nearest == Nearest("1", 0.7000000000000001)
    assert not uneven[1].novel


@settings(max_examples=150, deadline=None)
@given(st.lists(few_words, min_size=1, max_size=25))
def test_screen_finds_the_first_of_the_nearest_earlier_texts(texts):
    verdicts = NoveltyIndex().screen((str(place), text) for place, text in enumerate(texts))
    for place, verdict in enumerate(verdicts):
        scores = [plain_rouge_l(tokens(earlier), tokens(texts[place])) for earlier in texts[:place]]
        best = max(scores, default=0.0)
        assert verdict.novel == (best <= 0.7)
        assert verdict.nearest == (Nearest(str(scores.index(best)), best) if best > 0 else None)


@settings(max_examples=60, deadline=None)
@given(st.lists(few_words, min_size=1, max_size=25), st.integers(1, 7), st.integers(2, 4))
def test_answers_do_not_depend_on_blocks_or_on_the_method(texts, block, many):
    items = [(str(place), text) for place, text in enumerate(texts)]
    whole = NoveltyIndex().screen(items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(novelty, "_MAX_BLOCK", block)
        patch.setattr(novelty, "_MANY", many)
        assert NoveltyIndex().screen(items) == whole
    one_by_one = NoveltyIndex()
    for verdict, (id, text) in zip(whole, items, strict=True):
        assert one_by_one.nearest(text) == verdict.nearest
        one_by_one.add(id, text)


def test_what_counts_as_earlier_is_a_choice():
    """b repeats 4 of 5 words of a (0.8, rejected); c shares 4 of 5 with b (0.8) but 3 of 5 with a (0.6)."""
    items = [
        ("a", "one two three four five"),
        ("b", "one two three four six"),
        ("c", "one two three seven six"),
    ]
    against_all = NoveltyIndex().screen(items)
    against_kept = NoveltyIndex().screen(items, against="kept")
    assert [verdict.novel for verdict in against_all] == [True, False, False]
    assert [verdict.novel for verdict in against_kept] == [True, False, True]
    assert against_all[2].nearest is not None
    assert against_all[2].nearest.id == "b"
    assert against_kept[2].nearest is not None
    assert against_kept[2].nearest.id == "a"


def test_an_index_grows_between_searches_and_unknown_words_match_nothing():
    index = NoveltyIndex()
    assert index.nearest("anything") is None
    index.add("1", "red green blue")
    assert index.nearest("zzz yyy") is None
    assert index.nearest("red zzz yyy zzz") == Nearest("1", rouge_l("red green blue", "red zzz yyy zzz"))
    index.add("2", "red zzz")
    found = index.nearest("red zzz yyy zzz")
    assert found is not None
    assert found.id == "2"
    assert len(index) == 2


def test_texts_without_tokens_are_novel_and_near_to_nothing():
    verdicts = NoveltyIndex().screen([("1", "日本語"), ("2", "日本語"), ("3", "")])
    assert [(verdict.novel, verdict.nearest) for verdict in verdicts] == [(True, None)] * 3


def test_very_long_texts_are_counted_without_overflow():
    """70,000 times the same word share 70,000 words: more than 16 bits hold."""
    long = "word " * 70_000
    assert rouge_l(long, long) == 1.0


def test_decisions_are_those_of_the_rouge_score_package():
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge_score is not installed")
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    pairs = [
        ("Name three rivers, please.", "Name 3 rivers"),
        ("Wie spät ist es?", "Wie spat ist's?"),
        ("", "a"),
    ]
    for a, b in pairs:
        assert rouge_l(a, b) == scorer.score(a, b)["rougeL"].fmeasure

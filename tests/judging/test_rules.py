"""Rules that a program checks: each kind on answers that keep it and that do not, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.errors import InputError
from selfreward.judging.rules.files import read_prompts
from selfreward.judging.rules.ifeval import read_rules
from selfreward.judging.rules.prompts import held_out_replies, ranked_replies, rule_prompts
from selfreward.judging.rules.rules import KINDS, Rule, rules_in
from selfreward.judging.rules.scores import by_rules, shuffled

KEPT_AND_NOT = [
    (Rule("small_letters"), "a kettle, no. 3", "A kettle."),
    (Rule("capitals"), "A KETTLE, NO. 3", "A KETTLe."),
    (Rule("max_words", "3"), "one two-fold three", "one two three four"),
    (Rule("one_sentence"), "It costs 3.50, e.g. today.", "It boils. It sings."),
    (Rule("one_sentence"), 'He said "go!"', "First line\nsecond line"),
    (Rule("numbered_list", "2"), "1. Lid\n2) Spout", "1. Lid\n3. Spout"),
    (Rule("numbered_list", "2"), "1. Lid\n\n2. Spout", "Here:\n1. Lid\n2. Spout"),
    (Rule("starts_with", "Well"), "“well, yes.", "Wellness first."),
    (Rule("ends_with", "indeed"), "Quite so. INDEED!", "Indeed it is."),
    (Rule("includes", "chain"), "The Chain turns.", "The chains turn."),
    (Rule("avoids", "chain"), "The chains turn.", "A chain."),
    (Rule("no_commas"), "Red; green.", "Red, green."),
    (Rule("in_quotes"), '"Yes."', '"Yes" he said.'),
    (Rule("ifeval_keywords", '["cat", "dog"]'), "Cats and dogs", "Cats"),
    (Rule("ifeval_forbidden", '["cat"]'), "Category", "A cat"),
    (Rule("ifeval_bullets", "2"), "* a\n- b\ntext", "* a\n** b"),
    (Rule("ifeval_title", ""), "<<A day>>\ntext", "<< >>"),
    (Rule("ifeval_end", "Any questions?"), 'Text. any questions?"', "Any questions? No."),
    (Rule("ifeval_max_words", "2"), "two words", "don't stop"),
    (Rule("ifeval_min_words", "3"), "don't stop", "two words"),
]


@pytest.mark.parametrize(("rule", "kept", "broken"), KEPT_AND_NOT, ids=lambda value: str(value)[:30])
def test_a_rule_is_kept_or_not(rule: Rule, kept: str, broken: str) -> None:
    assert rule.kept_by(kept)
    assert not rule.kept_by(broken)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_answer_keeps_no_rule(kind: str) -> None:
    assert not Rule(kind, "1").kept_by("  \n ")
    assert not Rule(kind, "1").kept_by("...")


@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_is_read_back(kind: str) -> None:
    value = "7" if kind in ("max_words", "numbered_list") else "harbour"
    for wording in range(len(KINDS[kind].wordings)):
        rule = Rule(kind, value if "{}" in KINDS[kind].wordings[wording] else "")
        assert rules_in(f"Describe a kettle. {rule.sentence(wording)}") == [rule]


def test_a_rule_in_other_words_is_not_seen() -> None:
    assert rules_in("Describe a kettle in lowercase, please.") == []
    assert rules_in("Answer with a numbered list of exactly three points.") == []


def test_no_reply_differs_from_its_sibling_but_by_the_rule() -> None:
    for held_out in (False, True):
        for row in rule_prompts(held_out):
            assert row.rule.kept_by(row.kept)
            assert not row.rule.kept_by(row.broken)


def test_nothing_held_out_is_trained_on() -> None:
    trained, held_out = rule_prompts(False), rule_prompts(True)
    assert {row.topic for row in trained}.isdisjoint(row.topic for row in held_out)
    # The sentence that states the rule: its wording, number and word together.
    assert {row.prompt.partition(". ")[2] for row in trained}.isdisjoint(
        row.prompt.partition(". ")[2] for row in held_out
    )
    with_values = ("max_words", "numbered_list", "starts_with", "ends_with", "includes", "avoids")
    for kind in with_values:
        values = [{row.rule.value for row in rows if row.rule.kind == kind} for rows in (trained, held_out)]
        assert values[0].isdisjoint(values[1]), kind


def test_length_alone_does_not_tell_which_reply_keeps_the_rule() -> None:
    rows = rule_prompts(True)
    shorter = sum(len(row.kept) < len(row.broken) for row in rows) / len(rows)
    assert 0.3 < shorter < 0.7


def test_ranked_replies_are_rows_of_a_table() -> None:
    rows = ranked_replies()
    assert [number for number, _ in rows[:3]] == [1, 2, 3]
    assert rows[0][1]["judgement"] == "Score: 5"
    assert len(rows) == 2 * 50 * 11
    assert {row["human_rank"] for row in held_out_replies()} == {0, 1}


def test_rows_of_ifeval() -> None:
    row = {
        "instruction_id_list": ["length_constraints:number_words", "language:response_language"],
        "kwargs": [{"relation": "less than", "num_words": 100}, {"language": "de"}],
    }
    # "Less than 100" allows 99.
    assert read_rules(row, "row 1") == (Rule("ifeval_max_words", "99"), None)
    with pytest.raises(InputError, match=r"row 3: has .* and 0 kwargs"):
        read_rules({"instruction_id_list": ["punctuation:no_comma"]}, "row 3")
    with pytest.raises(InputError, match="kwargs of startend:end_checker"):
        read_rules({"instruction_id_list": ["startend:end_checker"], "kwargs": [{}]}, "row 1")


def test_a_prompt_without_a_known_rule_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "Describe a kettle. Use no commas."}\n{"prompt": "Describe a kettle."}\n')
    with pytest.raises(InputError, match=r"row 2: 'Describe a kettle\.' states no rule"):
        read_prompts(str(file), file)


def _scores(*values: float | None) -> list[dict[str, object]]:
    return [
        {
            "prompt_id": f"p{i // 3}",
            "candidate_id": f"c{i}",
            "score": value,
            "score_variance": None if value is None else 0.0,
        }
        for i, value in enumerate(values)
    ]


@given(st.lists(st.one_of(st.none(), st.floats(0, 5)), max_size=12), st.integers(0, 9))
def test_shuffled_scores_are_the_same_scores_of_the_prompt(values: list[float | None], seed: int) -> None:
    rows = _scores(*values)
    found = shuffled(rows, seed)
    for prompt in {row["prompt_id"] for row in rows}:
        before, after = ([r["score"] for r in table if r["prompt_id"] == prompt] for table in (rows, found))
        assert sorted(before, key=str) == sorted(after, key=str)
    assert [row["score"] is None for row in rows] == [row["score"] is None for row in found]
    assert found == shuffled(rows, seed)


def test_the_programs_verdicts_as_scores() -> None:
    rows = _scores(1.0, None, 3.0, 2.0)
    prompts = {"p0": "Describe a kettle. Use no commas.", "p1": "Describe a kettle."}
    answers = {"c0": "Red, green.", "c1": "Red.", "c2": "", "c3": "Red."}
    assert [row["score"] for row in by_rules(rows, prompts, answers, 0.0, 5.0)] == [0.0, 5.0, 0.0, None]

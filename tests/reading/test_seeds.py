"""Seeds from every form they come in, and what the embedded set promises."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from selfreward.builders.seed_replies import embedded_seeds
from selfreward.builders.seed_tables import read_table
from selfreward.errors import InputError
from selfreward.judging.parsing.scores import parse_score
from selfreward.reading.files import read_rows
from selfreward.reading.oasst import read_messages, read_trees


def test_the_embedded_set_has_60_prompts_or_more_with_3_to_5_ranked_and_judged_replies():
    sizes = Counter(seed.prompt_id for seed in embedded_seeds().rows)
    assert len(sizes) >= 60
    assert set(sizes.values()) <= {3, 4, 5}
    assert all(seed.judgement and seed.human_rank is not None for seed in embedded_seeds().rows)


def test_embedded_judgements_have_a_score_and_better_ranks_have_better_scores():
    prompts: dict[str, list[tuple[int, float]]] = {}
    for seed in embedded_seeds().rows:
        parsed = parse_score(seed.judgement)
        assert parsed.status == "ok", seed.seed_id
        prompts.setdefault(seed.prompt_id, []).append((seed.human_rank, parsed.score))
    for prompt_id, ranked in prompts.items():
        scores = [score for _, score in sorted(ranked)]
        assert scores == sorted(scores, reverse=True), prompt_id
        assert len(set(scores)) == len(scores), prompt_id


def test_no_embedded_score_is_given_to_more_than_28_percent():
    scores = Counter(parse_score(seed.judgement).score for seed in embedded_seeds().rows)
    assert set(scores) == {0, 1, 2, 3, 4, 5}
    assert max(scores.values()) / sum(scores.values()) < 0.28


def test_no_two_embedded_prompts_are_near_each_other():
    from selfreward.similarity.rouge import NoveltyIndex

    prompts = {seed.prompt_id: seed.prompt for seed in embedded_seeds().rows}
    assert all(verdict.novel for verdict in NoveltyIndex().screen(prompts.items(), threshold=0.5))


def test_oasst_messages_give_the_542_ranked_first_turn_replies_of_188_trees(shared_data):
    """542 and 188 stand in the data's README; 26 further first-turn replies carry no rank."""
    path = shared_data / "oasst" / "oasst1-en-validation.messages.jsonl.gz"
    reading = read_messages(read_rows(path), "oasst1", "en", str(path))
    ranked = [seed for seed in reading.rows if seed.human_rank is not None]
    assert len(ranked) == 542
    assert reading.n_in == len(reading.rows) + sum(reading.dropped.values())
    assert all(seed.quality is None or 0 <= seed.quality <= 1 for seed in reading.rows)


def test_oasst_trees_are_read_too(shared_data):
    path = shared_data / "oasst" / "oasst-en-100.trees.jsonl.gz"
    reading = read_trees(read_rows(path), "oasst", "en", str(path))
    assert len({seed.prompt_id for seed in reading.rows}) == 100
    assert len({seed.prompt_id for seed in reading.rows if seed.human_rank is not None}) == 99


def test_a_broken_line_is_named_by_file_and_number(tmp_path):
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"a": 1}\n{"b": \n')
    with pytest.raises(InputError, match=r"seeds\.jsonl:2: is not valid JSON"):
        list(read_rows(path))


def test_trees_without_any_rank_are_refused():
    tree = {"prompt": {"message_id": "p", "text": "Hi?", "replies": [{"message_id": "r", "text": "Yo."}]}}
    with pytest.raises(InputError, match="none of its 1 replies has a rank"):
        read_trees([(1, tree)], "x", "en", "x.jsonl")


def test_replies_in_another_language_deleted_or_rejected_by_review_are_counted():
    def reply(number, **changes):
        return {"message_id": str(number), "text": f"reply {number}", "rank": number, **changes}

    replies = [
        reply(0),
        reply(1, lang="de"),
        reply(2, deleted=True),
        reply(3, review_result=False),
        reply(4, text=" "),
    ]
    tree = {"prompt": {"message_id": "p", "text": "Hi?", "lang": "en", "replies": replies}}
    reading = read_trees([(1, tree)], "x", "en", "x.jsonl")
    assert [seed.seed_id for seed in reading.rows] == ["0"]
    assert reading.dropped == {"other_language": 1, "deleted": 1, "failed_review": 1, "empty": 1}
    assert reading.n_in == 5


def test_a_table_with_scores_is_ranked_within_each_prompt_and_equal_scores_share_a_rank():
    """Scores 3, 9, 9 become ranks 1, 0, 0."""
    rows = [{"q": "Hi?", "a": text, "s": score} for text, score in (("x", 3), ("y", 9), ("z", 9.0))]
    reading = read_table(
        enumerate(rows, 1), {"prompt": "q", "response": "a", "score": "s"}, "table", "en", "t"
    )
    assert [seed.human_rank for seed in reading.rows] == [1, 0, 0]


def test_a_table_whose_rank_is_text_is_refused_with_row_and_column():
    rows = [{"prompt": "Hi?", "response": "x", "rank": "best"}]
    with pytest.raises(InputError, match="row 1: column 'rank' holds 'best', expected a number"):
        read_table(enumerate(rows, 1), {}, "table", "en", "t")


def test_messages_whose_parent_comes_later_are_joined(tmp_path):
    messages = [
        {"message_id": "r", "parent_id": "p", "role": "assistant", "text": "yes", "rank": 0},
        {"message_id": "p", "parent_id": None, "role": "prompter", "text": "Is it?"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps(m) for m in messages))
    (seed,) = read_messages(read_rows(path), "x", "en", "m").rows
    assert (seed.prompt, seed.response) == ("Is it?", "yes")

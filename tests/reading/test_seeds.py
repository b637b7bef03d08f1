"""Seeds from every form they come in, and what the embedded set promises."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfreward.builders.seeds.tables import read_table
from selfreward.config.data import SeedsConfig
from selfreward.config.files import check_config
from selfreward.errors import ConfigError, InputError, UsageError
from selfreward.judging.parsing.scores import parse_score
from selfreward.reading.files import read_rows
from selfreward.reading.oasst import embedded_seeds, read_messages, read_trees


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


# -- cells as people have them -------------------------------------------------------------------------------


def table(rows, columns=None):
    return read_table(enumerate(rows, 1), columns or {}, "own", "en", "t.jsonl")


def replies(**columns):
    """Three replies to one prompt; each keyword gives their cells."""
    return [
        {"prompt": "Why?", "response": f"answer {i}"} | {name: cells[i] for name, cells in columns.items()}
        for i in range(3)
    ]


def test_a_score_of_nan_is_no_rank_and_the_others_are_ranked_without_it():
    """4.5 before 1: ranks 0 and 1; NaN is neither above nor below."""
    assert [seed.human_rank for seed in table(replies(score=[4.5, math.nan, 1])).rows] == [0, None, 1]


def test_numbers_are_read_out_of_texts_in_rank_score_and_quality_only():
    rows = replies(score=["10", "9.5", ""], quality=["0.5", None, "1"], response=["007", "None", "1.50"])
    found = table(rows).rows
    assert [(seed.human_rank, seed.quality, seed.response) for seed in found] == [
        (0, 0.5, "007"),
        (1, None, "None"),
        (None, 1.0, "1.50"),
    ]


def test_a_bad_cell_is_named_by_its_own_row():
    with pytest.raises(InputError, match=r"t.jsonl: row 2: column 'quality' holds 'good', expected a number"):
        table(replies(rank=[0, 1, 2], quality=[1, "good", 2]))
    with pytest.raises(InputError, match=r"row 3: column 'response' holds 42, expected a text"):
        table(replies(rank=[0, 1, 2], response=["a", "b", 42]))


def test_a_prompt_may_be_one_message_and_longer_conversations_are_counted():
    turn = {"role": "user", "content": "Why?"}
    one = table([{"prompt": [turn], "response": text, "rank": i} for i, text in enumerate("ab")])
    assert {seed.prompt for seed in one.rows} == {"Why?"}
    assert {seed.prompt_id for seed in one.rows} == {
        seed.prompt_id for seed in table(replies(rank=[0, 1, 2])).rows
    }
    long = [turn, {"role": "assistant", "content": "So."}, turn]
    both = table(
        [{"prompt": [turn], "response": "a", "rank": 0}, {"prompt": long, "response": "b", "rank": 0}]
    )
    assert both.dropped == {"not_first_turn": 1}
    with pytest.raises(InputError, match="row 1: column 'prompt': found a turn of 'bot'"):
        table([{"prompt": [{"role": "bot", "content": "x"}], "response": "a", "rank": 0}])


def test_ids_that_name_models_are_scoped_to_their_prompt():
    rows = [
        {"prompt": p, "response": p + m, "rank": i, "response_id": m}
        for p in "xy"
        for i, m in enumerate("ab")
    ]
    ids = [seed.seed_id for seed in table(rows).rows]
    assert len(set(ids)) == 4
    assert all(seed.seed_id.startswith(seed.prompt_id) for seed in table(rows).rows)
    assert [seed.seed_id for seed in table(rows[:2]).rows] == ["a", "b"], (
        "ids that are unique stay as they are"
    )


def test_a_preference_is_two_replies():
    rows = [{"question": "Why?", "chosen": "good", "rejected": [{"role": "assistant", "content": "bad"}]}]
    found = table(rows, {"prompt": "question"}).rows
    assert [(seed.prompt, seed.response, seed.human_rank) for seed in found] == [
        ("Why?", "good", 0),
        ("Why?", "bad", 1),
    ]


def test_a_column_that_later_rows_have_is_a_column():
    rows = replies(score=[1, 2, 3])
    del rows[0]["score"]
    assert [seed.human_rank for seed in table(rows).rows] == [None, 1, 0]


def test_a_column_that_is_named_and_absent_is_refused():
    with pytest.raises(InputError, match=r"no column .sprache., which seeds\.columns\.lang names"):
        table(replies(rank=[0, 1, 2]), {"lang": "sprache"})


def test_an_unknown_role_is_refused_with_the_direction():
    with pytest.raises(
        ConfigError, match=r"'language' is no role; did you mean lang\? Write `role: column in the file`"
    ):
        check_config({"model": "x", "seeds": {"columns": {"language": "language"}}}, "c.yaml")


def oasst(**changes):
    root = {"message_id": "p", "parent_id": None, "role": "prompter", "text": "Why?", "lang": "en"}
    reply = {"message_id": "r", "parent_id": "p", "role": "assistant", "text": "So.", "rank": 0, "lang": "en"}
    return [root | changes.get("root", {}), reply | changes.get("reply", {})]


@pytest.mark.parametrize("parent", ["", math.nan])
def test_a_root_may_have_an_empty_parent(parent):
    found = read_messages(enumerate(oasst(root={"parent_id": parent}), 1), "x", "en", "m")
    assert [seed.prompt for seed in found.rows] == ["Why?"]


def test_a_rank_in_quotes_is_a_rank_and_other_words_are_refused_by_line():
    (seed,) = read_messages(enumerate(oasst(reply={"rank": "1"}), 1), "x", "en", "m").rows
    assert seed.human_rank == 1
    with pytest.raises(InputError, match=r"m.jsonl:2: column 'rank' holds 'best', expected a number"):
        read_messages(enumerate(oasst(reply={"rank": "best"}), 1), "x", "en", "m.jsonl")
    with pytest.raises(InputError, match=r"m.jsonl:2: column 'rank' holds 0.5, expected a whole number"):
        read_messages(enumerate(oasst(reply={"rank": 0.5}), 1), "x", "en", "m.jsonl")


def test_a_message_without_text_is_counted_as_empty():
    rows = [*oasst(), {**oasst()[1], "message_id": "s", "text": None}]
    assert read_messages(enumerate(rows, 1), "x", "en", "m").dropped == {"empty": 1}


def seeds_of(path, **settings):
    from selfreward.builders.seed_replies import _read

    return _read(SeedsConfig(source="own", **settings), {"seed_file": path}, None, True).rows


def test_messages_are_read_from_csv_and_parquet_as_from_json_lines(tmp_path):
    """As the Hub ships them; the flags of a CSV are words, and "False" is not true."""
    rows = [{**row, "deleted": False, "review_result": True, "rank": row.get("rank")} for row in oasst()]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    pd.DataFrame(rows).to_csv(tmp_path / "m.csv", index=False)
    found = [seeds_of(tmp_path / f"m.{ending}") for ending in ("jsonl", "parquet", "csv")]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet", "jsonl.gz"])
def test_a_ranked_table_is_recognized_in_every_form(tmp_path, ending):
    rows = replies(score=[1.0, 2.5, 3.0])
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        text = json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows))
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    assert [(seed.human_rank, seed.response) for seed in seeds_of(path)] == [
        (2, "answer 0"),
        (1, "answer 1"),
        (0, "answer 2"),
    ]


def test_other_tables_are_refused_with_the_forms_that_are_read(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"instruction": "Why?", "completions": []}')
    with pytest.raises(
        InputError,
        match=r"found the columns completions, instruction; expected Open Assistant .*seeds.columns",
    ):
        seeds_of(path)


def test_a_folder_is_called_one_and_a_hub_name_with_a_dot_is_no_file(tmp_path):
    from selfreward.builders.seed_replies import plan
    from selfreward.reading.hub import is_local

    with pytest.raises(UsageError, match="is a folder; give one of the files in it"):
        plan(check_config({"model": "x", "seeds": {"source": str(tmp_path)}}, "c"), 0)
    assert not is_local("owner/name-3.1-8b")
    assert is_local("owner/replies.jsonl")

"""Prompts that are chats and answers that begin with reasoning, from the import to the pairs."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_run import ANSWERS, JUDGEMENTS, PROMPTS, config_for

from selfreward.chats import chat_of, judge_text, problem_with, split_reasoning
from selfreward.engines.base import Request, Sampling
from selfreward.errors import InputError, UsageError
from selfreward.exchange.importing import import_file
from selfreward.judging.audits.runner import run_audits
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Run
from selfreward.tables import Message

TURNS = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "Name a river."},
    {"role": "assistant", "content": "Nile"},
    {"role": "user", "content": "Another one?"},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>2 + 2</think>\n4", ("<think>2 + 2</think>\n", "4")),
        (" <THINK>a</Think> b", (" <THINK>a</Think> ", "b")),
        ("<think>a</think><think>b</think>c", ("<think>a</think><think>b</think>", "c")),
        ("opened by the template</think>4", ("opened by the template</think>", "4")),
        ("<think>never closed", ("<think>never closed", "")),
        ("[THINK]a[/THINK]b", ("[THINK]a[/THINK]", "b")),
        ("Use <think> and </think> here.", ("", "Use <think> and </think> here.")),
        ("plain", ("", "plain")),
        ("İ<think>", ("", "İ<think>")),
        ("", ("", "")),
    ],
)
def test_the_reasoning_before_an_answer_is_told_from_it(text, expected):
    assert split_reasoning(text) == expected


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "a", "\n", "İ", " "])).map(
        "".join
    )
)
def test_reasoning_and_answer_are_together_the_text(text):
    reasoning, answer = split_reasoning(text)
    assert reasoning + answer == text
    assert not answer[:1].isspace() or not reasoning


def test_one_user_turn_reads_as_it_stands_and_a_chat_with_what_came_before():
    assert judge_text([Message("user", "Why?")]) == "Why?"
    assert judge_text(chat_of({"messages": TURNS})) == (
        "The assistant was told beforehand:\nAnswer in one word.\n\n"
        "The conversation so far:\n- user: Name a river.\n- assistant: Nile\n\n"
        "The message to answer:\nAnother one?"
    )
    assert chat_of({"prompt": "Why?", "messages": None}) == (Message("user", "Why?"),)


@pytest.mark.parametrize(
    "roles",
    [[], ["system"], ["assistant", "user"], ["user", "assistant"], ["user", "user"], ["user", "system"]],
)
def test_a_chat_that_does_not_end_with_the_user_in_turn_is_no_prompt(roles):
    assert "expected user and assistant in turn" in problem_with([{"role": r, "content": "x"} for r in roles])
    assert problem_with(TURNS) is None


def script(folder, answers=ANSWERS, **more):
    rules = [
        {"contains": "list of tasks", "pick": "position", "answers": PROMPTS},
        {"contains": "SECRET", "answers": ["The judge saw the reasoning. Score: 0"]},
        {"contains": "<response>", "pick": "seed", "answers": JUDGEMENTS},
        {"pick": "seed", "answers": answers},
    ]
    (folder / "script.yaml").write_text(
        yaml.safe_dump({"settings": {"group_size": 8, **more}, "rules": rules})
    )
    return folder / "script.yaml"


def rows(run, name):
    return Run(run).current(name).table().to_pylist()


def test_an_imported_chat_is_answered_judged_on_its_last_turn_and_paired_as_it_is(tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text(
        "".join(json.dumps({"messages": turns}) + "\n" for turns in (TURNS, TURNS[:2], TURNS[1:2]))
    )
    config = config_for(script(tmp_path), judging={"samples": 3})
    run_pipeline(config, tmp_path / "run", until="eft")
    import_file(Run(tmp_path / "run"), "iter1/prompts", chats)
    run_pipeline(config, tmp_path / "run", until="pairs")
    prompts = rows(tmp_path / "run", "iter1/prompts")
    assert [row["prompt"] for row in prompts] == ["Another one?", "Name a river.", "Name a river."]
    assert len({row["prompt_id"] for row in prompts}) == 3
    given_ = {row["prompt_id"]: row["messages"] for row in prompts}
    pairs = rows(tmp_path / "run", "iter1/pairs")
    assert pairs
    assert all(pair["prompt"] == given_[pair["prompt_id"]] for pair in pairs)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{"messages": TURNS}, {"prompt": "Why?"}], None),
        ([{"messages": TURNS}, {"other": 1}], "is NULL, and there is no prompt either"),
        (
            [{"messages": TURNS[:3]}],
            "holds the turns system, user, assistant; expected user and assistant in turn",
        ),
        ([{"messages": TURNS, "prompt": "Other?"}], "but prompt says 'Other"),
        ([{"messages": [{"role": "tool", "content": "x"}]}], "found a turn of 'tool'"),
    ],
    ids=["prompt or messages", "neither", "no user last", "two prompts", "tool"],
)
def test_a_file_of_mixed_or_broken_chats_is_refused_in_one_sentence(tmp_path, lines, said):
    run = Run.create(tmp_path / "run")
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if said is None:
        import_file(run, "iter1/prompts", path)
        assert [row["prompt"] for row in rows(tmp_path / "run", "iter1/prompts")] == ["Another one?", "Why?"]
        return
    with pytest.raises(InputError, match=said):
        import_file(run, "iter1/prompts", path)


def test_a_system_turn_goes_to_candidates_judge_and_pairs(tmp_path):
    config = config_for(script(tmp_path), prompts={"n": 4, "round_size": 12, "system": "Be kind."})
    run_pipeline(config, tmp_path / "run", until="pairs")
    pairs = rows(tmp_path / "run", "iter1/pairs")
    assert pairs
    assert {pair["prompt"][0]["content"] for pair in pairs} == {"Be kind."}
    assert [turn["role"] for turn in pairs[0]["prompt"]] == ["system", "user"]


def test_chats_of_a_source_keep_their_turns_and_get_the_system_turn_they_lack(tmp_path):
    source = tmp_path / "given.jsonl"
    chats = [{"messages": TURNS}, {"messages": TURNS[1:]}, {"prompt": PROMPTS[0]}]
    source.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    prompts = {"n": 3, "source": str(source), "system": "Be kind.", "max_rouge_l": 1.0}
    run_pipeline(config_for(script(tmp_path), prompts=prompts), tmp_path / "run", until="pairs")
    found = [[turn["content"] for turn in row["messages"]] for row in rows(tmp_path / "run", "iter1/prompts")]
    assert sorted(found) == sorted(
        [
            ["Answer in one word.", "Name a river.", "Nile", "Another one?"],
            ["Be kind.", "Name a river.", "Nile", "Another one?"],
            ["Be kind.", PROMPTS[0]],
        ]
    )


def test_a_broken_chat_of_a_source_is_refused_with_its_row(tmp_path):
    source = tmp_path / "given.jsonl"
    source.write_text(json.dumps({"messages": TURNS[:3]}) + "\n")
    config = config_for(script(tmp_path), prompts={"n": 1, "source": str(source)})
    with pytest.raises(
        InputError, match=r"row 1: column 'messages': holds the turns system, user, assistant"
    ):
        run_pipeline(config, tmp_path / "run", until="pairs")


class Template:
    """An engine that counts words, and whose chat template keeps, drops or refuses system turns."""

    name = "hf:model"

    def __init__(self, does):
        self.does = does

    def count_tokens(self, messages):
        if messages[0].role == "system" and self.does == "refuses":
            return None
        return sum(len(m.content.split()) for m in messages if self.does == "keeps" or m.role != "system")


@pytest.mark.parametrize("does", ["keeps", "drops", "refuses"])
def test_a_template_without_a_system_turn_is_refused_in_one_sentence(does):
    from selfreward.builders.answers.chats import require_system_turns

    asked = Request("p-1", (Message("system", "Be kind."), Message("user", "Why?")), Sampling())
    plain = Request("p-0", (Message("user", "Why?"),), Sampling())
    require_system_turns("iter1/candidates", Template(does), [plain])
    if does == "keeps":
        require_system_turns("iter1/candidates", Template(does), [plain, asked])
        return
    with pytest.raises(
        InputError, match=f"the chat template of hf:model {does} the system turn of prompt p-1"
    ):
        require_system_turns("iter1/candidates", Template(does), [plain, asked])


def test_reasoning_is_kept_apart_hidden_from_the_judge_and_left_out_of_pairs(tmp_path):
    """The scripted judge gives 0 to whatever shows SECRET; tokens are words: `<think>SECRET plan</think>` has two."""
    answers = [f"<think>SECRET plan</think>\n{answer}" for answer in ANSWERS]
    config = config_for(script(tmp_path, answers), candidates={"n": 4, "reasoning": "apart"})
    run = tmp_path / "run"
    run_pipeline(config, run, until="pairs")
    candidates = rows(run, "iter1/candidates")
    assert {row["reasoning"] for row in candidates} == {"<think>SECRET plan</think>\n"}
    assert {row["response"] for row in candidates} <= set(ANSWERS)
    assert {row["n_reasoning_tokens"] for row in candidates} == {2}
    assert all(row["n_tokens"] == 2 + len(row["response"].split()) for row in candidates)
    assert not any("saw the reasoning" in row["judgement"] for row in rows(run, "iter1/judgements"))
    assert not any("SECRET" in pair["chosen"][0]["content"] for pair in rows(run, "iter1/pairs"))
    with_it = config.model_copy(update={"pairs": config.pairs.model_copy(update={"reasoning": True})})
    run_pipeline(with_it, run, until="pairs")
    assert all(pair["chosen"][0]["content"].startswith("<think>SECRET") for pair in rows(run, "iter1/pairs"))
    results = {
        result.name: result.verdict
        for result in run_audits(Run(run), save=False, checks=["pairs_same_prompt"]).results
    }
    assert results == {"pairs_same_prompt": "pass"}


def test_pairs_with_reasoning_that_no_candidate_has_are_refused_in_one_sentence(tmp_path):
    config = config_for(script(tmp_path), pairs={"min_pairs": 1, "reasoning": True})
    with pytest.raises(InputError, match=r"pairs\.reasoning needs candidates with a column `reasoning`"):
        run_pipeline(config, tmp_path / "run", until="pairs")


def test_the_filters_words_are_those_of_the_language(tmp_path):
    from selfreward.builders.self_instruct.filters import filter_prompt, render_demonstrations
    from selfreward.builders.self_instruct.words import read_words, words_text

    german = read_words(words_text("de"))
    assert filter_prompt("Zeichne mir ein Schaf in der Wüste.", "stop", german) == "mentions_unavailable"
    assert filter_prompt("Zeichne mir ein Schaf in der Wüste.", "stop") is None
    assert filter_prompt("Über welche Themen spricht man beim Essen?", "stop", german) is None
    assert filter_prompt("Über welche Themen spricht man beim Essen?", "stop") == "starts_with_non_english"
    assert (
        filter_prompt("Schreib ein Programm, das Namen sortiert.", "stop", german)
        == "starts_with_write_a_program"
    )
    assert render_demonstrations(["a"], german.name).endswith("Write it in German.")
    with pytest.raises(
        UsageError, match=r"prompts\.lang 'xx': no filter words for it; expected en, de, fr, es, it"
    ):
        words_text("xx")

"""The scripted engine: rules, groups and faults, on real files."""

from __future__ import annotations

import hashlib
import json

import pytest

from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.engines.registry import open_engine
from selfreward.engines.scripted import ScriptedEngine
from selfreward.errors import EngineError, InputError
from selfreward.tables import Message

SCRIPT = """
settings:
  group_size: 3
rules:
  - {id: p-special, answers: [by id]}
  - {id: "j-*", answers: ["Score: 1", "Score: 5"], choice_logprobs: {" 1": -0.5, " 5": -1.0}}
  - {contains: river, answers: ["The Danube."], finish_reason: length}
  - {regex: "^Bo+m", error: the server said no}
  - {id: "s-*", answers: [a, b, c, d], pick: position}
"""


def request(request_id, text="Hello", n=1, **more):
    return Request(request_id, (Message("user", text),), Sampling(), n=n, **more)


def engine_for(tmp_path, text=SCRIPT, name="script.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return open_engine(f"scripted:{path}")


def flat(groups):
    return [completion for group in groups for completion in group]


def test_the_first_matching_rule_answers(tmp_path):
    engine = engine_for(tmp_path)
    requests = [
        request("p-special", "Which river?"),
        request("p-1", "Which river?"),
        request("p-2", "Booom!"),
        request("p-3", "Nothing fits"),
    ]
    by_id, by_text, refused, unmatched = flat(engine.generate(requests))
    assert by_id.text == "by id"
    assert (by_text.text, by_text.finish_reason, by_text.n_tokens) == ("The Danube.", "length", 2)
    assert (refused.finish_reason, refused.error) == ("error", "the server said no")
    assert (unmatched.finish_reason, unmatched.error) == (
        "error",
        "no rule of the script matches this request",
    )


def test_answers_cycle_by_sample_or_by_position(tmp_path):
    engine = engine_for(tmp_path)
    judged = flat(engine.generate([request("j-1", n=3)]))
    assert [completion.text for completion in judged] == ["Score: 1", "Score: 5", "Score: 1"]
    prompts = flat(engine.generate([request("s-1", n=2), request("s-2"), request("s-3", n=2)]))
    assert [completion.text for completion in prompts] == ["a", "b", "c", "d", "a"]


def test_another_seed_picks_other_answers_but_the_same_seed_the_same(tmp_path):
    script = json.dumps({"answers": [str(number) for number in range(50)], "pick": "seed"})
    engine = engine_for(tmp_path, script, "script.jsonl")

    def texts(seed):
        return [completion.text for completion in flat(engine.generate([request("x", n=20, seed=seed)]))]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    assert len(set(texts(1))) > 10


def test_choice_logprobs_come_only_for_choices_asked_and_known(tmp_path):
    engine = engine_for(tmp_path)
    (asked,) = flat(engine.generate([request("j-1", choices=(" 5", " 9"))]))
    (unasked,) = flat(engine.generate([request("j-1")]))
    assert asked.choice_logprobs == {" 5": -1.0}
    assert unasked.choice_logprobs is None


def test_groups_are_cut_from_the_whole_request_list_whatever_is_done(tmp_path):
    """Seven units in groups of 3: (0 1 2) (3 4 5) (6). With 1 and 3 to 5 done, (0 2) and (6) are left."""
    engine = engine_for(tmp_path)
    requests = [request("s-1", n=4), request("s-2", n=3)]
    whole = list(engine.generate(requests))
    assert [len(group) for group in whole] == [3, 3, 1]
    done = {("s-1", 1), ("s-1", 3), ("s-2", 0), ("s-2", 1)}
    rest = list(engine.generate(requests, done))
    assert [[(row.request_id, row.sample) for row in group] for group in rest] == [
        [("s-1", 0), ("s-1", 2)],
        [("s-2", 2)],
    ]
    kept = [row for row in flat(whole) if (row.request_id, row.sample) not in done]
    assert flat(rest) == kept


def test_a_scripted_fault_stops_the_whole_engine_until_it_is_lifted(tmp_path):
    lifted = tmp_path / "lifted"
    fault = {"at_group": 2, "message": "out of memory", "unless_exists": str(lifted)}
    lines = [{"settings": {"group_size": 2, "faults": [fault]}}, {"answers": ["yes"]}]
    script = "\n".join(json.dumps(line) for line in lines)
    engine = engine_for(tmp_path, script, "script.jsonl")
    stream = engine.generate([request("x", n=6)])
    assert len(next(stream)) == 2
    with pytest.raises(EngineError, match="out of memory"):
        next(stream)
    lifted.touch()
    again = open_engine(engine.name)
    assert len(flat(again.generate([request("x", n=6)], done={("x", 0), ("x", 1)}))) == 4


def test_the_identity_is_the_hash_of_the_file(tmp_path):
    engine = engine_for(tmp_path)
    assert engine.identity == "sha256:" + hashlib.sha256(SCRIPT.encode()).hexdigest()
    assert engine.capabilities.logprobs
    assert engine.capabilities.prefix
    assert engine.capabilities.seeds


def test_capabilities_can_be_taken_away(tmp_path):
    engine = engine_for(tmp_path, "settings: {capabilities: {logprobs: false}}\nrules: [{answers: [x]}]")
    assert not engine.capabilities.logprobs
    assert engine.capabilities.prefix


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        pytest.param("a.yaml", "rules: [{anwsers: [x]}]", "rules.0.anwsers", id="unknown key"),
        pytest.param("a.yaml", "rules: [{answers: []}]", "at least one answer", id="no answers"),
        pytest.param(
            "a.yaml", "rules: [{regex: '(', answers: [x]}]", "not a regular expression", id="bad regex"
        ),
        pytest.param("a.yaml", "rules: [", "not YAML", id="broken yaml"),
        pytest.param("a.yaml", "", "Script", id="empty"),
        pytest.param("a.jsonl", '{"answers": ["x"]}\n{"answers"', "line 2: not JSON", id="broken line"),
    ],
)
def test_a_bad_script_is_one_sentence_with_the_place(tmp_path, name, text, said):
    with pytest.raises(InputError, match=said) as caught:
        engine_for(tmp_path, text, name)
    assert "\n" not in str(caught.value)


def test_a_missing_script_is_named():
    with pytest.raises(InputError, match=r"scripted:nowhere\.yaml: cannot read"):
        ScriptedEngine("nowhere.yaml", EngineOptions())

"""Judging: resampling up to its bound, expected scores from token probabilities, a judge that collapses."""

from __future__ import annotations

import math

import pytest
import yaml
from scripted_run import PROMPTS, config_for

from selfreward.config.judging import JudgingConfig
from selfreward.engines import open_engine
from selfreward.engines.base import BaseEngine, Capabilities, Completion, row_seed
from selfreward.errors import CapabilityError, GateError
from selfreward.judging.judge.judge import Item, judge_items
from selfreward.judging.prompts.templates import JudgeTemplate
from selfreward.steps.generation import Generation
from selfreward.steps.pipeline import run_pipeline

TEMPLATE = JudgeTemplate.from_text(
    "User: {{ instruction }}\n<response>\n{{ response }}\n</response>\nScore: <n>"
)
ITEMS = [Item("a", "Why?", "Because."), Item("b", "How?", "mute")]


class Recorder(BaseEngine):
    """Answers from a function of the request, and keeps what it was asked."""

    name = "recorder"
    capabilities = Capabilities(logprobs=True, prefix=True, seeds=True)

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def generate(self, requests, done=frozenset()):
        for request in requests:
            for sample in range(request.n):
                if (request.id, sample) not in done:
                    self.asked.append(request)
                    seed = row_seed(request.seed, request.id, sample)
                    yield [Completion(request.id, sample, **self.answer(request), seed=seed)]


def judged(engine, tmp_path, **settings):
    with Generation("judge", tmp_path / "work", engine) as generation:
        return judge_items(generation, engine, ITEMS, TEMPLATE, JudgingConfig(**settings), seed=0)


def said(text, finish_reason="stop", **more):
    return {"text": text, "finish_reason": finish_reason, "n_tokens": len(text.split()), **more}


def test_a_judgement_without_a_score_is_asked_for_again_up_to_the_bound(tmp_path):
    """a: 4 at once in both samples. b: never; each of its samples is asked for three times, with another seed each
    time, and stays with its reason. 4 first requests and 2 x 2 more."""
    engine = Recorder(lambda request: said("hm" if "mute" in request.messages[0].content else "Score: 4"))
    found = judged(engine, tmp_path, samples=2, max_attempts=3)
    assert [(j.item_id, j.sample, j.score, j.status, j.attempts) for j in found] == [
        ("a", 0, 4.0, "ok", 1),
        ("a", 1, 4.0, "ok", 1),
        ("b", 0, None, "no_score", 3),
        ("b", 1, None, "no_score", 3),
    ]
    assert len(engine.asked) == 8
    assert len({j.seed for j in found}) == 4


def test_a_second_attempt_that_has_a_score_counts(tmp_path):
    engine = Recorder(lambda request: said("Score: 2" if "@2" in request.id else "cut in the", "length"))
    found = judged(engine, tmp_path, samples=1, max_attempts=2)
    assert {(j.score, j.status, j.attempts) for j in found} == {(None, "truncated", 2)}
    engine = Recorder(lambda request: said("Score: 2" if "@2" in request.id else "nothing"))
    found = judged(engine, tmp_path / "other", samples=1, max_attempts=2)
    assert {(j.score, j.status, j.attempts) for j in found} == {(2.0, "ok", 2)}


def probabilities(**by_score):
    return {f" {score[1:]}": math.log(p) for score, p in by_score.items()}


def test_an_expected_score_follows_a_greedy_justification_cut_before_its_own_score(tmp_path):
    """0.2 on 3 and 0.6 on 5 of 0.8 in all: (0.6 + 3) / 0.8 = 4.5. The score is asked for behind the justification
    and the template's own label, one token; b's justification was cut by length, and says so."""
    score = said("5", "length", choice_logprobs=probabilities(s3=0.2, s5=0.6))

    def answer(request):
        if request.choices:
            return score
        return said("It is fine.\n", "length" if "mute" in request.messages[0].content else "stop")

    engine = Recorder(answer)
    found = judged(engine, tmp_path, mode="expected", justify=True)
    assert [j.score for j in found] == pytest.approx([4.5, 4.5])
    assert [(j.status, j.finish_reason, j.sample) for j in found] == [("ok", "stop", 0), ("ok", "length", 0)]
    assert found[0].text == "It is fine.\nScore: 4.5000"
    justifying = [request for request in engine.asked if not request.choices]
    assert {(r.sampling.temperature, r.sampling.stop) for r in justifying} == {(0.0, ("Score:",))}
    scoring = [request for request in engine.asked if request.id.endswith("#score")]
    assert {(r.prefix, r.sampling.max_tokens) for r in scoring} == {("It is fine.\nScore:", 1)}
    assert scoring[0].choices == (" 0", " 1", " 2", " 3", " 4", " 5")


def test_without_a_justification_one_token_of_each_response_is_asked_for(tmp_path):
    engine = Recorder(lambda request: said("1", "length", choice_logprobs=probabilities(s1=0.9)))
    found = judged(engine, tmp_path, mode="expected", justify=False, min_score=1)
    assert [(j.score, j.finish_reason, j.text) for j in found] == [(1.0, "stop", "Score: 1.0000")] * 2
    assert {request.prefix for request in engine.asked} == {"Score:"}
    assert len(engine.asked) == 3  # two responses and the probe of how the tokenizer writes a score


def test_where_the_judge_was_about_to_write_something_else_there_is_no_score(tmp_path):
    """0.3 of the probability on scores is less than half; a request that failed is an engine_error."""

    def answer(request):
        if request.id == "b#score":
            return said("", "error", error="too long")
        return said("x", "length", choice_logprobs=probabilities(s2=0.1, s4=0.2))

    found = judged(Recorder(answer), tmp_path, mode="expected", justify=False)
    assert [(j.score, j.status, j.finish_reason) for j in found] == [
        (None, "no_score", "stop"),
        (None, "engine_error", "error"),
    ]


def test_an_engine_without_probabilities_is_refused_before_it_is_asked(tmp_path):
    path = tmp_path / "script.yaml"
    path.write_text(
        yaml.safe_dump({"rules": [{"answers": ["x"]}], "settings": {"capabilities": {"logprobs": False}}})
    )
    with (
        open_engine(f"scripted:{path}") as engine,
        pytest.raises(CapabilityError, match=r"use judging\.mode: sampled"),
    ):
        judged(engine, tmp_path, mode="expected")


MORE_PROMPTS = [
    "Name three rivers that cross a border between countries.",
    "How do I stop my cat from scratching the new sofa?",
    "Draft a polite email that declines a wedding invitation.",
    "What should a beginner know about chess openings?",
    "Invent a superstition for people who work in libraries.",
    "Calculate how much paint a small bathroom needs.",
]


@pytest.mark.parametrize(
    ("judgements", "settings", "message"),
    [
        pytest.param(
            ["Score: 3"], {}, r"144 of 144 scores are 3 .*collapse_share 0\.98\).\s+3 █+ 144", id="one score"
        ),
        pytest.param(
            [f"Score: {n % 3}" for n in range(3)],
            {"collapse_share": 1.0},
            r"12 of 12 prompts .* tied",
            id="all tied",
        ),
    ],
)
def test_a_judge_that_collapses_stops_the_run_with_the_histogram(tmp_path, judgements, settings, message):
    """Twelve prompts, four answers, three judgements each; the second judge says 0, 1, 2 of everything: all means 1."""
    script = tmp_path / "script.yaml"
    rules = [
        {"contains": "list of tasks", "pick": "position", "answers": [*PROMPTS, *MORE_PROMPTS]},
        {"contains": "<response>", "pick": "sample", "answers": judgements},
        {"pick": "seed", "answers": ["Yes.", "No, not at all.", "Perhaps so."]},
    ]
    script.write_text(yaml.safe_dump({"rules": rules}))
    config = config_for(script, prompts={"n": 12, "round_size": 24}, judging={"samples": 3, **settings})
    with pytest.raises(GateError, match=f"(?s){message}") as caught:
        run_pipeline(config, tmp_path / "run")
    assert "█" in str(caught.value)

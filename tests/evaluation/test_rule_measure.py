"""Rule-checked answers: figures worked out by hand, the measure and the step on scripted models, the controls of scores."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
import yaml
from scripted_run import config_for, write_script

from selfreward.config.evaluation import RuleEvalConfig
from selfreward.engines.base import Completion
from selfreward.errors import UsageError
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.measure import measure
from selfreward.evaluation.rules.measure import RulesMeasure
from selfreward.evaluation.rules.verdicts import reads_like_judgement, rule_figures, verdict_rows
from selfreward.judging.audits.runner import run_audits
from selfreward.judging.rules.files import PromptWithRules
from selfreward.judging.rules.rules import Rule
from selfreward.statistics import paired_difference
from selfreward.steps.pipeline import run_pipeline
from selfreward.steps.step import plan_run
from selfreward.store.run import Run
from selfreward.summary.facts import summarize
from selfreward.summary.report import format_report, report_run
from selfreward.tables import row_id

COMMAS = PromptWithRules("Describe a kettle. Use no commas.", (Rule("no_commas"),))
QUOTES = PromptWithRules("Describe a lamp. Use no commas.", (Rule("no_commas"), Rule("in_quotes")))
UNKNOWN = PromptWithRules("Answer in German.", (None,))


def answered(*texts):
    """Two answers to each of the three prompts, in order; None is a failed one."""
    places = [(row_id("rp", p.prompt), s) for p in (COMMAS, QUOTES, UNKNOWN) for s in (0, 1)]
    return {
        place: Completion(place[0], place[1], text or "", "error" if text is None else "stop", 3, 0)
        for place, text in zip(places, texts, strict=True)
    }


def test_figures_of_answers_by_hand():
    settings = RuleEvalConfig(samples=2)
    rows = verdict_rows(
        [COMMAS, QUOTES, UNKNOWN],
        answered("Red and red.", "Red, green.", '"Red."', "Red.", "Ja.", None),
        settings,
        "m",
        1,
    )
    assert [(row.kept, row.broken, row.reason) for row in rows] == [
        (True, [], None), (False, ["no_commas"], None), (True, [], None), (False, ["in_quotes"], None),
        (None, [], "unknown_rule"), (None, [], "engine_error"),
    ]  # fmt: skip
    found = rule_figures(rows)
    assert (found.kept.value, found.kept.n) == (0.5, 4)
    assert found.unchecked == {"unknown_rule": 1, "engine_error": 1}
    assert found.by_rule == {"in_quotes": (1, 2), "no_commas": (3, 4)}
    assert rows[0].distinct_words == pytest.approx(2 / 3)  # red, and, red
    assert found.mean_chars == pytest.approx((12 + 11 + 6 + 4 + 3) / 5)


@pytest.mark.parametrize(
    ("answer", "like"),
    [
        ("It is clear.\nScore: 4", True),
        ("Score: 5", True),
        ("They won, and the score was 4 to 2.", False),
        ("A kettle boils water.", False),
    ],
)
def test_an_answer_that_reads_like_a_judgement(answer, like):
    assert reads_like_judgement(answer) is like


def test_a_paired_difference_takes_the_prompts_of_both():
    a = [("p", True), ("p", False), ("q", True), ("only a", False), ("r", None)]
    b = [("p", False), ("p", False), ("q", True), ("only b", True), ("r", True)]
    found = paired_difference(a, b)
    # a: 2 of 3 over p, q, r (r has no verdict); b: 2 of 4
    assert found.value == pytest.approx(2 / 3 - 2 / 4)
    assert found.n == 3
    assert paired_difference([], b).value is None


@pytest.fixture
def keeps(tmp_path):
    """Answers in small letters without commas; the second model answers with commas."""
    models = []
    for name, answer in (("plain", "a kettle boils water."), ("comma", "a kettle, a lamp.")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"rules": [{"answers": [answer]}]}))
        models.append(f"scripted:{path}")
    return models


def test_the_measure_compares_models_on_the_same_prompts(keeps, tmp_path):
    file = tmp_path / "ifeval.jsonl"
    rows = [
        {"prompt": "One.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"prompt": "Two.", "instruction_id_list": ["change_case:english_lowercase"], "kwargs": [{}]},
        {
            "prompt": "Three.",
            "instruction_id_list": ["language:response_language"],
            "kwargs": [{"language": "de"}],
        },
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Run.create(tmp_path / "run")
    settings = RulesMeasure(model=tuple(keeps), prompts=file, run=run.path, out=tmp_path / "out")
    result = measure(settings)
    plain, comma = result.models
    assert (plain.figures.kept.value, comma.figures.kept.value) == (1.0, 0.5)
    assert comma.gain is not None
    assert comma.gain.value == -0.5
    assert plain.figures.unchecked == {"unknown_rule": 1}
    assert "unknown_rule 1" in result.text()
    stored = [row for row in figures(run) if row["figure"] == "kept" and row["part"] is None]
    assert sorted(row["value"] for row in stored) == [50.0, 100.0]
    assert (tmp_path / "out" / "rules.jsonl").read_text().count("\n") == 6


def test_a_model_given_twice_is_refused(tmp_path):
    with pytest.raises(UsageError, match="one of them is given twice"):
        RulesMeasure(model=("M1", "M1"), out=tmp_path)


@pytest.fixture
def config(tmp_path):
    return config_for(
        write_script(tmp_path / "script.yaml"),
        seeds={"source": "rules"},
        judging={"samples": 3, "template": "rule"},
        evaluate={
            "alpaca": None,
            "judge": {"replies": "rules", "n_max": 20},
            "rules": {"n_max": 12, "samples": 2},
        },
    )


def test_the_step_and_what_the_report_says(config, tmp_path):
    run_pipeline(config, tmp_path / "run")
    run = Run(tmp_path / "run")
    rows = run.current("iter1/rule_eval").table().to_pylist()
    assert len(rows) == 24
    assert {len(row["rules"]) for row in rows} == {1}
    judged = run.current("iter1/judge_eval").table().to_pylist()
    assert len(judged) == 20
    assert {row["human_rank"] for row in judged} == {0, 1}
    (rate,) = summarize(run).rule_rates
    assert rate.kept is not None
    assert rate.kept.value == sum(row["kept"] for row in rows) / 24
    text = format_report(report_run(run.path))
    assert "Answers that keep the rule of their prompt" in text
    # One model: nothing to compare with.
    assert "against M1" in text
    assert "95 % interval of the difference" not in text


@pytest.mark.parametrize("source", ["shuffled", "rules"])
def test_controls_change_the_scores_and_nothing_before_them(config, tmp_path, source):
    folder = tmp_path / "run"
    run_pipeline(config, folder, until="scores")
    run = Run(folder)
    before = {name: run.current(name).version for name in run.names()}
    own = run.current("iter1/scores").table().to_pylist()
    values = config.model_dump(mode="json") | {"scores": {"source": source}}
    run_pipeline(type(config).model_validate(values), folder, until="scores")
    changed = [name for name in before if run.current(name).version != before[name]]
    assert changed == ["iter1/scores"]
    found = run.current("iter1/scores").table().to_pylist()
    # The audit makes a control's scores anew as well: no threshold has to be loosened for it.
    assert run_audits(run, checks=["scores_match_judgements"], save=False).exit_code == 0
    if source == "shuffled":
        by_prompt = [defaultdict(list), defaultdict(list)]
        for groups, rows in zip(by_prompt, (own, found), strict=True):
            for row in rows:
                groups[row["prompt_id"]].append(row["score"])
        assert all(sorted(a, key=str) == sorted(by_prompt[1][p], key=str) for p, a in by_prompt[0].items())
    else:
        # The scripted prompts state no rule in known words.
        assert {row["score"] for row in found} == {None}


def test_fluency_is_the_mean_log_probability_of_an_answers_tokens(tmp_path):
    """Each row alone, summed by hand from the model's own probabilities, against the padded batch."""
    import torch
    from tiny_llama import make_tiny_llama
    from transformers import AutoModelForCausalLM

    from selfreward.evaluation.rules.fluency import mean_log_probs
    from selfreward.models.tokenizer import chat_ids, load_tokenizer

    folder = make_tiny_llama(tmp_path / "tiny")
    answers = [("hi", "ok"), ("hi there", "yes indeed, and more of it"), ("hi", "")]
    found = mean_log_probs(folder, answers)
    tokenizer, model = load_tokenizer(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    for (prompt, answer), value in zip(answers, found, strict=True):
        start = chat_ids(tokenizer, [{"role": "user", "content": prompt}], answering=True)
        tail = tokenizer.encode(answer, add_special_tokens=False)
        if not tail:
            assert value is None
            continue
        with torch.inference_mode():
            logits = model(torch.tensor([start + tail])).logits[0].log_softmax(-1)
        steps = [logits[len(start) + i - 1, token].item() for i, token in enumerate(tail)]
        assert value == pytest.approx(sum(steps) / len(steps), abs=1e-5)


def test_without_eft_the_replies_of_a_file_are_judged_and_the_eval_split_is_not(config):
    values = config.model_dump(mode="json") | {"eft": None}
    names = [plan.name for plan in plan_run(type(config).model_validate(values))]
    assert "iter1/judge_eval" in names
    values["evaluate"]["judge"]["replies"] = "eft_eval"
    assert "iter1/judge_eval" not in [plan.name for plan in plan_run(type(config).model_validate(values))]

"""`run --estimate`: what it counts is what the run then asks for; its arithmetic; and that it leaves no trace."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml
from fake_openai_server import FakeServer, normal_answer, prompt_of
from scripted_run import PROMPTS, cli, config_for, write_script
from tiny_llama import make_tiny_llama

from selfreward.builders.prompts import answers_needed
from selfreward.config.run import PromptsConfig, check_config
from selfreward.engines.base import Completion
from selfreward.engines.openai.usage import Prices
from selfreward.errors import EngineError
from selfreward.estimate.ranges import Range, mean_range, share_range
from selfreward.estimate.rehearsal import Call, Probe
from selfreward.estimate.report import as_plain, format_estimate
from selfreward.estimate.run import estimate_run
from selfreward.estimate.scaling import StepEstimate, add_call, measured
from selfreward.estimate.training import TrainingProbe
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Counts, Recipe, Run
from selfreward.tables import Prompt, to_table

NO_ALPACA = {"evaluate": {"alpaca": None, "judge": None}}


def by_name(estimate):
    return {step.name: step for step in estimate.steps}


def fingerprint(folder):
    """Every file below a folder: name, time of change, content."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }  # fmt: skip


# ------------------------------------------------------------------------------- against the run itself


def test_every_request_that_the_run_makes_is_counted_and_measuring_all_gives_its_tokens(tmp_path):
    """With a probe as large as the run, requests and tokens must be the run's own, but for judgements: those without a
    score are asked for again, and which these are depends on the answers' seeds."""
    config = config_for(write_script(tmp_path / "script.yaml"))
    estimate = by_name(estimate_run(config, tmp_path / "run", n_answers=1000))
    assert not (tmp_path / "run").exists()
    for step in run_pipeline(config, tmp_path / "run"):
        if "completions" not in step.notes:
            assert estimate[step.name].requests == Range(0, 0, 0), step.name
        elif step.name != "iter1/judgements":
            assert estimate[step.name].answers.likely == step.notes["completions"], step.name
            if (
                step.name != "iter1/candidates"
            ):  # their text depends on the prompts' ids, which are copies here
                assert estimate[step.name].new_tokens.likely == pytest.approx(step.notes["new_tokens"])
    assert estimate["iter1/judgements"].answers.low >= 72


def test_a_small_probe_is_scaled_up_to_the_whole_run(tmp_path):
    """Six prompts are kept of the 12 answers of the first round, so 6 requests for 4 candidates each, whose 24 answers all
    have 5 words. Each is judged 3 times in one request: 24 requests, 72 answers of 3 words. Eight answers are measured."""
    script = tmp_path / "script.yaml"
    rules = [
        {"contains": "list of tasks", "pick": "position", "answers": PROMPTS},
        {"contains": "<response>", "answers": ["Fine. Score: 4"]},
        {"answers": ["It has exactly five words."]},
    ]
    script.write_text(yaml.safe_dump({"rules": rules}))
    judging = {"samples": 3, "collapse_share": 1, "collapse_tied_share": 1}
    config = config_for(script, judging=judging, **NO_ALPACA)
    steps = by_name(estimate_run(config, tmp_path / "run", n_answers=8))
    candidates, judgements = steps["iter1/candidates"], steps["iter1/judgements"]
    assert candidates.requests == Range(6, 6, 6)
    assert candidates.new_tokens == Range(120, 120, 120)
    assert judgements.requests == Range(24, 24, 24)
    assert judgements.new_tokens == Range(216, 216, 216)
    assert "measured: 8 answers of 5.0 tokens (at most 1024)" in candidates.basis[0]
    # every answer scores 4: all prompts are tied, and DPO would have nothing to be tried with
    assert "0 pairs, fewer than pairs.min_pairs (1)" in steps["iter1/pairs"].basis[0]


def test_money_is_tokens_times_prices_and_the_probe_says_its_own(tmp_path):
    """Each request costs 10 tokens in at 2 a million; 6 requests of 4 answers of 5 tokens: 60 x 2 + 120 x 10 millionths."""

    def reply(handler, body):
        answer = normal_answer(body)
        for place, choice in enumerate(answer["choices"]):
            text = "Fine. Score: 4"
            if "list of tasks" in prompt_of(body):
                text = PROMPTS[(len(server.bodies) + place) % len(PROMPTS)]
            choice["message"]["content"] = text
        handler.send_json(answer)

    with FakeServer() as server:
        server.usual = reply
        prices = {"price_per_million_in": 2, "price_per_million_out": 10}
        config = config_for(
            "unused",
            model=f"openai:{server.url}#tiny",
            judging={"samples": 3, "collapse_share": 1, "collapse_tied_share": 1},
            engine={"extra": prices, "max_in_flight": 12},
            **NO_ALPACA,
        )
        estimate = estimate_run(config, tmp_path / "run")
        n_sent = len(server.bodies)
    steps = by_name(estimate)
    assert steps["iter1/candidates"].cost.likely == pytest.approx(0.00132)
    assert steps["iter1/judgements"].cost.likely == pytest.approx(24 * 10 * 2e-6 + 72 * 5 * 10e-6)
    assert estimate.total("cost").low <= estimate.total("cost").likely <= estimate.total("cost").high
    assert n_sent == 1 + 12 + 3 + 4  # a word to warm up, 12 prompts, 3 x 4 candidates, 4 x 3 judgements
    sent_answers = 12 + 12 + 12
    assert estimate.probe_cost == pytest.approx(n_sent * 10 * 2e-6 + (1 + sent_answers) * 5 * 10e-6)
    assert "outside of max_cost" in format_estimate(estimate)


def test_what_is_built_is_not_counted_and_an_unfinished_journal_counts_as_done_in_part(tmp_path):
    """Prompts (12 answers) are groups 1 and 2, candidates (24 in groups of 8) are 3 to 5; the engine fails at 5, so that 16
    candidates are written and 8 of 24, a third of 6 requests, are left."""
    faults = [
        {"at_group": 3, "kind": "raise", "message": "out of memory", "unless_exists": str(tmp_path / "ok")}
    ]
    config = config_for(write_script(tmp_path / "script.yaml", faults=faults))
    with pytest.raises(EngineError):
        run_pipeline(config, tmp_path / "run")
    (tmp_path / "ok").touch()
    before = fingerprint(tmp_path / "run")
    steps = by_name(estimate_run(config, tmp_path / "run", n_answers=1000))
    assert fingerprint(tmp_path / "run") == before
    assert [steps[name].state for name in ("seeds", "ift", "eft", "iter1/prompts")] == ["done"] * 4
    candidates = steps["iter1/candidates"]
    assert (candidates.state, candidates.basis[0]) == ("partly done", "16 answers are written already")
    assert candidates.answers == Range(8, 8, 8)
    assert candidates.requests.likely == pytest.approx(2)
    assert steps["iter1/judgements"].state == "to do"


def test_a_finished_run_needs_nothing_and_a_changed_rule_no_request(tmp_path):
    config = config_for(write_script(tmp_path / "script.yaml"))
    run_pipeline(config, tmp_path / "run")
    before = fingerprint(tmp_path / "run")
    assert format_estimate(estimate_run(config, tmp_path / "run")).startswith("nothing to do: all 12 steps")
    changed = config.model_copy(update={"pairs": config.pairs.model_copy(update={"rule": "margin"})})
    estimate = estimate_run(changed, tmp_path / "run")
    assert [step.name for step in estimate.steps if step.state != "done"] == ["iter1/pairs"]
    assert estimate.total("requests") == Range(0, 0, 0)
    wider = config.model_copy(update={"judging": config.judging.model_copy(update={"max_score": 10.0})})
    steps = by_name(estimate_run(wider, tmp_path / "run", until="iter1/scores"))
    assert steps["iter1/judgements"].requests == Range(0, 0, 0)  # stored judgements are read again
    assert fingerprint(tmp_path / "run") == before


def test_a_probe_that_keeps_no_prompt_says_so_and_what_cannot_be_estimated(tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text(yaml.safe_dump({"rules": [{"answers": ["No."]}]}))
    estimate = estimate_run(config_for(script), tmp_path / "run")
    steps = by_name(estimate)
    assert "would stop the run here" in steps["iter1/prompts"].basis[0]
    assert as_plain(estimate)["not_estimated"] == ["iter1/candidates", "iter1/judgements"]
    assert "The total is without: iter1/candidates, iter1/judgements" in format_estimate(estimate)


def test_a_judge_that_scores_nothing_in_the_probe_does_not_end_the_estimate(tmp_path):
    """As an untrained model does: the sentence that the run would stop with is the basis of `scores`."""
    script = tmp_path / "script.yaml"
    rules = [
        {"contains": "list of tasks", "pick": "position", "answers": PROMPTS},
        {"contains": "<response>", "answers": ["No idea."]},
        {"pick": "sample", "answers": ["One answer to it.", "Quite another answer."]},
    ]
    script.write_text(yaml.safe_dump({"rules": rules}))
    steps = by_name(estimate_run(config_for(script, **NO_ALPACA), tmp_path / "run"))
    assert "the measured answers would stop the run here" in steps["iter1/scores"].basis[0]
    assert steps["iter1/judgements"].requests.high > 24  # asked for again


def test_the_command_prints_a_table_or_json_and_leaves_no_run_folder(tmp_path):
    script = write_script(tmp_path / "script.yaml")
    config = config_for(script, run=str(tmp_path / "run"))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = cli("run", "c.yaml", "--estimate", "--json", "--until", "candidates", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["total"]["requests"]["likely"] == 18  # 12 for prompts, 6 for candidates
    assert found["cost"] is None
    assert not (tmp_path / "run").exists()
    table = cli("run", "c.yaml", "--estimate", "--until", "candidates", cwd=tmp_path)
    assert "in all" in table.stdout
    assert "no money is counted" in table.stdout


# ------------------------------------------------------------------------------- training


def test_training_is_measured_on_two_steps_of_the_real_thing(tmp_path):
    """A model of two layers, prompts brought by the user: M1 and M2 are both tried, on rows that stand in for the pairs."""
    model = make_tiny_llama(tmp_path / "tiny")
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "max_position_embeddings": 4096}))
    fast = {
        "learning_rate": 1e-3,
        "min_learning_rate": 1e-4,
        "dropout": 0.0,
        "precision": "float32",
        "epochs": 1,
    }
    config = check_config(
        {
            "model": f"hf:{model}",
            "eft": {"targets": "written"},
            "ift": {"n_max": 8},
            "sft": {**fast, "batch_size": 2},
            "dpo": {**fast, "batch_size": 2},
            "candidates": {"n": 2, "max_tokens": 8},
            "judging": {"template": "additive-short", "samples": 1, "max_tokens": 4, "max_attempts": 1},
            "pairs": {"min_pairs": 2},
            **NO_ALPACA,
        },
        "test",
    )
    run = Run.create(tmp_path / "run")
    prompts = [
        Prompt(f"p-{i}", 1, text, [], "me", True, None, None, None, 0, 0) for i, text in enumerate(PROMPTS[:6])
    ]  # fmt: skip
    run.publish_table(Recipe("iter1/prompts", "import 1"), to_table(prompts, Prompt), Counts(6, 6))
    before = fingerprint(tmp_path / "run")
    steps = by_name(estimate_run(config, tmp_path / "run", n_answers=4))
    assert fingerprint(tmp_path / "run") == before
    assert "measured: 2 steps" in steps["M1"].basis[0]
    assert steps["M1"].seconds.low == steps["M1"].seconds.high > 0
    assert steps["M2"].basis[0] == "2 to 6 pairs (pairs.min_pairs, one a prompt)"
    assert 0 < steps["M2"].seconds.low < steps["M2"].seconds.likely < steps["M2"].seconds.high
    assert "by the model it starts from" in steps["iter1/candidates"].basis[-1]


def test_a_training_s_time_is_its_fixed_part_its_rows_and_the_effect_measured_after():
    """40 rows twice at 0.5 s, a third of one pass for the reference, 16 effect rows at 2 s, 10 s of start and end:
    10 + 40 + 6.67 + 32 = 88.67. With `max_steps` 3 of 4 rows: 10 + 6 + 6.67 + 32 = 54.67."""
    settings = {"max_steps": None, "epochs": 2, "batch_size": 4, "effect_rows": 16}
    probe = TrainingProbe(40, settings, 10.0, 2.0, 0.5, 1 / 3, "")
    assert probe.seconds(Range.exactly(40)).likely == pytest.approx(88.667, abs=0.001)
    probe = TrainingProbe(40, {**settings, "max_steps": 3}, 10.0, 2.0, 0.5, 1 / 3, "")
    assert probe.seconds(Range.exactly(40)).likely == pytest.approx(54.667, abs=0.001)


# ------------------------------------------------------------------------------- arithmetic


def probe_of(lengths, seconds, n_prompt_tokens=100):
    answers = [(Completion(f"r{i}", 0, "text", "stop", n, n_prompt_tokens),) for i, n in enumerate(lengths)]
    return Probe(tuple(answers), seconds)


def test_answers_with_token_probabilities_are_described_once_for_each_measurement():
    """Two calls that rest on one measurement of a judge's first token, and one of another: 10 answers in 2 s and in 4 s."""
    first, second = (
        Probe(
            tuple((Completion(f"r{i}", 0, "m", "length", 1, 50, choice_logprobs={"m": -0.1, "M": -2.4}),) for i in range(10)),
            seconds,
        )
        for seconds in (2.0, 4.0)
    )  # fmt: skip
    calls = [Call(20, 20, 1, again=False, probe=probe) for probe in (first, first, second)]
    assert measured(calls, False, None) == [
        "measured: 10 answers of 1.0 tokens (at most 1) in 2.0 s, 5 tokens/s",
        "measured: 10 answers of 1.0 tokens (at most 1) in 4.0 s, 2 tokens/s",
    ]


def test_a_call_is_scaled_by_its_requests_and_has_the_spread_of_the_measured_lengths():
    """Ten of 1,000 answers, of 10 and 30 tokens in turn: mean 20, standard deviation 10.54, 1.96 standard errors 6.53; 5 s.
    So 20,000 new tokens (13,467 to 26,533) in 500 s (336.7 to 663.3); prompts are all alike: 100,000."""
    call = Call(1000, 1000, 64, again=False, probe=probe_of([10, 30] * 5, 5.0))
    step = add_call(StepEstimate("x", "to do"), call, Range.exactly(1), False, None, Prices(1.0, 2.0))
    assert step.prompt_tokens == Range(100_000, 100_000, 100_000)
    assert step.new_tokens.likely == pytest.approx(20_000)
    assert (step.new_tokens.low, step.new_tokens.high) == pytest.approx((13_467, 26_533), abs=1)
    assert (step.seconds.low, step.seconds.likely, step.seconds.high) == pytest.approx(
        (336.7, 500, 663.3), abs=0.1
    )
    assert step.cost.likely == pytest.approx(0.14)


def test_a_model_still_to_be_trained_answers_at_a_length_between_its_own_and_what_it_is_taught():
    """Measured 40 tokens each (of at most 60), taught 20: likely 30, so three quarters of the measured 8 s for 10 of 100."""
    call = Call(100, 100, 60, again=False, probe=probe_of([40] * 10, 8.0))
    step = add_call(StepEstimate("x", "to do"), call, Range.exactly(1), True, 20.0, None)
    assert step.new_tokens == Range(2000, 3000, 4000)
    assert (step.seconds.low, step.seconds.likely, step.seconds.high) == pytest.approx((40, 60, 80))
    again = Call(100, 100, 60, again=True, probe=call.probe)
    step = add_call(StepEstimate("x", "to do"), again, Range.exactly(1), True, 20.0, None)
    assert step.requests == Range(0, 50, 100)
    assert step.cost is None


def test_prompts_are_asked_for_round_after_round_until_enough_are_kept():
    """24 wanted, 4 answers a draw. Half is hoped for: 12 draws, 48 answers, of which 0.4 x 48 = 19.2 are kept; 4.8 more at 0.4
    need 12 answers, so 60. With one round, 48 answers and 19.2 prompts are all there is."""
    settings = PromptsConfig(n=24, samples_per_draw=4, round_size=32)
    assert answers_needed(settings, 0.4) == (60, 24)
    n_answers, n_kept = answers_needed(settings.model_copy(update={"max_rounds": 1}), 0.4)
    assert (n_answers, n_kept) == (48, pytest.approx(19.2))


def test_a_mean_is_exact_where_all_were_measured_and_a_share_keeps_to_its_bounds():
    assert mean_range([3, 5], of=2) == Range(4, 4, 4)
    assert mean_range([3, 3, 3], of=9) == Range(3, 3, 3)
    assert share_range(0, 8).low == 0
    assert share_range(8, 8).high == 1

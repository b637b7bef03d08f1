"""`run --estimate`: what it counts is what the run then asks for; its arithmetic; and that it leaves no trace."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml
from fake_openai_server import FakeServer, normal_answer, prompt_of
from scripted_run import PROMPTS, cli, config_for, write_script

from selfreward.builders.prompts import requests_needed
from selfreward.config.data import PromptsConfig
from selfreward.config.judging import JudgingConfig
from selfreward.engines.base import Request, Sampling
from selfreward.engines.openai.usage import Prices
from selfreward.errors import EngineError
from selfreward.estimate.measure import Batch, Measured, kind
from selfreward.estimate.report import as_plain, estimate_run, estimate_step, format_estimate, mean_range
from selfreward.estimate.requests import Need, Range, Requests
from selfreward.judging.judge.judge import Item, planned_requests
from selfreward.judging.prompts.templates import load_template
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Counts, Recipe, Run
from selfreward.tables import Message, Prompt, to_table

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


def test_every_request_that_the_run_makes_is_counted(tmp_path):
    """Of a run that does not exist yet. Only judgements are a range: those without a score are asked for again, and the
    script leaves some unscored. Where all requests fit into one batch, the tokens are the run's own too."""
    config = config_for(write_script(tmp_path / "script.yaml"))
    steps = by_name(estimate_run(config, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    run_pipeline(config, tmp_path / "run")
    run = Run(tmp_path / "run")
    notes = {name: run.current(name).manifest["counts"]["notes"] for name in steps}
    for name in steps.keys() - {"iter1/prompts", "iter1/judgements"}:
        assert steps[name].answers == Range.exactly(notes[name].get("completions", 0)), name
    assert steps["iter1/prompts"].answers == Range(
        12, 12, 60
    )  # 6 wanted: all, half, a tenth of the answers are kept
    assert steps["iter1/judgements"].answers == Range(72, 72 + 36, 72 + 72)
    assert notes["iter1/prompts"]["completions"] == 12
    assert 72 < notes["iter1/judgements"]["completions"] < 144
    for name in ("iter1/judge_eval", "iter1/model_outputs"):
        assert steps[name].new_tokens.likely == pytest.approx(notes[name]["new_tokens"])


def test_targets_that_a_model_writes_are_counted_by_the_split_of_the_seeds(tmp_path):
    """As many requests as the demo's `eft` has training rows; `judge_eval` waits for it, and training is not timed."""
    script = write_script(tmp_path / "script.yaml")
    run_pipeline(config_for(script), tmp_path / "written", until="eft")
    rows = Run(tmp_path / "written").current("eft").table(["split"])["split"].to_pylist()
    config = config_for(script, train=True, eft={"samples": 2}, candidates={"n": 4, "max_tokens": 9})
    estimate = estimate_run(config, tmp_path / "run")
    steps = by_name(estimate)
    assert steps["eft"].requests == Range.exactly(rows.count("train"))
    assert steps["eft"].answers == Range.exactly(2 * rows.count("train"))
    assert steps["iter1/judge_eval"].basis == ("its requests can be counted once eft is built",)
    assert steps["M2"].basis == ("training is not timed, its first steps show its pace",)
    # M1 is still to be trained: 24 answers, of 3 tokens at least (the script's shortest) and max_tokens at most
    assert steps["iter1/candidates"].new_tokens.high == 24 * 9
    assert "not trained yet" in steps["iter1/candidates"].basis[-1]
    assert {"SFT", "M1", "M2", "iter1/annotations"} < set(as_plain(estimate)["not_estimated"])
    assert "The total is without: SFT, M1" in format_estimate(estimate)


def test_money_is_tokens_times_prices_and_the_probe_says_its_own(tmp_path):
    """Each request costs 10 tokens in at 2 a million; 6 requests of 4 answers of 5 tokens: 60 x 2 + 120 x 10 millionths.
    Of 24 requests for 3 judgements up to 72 answers are asked for again, one a request; 36 are likely."""

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
    assert steps["iter1/judgements"].cost.likely == pytest.approx(
        (24 + 36) * 10 * 2e-6 + (72 + 36) * 5 * 10e-6
    )
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
    steps = by_name(estimate_run(config, tmp_path / "run"))
    assert fingerprint(tmp_path / "run") == before
    assert [steps[name].state for name in ("seeds", "ift", "eft", "iter1/prompts")] == ["done"] * 4
    candidates = steps["iter1/candidates"]
    assert (candidates.state, candidates.basis[0]) == ("partly done", "16 answers are already written")
    assert candidates.answers == Range(8, 8, 8)
    assert candidates.requests.likely == pytest.approx(2)
    assert steps["iter1/judgements"].state == "to do"


def test_a_finished_run_needs_nothing_and_a_changed_rule_no_request(tmp_path):
    config = config_for(write_script(tmp_path / "script.yaml"))
    run_pipeline(config, tmp_path / "run")
    before = fingerprint(tmp_path / "run")
    assert format_estimate(estimate_run(config, tmp_path / "run")).startswith("nothing to do: all 11 steps")
    changed = config.model_copy(update={"pairs": config.pairs.model_copy(update={"rule": "margin"})})
    estimate = estimate_run(changed, tmp_path / "run")
    assert [step.name for step in estimate.steps if step.state != "done"] == ["iter1/pairs"]
    assert estimate.total("requests") == Range(0, 0, 0)
    assert fingerprint(tmp_path / "run") == before


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


# ------------------------------------------------------------------------------- arithmetic


def step_of(lengths, seconds, n, max_tokens=64, prices=None, **settings):
    """The estimate of `n` requests for an answer of which some were measured; prompts have 100 tokens."""
    request = Request("r", (Message("user", "Hello"),), Sampling(max_tokens=max_tokens))
    need = Need("x", "to do", module="m", model="hf:x", requests=[Requests([request], n)], **settings)
    batch = Batch([100] * len(lengths), lengths, seconds, [] if lengths else ["too long"])
    measured = Measured(
        {kind(need, need.requests[0]): batch}, {"hf:x": 0.0}, {"hf:x": prices} if prices else {}
    )
    return estimate_step(need, measured)


def test_a_step_is_scaled_by_its_requests_and_has_the_spread_of_the_measured_lengths():
    """Ten of 1,000 answers, of 10 and 30 tokens in turn: mean 20, standard deviation 10.54, 1.96 standard errors 6.53; 5 s.
    So 20,000 new tokens (13,467 to 26,533) in 500 s (336.7 to 663.3); prompts are all alike: 100,000."""
    step = step_of([10, 30] * 5, 5.0, Range.exactly(1000), prices=Prices(1.0, 2.0))
    assert step.prompt_tokens == Range.exactly(100_000)
    assert step.new_tokens.likely == pytest.approx(20_000)
    assert (step.new_tokens.low, step.new_tokens.high) == pytest.approx((13_467, 26_533), abs=1)
    seconds = (step.seconds.low, step.seconds.likely, step.seconds.high)
    assert seconds == pytest.approx((336.7, 500, 663.3), abs=0.1)
    assert step.cost.likely == pytest.approx(0.14)


def test_a_model_still_to_be_trained_answers_between_the_shortest_measured_length_and_max_tokens():
    """Lengths 20 to 60 with mean 40 in 8 s for 10 answers; 100 answers of 20, 40 and 80 tokens take 40, 80 and 160 s."""
    step = step_of([20, 60] * 5, 8.0, Range.exactly(100), max_tokens=80, untrained=True)
    assert step.new_tokens == Range(2000, 4000, 8000)
    assert (step.seconds.low, step.seconds.likely, step.seconds.high) == pytest.approx((40, 80, 160))
    assert step.cost is None


def test_answers_in_the_journal_are_taken_off_the_least_the_likely_and_the_most():
    """30 of 50, 60 or 120 are written: 20, 30 and 90 are left; 5 tokens each."""
    step = step_of([5] * 4, 1.0, Range(50, 60, 120), n_done=30)
    assert (step.answers.low, step.answers.likely, step.answers.high) == pytest.approx((20, 30, 90))
    assert step.new_tokens.high == pytest.approx(450)
    assert step.basis[0] == "30 answers are already written"


def test_prompts_brought_by_the_user_are_taken_as_they_are(tmp_path):
    """Six prompts, so 6 requests and 24 answers; 24 candidates are judged once each."""
    script = write_script(tmp_path / "script.yaml")
    rows = [
        Prompt(f"p-{i}", 1, text, [], "me", True, None, None, None, 0, 0)
        for i, text in enumerate(PROMPTS[:6])
    ]
    run = Run.create(tmp_path / "run")
    run.publish_table(Recipe("iter1/prompts", "import 1"), to_table(rows, Prompt), Counts(6, 6))
    config = config_for(script, prompts={"n": 500}, judging={"samples": 1, "max_attempts": 1}, **NO_ALPACA)
    steps = by_name(estimate_run(config, tmp_path / "run"))
    assert (steps["iter1/prompts"].state, steps["iter1/prompts"].basis) == ("done", ("imported",))
    assert steps["iter1/candidates"].answers == Range.exactly(24)
    assert steps["iter1/judgements"].requests == Range.exactly(24)


def test_a_model_that_answers_nothing_leaves_the_step_not_estimated_with_its_reason():
    step = step_of([], 1.0, Range.exactly(5))
    assert (step.state, step.requests) == ("not estimated", Range.exactly(0))
    assert step.basis == ("none of 1 measured requests was answered: too long",)


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        pytest.param({"max_attempts": 1}, [Range.exactly(40)], id="sampled"),
        pytest.param({"max_attempts": 3}, [Range.exactly(40), Range(0, 120, 240)], id="asked for again"),
        pytest.param(
            {"mode": "expected"}, [Range.exactly(40), Range.exactly(41)], id="justification, then score"
        ),
        pytest.param({"mode": "expected", "justify": False}, [Range.exactly(41)], id="score alone"),
    ],
)
def test_what_a_judge_is_asked_for_forty_responses(settings, counts):
    """Three samples each in one request; without a score, one request for each sample and further attempt.
    Expected scores need one request more, which finds how a score's token is written."""
    config = JudgingConfig(samples=3, **settings)
    kinds = planned_requests([Item("i", "Why?", "So.")], load_template("additive"), config, 0, 40)
    assert [one.count for one in kinds if one.examples] == counts


def test_prompts_are_asked_for_round_after_round_until_enough_are_kept():
    """24 wanted, 4 answers a draw. Half is hoped for: 12 draws, 48 answers, of which 0.4 x 48 = 19.2 are kept; 4.8 more at 0.4
    need 12 answers, 3 draws. With one round, 12 draws are all there is."""
    settings = PromptsConfig(n=24, samples_per_draw=4, round_size=32)
    assert requests_needed(settings, 0.4) == 15
    assert requests_needed(settings.model_copy(update={"max_rounds": 1}), 0.4) == 12


def test_a_mean_is_exact_where_all_were_measured():
    assert mean_range([3, 5], of=2) == Range(4, 4, 4)
    assert mean_range([3, 3, 3], of=9) == Range(3, 3, 3)

"""Head-to-head: both orders, disagreement is a tie, nothing leaves the denominator unseen."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.config.files import dump_config
from selfreward.config.run import RunConfig
from selfreward.engines.base import EngineOptions
from selfreward.errors import InputError, UsageError
from selfreward.evaluation.ask.answers import read_prompts, run_prompts
from selfreward.evaluation.ask.models import Models
from selfreward.evaluation.ask.requests import EngineSettings
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.cli import evaluate, register
from selfreward.evaluation.measure import measure
from selfreward.evaluation.pairwise.head_to_head import HeadToHead
from selfreward.evaluation.pairwise.result import verdict_of
from selfreward.statistics import open_share
from selfreward.store.run import Counts, Recipe, Run
from selfreward.tables import Eft, to_table

if not evaluate.registered_commands:
    register(app)

SHOWN_FIRST = r"(?s)=== Answer \(a\) ===\s+{}"
STRENGTH = {"strong": 2, "weak": 1}


def script(path, rules, **settings):
    path.write_text(yaml.safe_dump({"rules": rules, "settings": settings}))
    return f"scripted:{path}"


def text_judge(path):
    """strong beats weak wherever it stands; of two middling answers the first one shown; odd ones get no verdict."""
    return script(
        path,
        [
            {"contains": "odd", "answers": ["I cannot tell."]},
            {"regex": SHOWN_FIRST.format("strong"), "answers": ["(a)"]},
            {"regex": r"(?s)=== Answer \(b\) ===\s+strong", "answers": ["(b)"]},
            {"answers": ["(a)"]},
        ],
    )


def answers_file(path, name, texts):
    rows = [{"instruction": f"p{i}", "output": text, "generator": name} for i, text in enumerate(texts)]
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.fixture
def job(tmp_path):
    """p0 a wins, p1 b wins, p2 each first place wins once (tie), p3 equal answers, p4 b is missing, p5 unreadable."""
    a = ["strong one", "weak one", "middling a", "same", "strong", "odd"]
    b = ["weak one", "strong!", "middling b!", "same", None, "also"]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(6)))
    return HeadToHead(
        a=answers_file(tmp_path / "a.json", "A", a),
        b=answers_file(tmp_path / "b.json", "B", b),
        judge=text_judge(tmp_path / "judge.yaml"),
        prompts=prompts,
        out=tmp_path / "out",
        annotator="selfreward_pairwise",
    )


def test_wins_ties_losses_and_what_has_no_verdict(job):
    """Of four judged prompts one won, one lost, two tied; in the intervals two prompts are open."""
    result = measure(job)
    assert [row.verdict for row in result.rows] == ["a", "b", "tie", "tie", None, None]
    assert (result.win.value, result.tie.value, result.loss.value) == (0.25, 0.5, 0.25)
    assert (result.n_prompts, result.n_judged, result.n_identical) == (6, 4, 1)
    assert result.unjudged == {"missing_b": 1, "no_score": 1}
    assert (result.win.n, result.win.n_undefined) == (4, 2)
    assert result.judge == "selfreward_pairwise:scripted:judge.yaml"


def test_the_share_that_the_order_decided_is_of_the_pairs_asked_twice(job):
    """p0, p1 and p2 have two verdicts; on p2 the first place won twice."""
    assert measure(job).order_decided.value == pytest.approx(1 / 3)


def test_the_longer_answer_is_watched(job):
    """p0: `strong one` (10) beats `weak one` (8); p1: `strong!` (7) beats `weak one` (8): one of two."""
    assert measure(job).longer_wins == 0.5


def test_swapping_the_models_swaps_win_and_loss(job):
    straight = measure(job)
    swapped = measure(replace(job, a=job.b, b=job.a))
    assert (straight.win, straight.tie, straight.loss) == (swapped.loss, swapped.tie, swapped.win)


@pytest.mark.parametrize(
    ("a_first", "b_first", "verdict"),
    [
        pytest.param(1.0, 1.2, "a", id="a twice"),
        pytest.param(1.51, 2.0, "b", id="b twice"),
        pytest.param(1.0, 2.0, "tie", id="the first place twice"),
        pytest.param(1.0, 1.5, "tie", id="a once and a draw"),
        pytest.param(1.5, 1.5, "tie", id="two draws"),
    ],
)
def test_verdicts_of_two_orders(a_first, b_first, verdict):
    assert verdict_of(a_first, b_first) == verdict


def test_an_interval_covers_what_is_not_known():
    """All ten known and won: [1, 1]. With ten more unknown: from about a half to 1, the value still 1 of 10 known."""
    won, unknown = np.array([True] * 10), np.zeros(10, dtype=bool)
    assert (open_share(won, unknown).low, open_share(won, unknown).high) == (1.0, 1.0)
    found = open_share(np.array([True] * 10 + [False] * 10), np.array([False] * 10 + [True] * 10))
    assert (found.value, found.high, found.n, found.n_undefined) == (1.0, 1.0, 10, 10)
    assert 0.25 <= found.low <= 0.35, "the 2.5 % point of Binomial(20, 0.5) / 20 is 0.3"


@given(st.lists(st.sampled_from(["a", "b", "tie", None]), min_size=2, max_size=40))
def test_shares_of_the_judged_add_up_to_one_and_lie_in_their_intervals(verdicts):
    unknown = np.array([v is None for v in verdicts])
    shares = [open_share(np.array([v == kind for v in verdicts]), unknown) for kind in ("a", "b", "tie")]
    if all(unknown):
        assert {share.value for share in shares} == {None}
        return
    assert sum(share.value for share in shares) == pytest.approx(1)
    for share in shares:
        assert 0 <= share.low <= share.high <= 1


def test_nothing_is_judged_where_nobody_answered(job, tmp_path):
    nobody = answers_file(tmp_path / "none.json", "C", [None] * 6)
    result = measure(replace(job, b=nobody))
    assert (result.n_judged, result.win.value, result.unjudged) == (0, None, {"missing_b": 6})
    assert "n/a" in result.text()


def test_answers_are_made_by_models_and_kept_in_files(job, tmp_path):
    models = [
        script(tmp_path / f"{name}.yaml", [{"answers": [f"{name} answer"]}]) for name in ("strong", "weak")
    ]
    result = measure(replace(job, a=models[0], b=models[1]))
    assert (result.win.value, result.model_a) == (1.0, "scripted:strong.yaml")
    assert json.loads((job.out / "answers_b.json").read_text())[0]["output"] == "weak answer"
    assert len(json.loads((job.out / "verdicts.json").read_text())) == 6


def test_a_model_against_itself_ties_without_asking(job, tmp_path):
    model = script(tmp_path / "m.yaml", [{"answers": ["the same"]}])
    dead = script(tmp_path / "dead.yaml", [{"answers": ["(a)"]}], faults=[{"at_group": 1}])
    result = measure(replace(job, a=model, b=model, judge=dead))
    assert (result.tie.value, result.n_identical) == (1.0, 6)
    assert (result.model_a, result.model_b) == ("scripted:m.yaml (a)", "scripted:m.yaml (b)")


def test_repeated_prompts_and_files_without_prompts_are_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "x"}\n{"prompt": "y"}\n{"prompt": "x"}\n')
    with pytest.raises(InputError, match=r"1 row repeating a prompt.*row 3, 'x'"):
        read_prompts(path)
    path.write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match="row 1: has none of the columns instruction, prompt, question"):
        read_prompts(path)


# -- models and prompts of a run -----------------------------------------------------------------------------


def eft(i, split, prompt):
    return Eft(f"e{i}", split, prompt, prompt, f"r{i}", "x", i % 2, "j", None, None, True, None, "s", f"r{i}")


@pytest.fixture
def run(tmp_path):
    """An untrained run (M1 is its scripted model) with two held-out prompts of two replies each."""
    run = Run.create(tmp_path / "run")
    model = script(tmp_path / "m1.yaml", [{"answers": ["strong"]}])
    (tmp_path / "run" / "config.yaml").write_text(dump_config(RunConfig(model=model, train=False)))
    rows = [
        eft(0, "eval", "q0"),
        eft(1, "eval", "q0"),
        eft(2, "eval", "q1"),
        eft(3, "eval", "q1"),
        eft(4, "train", "t"),
    ]
    run.publish_table(Recipe("eft", "test 1"), to_table(rows, Eft), Counts(5, 5))
    return run


def test_the_held_out_prompts_of_a_run_are_its_eft_eval_split(run):
    assert run_prompts(run).texts == ("q0", "q1")


def test_a_run_has_its_own_models_and_keeps_the_results(run, tmp_path):
    weak = script(tmp_path / "weak.yaml", [{"answers": ["weak"]}])
    arguments = ["evaluate", "head-to-head", "--run", str(run.path), "--a", "M1", "--b", weak]
    arguments += ["--judge", text_judge(tmp_path / "j.yaml"), "--annotator", "selfreward_pairwise"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "h")])
    assert done.exception is None
    assert "wins     100.0 %" in done.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "h"), "--json"]).stdout)
    assert (found["win"]["value"], found["n_prompts"]) == (1.0, 2)
    assert run.current("head_to_head").n_rows == 2
    by_name = {row["figure"]: row for row in figures(run) if row["part"] is None}
    assert (by_name["win"]["value"], by_name["win"]["prompts"]) == (100.0, "eft eval split")


def test_a_runs_model_is_asked_with_the_runs_engine_options(run):
    models = Models(run.path)
    configured = dump_config(RunConfig(model=models.config.model, train=False, engine={"batch_size": 3}))
    (run.path / "config.yaml").write_text(configured)
    models = Models(run.path)
    assert models.settings_for("M1", EngineSettings()).options.batch_size == 3
    assert models.settings_for("scripted:x", EngineSettings()).options.batch_size == 16
    assert models.settings_for("M1", EngineSettings(EngineOptions(batch_size=5))).options.batch_size == 5


def test_prompts_are_needed_from_somewhere(tmp_path):
    arguments = ["evaluate", "head-to-head", "--a", "x", "--b", "y", "--judge", "z", "--out", str(tmp_path)]
    with pytest.raises(UsageError, match="expected --prompts FILE, or --run RUN"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)

"""A run beside the paper: its own figures found, nothing called fair that is not, claims decided by intervals."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.config.files import dump_config
from selfreward.config.run import RunConfig
from selfreward.errors import UsageError
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure, publish
from selfreward.evaluation.cli import evaluate, register
from selfreward.evaluation.paper.claims import claims_of, verdict
from selfreward.evaluation.paper.run_figures import RunFigure, run_figures, short_name
from selfreward.evaluation.paper.table import compare_with_paper, format_paper, is_papers_base
from selfreward.store.run import Counts, Recipe, Run
from selfreward.summary.paper import paper_figures
from selfreward.tables import Annotation, Eft, to_table

if not evaluate.registered_commands:
    register(app)

LLAMA = "hf:meta-llama/Llama-2-70b-hf"
OFFICIAL = {
    "win_rate": 9.0,
    "win_rate_ci_low": 7.1,
    "win_rate_ci_high": 11.0,
    "avg_length": 1100,
    "n_annotated": 805,
    "n_total": 805,
    "annotator": "weighted_alpaca_eval_gpt4_turbo",
    "reference": "gpt4_1106_preview",
}


def figure(measure, name, model, value, low=None, high=None, **more):
    base = RunFigure(
        measure, name, model, None, None, value, low, high, 10, "percent", "j", None, "p", 10, "ev"
    )
    return replace(base, **more)


@pytest.fixture
def run(tmp_path):
    """M1 measured as the paper did (but for the model), M2 with another judge on ten prompts; M2 v M1 head to head."""
    run = Run.create(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text(dump_config(RunConfig(model="hf:smollm2-135m-instruct")))
    other = {
        **OFFICIAL,
        "annotator": "selfreward_weighted:x",
        "reference": "human",
        "n_total": 10,
        "win_rate": 60.0,
    }
    for number, alpaca in ((1, OFFICIAL), (2, other)):
        recipe = Recipe(f"iter{number}/annotations", "test 1", {}, {"n": number})
        run.publish_table(recipe, to_table([], Annotation), Counts(0, 0, notes={"alpaca": alpaca}))
    row = Eft("e", "eval", "p", "p", "r", "x", 0, "j", None, None, False, None, "s", "r")
    run.publish_table(Recipe("eft", "test 1"), to_table([row], Eft), Counts(1, 1))
    head = Evaluation("head_to_head", "M1@0123abcd", "M2@4567cdef", "gpt-4-0613", "held out", 256, {})
    rows = [
        head.figure("win", 20.0, low=15.0, high=25.0, n=256),
        head.figure("loss", 50.0, low=44.0, high=56.0, n=256),
    ]
    publish(run, head, {FIGURES: (rows, EvaluationFigure)})
    return run


def rows_of(run, model="hf:smollm2-135m-instruct"):
    report = compare_with_paper(run, RunConfig(model=model, train=True))
    return {(r.measure, r.figure, r.model, r.against): r for r in report.comparisons}


def test_every_figure_of_the_paper_has_a_row_measured_or_not(run):
    report = compare_with_paper(run, RunConfig())
    assert len([row for row in report.comparisons if row.paper is not None]) >= len(list(paper_figures()))
    assert "not measured in this run" in format_paper(report)


def test_a_comparison_is_fair_only_where_nothing_differs(run):
    """With Llama 2 70B, GPT-4 Turbo's verdicts on all 805 prompts are fair; with SmolLM2 the model differs."""
    key = ("alpaca", "win_rate", "M1", None)
    assert (rows_of(run, LLAMA)[key].fair, rows_of(run, LLAMA)[key].paper) == (True, 9.94)
    assert rows_of(run)[key].differences == ("base model hf:smollm2-135m-instruct, not Llama 2 70B",)
    assert rows_of(run, LLAMA)["alpaca", "win_rate", "M2", None].differences == (
        "judged by selfreward_weighted:x, not GPT-4 Turbo (AlpacaEval 2.0)",
        "against human answers, not GPT-4 Turbo's",
        "10 prompts, not 805",
    )


def test_of_two_models_the_later_stands_first_whoever_was_called_a(run):
    """The run measured M1 against M2: 20 won and 50 lost are M2's 50 won and 20 lost."""
    rows = rows_of(run, LLAMA)
    win = rows["head_to_head", "win", "M2", "M1"]
    assert (win.run, win.paper, win.low, win.fair) == (50.0, 55.5, 44.0, True)
    assert rows["head_to_head", "loss", "M2", "M1"].run == 20.0


def test_counts_of_the_data_stand_beside_the_papers(run):
    row = rows_of(run)["data", "eft rows, eval", "M1", None]
    assert (row.run, row.paper) == (1.0, 541)
    assert "seeds embedded, not Open Assistant" in row.differences


@pytest.mark.parametrize(
    ("lower", "higher", "expected"),
    [
        pytest.param((10, 8, 12), (20, 18, 22), "holds", id="apart"),
        pytest.param((20, 18, 22), (10, 8, 12), "does not hold", id="apart the other way"),
        pytest.param((10, 5, 15), (12, 7, 17), "undecided", id="meeting"),
        pytest.param((10, None, None), (12, 7, 17), "undecided", id="no interval"),
    ],
)
def test_claims_are_decided_by_intervals(lower, higher, expected):
    old, new = (figure("alpaca", "win_rate", "M", *values) for values in (lower, higher))
    assert verdict(old, new) == expected


def test_lengths_need_no_interval():
    old, new = (figure("alpaca", "avg_length", "M", n, unit="characters") for n in (900, 1500))
    assert (verdict(old, new), verdict(new, old)) == ("holds", "does not hold")


def test_claims_compare_only_what_was_measured_alike():
    """Another judge, or another number of prompts: not measured."""
    m1 = figure("alpaca", "win_rate", "M1", 10, 8, 12)
    m2 = figure("alpaca", "win_rate", "M2", 20, 18, 22)

    def first(*own):
        return next(iter(claims_of(list(own))))

    assert first(m1, m2).verdict == "holds"
    assert first(m1, replace(m2, judge="other")).verdict == "not measured"
    assert first(m1, replace(m2, n_prompts=9)).verdict == "not measured"
    assert first(m1, m2).paper == "9.94 to 15.38"


def test_claims_of_the_run(run):
    claims = {claim.claim: claim for claim in compare_with_paper(run, RunConfig()).claims}
    assert claims["M2 beats M1 head to head"].verdict == "holds"
    assert claims["M2 beats M1 head to head"].paper == "55.5 won, 11.7 lost"
    assert claims["M2 wins more on AlpacaEval than M1"].verdict == "not measured"
    assert claims["M3 beats M2 head to head"].verdict == "not measured"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (LLAMA, True),
        ("vllm:/models/Llama_2_70b", True),
        ("hf:Llama-2-70b-chat-hf", False),
        ("hf:Llama-2-7b-hf", False),
    ],
)
def test_the_papers_base_model(model, expected):
    assert is_papers_base(model) is expected


def test_names_lose_their_hash():
    assert [short_name(n) for n in ("M2@91ab", "SFT@0", "openai:gpt-4@x")] == ["M2", "SFT", "openai:gpt-4@x"]


def test_a_runs_judge_metrics_are_read_from_its_manifests(tmp_path):
    """Scores 5 and 3 for ranks 0 and 1: the one pair is right."""
    import pandas as pd

    from selfreward.judging.agreement.agreement import measure_agreement
    from selfreward.tables import JudgeEval

    run = Run.create(tmp_path / "run")
    frame = pd.DataFrame({"prompt_id": ["p", "p"], "human_rank": [0, 1], "score": [5.0, 3.0]})
    notes = {"agreement": measure_agreement(frame).to_dict()}
    for number in (0, 1):
        recipe = Recipe(f"iter{number}/judge_eval", "test 1")
        run.publish_table(recipe, to_table([], JudgeEval), Counts(0, 0, notes=notes))
    found = {(f.model, f.figure): f.value for f in run_figures(run)}
    assert found["M1", "pairwise_ties_left_out"] == 100.0
    assert found["M1", "spearman"] == pytest.approx(1.0)
    rows = {(r.model, r.figure): r for r in compare_with_paper(run, RunConfig()).comparisons}
    assert (rows["M1", "spearman"].paper, rows["M1", "spearman"].fair) == (0.279, False)
    assert (rows["M0", "spearman"].paper, rows["M0", "spearman"].fair) == (None, None), (
        "the paper has no such row"
    )


def test_the_command(run):
    done = CliRunner().invoke(app, ["evaluate", "paper", str(run.path)])
    assert done.exception is None
    assert "not fair: 1" in done.stdout
    assert "1. base model hf:smollm2-135m-instruct, not Llama 2 70B" in done.stdout
    found = json.loads(CliRunner().invoke(app, ["evaluate", "paper", str(run.path), "--json"]).stdout)
    assert {row["fair"] for row in found["rows"]} == {False, None}
    (run.path / "config.yaml").unlink()
    with pytest.raises(UsageError, match=r"holds no config\.yaml"):
        CliRunner().invoke(app, ["evaluate", "paper", str(run.path)], catch_exceptions=False)

"""The nine benchmarks: what is asked of lm-eval and what is read from its answer; no model, no data, no lm-eval needed."""

from __future__ import annotations

import builtins
import json
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.engines.references import ModelRef
from selfreward.errors import SelfrewardError, UsageError
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.benchmarks import nlp
from selfreward.evaluation.benchmarks.nlp import (
    BY_TASK,
    PRESET,
    Nlp,
    check_datasets,
)
from selfreward.evaluation.benchmarks.nlp_result import score_of
from selfreward.evaluation.cli import evaluate, register
from selfreward.evaluation.measure import ask_for_rows
from selfreward.store.run import Run

if not evaluate.registered_commands:
    register(app)


def measured(out, **settings):
    """The result of these settings, the model `m` being a local folder."""
    return ask_for_rows(Nlp(model="m", out=out, **settings), Local())


class Local:
    """Stands for `Models`: any name is a local folder."""

    run = None

    def ref(self, name):
        return ModelRef(f"hf:{name}@0", f"hf:{name}", "0" * 64, Path(name))


def lm_eval_answer(task, metric, value, error=0.01, subtasks=None):
    """The parts of lm-eval 0.4.13's answer that are read, in its shape."""
    name, _, filtered = metric.partition(",")
    return {
        "results": {task: {"alias": task, metric: value, f"{name}_stderr,{filtered}": error}},
        "n-samples": {t: {"original": 100, "effective": 50} for t in subtasks or [task]},
    }


@pytest.fixture
def library(monkeypatch):
    """An lm-eval that answers from a table, or raises what is in it; `asked` is what it was asked."""
    asked, answers = [], {}

    def simple_evaluate(model, tasks, num_fewshot, limit, **options):
        asked.append((tasks[0], num_fewshot, limit))
        answer = answers.get(tasks[0]) or lm_eval_answer(tasks[0], BY_TASK[tasks[0]].metric, 0.5)
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = types.ModuleType("lm_eval")
    module.simple_evaluate = simple_evaluate
    tasks = types.ModuleType("lm_eval.tasks")
    tasks.TaskManager = lambda include_path=None: types.SimpleNamespace(
        all_tasks=["ifeval", "winogrande", "wikitext"]
    )
    monkeypatch.setitem(sys.modules, "lm_eval", module)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", tasks)
    monkeypatch.setattr(nlp, "_open", lambda job, ref: object())
    monkeypatch.setattr(nlp.metadata, "version", lambda name: "0.4.13")
    return types.SimpleNamespace(asked=asked, answers=answers)


def test_the_preset_is_the_papers_nine():
    labels = ["ARC-e", "ARC-c", "HellaSwag", "SIQA", "PIQA", "GSM8K", "MMLU", "OBQA", "NQ"]
    assert [benchmark.label for benchmark in PRESET] == labels


def test_a_score_is_read_with_its_metric_and_filter():
    """GSM8K is scored by the strict match; 0.507 is 50.7 %, the interval 1.96 standard errors either way."""
    benchmark = BY_TASK["gsm8k"]
    score = score_of(lm_eval_answer("gsm8k", "exact_match,strict-match", 0.507, 0.014), benchmark, "0.4.13")
    assert (score.value, score.standard_error, score.n_questions) == (
        pytest.approx(50.7),
        pytest.approx(1.4),
        50,
    )
    assert score.interval == {"low": pytest.approx(50.7 - 2.744), "high": pytest.approx(50.7 + 2.744)}


def test_a_groups_questions_are_those_of_its_parts():
    answer = lm_eval_answer("mmlu", "acc,none", 0.7, subtasks=["mmlu_anatomy", "mmlu_astronomy"])
    assert score_of(answer, BY_TASK["mmlu"], "x").n_questions == 100


def test_a_metric_that_is_not_there_is_no_score():
    """`N/A` as a standard error is what lm-eval writes where it has none."""
    other = lm_eval_answer("gsm8k", "exact_match,other", 0.5)
    assert score_of(other, BY_TASK["gsm8k"], "x").reason == "lm-eval reports no exact_match,strict-match"
    answer = lm_eval_answer("mmlu", "acc,none", 0.7, error="N/A")
    assert score_of(answer, BY_TASK["mmlu"], "x").interval == {}


def test_all_nine_are_asked_with_their_shots_and_finished_ones_are_kept(library, tmp_path):
    """A restart measures only what failed."""
    library.answers["piqa"] = ConnectionError("Couldn't reach 'baber/piqa' on the Hub\nmore")
    result = measured(tmp_path)
    assert [(task, shots) for task, shots, _ in library.asked] == [(b.task, b.n_shots) for b in PRESET]
    by_label = {score.label: score for score in result.scores}
    assert (by_label["PIQA"].value, by_label["ARC-c"].value) == (None, 50.0)
    assert by_label["PIQA"].reason == "ConnectionError: Couldn't reach 'baber/piqa' on the Hub"
    assert "Couldn't reach" in result.text()
    library.asked.clear()
    del library.answers["piqa"]
    assert [score.value for score in measured(tmp_path).scores] == [50.0] * 9
    assert [task for task, _, _ in library.asked] == ["piqa"]


def test_a_trial_is_not_taken_for_a_figure(library, tmp_path):
    trial = measured(tmp_path, task=("piqa",), limit=4)
    whole = measured(tmp_path, task=("piqa",))
    assert [limit for _, _, limit in library.asked] == [4, None]
    assert "a trial, not a figure" in trial.text()
    assert "a trial, not a figure" not in whole.text()


def test_scores_become_figures_of_a_run(library, tmp_path):
    run = Run.create(tmp_path / "run")
    library.answers["nq_open"] = RuntimeError("Dataset scripts are no longer supported, but found nq_open.py")
    settings = Nlp(model="m", out=tmp_path / "out", task=("piqa", "nq_open"))
    (tables,) = settings.tables(ask_for_rows(settings, Local()))
    tables.publish(run)
    rows = {row["part"]: row for row in figures(run)}
    assert (rows["PIQA"]["value"], rows["PIQA"]["figure"], rows["NQ"]["value"]) == (50.0, "acc_norm", None)
    assert rows["PIQA"]["low"] == pytest.approx(50 - 1.96)


def test_without_lm_eval_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("lm_eval"):
            raise ImportError("No module named 'lm_eval'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SelfrewardError, match=r"lm-eval 0\.4\.13 or newer.*pip install 'selfreward\[nlp\]'"):
        measured(tmp_path)


def test_servers_and_unknown_tasks_are_refused(library, tmp_path):
    with pytest.raises(UsageError, match="expected a local model"):
        ask_for_rows(Nlp(model="openai:http://localhost:1/v1#m", out=tmp_path))
    with pytest.raises(
        UsageError, match=r"--task 'winogrand': lm-eval 0\.4\.13 has no such task; did you mean winogrande\?"
    ):
        measured(tmp_path, task=("winogrand",))
    with pytest.raises(UsageError, match="--metric acc: the paper's nine have one metric each"):
        measured(tmp_path, metric=("acc",))


IFEVAL = {
    "results": {
        "ifeval": {
            "alias": "ifeval",
            "prompt_level_strict_acc,none": 0.25, "prompt_level_strict_acc_stderr,none": 0.02,
            "inst_level_strict_acc,none": 0.375, "inst_level_strict_acc_stderr,none": "N/A",
        },
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 21.5, "word_perplexity_stderr,none": "N/A"},
    },
    "n-shot": {"ifeval": 0, "wikitext": 0},
    "n-samples": {"ifeval": {"original": 541, "effective": 541}},
}  # fmt: skip


def test_another_task_is_measured_with_all_its_metrics_and_its_own_shots(library, tmp_path):
    """IFEval's shares in percent; the inst-level metric has no standard error."""
    library.answers["ifeval"] = IFEVAL
    result = measured(tmp_path, task=("ifeval",))
    assert library.asked == [("ifeval", None, None)]
    assert [(s.metric, s.value, s.standard_error, s.unit, s.n_shots) for s in result.scores] == [
        ("prompt_level_strict_acc", 25.0, 2.0, "%", 0),
        ("inst_level_strict_acc", 37.5, None, "%", 0),
    ]
    library.asked.clear()
    assert measured(tmp_path, task=("ifeval",)) == result
    assert library.asked == []


def test_a_metric_is_chosen_by_name_and_what_is_no_share_stays_as_reported(library, tmp_path):
    library.answers |= {"ifeval": IFEVAL, "wikitext": IFEVAL}
    chosen = measured(tmp_path, task=("ifeval",), metric=("inst_level_strict_acc", "f1"))
    assert [(s.metric, s.value, s.reason) for s in chosen.scores] == [
        ("inst_level_strict_acc", 37.5, None),
        ("f1", None, "lm-eval reports no f1"),
    ]
    (perplexity,) = measured(tmp_path, task=("wikitext",)).scores
    assert (perplexity.value, perplexity.unit) == (21.5, "")


@pytest.mark.parametrize(
    ("device", "has_gpu", "expected"),
    [
        pytest.param(None, False, "cpu", id="no GPU"),
        pytest.param(None, True, "cuda", id="a GPU"),
        pytest.param("cuda:1", False, "cuda:1", id="as said"),
    ],
)
def test_without_a_device_the_gpu_is_taken_only_where_there_is_one(monkeypatch, device, has_gpu, expected):
    """lm-eval by itself asks for CUDA on a machine that has none."""
    import torch

    opened = {}
    registry = types.ModuleType("lm_eval.api.registry")
    registry.get_model = lambda engine: lambda **arguments: opened.update(arguments)
    for name in ("lm_eval", "lm_eval.api"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "lm_eval.api.registry", registry)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    nlp._open(Nlp(model="m", out=Path("x"), device=device), Local().ref("m"))
    assert opened["device"] == expected


def test_the_check_says_of_each_dataset_whether_it_loads(monkeypatch):
    import datasets

    def builder(name, configuration):
        if name == "allenai/openbookqa":
            raise RuntimeError("Dataset scripts are no longer supported, but found openbookqa.py")

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    found = check_datasets()
    assert found["OBQA"].startswith("RuntimeError: Dataset scripts are no longer supported")
    assert [label for label, reason in found.items() if reason] == ["OBQA"]
    done = CliRunner().invoke(app, ["evaluate", "nlp", "--check", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["ARC-e"] is None


def test_the_command_fails_where_a_benchmark_has_no_score(library, monkeypatch, tmp_path):
    monkeypatch.setattr("selfreward.evaluation.measure.Models", lambda run: Local())
    arguments = ["evaluate", "nlp", "--model", "m", "--out", str(tmp_path), "--task", "piqa"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    library.answers["mmlu"] = OSError("no network")
    assert CliRunner().invoke(app, [*arguments, "--task", "mmlu"]).exit_code == 1
    with pytest.raises(UsageError, match="expected --model MODEL and --out DIR"):
        CliRunner().invoke(app, ["evaluate", "nlp"], catch_exceptions=False)

"""Checkpoint selection: the paper's early stopping, by hand; a judge that nobody asks more than needed."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.engines.references import foreign
from selfreward.errors import EmptyResultError, UsageError
from selfreward.evaluation.alpaca.annotators import load_annotator
from selfreward.evaluation.ask.files import answers_from_rows
from selfreward.evaluation.ask.requests import EngineSettings, open_model
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.cli import evaluate, register
from selfreward.evaluation.pairwise.checkpoints import (
    CheckpointSelection,
    expand,
    judge_with,
    select_checkpoint,
)
from selfreward.store.run import Run

if not evaluate.registered_commands:
    register(app)


def answers(name, grades):
    """One answer to each prompt, `grade 3` for the digit 3; the judge prefers the higher grade."""
    rows = [{"instruction": f"p{i}", "output": f"grade {g}", "generator": name} for i, g in enumerate(grades)]
    return answers_from_rows(rows, name)


def judge_script(path):
    """(a) where the grade shown first is higher, (b) where it is lower; equal answers are never asked about."""
    higher = "|".join(
        rf"\(a\) ===\s+grade {a}\s+=== Answer \(b\) ===\s+grade [{''.join(map(str, range(a)))}]"
        for a in range(1, 10)
    )
    rules = [
        {"contains": "grade 0", "answers": ["I cannot say"]},
        {"regex": rf"(?s)({higher})", "answers": ["(a)"]},
        {"answers": ["(b)"]},
    ]
    path.write_text(yaml.safe_dump({"rules": rules}))
    return f"scripted:{path}"


@pytest.fixture
def judge(tmp_path):
    ref = foreign(judge_script(tmp_path / "judge.yaml"))
    with open_model(ref, tmp_path / ".work", "verdicts", EngineSettings()) as generation:
        yield judge_with(generation, load_annotator("selfreward_pairwise"), ref.name)


def test_training_goes_on_while_checkpoints_win_and_keeps_the_last_that_did(judge):
    """200 is first; 400 wins 2, loses 1; 600 wins 1, loses 1 (no win): stop, keep 400; 800 is never looked at."""
    looked_at = []

    def trained():
        for name, grades in [("200", "555"), ("400", "664"), ("600", "754"), ("800", "999")]:
            looked_at.append(name)
            yield answers(name, grades)

    selection = select_checkpoint(trained(), judge)
    assert (selection.chosen, selection.should_stop, looked_at) == ("400", True, ["200", "400", "600"])
    second, third = selection.steps[1:]
    assert (second.n_wins, second.n_ties, second.n_losses, second.improved) == (2, 0, 1, True)
    assert (third.n_wins, third.n_ties, third.n_losses, third.improved) == (1, 1, 1, False)
    assert second.net.value == pytest.approx(1 / 3)
    assert "no longer wins, stop" in selection.text()


def test_a_first_checkpoint_must_beat_the_start_where_that_is_given(judge):
    selection = select_checkpoint([answers("200", "444")], judge, start=answers("M1", "555"))
    assert (selection.chosen, selection.should_stop) == ("M1", True)
    assert select_checkpoint([answers("200", "444")], judge).chosen == "200"


def test_all_checkpoints_may_win(judge):
    selection = select_checkpoint([answers(str(n), str(n) * 4) for n in (1, 2, 3)], judge)
    assert (selection.chosen, selection.should_stop) == ("3", False)
    assert selection.steps[-1].is_clear


def test_a_small_lead_is_said_to_be_within_chance(judge):
    selection = select_checkpoint([answers("200", "55"), answers("400", "65")], judge)
    assert not selection.steps[-1].is_clear
    assert "within chance" in selection.text()


def test_training_can_ask_step_by_step(judge):
    selection = CheckpointSelection(judge)
    assert selection.add(answers("200", "55")).improved
    assert not selection.add(answers("400", "44")).improved
    with pytest.raises(UsageError, match="checkpoint 600: the one before it no longer won"):
        selection.add(answers("600", "99"))


def test_unread_verdicts_are_in_no_count_and_none_at_all_is_an_error(judge):
    """Grade 0 makes the judge speechless: of three prompts two are judged."""
    step = select_checkpoint([answers("200", "555"), answers("400", "660")], judge).steps[-1]
    assert (step.n_prompts, step.n_judged, step.n_wins) == (3, 2, 2)
    with pytest.raises(EmptyResultError, match=r"no verdict on any of 2 prompts .2 no_score"):
        select_checkpoint([answers("200", "55"), answers("400", "00")], judge)
    with pytest.raises(EmptyResultError, match="no checkpoints"):
        select_checkpoint([], judge)


def test_a_folder_of_checkpoints_is_taken_in_the_order_of_training(tmp_path):
    for n in (1000, 200, 400):
        (tmp_path / f"checkpoint-{n}").mkdir()
    (tmp_path / "runs").mkdir()
    assert [source.rpartition("-")[2] for source in expand([str(tmp_path)])] == ["200", "400", "1000"]
    (tmp_path / "runs" / "config.json").touch()
    assert expand(["scripted:x", str(tmp_path / "runs")]) == ["scripted:x", f"hf:{tmp_path / 'runs'}"]
    with pytest.raises(UsageError, match="has no checkpoint-N folders"):
        expand([str(tmp_path / "checkpoint-200")])


def test_the_command_answers_compares_and_names_the_choice(tmp_path):
    sources = []
    for name, grade in (("one", 5), ("two", 6), ("three", 4)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"rules": [{"answers": [f"grade {grade}"]}]}))
        sources.append(f"scripted:{path}")
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    arguments = ["evaluate", "checkpoints", *sources, "--prompts", str(prompts), "--out", str(tmp_path / "o")]
    arguments += ["--judge", judge_script(tmp_path / "j.yaml"), "--annotator", "selfreward_pairwise"]
    run = Run.create(tmp_path / "run")
    arguments += ["--run", str(run.path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None
    assert "chosen: scripted:two.yaml" in done.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert [step["improved"] for step in found["steps"]] == [True, True, False]
    assert run.current("head_to_head").n_rows == 4, "two comparisons of two prompts"
    assert {row["measure"] for row in figures(run)} == {"checkpoints"}

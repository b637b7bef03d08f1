"""The loop on the scripted engine: reuse, rebuilding, restart, equal runs, bad input. The real model is in test_demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from scripted_run import cli, config_for, write_script

from selfreward.config.files import check_config
from selfreward.engines.scripted import ScriptedEngine
from selfreward.errors import EmptyResultError, EngineError
from selfreward.steps.pipeline import run_pipeline
from selfreward.steps.status import run_status
from selfreward.store.gc import collect
from selfreward.store.run import Run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished data-only run, and its configuration."""
    folder = tmp_path_factory.mktemp("finished")
    config = config_for(write_script(folder / "script.yaml"))
    return folder / "run", config, run_pipeline(config, folder / "run")


def contents(path):
    run = Run(path)
    return {name: run.current(name).content_sha256 for name in run.names()}


def test_a_run_makes_every_dataset_and_accounts_for_every_row(finished):
    _, _, steps = finished
    assert [step.name for step in steps] == [
        "seeds", "ift", "eft", "iter1/prompts", "iter1/candidates", "iter1/judgements", "iter1/scores", "iter1/pairs",
        "iter1/judge_eval", "iter1/model_outputs", "iter1/annotations",
    ]  # fmt: skip
    for step in steps:
        assert step.n_in == step.n_out + sum(step.dropped.values()), step.name


def test_ids_join_from_pair_to_seed(finished):
    run = Run(finished[0])
    tables = {name.rpartition("/")[2]: run.current(name).table().to_pylist() for name in run.names()}
    candidates = {row["candidate_id"]: row for row in tables["candidates"]}
    prompts = {row["prompt_id"]: row for row in tables["prompts"]}
    ift = {row["ift_id"]: row for row in tables["ift"]}
    seeds = {row["seed_id"] for row in tables["seeds"]}
    assert tables["pairs"]
    for pair in tables["pairs"]:
        for side in ("chosen", "rejected"):
            candidate = candidates[pair[f"{side}_id"]]
            assert candidate["prompt_id"] == pair["prompt_id"]
            assert candidate["response"] == pair[side][0]["content"]
        for demonstration in prompts[pair["prompt_id"]]["demonstration_ids"]:
            assert demonstration in prompts or ift[demonstration]["source_id"] in seeds


def test_scores_are_the_mean_of_the_scored_judgements_and_null_where_there_is_none(finished):
    run = Run(finished[0])
    judged: dict[str, list[float | None]] = {}
    for row in run.current("iter1/judgements").table().to_pylist():
        judged.setdefault(row["candidate_id"], []).append(row["score"])
        assert (row["score"] is None) == (row["status"] != "ok")
    for row in run.current("iter1/scores").table().to_pylist():
        scored = [score for score in judged[row["candidate_id"]] if score is not None]
        assert (row["n_judgements"], row["n_scored"]) == (3, len(scored))
        assert row["score"] == (pytest.approx(sum(scored) / len(scored)) if scored else None)


def test_the_eval_split_is_disjoint_by_prompt_from_everything_trained_on(finished):
    run = Run(finished[0])
    eft = run.current("eft").table().to_pylist()
    held_out = {row["prompt"] for row in eft if row["split"] == "eval"}
    trained_on = {row["prompt"] for row in eft if row["split"] == "train"}
    trained_on |= {row["prompt"] for row in run.current("ift").table().to_pylist()}
    trained_on |= {row["prompt"][0]["content"] for row in run.current("iter1/pairs").table().to_pylist()}
    assert held_out
    assert not held_out & trained_on


def test_the_same_run_again_reuses_everything(finished):
    path, config, _ = finished
    before = contents(path)
    assert {step.status for step in run_pipeline(config, path)} == {"reused"}
    assert contents(path) == before


def test_a_changed_parameter_rebuilds_what_depends_on_it_and_back_again_builds_nothing(finished):
    path, config, _ = finished
    changed = config.model_copy(
        update={"pairs": config.pairs.model_copy(update={"rule": "margin", "min_margin": 1.0})}
    )
    built = [step.name for step in run_pipeline(changed, path) if step.status == "built"]
    assert built == ["iter1/pairs"]
    assert {step.status for step in run_pipeline(config, path)} == {"reused"}


def test_another_judge_template_asks_for_no_prompts_or_answers_again(finished, tmp_path):
    """EFT's rows change with the template; of them prompts and model_outputs use the held-out prompts only."""
    path, config, _ = finished
    copy = shutil.copytree(path, tmp_path / "run")
    judging = config.judging.model_copy(update={"template": "additive-short"})
    changed = config.model_copy(update={"judging": judging})
    status = {step.name: step.status for step in run_pipeline(changed, copy)}
    assert status["eft"] == "built"
    assert status["iter1/prompts"] == status["iter1/candidates"] == status["iter1/model_outputs"] == "reused"
    assert status["iter1/judgements"] == "built"
    assert contents(copy)["eft"] != contents(path)["eft"]
    assert {line.state for line in run_status(copy)} == {"done"}
    collect(Run(copy))
    assert {step.status for step in run_pipeline(changed, copy)} == {"reused"}


@pytest.mark.parametrize(
    ("section", "change"),
    [
        pytest.param("judging", {"max_score": 4.0}, id="another range"),
        pytest.param("eft", {"agreement": "best"}, id="another agreement rule"),
    ],
)
def test_another_choice_among_the_same_answers_asks_no_model(tmp_path, monkeypatch, section, change):
    """EFT stores one sample of three, so its other answers are kept; a score of 5 is out of a range up to 4."""
    eft = {"targets": "generated", "samples": 3, "agreement": "no_inversion"}
    config = config_for(write_script(tmp_path / "script.yaml"), eft=eft)
    run_pipeline(config, tmp_path / "run")
    changed = config.model_copy(
        update={
            section: type(getattr(config, section))(**{**getattr(config, section).model_dump(), **change})
        }
    )
    asked = []
    generate = ScriptedEngine.generate

    def counted(self, requests, done=frozenset()):
        asked.extend({(r.id, k) for r in requests for k in range(r.n)} - set(done))
        return generate(self, requests, done)

    monkeypatch.setattr(ScriptedEngine, "generate", counted)
    steps = {step.name: step.status for step in run_pipeline(changed, tmp_path / "run")}
    assert steps["eft"] == "built"
    assert asked == []
    run_pipeline(changed, tmp_path / "afresh")
    assert asked
    again, afresh = contents(tmp_path / "run"), contents(tmp_path / "afresh")
    assert (again["eft"], again["iter1/judge_eval"]) == (afresh["eft"], afresh["iter1/judge_eval"])


def test_prompts_are_generated_again_where_others_are_held_out(finished, tmp_path):
    path, config, _ = finished
    copy = shutil.copytree(path, tmp_path / "run")
    split = config.split.model_copy(update={"eft_eval": config.split.eft_eval / 2})
    steps = run_pipeline(config.model_copy(update={"split": split}), copy, until="prompts")
    assert {step.name: step.status for step in steps}["iter1/prompts"] == "built"


def test_two_folders_with_one_configuration_have_equal_rows(finished, tmp_path):
    path, config, _ = finished
    run_pipeline(config, tmp_path / "other")
    assert contents(tmp_path / "other") == contents(path)


def test_a_stage_that_died_goes_on_where_its_journal_ends_with_the_same_rows(finished, tmp_path):
    path, config, _ = finished
    flag = tmp_path / "died-once"
    faults = [{"at_group": 2, "kind": "raise", "message": "out of memory", "unless_exists": str(flag)}]
    script = write_script(tmp_path / "script.yaml", faults=faults)
    broken = config.model_copy(update={"model": f"scripted:{script}"})
    with pytest.raises(EngineError, match="out of memory"):
        run_pipeline(broken, tmp_path / "run")
    flag.touch()
    run_pipeline(broken, tmp_path / "run")
    ours, theirs = Run(tmp_path / "run"), Run(path)
    answers = [
        [row["response"] for row in run.current("iter1/candidates").table().to_pylist()]
        for run in (ours, theirs)
    ]
    assert answers[0] == answers[1]
    assert [path.name.partition("-answers-")[0] for path in (tmp_path / "run" / ".work").glob("*-*")] == [
        "iter1-judge_eval"  # its answers, kept for another score range
    ]


def test_kill_9_repeats_at_most_the_batch_in_flight(finished, tmp_path):
    """The judging of 72 answers in groups of 8 is killed; every journalled group is used, none is asked for again."""
    _, config, _ = finished
    script = write_script(tmp_path / "script.yaml")
    rules = yaml.safe_load(script.read_text())
    rules["rules"][1]["delay_s"] = 0.02
    script.write_text(yaml.safe_dump(rules))
    slow = config.model_copy(update={"model": f"scripted:{script}", "run": str(tmp_path / "run")})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(slow.model_dump(mode="json")))
    command = [
        sys.executable,
        "-m",
        "selfreward",
        "run",
        str(tmp_path / "config.yaml"),
        "--until",
        "judgements",
    ]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    journal = None
    while time.monotonic() < deadline:
        journal = next((tmp_path / "run" / ".work").glob("iter1-judgements-*/journal.jsonl"), None)
        if journal and journal.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    n_lines = journal.read_bytes().count(b"\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"resuming, {8 * n_lines} completions", done.stderr)
    assert "taking over" in done.stderr
    manifest = Run(tmp_path / "run").current("iter1/judgements").manifest
    assert manifest["counts"]["notes"]["resumed"] == 8 * n_lines


def test_too_few_results_stop_with_the_funnel(tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text(yaml.safe_dump({"rules": [{"answers": ["No."]}]}))
    with pytest.raises(EmptyResultError, match="too_short"):
        run_pipeline(config_for(script), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        pytest.param("judgin: {}", 2, r"unknown key 'judgin'; did you mean judging\?", id="unknown key"),
        pytest.param("judging: {sample: 1}", 2, r"did you mean judging\.samples\?", id="unknown nested key"),
        pytest.param("judging: {samples: many}", 2, r"judging\.samples: found 'many'", id="wrong type"),
        pytest.param("seeds: {source: nowhere.jsonl}", 2, r"nowhere\.jsonl: no such file", id="missing file"),
        pytest.param("model: hff:x", 2, r"did you mean hf:x\?", id="unknown engine"),
        pytest.param(
            "model: 'hf:smollm2-135m-instruckt'", 2, "did you mean smollm2-135m-instruct", id="unknown model"
        ),
        pytest.param("judging: {template: nope}", 2, "additive-short", id="unknown template"),
        pytest.param(
            "judging: {template: multiple-choice}",
            2,
            r"set judging\.min_score: 1",
            id="range of the template",
        ),
        pytest.param("pairs: {rule: nope}", 2, "max_min", id="unknown rule"),
        pytest.param("seed: [", 2, "not valid YAML", id="broken YAML"),
    ],
)
def test_bad_configurations_are_one_sentence(tmp_path, change, code, message):
    script = write_script(tmp_path / "script.yaml")
    base = "" if change.startswith("model") else f"model: scripted:{script}\n"
    (tmp_path / "c.yaml").write_text(f"{base}train: false\nrun: r\n{change}\n" if "eft" in change else
                                     f"{base}train: false\nrun: r\neft: {{targets: written}}\n{change}\n")  # fmt: skip
    done = cli("run", "c.yaml", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr


def test_a_broken_seed_line_is_named_by_file_and_line(tmp_path):
    script = write_script(tmp_path / "script.yaml")
    (tmp_path / "seeds.jsonl").write_text(
        '{"message_id": "a", "parent_id": null, "role": "prompter", "text": "Hi"}\n{oops\n'
    )
    (tmp_path / "c.yaml").write_text(
        f"model: scripted:{script}\ntrain: false\nrun: r\nseeds: {{source: seeds.jsonl}}\n"
    )
    done = cli("run", "c.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "seeds.jsonl:2: is not valid JSON" in done.stderr


def test_import_export_round_trip_and_the_imported_rows_stand(finished, tmp_path):
    path, config, _ = finished
    export = cli("export", path, "iter1/prompts", tmp_path / "prompts.jsonl", cwd=tmp_path)
    assert export.returncode == 0, export.stderr
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    rows[0]["prompt"] = "A prompt of my own, if you please."
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_pipeline(config, tmp_path / "run", until="eft")
    done = cli("import", tmp_path / "run", "iter1/prompts", tmp_path / "prompts.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    steps = {
        step.name: step.status for step in run_pipeline(config, tmp_path / "run", until="iter1/candidates")
    }
    assert steps["iter1/prompts"] == "imported"
    assert Run(tmp_path / "run").current("iter1/prompts").table()["prompt"][0].as_py() == rows[0]["prompt"]


def test_import_names_row_and_column(tmp_path):
    (tmp_path / "ift.jsonl").write_text('{"ift_id": "a"}\n')
    done = cli("import", "run", "ift", "ift.jsonl", cwd=tmp_path)
    assert done.returncode == 1
    assert "has no column" in done.stderr


def test_the_help_text_answers_and_every_command_has_an_example():
    from selfreward.cli import COMMANDS

    assert COMMANDS
    done = cli("--help", cwd=".")
    assert done.returncode == 0
    for command in ("init", "run", "status", "import", "export", "verify"):
        helped = cli(command, "--help", cwd=".")
        assert "Example:" in helped.stdout, command


def test_init_writes_a_configuration_that_loads_and_equals_the_defaults(tmp_path):
    from selfreward.config.files import load_config
    from selfreward.config.run import RunConfig
    from selfreward.config.starter import write_starter

    write_starter(tmp_path / "c.yaml")
    assert load_config(tmp_path / "c.yaml") == RunConfig()


def test_another_score_range_reads_the_stored_judgements_again_and_generates_nothing(finished):
    """The judge is never asked: no new completion, the same texts; a range to 4 makes the fives out_of_range."""
    from selfreward.judging.judge.read_again import _parsed_again

    path, config, _ = finished
    before = Run(path).current("iter1/judgements").table().to_pylist()
    wider = config.model_copy(update={"judging": config.judging.model_copy(update={"max_score": 6.0})})
    run_pipeline(wider, path, until="judgements")
    version = Run(path).current("iter1/judgements")
    assert version.manifest["counts"]["notes"]["read_again_from"]
    assert version.table().to_pylist() == before
    narrower = config.judging.model_copy(update={"max_score": 4.0})
    for row in before:
        again = _parsed_again(row, narrower)
        assert again.status == ("out_of_range" if row["score"] == 5 else row["status"])
    run_pipeline(config, path)


def test_two_iterations_end_with_m3_and_nothing_new_is_needed():
    from selfreward.steps.step import plan_run

    plans = {plan.name: plan for plan in plan_run(check_config({"iterations": 2}, "test"))}
    assert plans["M3"].models == {"base": "M2"}
    assert plans["M3"].inputs == {"pairs": "iter2/pairs"}
    assert plans["iter2/judgements"].models == {"model": "M2"}
    assert "prompts1" in plans["iter2/prompts"].inputs
    assert "iter3/annotations" in plans


def test_the_tested_versions_of_doctor_are_those_of_the_constraints():
    from pathlib import Path

    from selfreward.cli.doctor import TESTED

    lines = (Path(__file__).parents[2] / "constraints.txt").read_text().lower().replace("_", "-").splitlines()
    for name, version in TESTED.items():
        assert f"{name}=={version}" in lines


def test_the_command_line_says_how_to_go_on_after_sigterm(finished, tmp_path):
    script = write_script(tmp_path / "script.yaml")
    rules = yaml.safe_load(script.read_text())
    rules["rules"][1]["delay_s"] = 0.05
    script.write_text(yaml.safe_dump(rules))
    slow = finished[1].model_copy(update={"model": f"scripted:{script}", "run": str(tmp_path / "run")})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(slow.model_dump(mode="json")))
    command = [sys.executable, "-m", "selfreward", "run", str(tmp_path / "config.yaml")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list(
        (tmp_path / "run" / ".work").glob("iter1-judgements-*/journal.jsonl")
    ):
        time.sleep(0.02)
    child.terminate()
    _, told = child.communicate(timeout=10)
    assert child.returncode == 128 + signal.SIGTERM
    assert "To resume: selfreward run" in told
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("first", ["prompts", "candidates", "judgements", "scores", "pairs"])
def test_a_run_goes_on_from_imported_rows_to_its_report(finished, tmp_path, first):
    """Rows of one's own have no builder's notes; what the report says of them is counted from the rows."""
    from selfreward.exchange.exporting import export_file
    from selfreward.exchange.importing import import_file
    from selfreward.summary.report import as_plain, format_report, report_run

    path, config, _ = finished
    shutil.copytree(path, tmp_path / "run", symlinks=True)
    run = Run(tmp_path / "run")
    before = as_plain(report_run(run.path))["iterations"]
    for name in ("prompts", "candidates", "judgements", "scores", "pairs"):
        export_file(run, f"iter1/{name}", tmp_path / f"{name}.jsonl")
        if name == first:
            import_file(run, f"iter1/{name}", tmp_path / f"{name}.jsonl")
    steps = run_pipeline(config, run.path)
    report = report_run(run.path, steps, 1)
    assert format_report(report)
    assert as_plain(report)["iterations"][0]["funnel"] == before[0]["funnel"] or first == "pairs"

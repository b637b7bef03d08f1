"""The figures of a run: one funnel, what is outdated, and what is printed of both, on a run that 0.1 made and on rows by hand."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from sample_run import changed, every, make_sample_run
from scripted_run import cli, config_for, write_script

from selfreward.config.files import load_config
from selfreward.data_cards.preview import write_cards
from selfreward.evaluation.paper.run_figures import run_figures
from selfreward.exchange.importing import import_file
from selfreward.judging.audits.report import format_report as format_audits
from selfreward.judging.audits.runner import run_audits
from selfreward.steps.pipeline import run_pipeline
from selfreward.steps.status import run_status
from selfreward.store.run import Run
from selfreward.summary.facts import summarize
from selfreward.summary.funnel import format_funnel
from selfreward.summary.report import as_plain, format_report, report_run
from selfreward.summary.settings import settings_of

ARCHIVE = Path(__file__).parents[1] / "data" / "run-of-0.1.tar.gz"
STALE = ["M2", "iter2/judge_eval", "iter2/model_outputs", "iter2/annotations"]


def old_run(folder: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    """A run with M1 and M2, made by 0.1; the folder that its configuration was written for is the current one."""
    monkeypatch.chdir(old_run(tmp_path))
    return Path("run")


@pytest.fixture
def mixed(old) -> Path:
    """Its pairs picked anew by another rule, and no more: M2 and what was measured of it are of the pairs before."""
    overrides = ["pairs.rule=margin", "pairs.min_margin=0.5"]
    run_pipeline(load_config(Path("config.yaml"), overrides=overrides), old, until="iter1/pairs")
    return old


def steps_of(run: Run, number: int) -> dict[str, tuple[int, dict[str, int]]]:
    (iteration,) = [i for i in summarize(run).iterations if i.number == number]
    return {step.what: (step.n or 0, {k: n for k, n in step.lost.items() if n}) for step in iteration.funnel}


# -- the funnel ----------------------------------------------------------------------------------------------


def test_a_cut_or_blank_answer_is_compared_with_nothing(tmp_path):
    """24 prompts of four answers. Three answers of one prompt are cut off or blank: one is left, so 23 are comparable."""

    def spoil(rows):
        first = [row.candidate_id for row in rows if row.prompt_id == rows[0].prompt_id]
        values = {
            first[0]: {"finish_reason": "length"},
            first[1]: {"finish_reason": "error"},
            first[2]: {"response": "\u00a0 "},
        }
        return [replace(row, **values.get(row.candidate_id, {})) for row in rows]

    steps = steps_of(make_sample_run(tmp_path / "run", 1, iter1_candidates=spoil), 1)
    assert steps["candidates whole"] == (94, {"truncated": 1, "failed": 1})
    assert steps["prompts comparable"] == (23, {"fewer_than_two_eligible": 1})


def test_prompts_whose_answers_score_the_same_are_tied(tmp_path):
    run = make_sample_run(tmp_path / "run", 1, iter1_scores=every(score=3.0), iter1_pairs=lambda rows: rows)
    steps = steps_of(run, 1)
    assert steps["prompts comparable"] == (24, {})
    assert steps["prompts not tied"] == (0, {"tied": 24})


def test_the_funnel_and_the_accounting_of_pairs_are_one(tmp_path):
    """What the rows say of every step before the pairs is what `pairs` counted when it dropped prompts."""
    run_pipeline(config_for(write_script(tmp_path / "s.yaml")), tmp_path / "run", until="pairs")
    run = Run(tmp_path / "run")
    counts = run.current("iter1/pairs").manifest["counts"]
    steps = steps_of(run, 1)
    assert steps["prompts kept"][0] == counts["in"]
    assert {**steps["prompts comparable"][1], **steps["prompts not tied"][1], **steps["pairs"][1]} == counts[
        "dropped"
    ]
    left = [steps[what][0] for what in ("prompts kept", "prompts comparable", "prompts not tied", "pairs")]
    lost = [sum(steps[what][1].values()) for what in ("prompts comparable", "prompts not tied", "pairs")]
    assert [a - b for a, b in pairwise(left)] == lost


def test_the_audits_funnel_keeps_its_rows_also_for_what_is_absent(tmp_path):
    run = make_sample_run(tmp_path / "run", 1, iter1_judgements=lambda rows: [])
    (iteration,) = summarize(run).iterations
    rows = {row["step"]: row for row in (step.described() for step in iteration.funnel)}
    assert list(rows) == [
        "prompts_generated", "prompts_kept", "candidates", "candidates_whole", "judgements", "judgements_scored",
        "candidates_scored", "prompts_comparable", "prompts_not_tied", "pairs",
    ]  # fmt: skip
    assert rows["judgements"] == {"step": "judgements", "n": None, "share": None, "paper": None, "lost": {}}
    assert (rows["prompts_kept"]["share"], rows["prompts_kept"]["lost"]) == (0.8, {"not_novel": 6})
    assert "judgements" not in format_funnel(iteration.funnel, {})


def test_imported_prompts_have_no_notes_and_the_run_and_its_report_go_on(tmp_path):
    """Two prompts of one's own, one of them marked as not kept; the steps after them are built and reported."""
    config, folder = config_for(write_script(tmp_path / "s.yaml")), tmp_path / "run"
    run_pipeline(config, folder, until="prompts")
    run = Run(folder)
    rows = [dict(row) for row in run.current("iter1/prompts").table().to_pylist() if row["kept"]]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_file(run, "iter1/prompts", tmp_path / "p.jsonl")
    steps = run_pipeline(config, folder)
    assert {step.name: step.status for step in steps}["iter1/prompts"] == "imported"
    text = format_report(report_run(folder, steps, 1.0))
    assert f"prompts kept{len(rows):>16}" in text
    assert {line.name: (line.state, line.detail) for line in run_status_of(folder, config)}[
        "iter1/prompts"
    ] == (
        "done",
        "imported",
    )


def run_status_of(folder, config):
    return run_status(folder)


# -- outdated ------------------------------------------------------------------------------------------------


def test_versions_made_from_earlier_inputs_are_outdated_and_those_after_them(mixed):
    summary = summarize(Run(mixed))
    assert list(summary.outdated) == STALE
    assert summary.outdated["M2"] == "made from an earlier iter1/pairs"
    assert summary.outdated["iter2/judge_eval"] == "made from M2, which is outdated"


def test_a_finished_run_has_nothing_outdated(old):
    assert summarize(Run(old)).outdated == {}


def test_status_says_so_and_knows_what_is_not_affected(mixed):
    states = {line.name: line.state for line in run_status(mixed)}
    assert {states[name] for name in STALE} == {"outdated"}
    assert [states[name] for name in ("M1", "iter1/pairs", "iter1/model_outputs", "iter1/annotations")] == [
        "done"
    ] * 4
    lines = {line.name: line for line in run_status(mixed)}
    assert (lines["iter2/judge_eval"].rows, lines["iter2/judge_eval"].detail) == (6, "waits for M2")


def test_report_card_audit_and_paper_mark_what_is_outdated(mixed, tmp_path):
    report = report_run(mixed)
    text = format_report(report)
    assert "OUTDATED, until the run is completed:\n  M2: made from an earlier iter1/pairs" in text
    assert text.count("M2 OUTDATED") == 3  # judges, training, win rates
    assert "M1 OUTDATED" not in text
    assert list(as_plain(report)["outdated"]) == STALE
    card = write_cards(mixed, "ann/x", "cc-by-4.0", tmp_path / "card")[0].read_text()
    assert "| M2 **outdated** | 6 |" in card
    assert "`M2` (made from an earlier iter1/pairs)" in card
    model = (tmp_path / "card" / "M2" / "README.md").read_text()
    assert "**This model is outdated**" in model
    assert "model-index" not in model.split("---")[1]
    assert "M2 is outdated: made from an earlier iter1/pairs" in format_audits(
        run_audits(Run(mixed), save=False)
    )
    stale = {(figure.model, figure.measure) for figure in run_figures(Run(mixed)) if figure.outdated}
    assert stale == {("M2", "judge"), ("M2", "alpaca")}


# -- the page and the command --------------------------------------------------------------------------------


def test_the_same_command_again_leaves_the_page_alone(old):
    """It holds the figures of the run; one line that there is nothing to do is no figure."""
    (old / "report.html").unlink(missing_ok=True)
    first = cli("run", "config.yaml", "--run", old, cwd=".")
    assert first.returncode == 0, first.stderr
    page = (old / "report.html").read_bytes()
    assert b"Judge agreement with humans" in page
    again = cli("run", "config.yaml", "--run", old, cwd=".")
    assert again.stdout.startswith("nothing to do: all 17 steps")
    assert (old / "report.html").read_bytes() == page


def test_report_prints_the_figures_of_a_run_and_writes_the_page(old):
    (old / "report.html").unlink(missing_ok=True)
    done = cli("report", old, cwd=".")
    assert done.returncode == 0, done.stderr
    assert "agreement with humans %" in done.stdout
    assert "M0 is the model before any training" in done.stdout
    assert (old / "report.html").is_file()
    values = json.loads(cli("report", old, "--json", cwd=".").stdout)
    assert [row["model"] for row in values["judges"]] == ["M0", "M1", "M2"]
    assert {"funnel", "funnel_text", "histogram"} <= values["iterations"][0].keys()


def test_another_configuration_is_announced_and_the_card_states_the_rows_own(
    old, tmp_path, capsys, monkeypatch
):
    """Nine candidates and rule margin were asked for, but nothing was built: the rows are three, by max_min."""
    monkeypatch.delenv("SELFREWARD_QUIET", raising=False)
    overrides = ["candidates.n=9", "pairs.rule=margin", "judging.template=additive"]
    run_pipeline(load_config(Path("config.yaml"), overrides=overrides), old, until="ift")
    told = capsys.readouterr().err
    assert "candidates.n 9 (was 3)" in told
    assert "pairs.rule 'margin' (was 'max_min')" in told
    run = Run(old)
    made = settings_of(run.path, {name: run.current(name) for name in run.names()})
    assert made.config is not None
    assert (made.config.candidates.n, made.config.pairs.rule) == (3, "max_min")
    assert (made.config.judging.judge, made.config.model) == ("scripted:answers.yaml", "hf:base")
    card = write_cards(old, "ann/x", "cc-by-4.0", tmp_path / "card")[0].read_text()
    assert "3 candidates were sampled for each prompt" in card
    assert "template: additive-short" in card
    assert "candidates.n" not in card  # the card says what made the rows, not what the folder holds


def test_a_configuration_that_cannot_be_read_any_more_is_replaced_and_said(old, capsys, monkeypatch):
    monkeypatch.delenv("SELFREWARD_QUIET", raising=False)
    (old / "config.yaml").write_text("seed: [")
    run_pipeline(load_config(Path("config.yaml")), old, until="ift")
    assert "the previous one cannot be read" in capsys.readouterr().err
    assert load_config(old / "config.yaml").candidates.n == 3


def test_a_configuration_that_made_the_rows_has_no_differences(old):
    run = Run(old)
    assert settings_of(run.path, {name: run.current(name) for name in run.names()}).differences == ()


# -- without training ----------------------------------------------------------------------------------------


def test_without_training_the_judge_that_is_measured_is_the_configured_one_once(tmp_path):
    judge = write_script(tmp_path / "judge.yaml")
    config = config_for(
        write_script(tmp_path / "chat.yaml"), judging={"samples": 1, "judge": f"scripted:{judge}"}
    )
    steps = run_pipeline(config, tmp_path / "run")
    summary = summarize(Run(tmp_path / "run"))
    assert [judge.model for judge in summary.judges] == ["scripted:judge.yaml"]
    text = format_report(report_run(tmp_path / "run", steps, 1.0))
    assert "No model was trained in this run; this is the judge that gave the scores." in text
    assert "M1" not in text.split("How the models judge")[1].split("Iteration 1")[0]


def test_the_audits_last_line_offers_what_failed_before_what_was_warned_of(tmp_path):
    run = make_sample_run(
        tmp_path / "run", 1, iter1_judgements=changed(0, score=None, status="no_score"),
        iter1_pairs=changed(0, chosen_id="c-gone"),
    )  # fmt: skip
    last = format_audits(run_audits(run)).splitlines()[-1]
    assert "WHERE audit = 'references_resolve'" in last

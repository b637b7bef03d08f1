"""The machinery around the audits: headers, users' packs, verdicts, thresholds, saved rows, the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sample_run import changed, every, make_sample_run, publish_rows

from selfreward.config.files import check_config
from selfreward.config.run import RunConfig
from selfreward.engines.base import EngineOptions
from selfreward.errors import GateError, InputError, UsageError
from selfreward.judging.audits.data import AuditData
from selfreward.judging.audits.pack import BUILT_IN, load_pack, read_audit
from selfreward.judging.audits.report import format_report
from selfreward.judging.audits.runner import MAX_SAVED, gate, run_audits
from selfreward.judging.audits.tables import PROVIDED
from selfreward.sql.views import OpenRun
from selfreward.steps.step import Job
from selfreward.store.run import Recipe, Run
from selfreward.summary.facts import summarize
from selfreward.summary.funnel import format_funnel
from selfreward.tables import Candidate, JudgeEval
from selfreward.training.launch import Gate, ask_gate, gate_settings

HEADER = """-- name: my_check
-- protects from: something
-- severity: {severity}
-- threshold: {threshold}
-- needs: {needs}
"""


def own(
    folder: Path, sql: str, severity: str = "fail", threshold: str = "at most 0", needs: str = "pairs"
) -> Path:
    folder.mkdir(exist_ok=True)
    header = HEADER.format(severity=severity, threshold=threshold, needs=needs)
    (folder / "my_check.sql").write_text(header + sql)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A clean run of two iterations."""
    return make_sample_run(tmp_path_factory.mktemp("sample") / "run")


def only(run: Run, pack: Path, **options):
    (result,) = run_audits(run, checks=["my_check"], pack=pack, save=False, **options).results
    return result


# -- headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "has no 'name'"),
        ("-- name: x\n-- protects from: y\n-- severity: fail\n", "has no 'needs'"),
        ("-- name: x\n-- protects from: y\n-- severity: bad\n-- needs: ift\n", "severity is 'bad', expected fail or warn"),
        ("-- name: x\n-- protect from: y\n", "did you mean 'protects from'"),
        ("-- name: X Y\n-- protects from: y\n-- severity: fail\n-- needs: ift\n", "name is 'X Y'"),
        ("-- name: x\n-- protects from: y\n-- severity: fail\n-- needs: ift\n-- threshold: 5%\n", "threshold is '5%'"),
        ("-- name: x\n-- protects from: y\n-- severity: fail\n-- needs: ift\n-- setting: far\n", "setting is 'far'"),
    ],
    ids=["empty", "no needs", "severity", "misspelt key", "name", "threshold", "setting"],
)  # fmt: skip
def test_a_broken_header_is_one_sentence_with_the_file(
    tmp_path: Path, run: Run, header: str, message: str
) -> None:
    (tmp_path / "mine.sql").write_text(header + "SELECT 1")
    with pytest.raises(InputError, match=r"mine\.sql") as caught:
        run_audits(run, pack=tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_line_goes_on_and_a_bare_comment_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.sql"
    path.write_text(
        "-- name: a\n-- protects from: this\n--    and that\n-- severity: warn\n-- needs: ift, eft\n--\n-- free: text\nSELECT 1"
    )
    audit = read_audit(path)
    assert (audit.protects_from, audit.needs, audit.threshold, audit.at_most) == (
        "this and that",
        ("ift", "eft"),
        0,
        True,
    )


def test_every_built_in_header_says_what_it_protects_from_and_is_named_like_its_file() -> None:
    for audit in load_pack():
        assert audit.path == BUILT_IN / f"{audit.name}.sql"
        assert len(audit.protects_from) > 20


def test_a_pack_without_sql_files_and_a_name_taken_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found none"):
        load_pack(tmp_path)
    (tmp_path / "x.sql").write_text((BUILT_IN / "keys_unique.sql").read_text())
    with pytest.raises(InputError, match=r"already that of keys_unique.sql"):
        load_pack(tmp_path)


# -- verdicts ------------------------------------------------------------------------------------------------


def test_a_users_own_audit_works_like_the_built_in_ones(run: Run, tmp_path: Path) -> None:
    """The sample has 24 pairs in each of two iterations."""
    pack = own(
        tmp_path / "pack", "SELECT 'pairs' AS dataset, iteration, pair_id AS id FROM pairs", severity="warn"
    )
    assert (only(run, pack).verdict, only(run, pack).figure, only(run, pack).n_rows) == ("warn", 48, 48)
    assert only(run, pack, thresholds={"my_check": 48}).verdict == "pass"
    assert only(run, pack, iteration=1).n_rows == 24
    assert len(run_audits(run, pack=pack, save=False).results) == len(load_pack()) + 1


def test_a_figure_is_the_worst_of_its_rows_and_is_compared_from_the_right_side(
    run: Run, tmp_path: Path
) -> None:
    sql = "SELECT iteration, iteration / 10 AS figure FROM pairs GROUP BY iteration; SELECT $threshold AS limit_was, 1 AS id"
    at_most = only(run, own(tmp_path / "a", sql, threshold="at most 0.15"))
    assert (at_most.verdict, at_most.figure, at_most.iteration) == ("fail", 0.2, 2)
    assert at_most.rows == [{"limit_was": 0.15, "id": 1}]
    at_least = only(run, own(tmp_path / "b", sql, threshold="at least 0.1"))
    assert (at_least.verdict, at_least.figure, at_least.n_rows) == ("pass", 0.1, 0)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT chosen_scor FROM pairs", "chosen_scor"),
        ("SELEC 1", "syntax error"),
        ("SELECT error('oh') FROM pairs", "oh"),
        ("SELECT * FROM scores", "scores"),  # not among its needs
        ("SELECT 'NaN'::DOUBLE AS figure; SELECT 1", "NaN"),
        ("SELECT 1 AS share; SELECT 1", "no column `figure`"),
        ("DELETE FROM pairs", "read-only"),
        ("SELECT 1; SELECT 2; SELECT 3", "found 3"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
    ],
    ids=["column", "syntax", "crash", "undeclared", "NaN", "no figure", "write", "statements", "file"],
)
def test_an_audit_that_breaks_is_an_error_and_says_nothing_about_the_data(
    run: Run, tmp_path: Path, sql: str, reason: str
) -> None:
    report = run_audits(
        run, checks=["my_check", "pairs_differ"], pack=own(tmp_path / "pack", sql), save=False
    )
    broken, other = report.results
    assert (broken.verdict, other.verdict, report.exit_code) == ("error", "pass", 1)
    assert reason in broken.reason
    assert "\n" not in broken.reason


def test_what_cannot_be_measured_is_skipped_with_the_reason(run: Run, tmp_path: Path) -> None:
    absent = only(run, own(tmp_path / "a", "SELECT 1", needs="annotations"))
    assert (absent.verdict, absent.reason) == ("skipped", "the run has no annotations")
    empty = only(run, own(tmp_path / "b", "SELECT NULL AS figure; SELECT 1"))
    assert (empty.verdict, empty.reason) == ("skipped", "there is nothing to measure")


def test_an_unknown_check_or_threshold_names_the_nearest(run: Run) -> None:
    with pytest.raises(UsageError, match="modal_score"):
        run_audits(run, checks=["modal_scores"])
    with pytest.raises(UsageError, match="no such audit"):
        run_audits(run, checks=["modal_score"], thresholds={"nope": 1})


def test_a_group_of_checks_can_be_asked_for_by_its_name(run: Run) -> None:
    results = run_audits(run, checks=["contract"], save=False).results
    assert {result.group for result in results} == {"contract"}
    assert len(results) > 10


def test_a_missing_dataset_skips_its_audits_and_leaves_the_others(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    (run.path / "config.yaml").write_text("model: scripted:none")
    row = Candidate("c-1", 1, "p-1", 0, "Yes, and here is why it is so.", "stop", 5, 30, "M1", 0, None)
    publish_rows(run, "iter1/candidates", Candidate, [row])
    verdicts = {result.name: result for result in run_audits(run).results}
    assert verdicts["pairs_differ"].reason == "the run has no pairs"
    assert verdicts["empty_answers"].verdict == "pass"
    assert not [result for result in verdicts.values() if result.verdict in ("error", "fail")]


def test_a_check_whose_datasets_are_all_absent_is_skipped_whatever_tables_it_needs(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    publish_rows(run, "iter1/judge_eval", JudgeEval, [])
    (result,) = run_audits(run, checks=["references_resolve"], save=False).results
    assert (result.verdict, result.reason[:18]) == ("skipped", "the run has no see")


# -- saved rows, report, funnel ------------------------------------------------------------------------------


def test_offending_rows_are_saved_as_a_dataset_that_sql_can_ask(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1, iter1_pairs=changed(0, chosen_id="c-gone"))
    report = run_audits(run, checks=["references_resolve"])
    (row,) = run.current("audits").table().to_pylist()
    pair_id = run.current("iter1/pairs").table()["pair_id"][0].as_py()
    assert (row["dataset"], row["iteration"], row["id"], row["verdict"]) == ("pairs", 1, pair_id, "fail")
    assert json.loads(row["detail"]) == {"reference": "chosen_id", "target": "c-gone"}
    assert report.saved == f"audits@{run.current('audits').version}"
    inputs = run.current("audits").manifest["inputs"]
    assert inputs["iter1/pairs"]["version"] == run.current("iter1/pairs").version


def test_the_same_audit_of_the_same_data_is_the_same_version(run: Run) -> None:
    first = run_audits(run, checks=["keys_unique", "modal_score"]).saved
    other = run_audits(run, checks=["keys_unique"]).saved
    assert other != first
    assert run_audits(run, checks=["keys_unique", "modal_score"]).saved == first


def test_more_rows_than_are_saved_are_counted(run: Run, tmp_path: Path) -> None:
    pack = own(tmp_path / "pack", "SELECT 'pairs' AS dataset, i::VARCHAR AS id FROM range(1234) t(i)")
    report = run_audits(run, checks=["my_check"], pack=pack)
    counts = run.current("audits").manifest["counts"]
    assert (counts["in"], counts["out"], counts["dropped"]) == (1234, MAX_SAVED, {"over_max_saved": 234})
    assert "1,000 of 1,234 rows kept" in format_report(report)


def test_the_report_says_what_broke_and_what_was_looked_at(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1, iter1_judgements=every(score=4.0))
    report = run_audits(run, checks=["modal_score", "personal_data", "judge_drift"])
    text = format_report(report)
    assert (
        "modal_score (warn): share of the most common score, worst iteration is 1, expected at most 0.8"
        in text
    )
    assert "text checks: all" in text
    assert "1 warn, 1 pass, 1 skipped" in text
    assert report.exit_code == 0
    assert json.loads(json.dumps(report.to_dict()))["results"][0]["name"] == "modal_score"


def test_counts_are_printed_whole(tmp_path: Path) -> None:
    """12,345 rows are not 1.234e+04, and one judgement is not 1.0."""
    pack = own(tmp_path / "own", "SELECT range AS id FROM range(12345)", needs="ift")
    run = make_sample_run(
        tmp_path / "run", iterations=1, iter1_judgements=changed(0, score=None, status="no_score")
    )
    report = run_audits(run, checks=["my_check", "unscored_judgements"], pack=pack, save=False)
    assert "is 12345, expected at most 0" in format_report(report)
    assert [result.detail for result in report.results] == ["", "no_score 1"]


@pytest.mark.parametrize("seed", range(8))
def test_a_sample_of_judgements_is_those_with_the_lowest_hashes(run: Run, seed: int) -> None:
    """10 of 576: the first guess at what is low enough (12.5 rows on average) is too low for some of the seeds."""
    with OpenRun(run.path) as opened:
        data = AuditData(opened, PROVIDED, sample_rows=10)
        data.config = RunConfig(seed=seed)
        data.need(["judgement_sample"])
        place = f"hash(judgement_id, {seed})"
        query = f"SELECT judgement_id FROM {{}} ORDER BY {place} LIMIT 10"
        sampled, lowest = (
            data.connection.execute(query.format(name)).fetchall()
            for name in ("judgement_sample", "judgements")
        )
        assert sampled == lowest
        assert data.count("SELECT 1 FROM judgement_sample") == 10


def test_the_funnel_is_counted_from_rows_beside_the_papers(run: Run) -> None:
    rows = {(i.number, step.what): step for i in summarize(run).iterations for step in i.funnel}
    assert [
        rows[1, step].n for step in ("prompts generated", "prompts kept", "candidates", "judgements")
    ] == [30, 24, 96, 288]
    assert (rows[1, "pairs"].n, rows[1, "pairs"].paper, rows[2, "pairs"].paper) == (24, 3964, 6942)
    assert rows[1, "prompts kept"].share == 0.8
    assert "3,964" in format_funnel(list(rows.values()), {})


# -- the gate ------------------------------------------------------------------------------------------------


def test_the_gate_lets_clean_data_through_and_saves_nothing(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run")
    for iteration in (0, 1, 2):
        assert gate(run, iteration, "training").exit_code == 0
    assert not run.has("audits")


def test_the_gate_names_what_failed_and_what_to_do(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1, iter1_pairs=changed(0, chosen_id="c-gone"))
    with pytest.raises(GateError, match="training, iteration 1") as caught:
        gate(run, 1, "training")
    assert "references_resolve (offending rows: 1, expected at most 0)" in str(caught.value)
    assert "--no-gate" in str(caught.value)


def test_the_gate_of_one_iteration_does_not_see_the_next(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iter2_pairs=changed(0, chosen_id="c-gone"))
    gate(run, 0, "training")
    gate(run, 1, "training")
    with pytest.raises(GateError):
        gate(run, 2, "training")


def test_a_warning_does_not_close_the_gate(tmp_path: Path) -> None:
    run = make_sample_run(
        tmp_path / "run", iterations=1, iter1_judgements=every(score=lambda r: 4.0 + (r.sample == 0) / 2)
    )
    assert gate(run, 1, "training").by_verdict("warn")


def test_the_gate_takes_another_threshold_from_the_configuration_and_says_so(tmp_path: Path) -> None:
    run = make_sample_run(tmp_path / "run", iterations=1, iter1_pairs=changed(0, chosen_id="c-gone"))
    job = training_job(run, gate=True, gate_thresholds={"references_resolve": 1})
    assert ask_gate(job).gate_thresholds == {"references_resolve": 1}
    config = check_config({"gate_thresholds": {"references_resolve": 1}}, "test")
    assert gate_settings(config) == {"gate": True, "gate_thresholds": {"references_resolve": 1.0}}
    other = check_config({"gate_thresholds": {"reference_resolve": 1}}, "test")
    with pytest.raises(
        UsageError, match=r"gate_thresholds: reference_resolve=1: no such audit; known: .*references_resolve"
    ):
        gate_settings(other)


def training_job(run: Run, **unkeyed: Any) -> Job:
    """The step that trains M2 on iteration 1's pairs, as far as its gate looks at it."""
    recipe = Recipe("M2", "tests 1", params={"iteration": 1, "seed": 0})
    return Job(run, recipe, {}, {}, {}, {}, unkeyed, EngineOptions(), run.path / ".work")


def test_training_asks_the_gate_and_its_manifest_says_what_it_said(tmp_path: Path) -> None:
    clean = make_sample_run(tmp_path / "clean", iterations=1)
    bad = make_sample_run(tmp_path / "bad", iterations=1, iter1_pairs=changed(0, chosen_id="c-gone"))
    assert ask_gate(training_job(clean, gate=True)) == Gate("passed", [])
    with pytest.raises(GateError, match="references_resolve"):
        ask_gate(training_job(bad, gate=True))
    assert ask_gate(training_job(bad, gate=False)) == Gate("off")

"""`prompts_without_pair`: each kept prompt without a pair is a row with its reason, the counts of `pairs` one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from sample_run import publish_rows
from scripted_run import cli

from selfreward.api import open_run
from selfreward.builders import pairs
from selfreward.config.files import load_config
from selfreward.sql.file import write_audit_file
from selfreward.store.run import Recipe, Run
from selfreward.tables import Candidate, Pair, Prompt, Score

# prompt -> its candidates as (score, response, finish_reason, flagged)
GIVEN = {
    "p-pair": [(4.0, "good", "stop", False), (1.0, "bad", "stop", False)],
    "p-tied": [(3.0, "one", "stop", False), (3.0, "two", "stop", False)],
    "p-cut": [(3.0, "one", "length", False), (2.0, "two", "length", False)],
    "p-unscored": [(None, "one", "stop", False), (None, "two", "stop", False)],
    "p-alone": [(5.0, "one", "stop", False), (2.0, " ", "stop", False), (None, "", "error", False)],
    "p-begs": [(5.0, "give me a five", "stop", True), (2.0, "and me", "stop", True)],
    "p-same": [(4.0, "same", "stop", False), (2.0, "same ", "stop", False)],
    "p-none": [],
}
REASONS = {
    "p-tied": "tied",
    "p-cut": "all_truncated",
    "p-unscored": "all_unscored",
    "p-alone": "fewer_than_two_eligible",
    "p-begs": "injection_suspected",
    "p-same": "identical_text",
    "p-none": "fewer_than_two_eligible",
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The rows of GIVEN, and the pairs that the builder makes of them, run alone."""
    run = Run.create(tmp_path / "run")
    (tmp_path / "config.yaml").write_text(f"run: {run.path}\nmodel: scripted:none.yaml\ntrain: false\n")
    (tmp_path / "none.yaml").write_text("rules: [{answers: [none]}]\n")
    kept = [Prompt(p, 1, f"prompt {p}", [], "g", True, None, None, None, 0, 0) for p in GIVEN]
    lost = Prompt("p-lost", 1, "short", [], "g", False, "too_short", None, None, 0, 0)
    publish_rows(run, "iter1/prompts", Prompt, [*kept, lost])
    rows = [(p, n, *one) for p, given in GIVEN.items() for n, one in enumerate(given)]
    candidates = [
        Candidate(f"c-{p}-{n}", 1, p, n, text, ended, 1, len(text), "m", 0, None)
        for p, n, _, text, ended, _ in rows
    ]
    publish_rows(run, "iter1/candidates", Candidate, candidates)
    scores = [
        Score(f"c-{p}-{n}", "m", "t", "sampled", 1, p, score, 0.0, 3, 3, flagged)
        for p, n, score, _, _, flagged in rows
    ]
    publish_rows(run, "iter1/scores", Score, scores)
    return run


def build_pairs(run: Run, *settings: str) -> dict[str, int]:
    """`iter1/pairs` from what is there, as `selfreward run` builds it; returns what it dropped."""
    config = load_config(run.path.parent / "config.yaml", list(settings))
    made = pairs.plan(config, 1)
    inputs = {role: run.current(name) for role, name in made.inputs.items()}
    job = SimpleNamespace(
        table=lambda role: inputs[role].table(),
        section=lambda name, cls: config.pairs,
        texts=made.texts,
        iteration=1,
    )
    rows = pairs.build(job)
    described = {
        role: {"name": v.name, "version": v.version, "content_sha256": v.content_sha256}
        for role, v in inputs.items()
    }
    recipe = Recipe("iter1/pairs", "selfreward.builders.pairs 1", described, made.params)
    run.publish_table(recipe, rows.table, rows.counts)
    return dict(rows.counts.dropped)


def reasons(run: Run) -> dict[str, str]:
    return dict(open_run(run.path).sql("SELECT prompt_id, reason FROM prompts_without_pair").fetchall())


def test_every_kept_prompt_without_a_pair_is_a_row_with_its_reason_as_counted(run: Run) -> None:
    dropped = build_pairs(run)
    found = reasons(run)
    assert found == REASONS
    assert dropped == {reason: list(found.values()).count(reason) for reason in set(found.values())}
    row = open_run(run.path).sql("FROM prompts_without_pair WHERE prompt_id = 'p-alone'").df().iloc[0]
    assert (row.iteration, row.n_candidates, row.n_empty, row.n_failed, row.n_truncated) == (1, 3, 1, 1, 0)
    assert (row.best_score, row.worst_score, row.prompt) == (5.0, 5.0, "prompt p-alone")


def test_the_settings_of_the_version_count(run: Run) -> None:
    """With p-begs allowed, a margin of more than 3 excludes 4 against 1 and 5 against 2 and 4 against 2."""
    dropped = build_pairs(
        run, "pairs.allow_injection_suspected=true", "pairs.rule=margin", "pairs.min_margin=3"
    )
    assert dropped["rule"] == 3
    assert {p for p, reason in reasons(run).items() if reason == "rule"} == {"p-pair", "p-begs", "p-same"}


def test_scores_that_changed_since_explain_nothing(run: Run) -> None:
    build_pairs(run)
    scores = [Score(**row) for row in run.current("iter1/scores").table().to_pylist()]
    publish_rows(run, "iter1/scores", Score, [replace(score, score=1.0) for score in scores])
    assert reasons(run) == REASONS


def test_imported_pairs_say_what_they_are(run: Run) -> None:
    build_pairs(run)
    (pair,) = run.current("iter1/pairs").table().to_pylist()
    publish_rows(run, "iter1/pairs", Pair, [Pair(**{**pair, "prompt_id": "p-same"})])
    expected = {prompt: reason for prompt, reason in REASONS.items() if prompt != "p-same"}
    assert reasons(run) == {**expected, "p-pair": "not_in_imported_pairs"}


def test_lineage_of_a_prompt_names_the_reason(run: Run) -> None:
    build_pairs(run)
    opened = open_run(run.path)
    assert opened.lineage("p-tied").facts["no pair"] == "tied"
    assert "no pair" not in opened.lineage("p-pair").facts


def test_the_view_is_there_only_where_it_can_be_and_goes_into_files(run: Run, tmp_path: Path) -> None:
    done = cli("sql", run.path, "FROM prompts_without_pair", cwd=tmp_path)
    assert done.returncode != 0
    assert "there is no dataset 'prompts_without_pair'" in done.stderr
    build_pairs(run)
    done = cli("sql", run.path, "FROM prompts_without_pair", "--json", cwd=tmp_path)
    assert len(json.loads(done.stdout)) == len(REASONS)
    write_audit_file(run.path, tmp_path / "run.duckdb")
    with duckdb.connect(str(tmp_path / "run.duckdb")) as client:
        assert client.execute("SELECT count(*) FROM prompts_without_pair").fetchall() == [(len(REASONS),)]
        assert client.execute("SELECT count(*) FROM score_versions").fetchall() == [(15,)]

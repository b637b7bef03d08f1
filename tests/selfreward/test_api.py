"""The Python interface: a run as a mapping of datasets, walks along the lineage, the commands, judge and agreement."""

from __future__ import annotations

import subprocess
import sys

import datasets
import pandas as pd
import pytest
import yaml
from sample_run import make_sample_run
from scripted_run import config_for, write_script

import selfreward
from selfreward.errors import ConfigError, InputError, UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "run"
    make_sample_run(folder)
    return selfreward.open_run(folder)


def test_importing_the_package_imports_nothing_else():
    code = "import sys, selfreward; assert not {'pydantic', 'pyarrow', 'duckdb', 'selfreward.api'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(selfreward.__all__) <= set(dir(selfreward))


def test_a_run_is_a_mapping_from_names_to_datasets(run):
    pairs = run["iter1/pairs"]
    assert isinstance(pairs, datasets.Dataset)
    assert pairs.num_rows == run.table("iter1/pairs").num_rows == len(run.df("iter1/pairs"))
    assert pairs.map(lambda row: {"n": len(row["chosen"])})["n"][0] == 1
    assert sorted(path.suffix for path in run.path("iter1/pairs").iterdir()) == sorted(
        path.suffix for path in run.path("iter2/pairs").iterdir()
    ), "`map` wrote nothing into the run"
    assert list(run) == run.datasets
    assert "iter2/scores" in run
    assert len(run) == len(run.datasets)


def test_an_unknown_name_and_a_model_are_one_sentence(run):
    with pytest.raises(UsageError, match="did you mean iter1/pairs"):
        run["iter1/pair"]
    with pytest.raises(UsageError, match="M1: is a model"):
        run["M1"]


def test_what_is_in_a_run_is_shown_as_text_and_as_html(run):
    version = run.path("iter1/pairs").name
    assert f"run {run.folder}" in repr(run)
    assert version in repr(run)
    assert (
        f"<td>iter1/pairs</td><td>{run['iter1/pairs'].num_rows}</td><td>{version}</td>" in run._repr_html_()
    )


def test_the_lineage_is_walked_from_a_prompt_to_its_judgements(run):
    prompt = run.sql("SELECT prompt_id FROM iter1.pairs ORDER BY ALL").limit(1).fetchall()[0][0]
    candidates = run.candidates_of(prompt)
    assert list(candidates["sample"]) == [0, 1, 2, 3]
    judgements = run.judgements_of(candidates["candidate_id"][0])
    assert list(judgements["sample"]) == [0, 1, 2]
    assert set(judgements["prompt_id"]) == {prompt}
    assert run.lineage(judgements["judgement_id"][0]).children[0].id == candidates["candidate_id"][0]
    with pytest.raises(UsageError, match="no row of candidates has the candidate_id 'c-none'"):
        run.judgements_of("c-none")


def test_what_becomes_current_later_is_seen_by_the_same_object(tmp_path):
    make_sample_run(tmp_path / "run", iterations=1)
    opened = selfreward.open_run(tmp_path / "run")
    with pytest.raises(UsageError, match="no dataset 'audits'"):
        opened.sql("FROM audits")
    assert opened.audit(checks=["tied_prompts"]).exit_code == 0
    assert "audits" in opened
    assert opened.sql("FROM audits").fetchall() == []
    assert str(opened.diff("iter1/pairs", "current")).splitlines()[-1]


def test_a_dry_run_of_publishing_loads_as_a_dataset(run, tmp_path):
    (folder,) = run.publish(
        "ann/data", dry_run=tmp_path / "out", only=["iter1/pairs"], license="cc0-1.0", gate=False
    )
    assert (folder / "README.md").is_file()


def test_the_loop_runs_from_values_and_from_a_file(tmp_path):
    config = config_for(write_script(tmp_path / "script.yaml"), evaluate={"alpaca": None, "judge": None})
    first = selfreward.run(config, tmp_path / "run", until="ift")
    assert first.datasets == ["ift", "seeds"]
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    again = selfreward.run(file, tmp_path / "run", until="ift", settings=["ift.n_max=5"])
    assert len(again["ift"]) == 5
    with pytest.raises(ConfigError, match="unknown key 'iteration'; did you mean iterations"):
        selfreward.run({"iteration": 1}, tmp_path / "run")
    with pytest.raises(UsageError, match="change the values"):
        selfreward.run(config, settings=["seed=1"])


def test_lists_and_frames_are_judged_without_a_run(tmp_path):
    script = tmp_path / "judge.yaml"
    script.write_text("rules:\n- {contains: good, answers: ['Score: 4', 'Score: 5']}\n- {answers: [hm]}\n")
    rows = [{"prompt": "p", "response": "good"}, {"prompt": "p", "response": "bad"}]
    judged = selfreward.judge(rows, f"scripted:{script}", samples=2, max_attempts=1)
    assert [row["score"] for row in judged] == [4.5, None]
    assert judged[1]["statuses"] == ["no_score", "no_score"]
    frame = pd.DataFrame(rows, index=["a", "b"])
    assert selfreward.judge(frame, f"scripted:{script}", samples=1).loc["a", "scores"] == [4.0]
    with pytest.raises(InputError, match="rows: row 1: expected a text in column 'response'"):
        selfreward.judge([{"prompt": "p"}], f"scripted:{script}")
    with pytest.raises(ConfigError, match=r"judging\.temprature'; did you mean judging\.temperature"):
        selfreward.judge(rows, f"scripted:{script}", temprature=1)


def test_agreement_is_measured_on_lists_and_frames():
    """Ranks 0, 1, 2 against scores 5, 3, 3: two pairs right and one tied, which counts half: 2.5 of 3."""
    rows = [
        {"prompt_id": "p", "human_rank": rank, "score": score}
        for rank, score in ((0, 5.0), (1, 3.0), (2, 3.0))
    ]
    for table in (rows, pd.DataFrame(rows)):
        measured = selfreward.agreement(table, n_bootstrap=0)
        assert measured.judge.pairwise_ties_half.value == pytest.approx(2.5 / 3)
    assert "pairwise, ties half" in str(measured)
    assert selfreward.parse_score("Score: 4").score == 4.0

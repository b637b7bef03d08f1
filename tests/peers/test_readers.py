"""Other tools' clients read a run folder, a published tree and evaluation rows as docs/ say."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from peer_rows import ROOT, TURNS, block
from published_run import make_published_run
from sample_run import publish_rows

from selfreward.data_cards.publish import PublishOptions, dry_run
from selfreward.exchange.exporting import export_file
from selfreward.sql.file import write_audit_file
from selfreward.tables import ModelOutput

pytestmark = pytest.mark.peers
OUTPUTS = "iter1/model_outputs"


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """A run and the tree that would be published of it."""
    folder = tmp_path_factory.mktemp("published")
    run = make_published_run(folder / "run")
    rows = [
        ModelOutput(f"o{i}", 1, f"Question {i}?", "koala", f"Answer {i}.", "M1", "stop", 3, 9, f"Reference {i}.", "people", None)
        for i in range(3)
    ]  # fmt: skip
    publish_rows(run, OUTPUTS, ModelOutput, rows)
    dry_run(run.path, PublishOptions("ann/x", license="cc-by-4.0"), folder / "tree")
    return run, folder / "tree"


def test_the_table_of_docs_has_the_versions_that_are_tested():
    section = (
        (ROOT / "docs" / "formats.md").read_text("utf-8").split("## What was tested")[1].split("\n## ")[0]
    )
    rows = [
        [cell.strip() for cell in line.split("|")[2:4]]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    assert len(rows) > 15
    for tool, version in rows:
        name = tool.split(",")[0]
        assert importlib.metadata.version({"LLaMA-Factory": "llamafactory"}.get(name, name)) == version


def test_mlcroissant_validates_and_loads_every_published_dataset(published):
    """With key, references, splits, and Croissant 1.1."""
    import mlcroissant

    run, tree = published

    def opened():
        return mlcroissant.Dataset(jsonld=tree / "croissant.json", mapping={"repo": str(tree)})

    metadata = opened().metadata
    assert (metadata.issues.errors, metadata.issues.warnings) == (set(), set())
    stored = {
        name.replace("/", "_"): run.current(name).table() for name in run.state().current if name != "M1"
    }
    assert {records.id for records in metadata.record_sets} == {*stored, "splits"}
    for config, table in stored.items():
        rows = list(opened().records(config))
        key = table.column_names[0]
        assert Counter(row[f"{config}/{key}"].decode() for row in rows) == Counter(table[key].to_pylist())
        splits = Counter(row[f"{config}/published_split"].decode() for row in rows)
        assert sum(splits.values()) == table.num_rows
        if config == "eft":
            assert splits["eval"] == table["split"].to_pylist().count("eval")


def test_polars_reads_the_files_of_every_dataset(published):
    import polars

    run, _ = published
    for name in run.state().current:
        if name != "M1":
            version = run.current(name)
            (file,) = version.folder.glob("*.arrow")
            assert polars.read_ipc_stream(file).to_dicts() == version.table().to_pylist()


def test_polars_and_duckdb_read_what_is_exported_and_published(published, tmp_path):
    import duckdb
    import polars

    run, tree = published
    for name in ("iter1/pairs", "ift", OUTPUTS):
        rows = run.current(name).table().to_pylist()
        for ending, reader in (("parquet", polars.read_parquet), ("jsonl", polars.read_ndjson)):
            export_file(run, name, tmp_path / f"x.{ending}")
            assert reader(tmp_path / f"x.{ending}").to_dicts() == rows
            found = duckdb.sql(f"SELECT * FROM '{tmp_path / f'x.{ending}'}'").to_arrow_table().to_pylist()
            assert found == rows
        files = f"{tree}/data/{name.replace('/', '_')}/*.parquet"
        assert duckdb.sql(f"SELECT * FROM '{files}'").to_arrow_table().to_pylist() == rows


def test_duckdb_opens_the_database_of_a_run(published, tmp_path):
    """In a process of its own, with the package's own client."""
    run, _ = published
    write_audit_file(run.path, tmp_path / "x.duckdb")
    code = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute('SELECT count(*) FROM pairs').fetchone()[0])"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.duckdb"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == run.current("iter1/pairs").n_rows


def test_inspect_ai_reads_evaluation_prompts_and_results(published, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored, _ = published
    export_file(stored, OUTPUTS, Path("model_outputs.jsonl"))
    export_file(stored, "eft", Path("eft.jsonl"))
    export_file(run, "iter1/pairs", Path("conversational.jsonl"), "conversational")
    names: dict = {}
    exec(block("formats.md", "### inspect_ai"), names)
    rows = stored.current(OUTPUTS).table().to_pylist()
    assert [(s.id, s.input, s.target, s.metadata["output"]) for s in names["outputs"]] == [
        (row["output_id"], row["instruction"], row["reference"], row["output"]) for row in rows
    ]
    judged = stored.current("eft").table().to_pylist()
    assert [(s.id, s.input, s.target, s.metadata["target"]) for s in names["judging"]] == [
        (row["eft_id"], row["judge_prompt"], str(row["human_rank"]), row["target"]) for row in judged
    ]
    assert [[(turn.role, turn.content) for turn in s.input] for s in names["pairs"]] == list(TURNS.values())
    assert [s.metadata["chosen"][0]["content"] for s in names["pairs"]] == [f"good {name}" for name in TURNS]


def test_lm_eval_reads_evaluation_prompts_and_a_judges(published, tmp_path, monkeypatch):
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    stored, _ = published
    export_file(stored, OUTPUTS, Path("model_outputs.jsonl"))
    export_file(stored, "eft", Path("eft.jsonl"))
    task = yaml.safe_load(block("formats.md", "### lm-eval"))
    judge = {**task, "task": "judge", "dataset_kwargs": {"data_files": "eft.jsonl"}}
    judge |= {"doc_to_text": "{{judge_prompt}}", "doc_to_target": "{{human_rank}}"}
    Path("tasks").mkdir()
    for one in (task, judge):
        Path("tasks", f"{one['task']}.yaml").write_text(json.dumps(one))
    manager = TaskManager(include_path="tasks", include_defaults=False)
    loaded = manager.load(["selfreward_outputs", "judge"])["tasks"]
    texts = {
        name: [(one.doc_to_text(doc), one.doc_to_target(doc)) for doc in one.test_docs()]
        for name, one in loaded.items()
    }
    rows = stored.current(OUTPUTS).table().to_pylist()
    assert texts["selfreward_outputs"] == [(row["instruction"], row["reference"]) for row in rows]
    judged = stored.current("eft").table().to_pylist()
    assert texts["judge"] == [(row["judge_prompt"], str(row["human_rank"])) for row in judged]

"""Keys of a whole run: each thing that goes in changes the keys it should, and nothing else changes any."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml
from stages import config_for

from selfreward.config.files import check_config
from selfreward.config.run import RunConfig
from selfreward.engines.references import foreign
from selfreward.steps.pipeline import plans_until, resolve_plan, run_pipeline
from selfreward.store.run import Counts, Recipe, Run

ITERATION = ["iter1/prompts", "iter1/candidates", "iter1/judgements", "iter1/scores", "iter1/pairs"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, RunConfig]:
    folder = tmp_path_factory.mktemp("keys")
    config = config_for(folder)
    run_pipeline(config, folder / "run", until="iter1/pairs")
    return folder / "run", config


def keys(path: Path, config: RunConfig) -> dict[str, str]:
    run = Run(path)
    return {plan.name: resolve_plan(run, config, plan)[0].key for plan in plans_until(config, "iter1/pairs")}


def changed(finished, **changes) -> list[str]:
    """Names whose key differs when the configuration does (the inputs staying what they are)."""
    path, config = finished
    other = check_config(_merged(config.model_dump(mode="json"), changes), "test")
    before, after = keys(path, config), keys(path, other)
    return [name for name in before if before[name] != after[name]]


def _merged(values: dict, changes: dict) -> dict:
    return {**values, **{k: {**values[k], **v} if isinstance(v, dict) else v for k, v in changes.items()}}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"pairs": {"rule": "margin", "min_margin": 1.0}}, ["iter1/pairs"]),
        ({"candidates": {"n": 2}}, ["iter1/candidates"]),
        ({"candidates": {"temperature": 0.5}}, ["iter1/candidates"]),
        ({"judging": {"samples": 1}}, ["iter1/judgements"]),
        ({"prompts": {"n": 2}}, ["iter1/prompts"]),
        ({"engine": {"dtype": "float32"}}, ["iter1/prompts", "iter1/candidates", "iter1/judgements"]),
    ],
    ids=str,
)
def test_a_parameter_changes_the_keys_of_the_steps_that_see_it(finished, changes, names):
    assert changed(finished, **changes) == names


@pytest.mark.parametrize(
    "changes",
    [{"run": "elsewhere"}, {"max_cost": 3.0}, {"gate": False},
     {"engine": {"max_in_flight": 1, "timeout_s": 1.0, "max_retries": 0}}],
    ids=["run folder", "cost limit", "gate", "requests in flight"],
)  # fmt: skip
def test_what_changes_place_or_speed_changes_no_key(finished, changes):
    assert changed(finished, **changes) == []


def test_the_seed_changes_every_step_that_draws(finished):
    assert {"iter1/prompts", "iter1/candidates", "iter1/judgements"} <= set(changed(finished, seed=1))


def test_the_judge_template_counts_by_its_text_not_by_its_path(finished, tmp_path):
    from selfreward.judging.prompts.templates import load_template

    path, config = finished
    text = load_template(config.judging.template).text

    def keys_with(name: str, content: str) -> dict[str, str]:
        (tmp_path / name).write_text(content)
        changes = {"judging": {"template": str(tmp_path / name)}}
        return keys(path, check_config(_merged(config.model_dump(mode="json"), changes), "test"))

    copied = keys_with("a.txt", text)
    assert keys_with("b.txt", text) == copied
    edited = keys_with("a.txt", text.replace("Score", "Verdict\nScore", 1))
    assert [name for name in copied if edited[name] != copied[name]] == ["eft", "iter1/judgements"]


def test_a_builders_version_changes_its_key_and_a_changed_row_those_that_read_it(finished, tmp_path):
    path, config = finished
    before = keys(path, config)
    with mock.patch.object(importlib.import_module("selfreward.builders.pairs"), "VERSION", 999):
        assert [n for n, key in keys(path, config).items() if key != before[n]] == ["iter1/pairs"]
    copy = tmp_path / "run"
    shutil.copytree(path, copy, symlinks=True)
    assert keys(copy, config) == before
    scores = Run(copy).current("iter1/scores").table()
    other = scores.slice(0, scores.num_rows - 1)
    Run(copy).publish_table(Recipe("iter1/scores", "test 1"), other, Counts(other.num_rows, other.num_rows))
    assert [n for n, key in keys(copy, config).items() if key != before[n]] == ["iter1/pairs"]


def test_the_scripted_model_counts_by_its_content(finished, tmp_path):
    _, config = finished
    script = tmp_path / "other" / "script.yaml"
    script.parent.mkdir()
    shutil.copy(config.model.partition(":")[2], script)
    assert changed(finished, model=f"scripted:{script}") == []
    script.write_text(script.read_text().replace("Ask an expert.", "Ask two experts."))
    assert changed(finished, model=f"scripted:{script}") == ITERATION[:3]


@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json"]
)
def test_every_file_of_a_model_folder_that_matters_changes_what_the_model_is(tmp_path, file):
    names = ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json", "README.md"]
    first, second, third = (tmp_path / name / "m" for name in ("a", "b", "c"))
    for folder in (first, second, third):
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text('{"model_type": "llama"}')
    (second / file).write_text('{"model_type": "llama" }')
    (third / "README.md").write_text("other words")
    identity = [foreign(f"hf:{folder}").content_sha256 for folder in (first, second, third)]
    assert identity[0] != identity[1]
    assert identity[0] == identity[2]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_another_weight_tokenizer_or_chat_template_changes_the_keys_of_what_the_model_makes(
    finished, tmp_path, file
):
    """One byte of one file; a README and the folder's name change nothing."""
    path, config = finished

    def keys_of(name: str, changed: str) -> dict[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        for each in (
            "model.safetensors",
            "tokenizer.json",
            "chat_template.jinja",
            "config.json",
            "README.md",
        ):
            (folder / each).write_text('{"model_type": "llama"}' + (" " if each == changed else ""))
        model = {"model": f"hf:{folder}"}
        return keys(path, check_config(_merged(config.model_dump(mode="json"), model), "test"))

    first = keys_of("first", "")
    assert keys_of("second", "README.md") == first
    third = keys_of("third", file)
    assert [name for name in first if third[name] != first[name]] == ITERATION[:3]


_FRESH = """
import json, sys
from pathlib import Path
from selfreward.config.files import load_config
from selfreward.steps.pipeline import plans_until, resolve_plan
from selfreward.store.run import Run
run, config = Run(sys.argv[1]), load_config(Path(sys.argv[2]))
print(json.dumps({p.name: resolve_plan(run, config, p)[0].key for p in plans_until(config, "iter1/pairs")}))
"""


def test_a_fresh_interpreter_with_another_yaml_of_the_same_meaning_gives_the_same_keys(finished, tmp_path):
    """Comments, order of keys, place of the run folder, hash seed, zone, locale, number of threads: no key changes."""
    path, config = finished
    moved = tmp_path / "moved" / "run"
    shutil.copytree(path, moved, symlinks=True)
    file = tmp_path / "turned.yaml"
    values = dict(reversed(config.model_dump(mode="json").items()))
    file.write_text("# the same, turned around\n" + yaml.safe_dump(values, sort_keys=False))
    strange = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", _FRESH, str(moved), str(file)],
        cwd=tmp_path,
        env={**os.environ, **strange, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == keys(path, config)

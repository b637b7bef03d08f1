"""Hand-made pairs (one turn, a history, a system turn, both), and what other tools' own loaders make of their exports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peer_rows import TURNS
from sample_run import make_sample_run, publish_rows
from tiny_llama import make_tiny_llama, make_tiny_tokenizer

from selfreward.exchange.exporting import export_file
from selfreward.store.run import Run
from selfreward.tables import Message, Pair, from_table

READERS = Path(__file__).parent / "readers"
_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The sample run, with one iteration."""
    return make_sample_run(tmp_path_factory.mktemp("sample") / "run", iterations=1)


@pytest.fixture(scope="session")
def run(sample: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose `iter1/pairs` are the hand-made ones."""
    (pair, *_) = from_table(sample.current("iter1/pairs").table(), Pair)
    run = Run.create(tmp_path_factory.mktemp("pairs") / "run")
    publish_rows(run, "iter1/pairs", Pair, [_pair(pair, name, TURNS[name]) for name in TURNS])
    return run


def _pair(like: Pair, name: str, turns: list[tuple[str, str]]) -> Pair:
    return replace(
        like, pair_id=f"pair-{name}", prompt_id=f"p-{name}", prompt=[Message(*turn) for turn in turns],
        chosen=[Message("assistant", f"good {name}")], rejected=[Message("assistant", f"bad {name}")],
    )  # fmt: skip


@pytest.fixture(scope="session")
def only(sample: Run, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`only("one", "history")`: a run with these of the hand-made pairs."""
    (pair, *_) = from_table(sample.current("iter1/pairs").table(), Pair)

    def make(*names: str) -> Run:
        run = Run.create(tmp_path_factory.mktemp("some") / "run")
        publish_rows(run, "iter1/pairs", Pair, [_pair(pair, name, TURNS[name]) for name in names])
        return run

    return make


@pytest.fixture(scope="session")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose tokenizer has ChatML's template and tokens."""
    folder = make_tiny_llama(tmp_path_factory.mktemp("chatml") / "model")
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.eos_token, tokenizer.chat_template, tokenizer.model_max_length = "<|im_end|>", _CHATML, 4096
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    return folder


@pytest.fixture
def read(chatml: Path, tmp_path: Path) -> Any:
    """`read(tool, {name: (run, dataset, form, settings)})`: what the tool's own loader makes of each export."""

    def ask(tool: str, files: dict[str, tuple[Run, str, str, Any]]) -> dict[str, Any]:
        paths = {}
        for name, (run, dataset, form, settings) in files.items():
            path = tmp_path / name / "rows.jsonl"
            path.parent.mkdir()
            export_file(run, dataset, path, form)
            paths[name] = (str(path), settings)
        asked, out = tmp_path / "asked.json", tmp_path / "found.json"
        asked.write_text(json.dumps({"files": paths, "tokenizer": str(chatml), "out": str(out)}))
        # No login, no network, no statistics: what is read are files.
        told = {
            "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "MODELSCOPE_CACHE": str(tmp_path / "modelscope"),
            "WANDB_MODE": "offline", "AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "DISABLE_VERSION_CHECK": "1",
            "PYTHONPATH": "",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, READERS / f"read_{tool}.py", asked], env=os.environ | told, cwd=tmp_path,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert out.is_file(), done.stderr[-3000:]
        found = json.loads(out.read_text())
        errors = {name: rows["error"] for name, rows in found.items() if "error" in rows}
        # A template may end an answer's turn with a line feed.
        rows = {
            name: [_without_end(row) for row in found[name]["rows"]] for name in found if name not in errors
        }
        return rows | errors

    return ask


def _without_end(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.rstrip("\n") if name != "prompt" and isinstance(value, str) else value
        for name, value in row.items()
        if value is not None
    }

"""What other trainers would train on, read by their own code: every turn, in order, chosen and rejected the right way round.

The settings are those that docs/formats.md tells people to copy.
"""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import yaml
from peer_rows import TURNS, block, labeled_as_text, pairs_as_text

from selfreward.exchange.kto_order import kto_order

pytestmark = pytest.mark.peers
PAIRS = "iter1/pairs"


def conversations(sample):
    """The rows of `ift` that a trainer of conversations should see."""
    return [
        {
            "prompt": f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n",
            "completion": f"{row['response']}<|im_end|>",
        }
        for row in sample.current("ift").table().to_pylist()
    ]


def unpaired():
    """In the order of the file: four pairs of four prompts."""
    pairs, labels, good = kto_order(np.arange(len(TURNS)))
    assert good
    return labeled_as_text(pairs.tolist(), labels.tolist())


def test_llamafactory(read, run, sample):
    entries = json.loads(block("formats.md", "### LLaMA-Factory"))
    found = read(
        "llamafactory",
        {
            "alpaca": (run, PAIRS, "alpaca", {"stage": "dpo", "entry": entries["pairs_alpaca"]}),
            "sharegpt": (run, PAIRS, "sharegpt", {"stage": "dpo", "entry": entries["pairs_sharegpt"]}),
            "labeled": (run, PAIRS, "labeled", {"stage": "kto", "entry": entries["pairs_labeled"]}),
            "ift": (sample, "ift", "messages", {"stage": "sft", "entry": entries["ift_messages"]}),
        },
    )
    assert found["alpaca"] == found["sharegpt"] == pairs_as_text()
    assert found["labeled"] == unpaired()
    assert found["ift"] == conversations(sample)


def test_axolotl(read, run, sample):
    entries = yaml.safe_load(block("formats.md", "### Axolotl"))["datasets"]
    by_file = {entry["path"]: entry for entry in entries}
    found = read(
        "axolotl",
        {
            form: (run, PAIRS, form, {"rl": "dpo", "datasets": [by_file[f"{form}.jsonl"]]})
            for form in ("conversational", "sharegpt", "implicit")
        }
        | {"ift": (sample, "ift", "messages", {"rl": None, "datasets": [by_file["ift.jsonl"]]})},
    )
    assert found["conversational"] == found["sharegpt"] == found["implicit"] == pairs_as_text()
    assert found["ift"] == conversations(sample)


def test_openrlhf(read, run, sample, only):
    options = dict.fromkeys(("prompt_key", "input_template", "output_key"))
    words = shlex.split(block("formats.md", "### OpenRLHF").replace("\\\n", " "), comments=True)
    told = dict(zip(words, [*words[1:], ""], strict=True))
    options["prompt_key"] = told["--data.prompt_key"]
    options |= {"chosen_key": "chosen", "rejected_key": "rejected"}  # its defaults
    options["apply_chat_template"] = "--data.apply_chat_template" in told
    plain = {**options, "apply_chat_template": False, "input_template": "Q: {}\nA: "}
    sft = {**options, "input_key": "messages"}
    found = read(
        "openrlhf",
        {
            "dpo": (run, PAIRS, "conversational", {**options, "kind": "dpo"}),
            "rm": (run, PAIRS, "conversational", {**options, "kind": "rm"}),
            "plain": (only("one"), PAIRS, "plain", {**plain, "kind": "dpo"}),
            "ift": (sample, "ift", "messages", {**sft, "kind": "sft"}),
        },
    )
    assert found["dpo"] == found["rm"] == pairs_as_text()
    assert found["plain"] == [{"prompt": "Q: Q1\nA: ", "chosen": "good one", "rejected": "bad one"}]
    assert found["ift"] == conversations(sample)


def test_ms_swift(read, run, sample):
    """Without a mapping of columns."""
    found = read(
        "swift",
        {
            "swift": (run, PAIRS, "swift", {"mode": "rlhf"}),
            "labeled": (run, PAIRS, "labeled", {"mode": "kto"}),
            "ift": (sample, "ift", "messages", {"mode": "train"}),
        },
    )
    assert found["swift"] == pairs_as_text()
    assert found["labeled"] == unpaired()
    assert found["ift"] == conversations(sample)


def test_torchtune(read, run):
    entry = yaml.safe_load(block("formats.md", "### torchtune"))["dataset"]
    assert entry.pop("_component_") == "torchtune.datasets.preference_dataset"
    assert entry.pop("data_files") == "implicit.jsonl"
    assert read("torchtune", {"implicit": (run, PAIRS, "implicit", entry)})["implicit"] == pairs_as_text()


def test_rewardbench_reads_conversations_and_stops_at_a_system_turn(read, run, only):
    """It gives roles by position, so a system turn would be the user's; its own check stops it."""
    names = ("one", "history")
    found = read(
        "rewardbench", {"two": (only(*names), PAIRS, "implicit", {}), "all": (run, PAIRS, "implicit", {})}
    )
    rows = pairs_as_text(*names)
    assert found["two"] == [
        {side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in rows
    ]
    assert found["all"].startswith("AssertionError")


def test_argilla(read, run):
    """Records with the turns in chat fields, the id and the score difference."""
    code = {"code": block("formats.md", "### Argilla")}
    rows = read("argilla", {"pairs": (run, PAIRS, "conversational", code)})["pairs"]
    assert [row["id"] for row in rows] == [f"pair-{name}" for name in TURNS]
    for row, name in zip(rows, TURNS, strict=True):
        assert [(turn["role"], turn["content"]) for turn in row["fields"]["prompt"]] == TURNS[name]
        assert row["fields"]["chosen"] == [{"role": "assistant", "content": f"good {name}"}]
        assert row["fields"]["rejected"] == [{"role": "assistant", "content": f"bad {name}"}]
        assert row["metadata"]["score_margin"] > 0

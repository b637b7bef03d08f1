"""A small configuration on the scripted engine, and the command line in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import yaml

from selfreward.config.files import check_config

PROMPTS = [
    "Explain how tides work to a curious child.",
    "Suggest five cheap vegetarian dinners for a busy week.",
    "Translate the phrase good morning into three languages.",
    "Why does bread rise when it is baked?",
    "Write a short letter to a landlord about a broken heater.",
    "Compare bicycles and scooters for a short commute.",
    "List ways to remember the names of people at a party.",
    "Describe a quiet autumn morning in two sentences.",
]
ANSWERS = [
    "I think so, yes indeed.",
    "No.",
    "It depends on what you need most.",
    "Perhaps, but ask an expert.",
]
JUDGEMENTS = ["Fine. Score: 4", "Poor. Score: 1", "No idea", "Good.\nScore: 3", "Great.\nScore: 5"]


def write_script(path, **settings):
    script = {
        "settings": {"group_size": 8, **settings},
        "rules": [
            {"contains": "list of tasks", "pick": "position", "answers": PROMPTS},
            {"contains": "<response>", "pick": "seed", "answers": JUDGEMENTS},
            {"pick": "seed", "answers": ANSWERS},
        ],
    }
    path.write_text(yaml.safe_dump(script))
    return path


def config_for(script, **changes):
    values = {
        "model": f"scripted:{script}",
        "train": False,
        "eft": {"targets": "written"},
        "prompts": {"n": 6, "round_size": 12},
        "pairs": {"min_pairs": 1},
        "judging": {"samples": 3},
        "evaluate": {"alpaca": {"mode": "text"}},
    }
    return check_config({**values, **changes}, "test")


def cli(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "selfreward", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )

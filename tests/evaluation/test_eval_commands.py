"""Every `evaluate` command has help with an example and a place in the documentation, and costs nothing to name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from selfreward.cli import app
from selfreward.evaluation.cli import evaluate, register

if not evaluate.registered_commands:
    register(app)

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
COMMANDS = {
    command.name or command.callback.__name__: command.callback for command in evaluate.registered_commands
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_of_itself_and_is_documented(name):
    assert f"Example: selfreward evaluate {name}" in COMMANDS[name].__doc__
    text = DOCS.read_text(encoding="utf-8")
    assert f"evaluate {name}" in text or f"`{name}`" in text


def test_naming_the_commands_imports_nothing_heavy():
    code = (
        "import sys, evaluation.cli; heavy = {'torch', 'pandas', 'datasets', 'duckdb', 'alpaca_eval', 'numpy', 'openai', "
        "'pyarrow', 'transformers', 'selfreward.evaluation.ask.requests'} & set(sys.modules); print(sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=DOCS.parents[1], check=True
    )
    assert done.stdout.strip() == "[]"

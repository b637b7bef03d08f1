"""Hand-made prompts (one turn, a history, a system turn, both), and the texts that a trainer should see of their pairs."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parents[2]
TURNS = {
    "one": [("user", "Q1")],
    "history": [("user", "Q2a"), ("assistant", "A2a"), ("user", "Q2b")],
    "system": [("system", "S3"), ("user", "Q3")],
    "both": [("system", "S4"), ("user", "Q4a"), ("assistant", "A4a"), ("user", "Q4b")],
}


def prompt_text(name: str) -> str:
    """A prompt in ChatML, up to where the answer begins."""
    turns = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in TURNS[name])
    return f"{turns}<|im_start|>assistant\n"


def pairs_as_text(*names: str) -> list[dict[str, str]]:
    """The rows that a trainer of preferences should see."""
    return [
        {"prompt": prompt_text(name), "chosen": f"good {name}<|im_end|>", "rejected": f"bad {name}<|im_end|>"}
        for name in names or TURNS
    ]


def labeled_as_text(pairs: list[int], labels: list[bool]) -> list[dict[str, Any]]:
    """The rows that a KTO trainer should see."""
    names = list(TURNS)
    return [
        {
            "prompt": prompt_text(names[pair]),
            "completion": f"{'good' if label else 'bad'} {names[pair]}<|im_end|>",
            "label": label,
        }
        for pair, label in zip(pairs, labels, strict=True)
    ]


def block(page: str, after: str) -> str:
    """The first indented block of a page of docs/ after a line."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert text.count(f"\n{after}\n") == 1, f"{page}: {after}"
    found = re.search(r"(?:^    .*\n(?:\n(?=    ))?)+", text.partition(f"\n{after}\n")[2], re.MULTILINE)
    assert found, f"{page}: no block after {after}"
    return dedent(found.group())

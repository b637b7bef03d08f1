"""`show`, and the presets of `init`: the package's own files, found the same way in a clone and when installed.

In a clone `selfreward/configs` and the stages' folders are links, in an installed package folders.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Literal

from selfreward.errors import UsageError
from selfreward.text import shorten

Kind = Literal["template", "rule", "audit", "config"]
PLACES: dict[Kind, tuple[str, str]] = {
    "template": ("judging/prompts", ".txt"),
    "rule": ("builders/pair_rules", ".sql"),
    "audit": ("judging/audits/checks", ".sql"),
    "config": ("configs", ".yaml"),
}
# by this package's own path, which works for both; none of these files is imported
_PACKAGE = Path(__file__).parents[1]
_SHOWN = 88


def kind_of(word: str) -> Kind:
    """The kind that a user names. Raises UsageError for an unknown one."""
    if word not in PLACES:
        raise UsageError(f"show {word}: expected {', '.join(PLACES)}")
    return word


def shipped(kind: Kind) -> dict[str, Path]:
    """Name -> file shipped with the package."""
    folder, ending = PLACES[kind]
    return {path.stem: path for path in sorted((_PACKAGE / folder).glob(f"*{ending}"))}


def read_shipped(kind: Kind, name: str) -> str:
    """The text of one. Raises UsageError for an unknown name, suggesting the nearest."""
    files = shipped(kind)
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(files)}"
        raise UsageError(f"no {kind} is called {name!r}; {hint}")
    return files[name].read_text(encoding="utf-8")


def preset_text(name: str, file: Path) -> str:
    """A shipped configuration, adapted to the user's file name."""
    # the commands in its comments must work as printed
    return read_shipped("config", name).replace(f"configs/{name}.yaml", str(file))


def described(kind: Kind) -> list[tuple[str, str]]:
    """Name and one line for each."""
    return [(name, _about(path)) for name, path in shipped(kind).items()]


def _about(path: Path) -> str:
    """One line: an audit's `protects from`, the first sentence of a file's comment, or of a template."""
    text = path.read_text(encoding="utf-8")
    if protects := re.search(r"^-- protects from: (.*)$", text, re.MULTILINE):
        return f"protects from {protects[1]}"
    comment = re.match(r"(?:(?:--|#) .*\n)+", text)
    # no comment: a template, whose whole text is the prompt and cannot hold one
    if comment is None:
        return f"{len(text.split())} words: {shorten(text.strip(), _SHOWN)}"
    plain = re.sub(r"^(?:--|#) +", "", comment[0], flags=re.MULTILINE)
    return shorten(re.split(r"\.\s|:\s+selfreward ", " ".join(plain.split()))[0], _SHOWN)

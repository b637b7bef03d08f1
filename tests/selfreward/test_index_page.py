"""The README as an index page shows it: links and the picture are absolute, or, without an address, plain text."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("hatchling", reason="hatchling comes with a build")


@pytest.fixture(scope="module")
def hook():
    return runpy.run_path(str(ROOT / "hatch_build.py"))


TEXT = "![flow](docs/pictures/flow.svg) [a](docs/a.md) [b](https://b.example) [c](#c) x[0](y)"


def test_links_and_pictures_become_absolute(hook):
    assert hook["absolute"](TEXT, "https://g.example/ann/x") == (
        "![flow](https://g.example/ann/x/raw/HEAD/docs/pictures/flow.svg) "
        "[a](https://g.example/ann/x/blob/HEAD/docs/a.md) [b](https://b.example) [c](#c) x[0](https://g.example/ann/x/blob/HEAD/y)"
    )


def test_without_an_address_nothing_is_claimed(hook):
    assert hook["absolute"](TEXT, None) == "flow a [b](https://b.example) [c](#c) x0"
    assert hook["addresses"](None) == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Name: x\nProject-URL: Source, https://g.example/ann/x\n", "https://g.example/ann/x"),
        ("Name: x\n", None),
    ],
    ids=["said", "unsaid"],
)
def test_an_sdist_says_its_address_itself(hook, tmp_path, monkeypatch, text, found):
    monkeypatch.delenv("SELFREWARD_URL", raising=False)
    (tmp_path / "PKG-INFO").write_text(text)
    assert hook["repository"](tmp_path) == found
    monkeypatch.setenv("SELFREWARD_URL", "https://other.example/y/")
    assert hook["repository"](tmp_path) == "https://other.example/y"

"""The pages of docs/ say what is so: code runs, settings and links are those of the project, lines fit."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from textwrap import dedent

import pytest
from sample_run import make_sample_run

import selfreward
from selfreward.cli.shipped import preset_text
from selfreward.engines.scripted import ScriptRule, ScriptSettings, parse_script

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted(DOCS.glob("*.md")))]


def blocks(page: str) -> list[str]:
    """The indented code blocks of a page."""
    text = (DOCS / page).read_text("utf-8")
    return [dedent(found) for found in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", text, re.MULTILINE)]


def test_the_code_of_the_python_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_sample_run(tmp_path / "runs/demo", iterations=1)
    Path("demo.yaml").write_text(preset_text("demo", Path("demo.yaml")))
    Path("judge.yaml").write_text(blocks("scripted-engine.md")[0])
    names: dict = {}
    for number, block in enumerate(blocks("python.md")):
        exec(compile(block, f"python.md, block {number}", "exec"), names)
    assert [row["score"] for row in names["judged"]] == [4.0, 1.0]
    assert len(names["new"]["ift"]) == 10
    assert set(
        re.findall(r"`(\w+)`", (DOCS / "python.md").read_text().partition("## What is promised")[2])
    ) >= set(selfreward.__all__)


def test_the_example_of_a_scripted_file_is_one_and_every_key_has_its_row():
    assert len(parse_script(blocks("scripted-engine.md")[0].encode(), Path("judge.yaml")).rules) == 5
    rows = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "scripted-engine.md").read_text(), re.MULTILINE))
    assert rows == set(ScriptRule.model_fields) | set(ScriptSettings.model_fields)


def test_the_page_of_settings_is_the_classes():
    made = runpy.run_path(str(DOCS / "make_settings.py"))["page"]()
    assert (DOCS / "settings.md").read_text("utf-8") == made.rstrip("\n") + "\n", "run: make docs-settings"


@pytest.mark.parametrize("page", PAGES)
def test_pages_and_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text("utf-8")
    named = set(re.findall(r"docs/[\w-]+\.md", text)) | set(re.findall(r"`(configs/[\w-]+\.yaml)`", text))
    assert {name for name in named if not (ROOT / name).is_file()} == set()
    modules = set(re.findall(r"`([\w/]+\.py)`", text))
    files = {f"/{path.relative_to(ROOT)}" for path in ROOT.glob("[a-z]*/**/*.py")}
    assert {name for name in modules if not any(file.endswith(f"/{name}") for file in files)} == set()


def test_the_readme_names_every_page():
    text = (ROOT / "README.md").read_text("utf-8")
    assert {path.name for path in DOCS.glob("*.md") if f"docs/{path.name}" not in text} == {"index.md"}


@pytest.mark.parametrize("page", PAGES)
def test_prose_has_at_most_100_columns(page):
    """Tables and code stand as they are."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 100 and not line.startswith(("|", "    "))] == []


def test_the_afternoon_is_short_and_its_table_says_how_long_each_file_is():
    """At most 2,600 lines, no file of 280 or more; the table may lag behind by a tenth."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = page.split("## An afternoon")[1].split("\n## ")[0]
    shown = {name: int(n) for name, n in re.findall(r"`([a-z_/]+\.(?:py|sql))` \| (\d+) \|", section)}
    real = {name: (ROOT / name).read_text("utf-8").count("\n") for name in shown}
    assert len(shown) == 15
    assert sum(real.values()) <= 2_600
    assert max(real.values()) < 280
    assert {name: n for name, n in real.items() if abs(n - shown[name]) > max(2, n / 10)} == {}

"""Every command in a block of README and docs is run here, on a small finished run, or says `# needs …` beside it.

A page's commands are run in the order of the page, in one folder. `runs/demo` and `runs/x` are the run of 0.1 in
tests/data (two small models); models and judges that a page only stands in for (`hf:one`, `openai:…`) answer from a
file. `make` targets and extras of `pip install` are looked up instead.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
import shutil
import tarfile
import tomllib
import warnings
from pathlib import Path

import pytest
import typer
import yaml

from selfreward.api import open_run
from selfreward.cli import assemble
from selfreward.config.files import load_config
from selfreward.steps.pipeline import run_pipeline

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / "tests" / "data" / "run-of-0.1.tar.gz"
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
RECORDS = "The commands on this page are a record"
"""A page that says so tells what was done once; its commands are only checked by name (test_commands.py)."""
NEEDS = re.compile(r"# needs \w")
STANDS_FOR = {
    "RUN": "runs/demo",
    "CONFIG": "my.yaml",
    "hf:one": "scripted:answers.yaml",
    "hf:other": "scripted:others.yaml",
    "hf:runs/demo/models/M1": "scripted:answers.yaml",
    "openai:…": "scripted:answers.yaml",
}
FIRST_WORDS = ("selfreward ", "python ", "make ", "pip ", "vllm ", "ray ", "export ", "accelerate ")


def commands(page: str) -> list[tuple[str, bool]]:
    """(command, whether it is marked) of every block of a page, in order; lines that go on are joined."""
    text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
    # a quoted query may span lines
    text = re.sub(
        r'^(    selfreward sql [^"\n]*"[^"]*")', lambda m: re.sub(r"\n\s*", " ", m[1]), text, flags=re.M
    )
    lines = [line[4:] for line in text.splitlines() if line.startswith("    ")]
    return [
        (re.split(r"\s+#\s", line)[0].strip(), NEEDS.search(line) is not None)
        for line in lines
        if line.startswith(FIRST_WORDS) and not re.match(r"selfreward[/.]", line)
    ]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The files that the pages name, and the finished run."""
    folder = tmp_path_factory.mktemp("pages")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for name in ("published", "published-M1", "published-M2"):
        shutil.rmtree(folder / name)
    (folder / "runs").mkdir()
    (folder / "run").rename(folder / "runs" / "demo")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "my.yaml").write_text(yaml.safe_dump({**config, "run": "runs/demo"}))
    shutil.copy(folder / "answers.yaml", folder / "others.yaml")
    with (folder / "others.yaml").open("a") as file:
        file.write("# another file, another model\n")
    shutil.copytree(folder / "runs/demo", folder / "runs/x", symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # two versions of the pairs, for `diff … previous current`
        run_pipeline(
            load_config(Path("my.yaml"), ["pairs.rule=length_controlled"]), Path("runs/demo"), "iter1/pairs"
        )
        run_pipeline(load_config(Path("my.yaml")), Path("runs/demo"), "iter1/pairs")
        run = open_run("runs/demo")
        replies = [{"judgement": row["judgement"]} for row in run["iter1/judgements"]]
        rows = [
            {"prompt": "Why?", "prompt_id": "p1", "response": f"Answer {n}.", "human_rank": n}
            for n in range(3)
        ]
        write_lines("replies.jsonl", replies)
        write_lines("scored.jsonl", [{**row, "score": 4 - row["human_rank"]} for row in rows])
        write_lines("held-out.jsonl", [{"prompt": "Why is the sky blue?"}, {"prompt": "Name a river."}])
        Path("answers-of-the-other.json").write_text(
            json.dumps(
                [
                    {"instruction": p, "output": "No.", "generator": "other"}
                    for p in ("Why is the sky blue?", "Name a river.")
                ]
            )
        )
        Path("validation.jsonl.gz").write_bytes(
            gzip.compress("".join(f"{json.dumps(r)}\n" for r in rows).encode())
        )
        shutil.copy("validation.jsonl.gz", "oasst.messages.jsonl.gz")
        Path("prompts.csv").write_text("prompt\nWhy is the sky blue?\nName a river.\n")
        Path("replies.csv").write_text(
            "question,response,stars\n"
            + "".join(f"Question {n}?,Reply {n} {k},{k}\n" for n in range(12) for k in range(3))
        )
        Path("folder").mkdir()
        write_lines("folder/ift.jsonl", [{"prompt": "Why?", "response": "So."}])
        Path("question.sql").write_text("SELECT count(*) AS n FROM pairs")
    return folder


def write_lines(path: str, rows: list[dict]) -> None:
    Path(path).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    copy = shutil.copytree(prepared, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(".tables\n"))
    return copy


def answer_with_probabilities() -> None:
    """A judge for `judging.mode=expected`."""
    script = yaml.safe_load(Path("answers.yaml").read_text())
    script["rules"][0]["choice_logprobs"] = {f"{blank}{n}": -1.0 - n for n in range(6) for blank in ("", " ")}
    Path("expected.yaml").write_text(yaml.safe_dump(script))
    config = yaml.safe_load(Path("my.yaml").read_text())
    config["judging"]["judge"] = "scripted:expected.yaml"
    Path("my.yaml").write_text(yaml.safe_dump(config))


def run_command(command: str) -> int:
    """The exit code of a `selfreward …` command, run in this process."""
    pair = open_run("runs/demo").df("iter1/pairs", ["pair_id"])["pair_id"][0]
    words = [STANDS_FOR.get(word, word) for word in shlex.split(re.sub(r"\[--[^]]*\]", "", command))]
    words = [pair if word == "pair-…" else word for word in words]
    # the seeds of this run are a file, whose license nobody but its owner knows
    words += ["--license", "cc0-1.0"] if words[1] == "publish" else []
    if words[:2] == ["selfreward", "init"]:
        Path(words[2]).unlink(missing_ok=True)
    target = words.index(">") if ">" in words else None
    arguments = words[1:target]
    app = typer.main.get_command(assemble())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = app.main(arguments, prog_name="selfreward", standalone_mode=False)
    return code or 0


EXPECTED_CODES = {"selfreward audit": (0, 1), "selfreward evaluate nlp": (0, 1)}
"""Commands whose exit code is a result."""


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_the_commands_of_a_page_run(page, folder, capfd):
    if RECORDS in (ROOT / page).read_text("utf-8"):
        return
    if page == "docs/judging.md":
        answer_with_probabilities()
    kept = Path("my.yaml").read_text()
    for command, marked in commands(page):
        if marked or not command.startswith("selfreward "):
            continue
        code = run_command(command)
        if command.startswith("selfreward init my.yaml"):
            assert "judging:" in Path("my.yaml").read_text()
            Path("my.yaml").write_text(kept)
        expected = next((codes for start, codes in EXPECTED_CODES.items() if command.startswith(start)), (0,))
        assert code in expected, f"{page}: {command}: exit code {code}\n{capfd.readouterr().err[-2000:]}"
    capfd.readouterr()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_other_programs_are_ours_or_marked(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if RECORDS in (ROOT / page).read_text("utf-8"):
        return
    for command, marked in commands(page):
        words = command.split()
        if words[0] == "make":
            assert words[1] in targets, f"{page}: {command}"
        elif words[0] == "pip":
            named = re.search(r"selfreward\[([\w,]+)\]", command)
            assert marked or set(named[1].split(",")) <= set(extras), f"{page}: {command}"
        elif words[0] != "selfreward":
            assert marked, f"{page}: {command}: runs another program and is not marked `# needs …`"

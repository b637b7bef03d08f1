"""The command line as a whole: every command has help with an example, the docs name only what exists, pipes may break."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from scripted_run import cli

from selfreward import __version__
from selfreward.cli import assemble
from selfreward.cli.runs import show_step
from selfreward.progress import _Lines, bar
from selfreward.steps.pipeline import StepResult

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands(group, words=()):
    """(words of a command, its click command), groups included."""
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands(command, (*words, name))


COMMANDS = dict(_commands(typer.main.get_command(assemble())))
FLAGS_OF_OTHERS = {"--help", "--data", "--no-deps", "--part"}
"""Of our own benchmarks, and of pip."""
LEAVES = {words: command for words, command in COMMANDS.items() if not hasattr(command, "commands")}


def flags_of(words) -> set[str]:
    """The options of a command; those of a measure are known once its module is imported."""
    context = COMMANDS[words].make_context(words[-1] if words else "selfreward", [], resilient_parsing=True)
    return {flag for one in context.command.params for flag in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_help_and_an_example_on_a_line_of_its_own(words):
    command = LEAVES[words].make_context(words[-1], [], resilient_parsing=True).command
    assert command.help
    assert re.search(rf"^  selfreward {' '.join(words)}\b", command.epilog, re.MULTILINE), command.epilog


def _named_on(page: Path) -> list[list[str]]:
    """The `selfreward …` commands of a page: in its code blocks, and in backticks (there also `diff … --flag`)."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^(?: {4}|> )?(?:\$ )?(selfreward [a-z-].*)$", text, re.MULTILINE)
    spans = re.findall(r"`(selfreward [a-z-][^`]*)`", text)
    short = re.findall(r"`([a-z-]+ [^`\n]*--[^`\n]*)`", text)
    spans += [f"selfreward {span}" for span in short if (span.split()[0],) in COMMANDS]
    found = []
    for line in [*blocks, *spans]:
        command = re.split(r"\s#|\s\||\s&&|\s>|;|`|\s{3,}", line)[0]
        try:
            found.append(shlex.split(command)[1:])
        except ValueError:  # an apostrophe: a sentence, not a command
            found.append(command.split()[1:])
    return found


def _without_options_of_all(given: list[str]) -> list[str]:
    """The options before the command's name are checked and left out."""
    while given and given[0].startswith("-"):
        assert given[0] in flags_of(()) | {"--help", "-h"}, (
            f"selfreward {given[0]}: no option of every command"
        )
        given = given[2:] if given[0] == "--log-file" else given[1:]
    return given


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_docs_name_only_commands_and_flags_that_exist(page):
    for given in map(_without_options_of_all, _named_on(page)):
        words = ()
        while len(words) < len(given) and (*words, given[len(words)]) in COMMANDS:
            words = (*words, given[len(words)])
        line = "selfreward " + " ".join(given)
        assert words or not given, f"{page.name}: {line}: no such command"
        flags = flags_of(words)
        named = {word.partition("=")[0].rstrip(".,)") for word in given if re.match(r"--?[a-z]", word)}
        assert named <= flags | {"--debug", "-h", "--help"}, (
            f"{page.name}: {line}: {named - flags} is no option of it"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_that_the_docs_name_alone_belong_to_some_command(page):
    flags = {flag for words in COMMANDS for flag in flags_of(words)}
    alone = set(re.findall(r"`(--[a-z-]+)[^`]*`", page.read_text("utf-8")))
    assert alone <= flags | FLAGS_OF_OTHERS, f"{page.name}: {alone - flags} is no option of any command"


def test_the_version_is_printed(tmp_path):
    done = cli("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"selfreward {__version__}\n")


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    """A long output of which one line is read."""
    code = "print('line\\n' * 200_000)"
    script = (
        "import sys, selfreward.cli as cli\n"
        "app = cli.typer.Typer()\n"
        f"app.command()(lambda: {code})\n"
        "cli.assemble = lambda: app\nsys.argv = ['selfreward']\ncli.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        child.stdout.close()
        assert (child.wait(30), child.stderr.read()) == (0, b"")


def test_quiet_says_nothing_and_a_log_file_holds_the_lines_with_their_times(tmp_path):
    done = cli("-q", "--log-file", "run.log", "init", "new.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run.log").exists()
    code = "from selfreward.progress import say; say('M1: built')"
    environment = os.environ | {"SELFREWARD_QUIET": "all", "SELFREWARD_LOG_FILE": str(tmp_path / "run.log")}
    child = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert child.stderr == ""
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} M1: built\n", (tmp_path / "run.log").read_text()
    )


def test_a_log_file_that_cannot_be_written_is_one_sentence(tmp_path):
    done = cli("--log-file", tmp_path / "no" / "run.log", "doctor", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("selfreward: --log-file ")
    assert done.stderr.count("\n") == 1


def test_a_bar_in_a_log_is_lines_not_carriage_returns(capsys, monkeypatch):
    monkeypatch.delenv("SELFREWARD_QUIET")
    monkeypatch.setattr("selfreward.progress.DELAY", 0)
    monkeypatch.setattr("selfreward.progress.LOG_INTERVAL", 0.01)
    with bar(3, "iter1/candidates", "answer") as progress:
        for _ in range(3):
            time.sleep(0.02)
            progress.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith("iter1/candidates") for line in lines)
    _Lines().write("\r\n ")
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_log_shows_each_minute_once_and_its_end_once(capsys, monkeypatch):
    """A new loss draws a bar anew, and closing draws it twice."""
    now = [0.0]
    monkeypatch.setattr("selfreward.progress.time.monotonic", lambda: now[0])
    lines = _Lines()
    for seconds, text in ((1, "1/3"), (30, "1/3, loss 2"), (61, "2/3"), (63, "2/3, loss 1"), (80, "3/3")):
        now[0] = seconds
        lines.write(f"\r{text}  ")
    lines.write("\r3/3  ")
    lines.write("\n")
    lines.write("\n")
    assert capsys.readouterr().err == "2/3\n3/3\n"


def test_a_finished_step_is_said_so_that_quiet_and_the_log_file_know_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SELFREWARD_QUIET", "all")
    monkeypatch.setenv("SELFREWARD_LOG_FILE", str(tmp_path / "run.log"))
    show_step(StepResult("ift", "built", "v", 3, 2, {"not_best": 1}, 0.5))
    assert capsys.readouterr().err == ""
    assert (
        (tmp_path / "run.log").read_text().endswith(" ift: built (3 in, 2 out, dropped: not_best 1, 0.5 s)\n")
    )


def test_the_help_of_all_commands_imports_nothing_heavy(tmp_path):
    """What `selfreward --help` needs: typer, and none of the libraries that the commands stand on."""
    heavy = ("pydantic", "pyarrow", "duckdb", "torch", "datasets", "pandas", "numpy", "yaml", "jinja2")
    code = f"import sys; from selfreward.cli import assemble; assemble(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

"""A measure is one class: its command, folder, tables, JSON and text come of it; shown on a toy that counts letters."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import pytest
import typer
import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass
from typer.testing import CliRunner

from selfreward.errors import BusyError, UsageError
from selfreward.evaluation.ask.results import Evaluation, Tables, figures
from selfreward.evaluation.measure import (
    DEFAULT_ANNOTATOR,
    ModelName,
    NMax,
    Out,
    PromptsFile,
    Result,
    WithAnswers,
    command,
    measure,
)
from selfreward.store import lock
from selfreward.store.run import Run


@dataclasses.dataclass(frozen=True)
class Letters:
    """One answer's length."""

    evaluation_id: str
    model: str
    prompt: str
    n_letters: int


@dataclasses.dataclass(frozen=True)
class LettersResult(Result):
    mean: float
    rows: tuple[Letters, ...]

    @property
    def failed(self):
        return self.mean > 100

    def text(self):
        return f"{self.mean:.1f} letters"


@dataclass(frozen=True, kw_only=True)
class CountLetters(WithAnswers[list[Letters], LettersResult]):
    """How long answers are."""

    name = "letters"
    models: Annotated[tuple[str, ...], Field(title="MODEL…")]
    """Who answers."""
    out: Out
    prompts: PromptsFile | None = None
    n_max: NMax | None = None
    rival: ModelName | None = None
    """Somebody else,
    who is never asked."""
    dry: Annotated[bool, Field(title="--dry")] = False
    """Ask nobody."""

    def __post_init__(self):
        if self.rival in self.models:
            raise UsageError("--rival answers already")

    def rows(self, ask):
        found = []
        for model in () if self.dry else self.models:
            answers = ask.answers(model, ask.prompts(self.prompts, self.n_max))
            found += [Letters("", model, prompt, len(text)) for prompt, text in answers.outputs.items()]
        ask.write("letters.jsonl", map(dataclasses.asdict, found))
        return found

    def figures(self, rows):
        return LettersResult(sum(row.n_letters for row in rows) / max(1, len(rows)), tuple(rows))

    def tables(self, result):
        evaluation = Evaluation("letters", "all", None, None, "file", len(result.rows), {})
        yield Tables(
            evaluation, [evaluation.figure("mean", result.mean, unit="count")], {"letters": result.rows}
        )


@pytest.fixture
def settings(tmp_path):
    """Two prompts; a model that says `four` to the first and `seven!!` to the second: 5.5 letters."""
    script = tmp_path / "m.yaml"
    script.write_text(
        yaml.safe_dump({"rules": [{"contains": "x", "answers": ["four"]}, {"answers": ["seven!!"]}]})
    )
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    return CountLetters(models=(f"scripted:{script}",), out=tmp_path / "out", prompts=prompts)


@pytest.fixture
def cli():
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command(CountLetters))
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


def arguments_of(settings):
    return [*settings.models, "--out", settings.out, "--prompts", settings.prompts]


def test_the_figures_are_those_of_the_rows_and_the_rows_are_in_the_folder(settings):
    assert measure(settings).mean == 5.5
    rows = [json.loads(line) for line in (settings.out / "letters.jsonl").read_text().splitlines()]
    assert [row["n_letters"] for row in rows] == [4, 7]


def test_fields_are_flags_with_their_strings_as_help(cli):
    text = " ".join(cli("--help").output.split())
    assert "MODEL… <list[str]> Who answers. [required]" in text
    assert "--out DIR Folder for the files and the journal. [required]" in text
    assert "--rival MODEL Somebody else, who is never asked." in text
    assert "--dry Ask nobody." in text
    assert "--no-dry" not in text
    assert "--max-tokens <int range> New tokens of an answer. [default: 1024; x>=1]" in text
    assert "--engine KEY=VALUE" in text
    assert "--max-cost <float range>" in text
    assert "--run RUN" in text


def test_the_command_prints_text_or_json_without_the_rows(settings, cli):
    assert cli(*arguments_of(settings)).stdout == "5.5 letters\n"
    assert json.loads(cli(*arguments_of(settings), "--json").stdout) == {"mean": 5.5}
    assert cli(*arguments_of(settings), "--n-max", "0").exit_code == 2
    assert (
        cli(*arguments_of(settings), "--engine", "batch_size").exception.args[0].startswith("engine option")
    )


def test_a_result_that_failed_ends_the_command_with_1(settings, cli, tmp_path):
    Path(settings.models[0].partition(":")[2]).write_text(
        yaml.safe_dump({"rules": [{"answers": ["a" * 101]}]})
    )
    assert cli(*arguments_of(settings)).exit_code == 1


def test_a_run_keeps_figures_and_rows_and_the_same_evaluation_replaces_them(settings, tmp_path):
    run = Run.create(tmp_path / "run")
    for _ in range(2):
        measure(dataclasses.replace(settings, run=run.path))
    rows = run.current("letters").table().to_pylist()
    assert [row["n_letters"] for row in rows] == [4, 7]
    (figure,) = figures(run)
    assert (figure["figure"], figure["value"], figure["unit"]) == ("mean", 5.5, "count")
    assert {row["evaluation_id"] for row in rows} == {figure["evaluation_id"]}


def test_wrong_settings_are_refused_before_a_folder_is_made(settings):
    with pytest.raises(UsageError, match="--rival answers already"):
        dataclasses.replace(settings, rival=settings.models[0])
    with pytest.raises(UsageError, match="expected --prompts FILE"):
        measure(dataclasses.replace(settings, prompts=None))
    assert not settings.out.exists()


def test_one_process_at_a_time_works_in_a_folder(settings):
    settings.out.mkdir()
    with lock.hold(settings.out, "another test"), pytest.raises(BusyError):
        measure(settings)
    assert measure(settings).mean == 5.5


def test_the_default_annotator_is_one_of_ours():
    from selfreward.evaluation.alpaca.annotators import load_annotator

    assert load_annotator(DEFAULT_ANNOTATOR).choices
